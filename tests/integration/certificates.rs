//! Certificates in operation: renewed, revoked and expired while the link is in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::{Agent as Link, AgentError, LinkFault};
use api_server::pki::Role;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use shared::record::Outcome;
use shared::status::EventKind;
use shared::tls::TlsFiles;
use tests::lab::Lab;
use tests::pki::now;
use tests::process::wait_until;

use crate::forged::AGENT_DNS;
use crate::pbx::{Pbx, bundle, link};

const DEADLINE: Duration = Duration::from_secs(30);
const LIST_DAYS: u16 = 30;

fn agent_role() -> Role {
    Role::Agent {
        pbx: "default".to_owned(),
    }
}

/// Gives the agent a new certificate where the old one lies.
fn renew_agent(pbx: &Pbx) -> anyhow::Result<()> {
    let dir = pbx.agent.tls().cert.parent().context("no directory")?;
    let account = pbx.asterisk.agent_account();
    pbx.pki.issue(&agent_role(), dir, account).map(drop)
}

/// A certificate of the portal in `dir`, and a copy of it that stays when it is renewed.
fn portal(pbx: &Pbx, dir: &Path) -> anyhow::Result<(TlsFiles, PathBuf)> {
    let files = pbx.pki.issue(&Role::Portal, dir, None)?;
    Ok((files.clone(), copy(&files.cert, &dir.join("old.crt"))?))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    std::fs::copy(from, to)?;
    Ok(to.to_owned())
}

/// An agent that looks at a revocation list, which is empty.
async fn with_list() -> anyhow::Result<(Pbx, PathBuf)> {
    let mut pbx = Pbx::start().await?;
    let dir = pbx.agent.tls().cert.parent().context("no directory")?;
    let list = dir.join("crl.pem");
    pbx.pki.revoke(&[], now(), LIST_DAYS, &list)?;
    pbx.agent.stop().await?;
    let path = list.display().to_string();
    pbx.agent.resume_with(&[("TLS_CRL_FILE", &path)]).await?;
    Ok((pbx, list))
}

fn refuses_us(result: Result<impl Sized, AgentError>) -> anyhow::Result<String> {
    match result.err().context("let in")? {
        AgentError::Link(LinkFault::OurCertificateRefused(why)) => Ok(why),
        other => anyhow::bail!("{other:?}"),
    }
}

fn is_refused_by_us(result: Result<impl Sized, AgentError>) -> anyhow::Result<()> {
    match result.err().context("accepted")? {
        AgentError::Link(LinkFault::TheirCertificateRefused(_)) => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Fault 12: on an open connection, and without a restart of anybody.
#[tokio::test]
async fn a_revoked_portal_is_refused_on_its_open_connection() -> anyhow::Result<()> {
    let (pbx, list) = with_list().await?;
    let dir = pbx.dir("revoked");
    let (files, old) = portal(&pbx, &dir)?;
    let portal = link(&pbx.agent, files)?;
    portal.status().await?;
    pbx.pki.revoke(&[old], now(), LIST_DAYS, &list)?;
    let why = refuses_us(portal.status().await)?;
    ensure!(why.contains("Revoked"), "{why}");
    let log = pbx.agent.log();
    ensure!(
        log.contains("RPC refused") && log.contains("Revoked"),
        "{log}"
    );
    // Nor does a new connection help. It may break before the alert that says why is read.
    ensure!(portal.status().await.is_err());

    // A renewed certificate does, for the same client.
    pbx.pki.issue(&Role::Portal, &dir, None)?;
    let status = portal.status().await?;
    ensure!(status.counters["pbx_agent_peers_refused_total"] == 1);
    ensure!(status.counters["pbx_agent_handshakes_refused_total"] >= 1);
    let mut told = status.events.iter();
    ensure!(
        told.any(|event| event.kind == EventKind::PeerRefused && event.detail.contains("Revoked"))
    );
    Ok(())
}

#[tokio::test]
async fn a_revoked_agent_is_refused_on_the_open_connection() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let list = pbx.dir("portal-list").join("crl.pem");
    let (mut files, _) = portal(&pbx, &pbx.dir("portal-list"))?;
    pbx.pki.revoke(&[], now(), LIST_DAYS, &list)?;
    files.crl = Some(list.clone());
    let portal = link(&pbx.agent, files)?;
    portal.status().await?;
    let cert = pbx.agent.tls().cert.clone();
    pbx.pki.revoke(&[cert], now(), LIST_DAYS, &list)?;
    is_refused_by_us(portal.status().await)?;
    renew_agent(&pbx)?;
    portal.status().await.map(drop).map_err(Into::into)
}

#[tokio::test]
async fn a_certificate_that_ends_while_connected_is_refused() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let day = time::Duration::days(1);
    let soon = now() - day + time::Duration::seconds(8);
    let files = pbx
        .pki
        .issue_at(&Role::Portal, soon, 1, &pbx.dir("short"), None)?;
    let portal = link(&pbx.agent, files)?;
    portal.status().await?;
    let refused = async || refuses_us(portal.status().await).is_ok();
    wait_until("the certificate has ended", DEADLINE, refused).await?;
    ensure!(pbx.agent.log().contains("RPC refused"));
    Ok(())
}

