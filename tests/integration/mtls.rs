//! Who gets in, at both ends of the link: a certificate of the private CA that names exactly the
//! one expected peer, for that use, in its time. Everybody else is turned away before anything is
//! decoded.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::{AgentError, LinkFault};
use api_server::pki::{LEAF_DAYS, Role};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use shared::bundle::{Bundle, Revision};
use shared::record::{OnReloadFailure, Outcome};
use shared::status::EventKind;
use shared::tls::TlsFiles;
use tests::lab::Lab;
use tests::pki::{Pki, now};
use tests::scratch::Scratch;

use crate::audit::{applied, audited};
use crate::forged::{AGENT, AGENT_DNS, Forged, PORTAL};
use crate::held::assert_exactly;
use crate::pbx::{Pbx, bundle, link, request_id};

/// Longer than the agent gives a handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(20);

/// Every certificate with which nobody is the portal.
fn strangers(pki: &Pki, dir: &Path) -> anyhow::Result<Vec<(String, TlsFiles)>> {
    let mut strangers = Vec::new();
    let mut next = 0;
    let mut add = |name: &str, issue: &dyn Fn(&Path) -> anyhow::Result<TlsFiles>| {
        next += 1;
        let files = issue(&dir.join(next.to_string()))?;
        strangers.push((name.to_owned(), files));
        anyhow::Ok(())
    };
    let foreign = Pki::temporary()?;
    add("another CA of the same name", &|to| {
        // It trusts the right CA, as an intruder would, but shows a certificate of its own.
        let mut files = foreign.issue(&Role::Portal, to, None)?;
        files.ca = pki.ca();
        Ok(files)
    })?;
    add("no CA", &|to| Forged::default().self_signed(pki, to))?;
    add("the agent itself", &|to| {
        pki.issue(
            &Role::Agent {
                pbx: "default".to_owned(),
            },
            to,
            None,
        )
    })?;
    let uris: [&[&str]; 8] = [
        &[AGENT],
        &["spiffe://other.internal/portal"],
        &["spiffe://pbx.internal/portal/x"],
        &["spiffe://pbx.internal/portalx"],
        &["spiffe://PBX.internal/portal"],
        &["https://pbx.internal/portal"],
        &[PORTAL, "spiffe://pbx.internal/portal2"],
        &[],
    ];
    for uris in uris {
        let forged = Forged {
            uris,
            common_name: PORTAL,
            ..Forged::default()
        };
        add(&format!("named {uris:?}"), &|to| {
            forged.signed_by(pki, to, None)
        })?;
    }
    let dns = Forged {
        uris: &[],
        dns: &["pbx.internal", "portal"],
        ..Forged::default()
    };
    add("a host", &|to| dns.signed_by(pki, to, None))?;
    let server = Forged {
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        ..Forged::default()
    };
    add("for servers alone", &|to| server.signed_by(pki, to, None))?;
    let day = time::Duration::days(1);
    let old = now() - day * i32::from(LEAF_DAYS) * 2;
    add("expired", &|to| {
        pki.issue_at(&Role::Portal, old, LEAF_DAYS, to, None)
    })?;
    let early = Forged {
        from: now() + day,
        to: now() + day * 2,
        ..Forged::default()
    };
    add("not valid yet", &|to| early.signed_by(pki, to, None))?;
    Ok(strangers)
}

#[tokio::test]
async fn nobody_but_the_portal_gets_in() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let next = bundle(&[1000], "one");
    let mut order = pbx.order(&next, OnReloadFailure::RollBack);
    order.revision = Revision(1_000_000);
    for (name, files) in strangers(&pbx.pki, &pbx.dir("strangers"))? {
        let stranger = link(&pbx.agent, files)?;
        let status = stranger
            .status()
            .await
            .err()
            .with_context(|| format!("let in: {name}"))?;
        ensure!(is_refused(&status), "{name}: {status:?}");
        // Not by guessing the right call either.
        let staged = stranger.stage(&order, next.clone(), &request_id()).await;
        let staged = staged.err().with_context(|| format!("let in: {name}"))?;
        ensure!(is_refused(&staged), "{name}: {staged:?}");
    }
    for tls12 in [false, true] {
        ensure!(
            !speaks_to_anonymous(&pbx, tls12)?,
            "let in without a certificate"
        );
    }
    // Nothing of it was decoded: no upload was kept, no high revision remembered, no call logged.
    assert_eq!(
        std::fs::read_dir(pbx.agent.state_dir().join("gen"))?.count(),
        0
    );
    let log = pbx.agent.log();
    assert!(
        log.contains("handshake refused") && !log.contains("1000000"),
        "{log}"
    );

    // The control: the portal itself.
    let record = pbx.apply(&next).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
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

