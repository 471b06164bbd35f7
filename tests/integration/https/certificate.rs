//! The certificate: renewed while requests go on, broken, ended.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use api_server::pki::{self, HttpsPair, LEAF_DAYS, Overwrite};
use tests::pki::now;
use tests::process::wait_until;
use tests::scratch;
use tokio::io::AsyncWriteExt as _;

use super::*;

/// Renewals while requests go on.
const RENEWALS: usize = 8;

/// How many ask at the same time.
const CLIENTS: usize = 8;

const ASK: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const ASK_AND_STAY: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Another certificate for `portal`, beside the one that it uses.
fn another(portal: &Portal) -> anyhow::Result<HttpsPair> {
    let https = portal.https().context("no HTTPS")?;
    let dir = https.ca.parent().context("no directory")?.join("another");
    let name = portal.address().ip().to_string();
    Ok(pki::create_https(
        &dir,
        &[name],
        now(),
        LEAF_DAYS,
        Overwrite::Yes,
    )?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Puts a certificate and key where `portal` reads them, one after the other.
fn put(portal: &Portal, cert: &str, key: &str) -> anyhow::Result<()> {
    let pair = &portal.https().context("no HTTPS")?.pair;
    scratch::write(&pair.key, 0o600, key)?;
    scratch::write(&pair.cert, 0o644, cert)
}

/// The certificate that a new connection is shown.
fn shown(stream: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    let chain = stream.get_ref().1.peer_certificates();
    chain.and_then(|chain| chain.first()).cloned()
}

async fn ask(
    portal: &Portal,
    config: &Arc<ClientConfig>,
) -> anyhow::Result<CertificateDer<'static>> {
    let mut stream = connect(portal, Arc::clone(config)).await?;
    let shown = shown(&stream).context("no certificate")?;
    stream.write_all(ASK).await?;
    let answer = String::from_utf8(until_closed(stream).await?)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(shown)
}

/// What readiness says of the certificate.
async fn warned(lab: &PortalLab) -> anyhow::Result<Vec<String>> {
    let body = lab.client.get("/health/ready").await?.json()?;
    let warnings = body["warnings"].as_array().context("no warnings")?;
    let ours = warnings
        .iter()
        .filter(|warning| warning["code"] == "https_certificate");
    Ok(ours.map(|warning| warning["message"].to_string()).collect())
}

/// New connections, one after the other, until told to stop. Fails at the first that does.
fn keep_asking(
    lab: &Arc<PortalLab>,
    config: &Arc<ClientConfig>,
    stop: &Arc<AtomicBool>,
    asked: &Arc<AtomicUsize>,
) -> tokio::task::JoinHandle<anyhow::Result<Vec<CertificateDer<'static>>>> {
    let (lab, config) = (Arc::clone(lab), Arc::clone(config));
    let (stop, asked) = (Arc::clone(stop), Arc::clone(asked));
    tokio::spawn(async move {
        let mut seen = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            seen.push(ask(&lab.portal, &config).await?);
            asked.fetch_add(1, Ordering::Relaxed);
        }
        Ok(seen)
    })
}