/// What a list does not say any more may be what it would have to say.
#[tokio::test]
async fn a_revocation_list_past_its_time_lets_nobody_in() -> anyhow::Result<()> {
    let (pbx, list) = with_list().await?;
    pbx.link.status().await?;
    let past = now() - time::Duration::days(i64::from(LIST_DAYS) + 1);
    pbx.pki.revoke(&[], past, LIST_DAYS, &list)?;
    let why = refuses_us(pbx.link.status().await)?;
    ensure!(
        why.contains("CRL") || why.contains("ExpiredRevocationList"),
        "{why}"
    );
    let (mut files, _) = portal(&pbx, &pbx.dir("late"))?;
    files.crl = Some(list.clone());
    is_refused_by_us(link(&pbx.agent, files)?.status().await)?;
    pbx.pki.revoke(&[], now(), LIST_DAYS, &list)?;
    pbx.link.status().await.map(drop).map_err(Into::into)
}

/// Both ends get new certificates while one apply follows the other: none is lost, and the new
/// certificates are in use.
#[tokio::test]
async fn renewal_under_applies_loses_none() -> anyhow::Result<()> {
    let (pbx, list) = with_list().await?;
    let dir = pbx.dir("renewed");
    let (files, old) = portal(&pbx, &dir)?;
    let old_agent = copy(&pbx.agent.tls().cert, &dir.join("old-agent.crt"))?;
    let link: Link = link(&pbx.agent, files)?;
    let bundles = [bundle(&[1000], "one"), bundle(&[1000, 1001], "one")];
    for round in 0..12 {
        match round % 4 {
            1 => drop(pbx.pki.issue(&Role::Portal, &dir, None)?),
            2 => renew_agent(&pbx)?,
            _ => {}
        }
        let bundle = &bundles[round % 2];
        let order = pbx.order(bundle, shared::record::OnReloadFailure::RollBack);
        let id = crate::pbx::request_id();
        link.stage(&order, bundle.clone(), &id).await?;
        let record = link.apply(&order, DEADLINE, &id).await?;
        ensure!(
            record.outcome == Some(Outcome::Applied),
            "{round}: {record:#?}"
        );
    }
    // With the old ones revoked at the end, only the new ones can be in use.
    pbx.pki
        .revoke(&[old, old_agent.clone()], now(), LIST_DAYS, &list)?;
    link.status().await?;
    let served = served(&pbx)?;
    ensure!(served == CertificateDer::from_pem_file(&pbx.agent.tls().cert)?);
    ensure!(served != CertificateDer::from_pem_file(old_agent)?);
    Ok(())
}

/// The certificate that the agent shows to a new connection.
fn served(pbx: &Pbx) -> anyhow::Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pbx.pki.ca())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut socket = std::net::TcpStream::connect(pbx.agent.address())?;
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from(AGENT_DNS)?)?;
    while connection.peer_certificates().is_none() {
        connection.complete_io(&mut socket)?;
    }
    let shown = connection.peer_certificates().unwrap_or_default();
    shown.first().cloned().context("no certificate")
}

/// Half a renewal, or none that can be used, leaves what there was in force, and says so.
#[tokio::test]
async fn files_that_do_not_belong_together_leave_the_old_ones_in_force() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let dir = pbx
        .agent
        .tls()
        .cert
        .parent()
        .context("no directory")?
        .to_owned();
    let account = pbx.asterisk.agent_account();
    let key = std::fs::read_to_string(&pbx.agent.tls().key)?;
    pbx.pki.issue(&agent_role(), &dir, account)?;
    let new_key = std::fs::read_to_string(&pbx.agent.tls().key)?;
    let put = |key: &str| {
        tests::scratch::write(&pbx.agent.tls().key, 0o600, key)?;
        account
            .map(|account| account.own(&pbx.agent.tls().key))
            .transpose()
    };
    put(&key)?;
    let status = link(
        &pbx.agent,
        pbx.pki.issue(&Role::Portal, &pbx.dir("a"), None)?,
    )?;
    let warnings = status.status().await?.warnings.join("\n");
    ensure!(warnings.contains("the old ones are in force"), "{warnings}");
    put(&new_key)?;
    let warnings = status.status().await?.warnings.join("\n");
    ensure!(
        !warnings.contains("the old ones are in force"),
        "{warnings}"
    );
    Ok(())
}

/// Certificates of 397 days, and a warning 400 days before their end.
#[tokio::test]
async fn both_ends_warn_of_what_ends_soon() -> anyhow::Result<()> {
    let lab = Lab::builder()
        .agent_env("CERT_WARNING_DAYS", "400")
        .portal_env("CERT_WARNING_DAYS", "400")
        .start()
        .await?;
    let ready = lab.client.get("/health/ready").await?.json()?;
    let warnings = ready["warnings"].to_string();
    for end in ["portal", "agent"] {
        let words = format!("the {end} certificate ends on ");
        ensure!(warnings.contains(&words), "{words}: {warnings}");
    }
    ensure!(!warnings.contains("CA certificate"), "{warnings}");
    let log = lab.agent.log();
    ensure!(log.matches("certificate_expiring").count() == 1, "{log}");
    Ok(())
}