/// Certificates with which nobody is the agent of this PBX.
fn impostors(lab: &Lab, dir: &Path) -> anyhow::Result<Vec<(&'static str, TlsFiles)>> {
    let account = lab.asterisk.agent_account();
    let agent = |pbx: &str| Role::Agent {
        pbx: pbx.to_owned(),
    };
    let foreign = Pki::temporary()?.issue(&agent("default"), &dir.join("foreign"), account)?;
    let foreign = TlsFiles {
        ca: lab.agent.tls().ca.clone(),
        ..foreign
    };
    let day = time::Duration::days(1);
    let old = now() - day * i32::from(LEAF_DAYS) * 2;
    let expired = lab
        .pki
        .issue_at(&agent("default"), old, LEAF_DAYS, &dir.join("old"), account)?;
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    let server = Forged {
        uris: &[AGENT],
        dns: &[AGENT_DNS],
        usage,
        ..Forged::default()
    };
    let forged =
        |name: &str, forged: Forged<'_>| forged.signed_by(&lab.pki, &dir.join(name), account);
    let base = || Forged {
        usage: server.usage.clone(),
        ..server
    };
    let client = Forged {
        usage: ExtendedKeyUsagePurpose::ClientAuth,
        ..base()
    };
    let portal = Forged {
        uris: &[PORTAL],
        ..base()
    };
    let host = Forged {
        dns: &["example.org"],
        ..base()
    };
    let nameless = Forged {
        uris: &[],
        common_name: AGENT,
        ..base()
    };
    Ok(vec![
        (
            "another PBX",
            lab.pki
                .issue(&agent("other"), &dir.join("other"), account)?,
        ),
        ("another CA", foreign),
        ("expired", expired),
        ("the portal", forged("portal", portal)?),
        ("for clients alone", forged("client", client)?),
        ("another host", forged("host", host)?),
        ("nobody", forged("nobody", nameless)?),
    ])
}

#[tokio::test]
async fn the_portal_sends_nothing_to_anybody_but_its_agent() -> anyhow::Result<()> {
    let scratch = Scratch::new("impostors")?;
    let mut lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let good = lab.agent.tls().clone();
    for (name, files) in impostors(&lab, scratch.path())? {
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

/// What is no TLS, and peers that say nothing, keep neither the portal out nor their connections.
#[tokio::test]
async fn junk_and_silence_do_not_stop_the_agent() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let junk: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &[0; 4096],
        b"\xff",
    ];
    let mut silent = Vec::new();
    for round in 0..5 {
        for bytes in junk {
            let mut socket = TcpStream::connect(pbx.agent.address())?;
            socket.write_all(bytes)?;
            // Some hang up at once, some stay and wait.
            if round % 2 == 0 {
                silent.push(socket);
            }
        }
        silent.push(TcpStream::connect(pbx.agent.address())?);
    }
    // Served while they wait.
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    // Each of them is turned away in the end.
    for socket in &mut silent {
        socket.set_read_timeout(Some(HANDSHAKE_DEADLINE))?;
        let mut rest = Vec::new();
        match socket.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => ensure!(
                error.kind() == ErrorKind::ConnectionReset,
                "still there: {error}"
            ),
        }
    }
    Ok(())
}

/// More silent peers than handshakes are made at once: whoever has been silent for longest has to go,
/// and the portal gets in at once.
#[tokio::test]
async fn a_crowd_of_silent_peers_does_not_keep_the_portal_out() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let connect = |_| TcpStream::connect(pbx.agent.address());
    let _silent: Vec<TcpStream> = (0..200).map(connect).collect::<Result<_, _>>()?;
    let status = pbx.link.status().await?;
    let refused = status.counters["pbx_agent_handshakes_refused_total"];
    ensure!(refused >= 100, "{refused}");
    // A crowd is one event, not two hundred.
    let told = status.events.iter();
    let told = told.filter(|event| event.kind == EventKind::PeerRefused);
    ensure!(told.count() == 1, "{:?}", status.events);
    let next: Bundle = bundle(&[1000], "one");
    assert_eq!(pbx.apply(&next).await?.outcome, Some(Outcome::Applied));
    Ok(())
}