#[tokio::test]
async fn renewal_under_load_fails_no_request() -> anyhow::Result<()> {
    let lab = Arc::new(lab(&[]).await?);
    let https = lab.portal.https().context("no HTTPS")?.clone();
    let other = another(&lab.portal)?;
    let pairs =
        [&https, &other].map(|files| anyhow::Ok((read(&files.pair.cert)?, read(&files.pair.key)?)));
    let [first, second] = pairs;
    let pairs = [first?, second?];
    let config = trusting(&[&https.ca, &other.ca], &[&TLS13, &TLS12], &["http/1.1"])?;
    let mut open = connect(&lab.portal, Arc::clone(&config)).await?;

    let (stop, asked) = (Arc::default(), Arc::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| keep_asking(&lab, &config, &stop, &asked))
        .collect();
    for round in 1..=RENEWALS {
        let (cert, key) = &pairs[round % 2];
        put(&lab.portal, cert, key)?;
        let before = asked.load(Ordering::Relaxed);
        let more = async || asked.load(Ordering::Relaxed) >= before + 4 * CLIENTS;
        wait_until("requests went on", DEADLINE, more).await?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut seen = HashSet::new();
    for client in clients {
        seen.extend(client.await??);
    }
    ensure!(seen.len() == 2, "{} certificates were shown", seen.len());
    // Also who was connected before all of it is served.
    open.write_all(ASK_AND_STAY).await?;
    let mut head = [0; 12];
    open.read_exact(&mut head).await?;
    ensure!(&head == b"HTTP/1.1 200", "{head:?}");
    ensure!(warned(&lab).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_old_certificate_in_force() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let https = lab.portal.https().context("no HTTPS")?.clone();
    let (cert, key) = (read(&https.pair.cert)?, read(&https.pair.key)?);
    let in_force = CertificateDer::from_pem_file(&https.pair.cert)?;
    let other = another(&lab.portal)?;
    let (other_cert, other_key) = (read(&other.pair.cert)?, read(&other.pair.key)?);
    let config = usual(&lab.portal)?;
    let half: String = cert.chars().take(cert.len() / 2).collect();
    for (name, bad_cert, bad_key) in [
        ("another key", cert.as_str(), other_key.as_str()),
        ("another certificate", &other_cert, &key),
        ("no certificate", "", &key),
        ("half a certificate", &half, &key),
        ("no key", &cert, "-----BEGIN NONSENSE-----\n"),
    ] {
        put(&lab.portal, bad_cert, bad_key)?;
        ensure!(ask(&lab.portal, &config).await? == in_force, "{name}");
        let told = warned(&lab).await?.join("\n");
        ensure!(told.contains("the old ones are in force"), "{name}: {told}");
        ensure!(!told.contains("PRIVATE"), "{name}: {told}");
    }
    std::fs::remove_file(&https.pair.key)?;
    ensure!(ask(&lab.portal, &config).await? == in_force);
    ensure!(!warned(&lab).await?.is_empty());
    // Ready all the same: it works.
    put(&lab.portal, &cert, &key)?;
    ensure!(warned(&lab).await?.is_empty());
    ensure!(ask(&lab.portal, &config).await? == in_force);
    Ok(())
}

/// Certificates of 397 days, and a warning 400 days before their end.
#[tokio::test]
async fn an_end_that_is_near_is_warned_of() -> anyhow::Result<()> {
    let lab = lab(&[("CERT_WARNING_DAYS", "400")]).await?;
    let told = warned(&lab).await?;
    ensure!(told.len() == 1, "{told:?}");
    ensure!(
        told[0].contains("the HTTPS certificate ends on "),
        "{told:?}"
    );
    let log = lab.portal.log();
    ensure!(log.contains("the HTTPS certificate ends on "), "{log}");
    Ok(())
}

/// What is made for HTTPS is trusted by the file that is made with it, under each of its names.
#[tokio::test]
async fn the_command_makes_what_clients_trust() -> anyhow::Result<()> {
    let dir = scratch::Scratch::new("https")?;
    let dir = dir.path().display().to_string();
    let make = tests::process::Program::new(tests::agent::binary("api-server")?);
    let make = make.args(["certs", "https", &dir, "--name", "portal.example"]);
    let said = make.run(DEADLINE).await?.success()?;
    let files: Vec<PathBuf> = said.lines().map(PathBuf::from).collect();
    let [ca, cert, _key] = &files[..] else {
        anyhow::bail!("{said}");
    };
    let roots = rustls::client::WebPkiServerVerifier::builder_with_provider(
        Arc::new({
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(ca)?)?;
            roots
        }),
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    );
    let verifier = roots.build()?;
    let cert = CertificateDer::from_pem_file(cert)?;
    let is_for = |name: &'static str| -> anyhow::Result<bool> {
        use rustls::client::danger::ServerCertVerifier as _;
        let (name, now) = (
            ServerName::try_from(name)?,
            rustls::pki_types::UnixTime::now(),
        );
        Ok(verifier
            .verify_server_cert(&cert, &[], &name, &[], now)
            .is_ok())
    };
    for name in ["portal.example", "localhost", "127.0.0.1", "::1"] {
        ensure!(is_for(name)?, "{name}");
    }
    ensure!(!is_for("other.example")?);
    Ok(())
}
