//! Row 12: a certificate that has expired, is not valid yet, is of a foreign CA or revoked. Refused
//! before any call, at both ends of the link, with the reason in the log. Connections that are open
//! when that happens: `certificates`.

use std::path::Path;

use anyhow::{Context as _, ensure};
use api_server::agent::{AgentError, LinkFault};
use api_server::pki::{LEAF_DAYS, Role};
use rcgen::ExtendedKeyUsagePurpose;
use shared::tls::TlsFiles;
use tests::lab::Lab;
use tests::pki::{Pki, now};
use tests::scratch::Scratch;

use super::refusals::{Stranger, assert_kept_out, assert_never_sent_to};
use crate::forged::{AGENT, AGENT_DNS, Forged, revoke};
use crate::pbx::{Pbx, link};

/// Serial numbers of the certificates that are revoked.
const REVOKED: u64 = 4711;

fn strangers(pki: &Pki, dir: &Path) -> anyhow::Result<Vec<Stranger>> {
    let day = time::Duration::days(1);
    let old = now() - day * i32::from(LEAF_DAYS) * 2;
    let early = Forged {
        from: now() + day,
        to: now() + day * 2,
        ..Forged::default()
    };
    // It trusts the right CA, as an intruder would, but shows a certificate of its own.
    let foreign = TlsFiles {
        ca: pki.ca(),
        ..Pki::temporary()?.issue(&Role::Portal, &dir.join("foreign"), None)?
    };
    let own = Forged::default().self_signed(pki, &dir.join("own"))?;
    let expired = pki.issue_at(&Role::Portal, old, LEAF_DAYS, &dir.join("old"), None)?;
    let early = early.signed_by(pki, &dir.join("early"), None)?;
    let strangers = [
        // The CA has the same name, so that its signature is what does not fit.
        ("another CA of the same name", foreign, "BadSignature"),
        ("no CA", own, "UnknownIssuer"),
        ("expired", expired, "xpired"),
        ("not valid yet", early, "valid"),
    ];
    Ok(strangers
        .map(|(name, files, logged)| Stranger {
            name: name.to_owned(),
            files,
            logged,
        })
        .into())
}

#[tokio::test]
async fn certificates_out_of_their_time_or_of_another_ca_are_refused() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let strangers = strangers(&pbx.pki, &pbx.dir("strangers"))?;
    assert_kept_out(&pbx, strangers).await
}

/// A certificate of the portal's name that was revoked: with the list in its place when the agent
/// starts, and with one that comes while it runs.
#[tokio::test]
async fn a_revoked_certificate_is_refused_as_soon_as_the_list_says_so() -> anyhow::Result<()> {
    let mut pbx = Pbx::start().await?;
    let dir = pbx.dir("revoked");
    let stolen = Forged {
        serial: Some(REVOKED),
        ..Forged::default()
    };
    let stolen = stolen.signed_by(&pbx.pki, &dir, None)?;
    // Without a list, nobody can know.
    link(&pbx.agent, stolen.clone())?.status().await?;

    let crl = pbx.agent.tls().cert.with_file_name("crl.pem");
    revoke(&pbx.pki, &[], &crl)?;
    pbx.agent.stop().await?;
    let path = crl.display().to_string();
    pbx.agent.resume_with(&[("TLS_CRL_FILE", &path)]).await?;
    link(&pbx.agent, stolen.clone())?.status().await?;
    revoke(&pbx.pki, &[REVOKED], &crl)?;
    let stranger = Stranger {
        name: "revoked".to_owned(),
        files: stolen,
        logged: "evoked",
    };
    assert_kept_out(&pbx, vec![stranger]).await
}

fn agent() -> Role {
    Role::Agent {
        pbx: "default".to_owned(),
    }
}

#[tokio::test]
async fn the_portal_sends_nothing_to_an_agent_with_such_a_certificate() -> anyhow::Result<()> {
    let scratch = Scratch::new("impostors")?;
    let (lab, dir) = (Lab::start().await?, scratch.path());
    let account = lab.asterisk.agent_account();
    let foreign = TlsFiles {
        ca: lab.agent.tls().ca.clone(),
        ..Pki::temporary()?.issue(&agent(), &dir.join("foreign"), account)?
    };
    let day = time::Duration::days(1);
    let old = now() - day * i32::from(LEAF_DAYS) * 2;
    let expired = lab
        .pki
        .issue_at(&agent(), old, LEAF_DAYS, &dir.join("old"), account)?;
    let early = Forged {
        from: now() + day,
        to: now() + day * 2,
        ..forged_agent()
    };
    let early = early.signed_by(&lab.pki, &dir.join("early"), account)?;
    let impostors = vec![
        ("another CA", foreign),
        ("expired", expired),
        ("not valid yet", early),
    ];
    assert_never_sent_to(lab, impostors).await
}

/// A certificate that does, but for what a test changes.
fn forged_agent() -> Forged<'static> {
    Forged {
        uris: &[AGENT],
        dns: &[AGENT_DNS],
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        ..Forged::default()
    }
}

/// The portal's end of the link looks at its list for each new connection.
#[tokio::test]
async fn an_agent_whose_certificate_is_revoked_gets_nothing() -> anyhow::Result<()> {
    let mut pbx = Pbx::start().await?;
    let account = pbx.asterisk.agent_account();
    let scratch = Scratch::new("revoked")?;
    let revoked = Forged {
        serial: Some(REVOKED),
        ..forged_agent()
    };
    let files = revoked.signed_by(&pbx.pki, &scratch.path().join("agent"), account)?;
    let text = |path: &Path| path.display().to_string();
    let (cert, key) = (text(&files.cert), text(&files.key));
    pbx.agent.stop().await?;
    pbx.agent
        .resume_with(&[("TLS_CERT_FILE", &cert), ("TLS_KEY_FILE", &key)])
        .await?;
    let crl = scratch.path().join("crl.pem");
    for (serials, let_in) in [(&[][..], true), (&[REVOKED][..], false)] {
        revoke(&pbx.pki, serials, &crl)?;
        let tls = TlsFiles {
            crl: Some(crl.clone()),
            ..pbx.portal_tls()?
        };
        let status = link(&pbx.agent, tls)?.status().await;
        if let_in {
            status.context("not let in although nothing is revoked")?;
        } else {
            let refused = matches!(
                &status,
                Err(AgentError::Link(LinkFault::TheirCertificateRefused(why)))
                    if why.contains("evoked")
            );
            ensure!(refused, "{status:?}");
        }
    }
    Ok(())
}
