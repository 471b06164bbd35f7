//! Peers that must not get in, at either end of the link.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::{AgentError, LinkFault};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use shared::bundle::Revision;
use shared::record::{OnReloadFailure, Outcome};
use shared::tls::TlsFiles;
use tests::lab::Lab;

use crate::audit::{applied, audited};
use crate::forged::AGENT_DNS;
use crate::held::assert_exactly;
use crate::pbx::{Pbx, bundle, link, request_id};

/// Longer than the agent gives a handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(20);

/// A certificate that must not do, and what the log must say about it.
pub(super) struct Stranger {
    pub(super) name: String,
    pub(super) files: TlsFiles,
    pub(super) logged: &'static str,
}

/// Fails unless the agent turns all of these away before anything is decoded, says why in its log,
/// and lets the portal in.
pub(super) async fn assert_kept_out(pbx: &Pbx, strangers: Vec<Stranger>) -> anyhow::Result<()> {
    let next = bundle(&[1000], "one");
    let mut order = pbx.order(&next, OnReloadFailure::RollBack);
    order.revision = Revision(1_000_000);
    for Stranger {
        name,
        files,
        logged,
    } in strangers
    {
        let before = pbx.agent.log().len();
        let stranger = link(&pbx.agent, files)?;
        let status = stranger.status().await.err();
        let status = status.with_context(|| format!("let in: {name}"))?;
        ensure!(is_refused(&status), "{name}: {status:?}");
        // Not by guessing the right call either.
        let staged = stranger.stage(&order, next.clone(), &request_id()).await;
        let staged = staged.err().with_context(|| format!("let in: {name}"))?;
        ensure!(is_refused(&staged), "{name}: {staged:?}");
        let log = pbx.agent.log().split_off(before);
        ensure!(log.contains("handshake refused"), "{name}: {log}");
        ensure!(log.contains(logged), "{name}: not said ({logged}): {log}");
    }
    for tls12 in [false, true] {
        ensure!(
            !speaks_to_anonymous(pbx, tls12)?,
            "let in without a certificate"
        );
    }
    // Nothing of it was decoded: no upload was kept, no high revision remembered, no call logged.
    let kept = std::fs::read_dir(pbx.agent.state_dir().join("gen"))?.count();
    ensure!(kept == 0, "{kept} uploads were kept");
    let log = pbx.agent.log();
    ensure!(!log.contains("1000000"), "{log}");

    // The control: the portal itself.
    let record = pbx.apply(&next).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000]).await
}

/// Turned away by its certificate; the connection may break before the alert that says so is read.
fn is_refused(error: &AgentError) -> bool {
    let AgentError::Link(fault) = error else {
        return false;
    };
    matches!(
        fault,
        LinkFault::OurCertificateRefused(_) | LinkFault::Unreachable(_)
    )
}

/// Whether the agent answers to a client without a certificate.
fn speaks_to_anonymous(pbx: &Pbx, tls12: bool) -> anyhow::Result<bool> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pbx.pki.ca())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = if tls12 {
        [&rustls::version::TLS12]
    } else {
        [&rustls::version::TLS13]
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(pbx.agent.address())?;
    socket.set_read_timeout(Some(HANDSHAKE_DEADLINE))?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(AGENT_DNS)?)?;
    let mut stream = StreamOwned::new(connection, socket);
    // The preface of HTTP/2 with empty settings: a server that lets us in answers with its own.
    let written = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut answer = [0; 9];
    match written.and_then(|()| stream.read_exact(&mut answer)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error.into()),
        Err(_) => Ok(false),
    }
}

/// Fails unless the portal sends nothing to an agent that serves with any of these, and says so.
pub(super) async fn assert_never_sent_to(
    mut lab: Lab,
    impostors: Vec<(&'static str, TlsFiles)>,
) -> anyhow::Result<()> {
    lab.create_user("Ann", "ann@example.org").await?;
    let good = lab.agent.tls().clone();
    for (name, files) in impostors {
        serve_with(&mut lab, &files).await?;
        let reply = lab.apply().await?;
        ensure!(
            reply.problem(503)? == "agent_unreachable",
            "{name}: {reply}"
        );
        let attempt = audited(&lab.client, &reply).await?;
        ensure!(
            attempt["failure"]["code"] == "agent_certificate_refused",
            "{name}: {attempt}"
        );
        let ready = lab.client.get("/health/ready").await?.expect(503)?.json()?;
        ensure!(ready["agent"]["ok"] == false, "{name}: {ready}");
        // It got no bundle, although it would have taken one.
        let gen_dir = lab.agent.state_dir().join("gen");
        ensure!(
            std::fs::read_dir(gen_dir)?.next().is_none(),
            "{name} got the bundle"
        );
    }
    // The control.
    serve_with(&mut lab, &good).await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000]).await
}

/// Lets the agent serve with another certificate.
async fn serve_with(lab: &mut Lab, files: &TlsFiles) -> anyhow::Result<()> {
    let text = |path: &PathBuf| path.display().to_string();
    let (cert, key) = (text(&files.cert), text(&files.key));
    lab.agent.stop().await?;
    lab.agent
        .resume_with(&[("TLS_CERT_FILE", &cert), ("TLS_KEY_FILE", &key)])
        .await
}
