//! Row 13: a certificate of the right CA that names somebody else, or is for another use. Refused,
//! both ways.

use std::path::Path;

use api_server::pki::Role;
use rcgen::ExtendedKeyUsagePurpose;
use shared::tls::TlsFiles;
use tests::lab::Lab;
use tests::pki::Pki;
use tests::scratch::Scratch;

use super::refusals::{Stranger, assert_kept_out, assert_never_sent_to};
use crate::forged::{AGENT, AGENT_DNS, Forged, PORTAL};
use crate::pbx::Pbx;

/// Names that are not exactly the portal's.
const NAMES: [&[&str]; 8] = [
    &[AGENT],
    &["spiffe://other.internal/portal"],
    &["spiffe://pbx.internal/portal/x"],
    &["spiffe://pbx.internal/portalx"],
    &["spiffe://PBX.internal/portal"],
    &["https://pbx.internal/portal"],
    &[PORTAL, "spiffe://pbx.internal/portal2"],
    &[],
];

fn strangers(pki: &Pki, dir: &Path) -> anyhow::Result<Vec<Stranger>> {
    let mut strangers = Vec::new();
    let mut next = 0;
    let mut add = |name: String, issue: &dyn Fn(&Path) -> anyhow::Result<TlsFiles>| {
        next += 1;
        let files = issue(&dir.join(next.to_string()))?;
        let logged = "ertificate";
        strangers.push(Stranger {
            name,
            files,
            logged,
        });
        anyhow::Ok(())
    };
    let agent = Role::Agent {
        pbx: "default".to_owned(),
    };
    add("the agent itself".to_owned(), &|to| {
        pki.issue(&agent, to, None)
    })?;
    for uris in NAMES {
        let forged = Forged {
            uris,
            common_name: PORTAL,
            ..Forged::default()
        };
        add(format!("named {uris:?}"), &|to| {
            forged.signed_by(pki, to, None)
        })?;
    }
    let dns = Forged {
        uris: &[],
        dns: &["pbx.internal", "portal"],
        ..Forged::default()
    };
    add("a host".to_owned(), &|to| dns.signed_by(pki, to, None))?;
    let server = Forged {
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        ..Forged::default()
    };
    add("for servers alone".to_owned(), &|to| {
        server.signed_by(pki, to, None)
    })?;
    Ok(strangers)
}

#[tokio::test]
async fn nobody_but_the_portal_gets_in() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let strangers = strangers(&pbx.pki, &pbx.dir("strangers"))?;
    assert_kept_out(&pbx, strangers).await
}

/// Certificates with which nobody is the agent of this PBX.
fn impostors(lab: &Lab, dir: &Path) -> anyhow::Result<Vec<(&'static str, TlsFiles)>> {
    let account = lab.asterisk.agent_account();
    let forged =
        |name: &str, forged: Forged<'_>| forged.signed_by(&lab.pki, &dir.join(name), account);
    let base = || Forged {
        uris: &[AGENT],
        dns: &[AGENT_DNS],
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        ..Forged::default()
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
    let other = Role::Agent {
        pbx: "other".to_owned(),
    };
    let other = lab.pki.issue(&other, &dir.join("other"), account)?;
    Ok(vec![
        ("another PBX", other),
        ("the portal", forged("portal", portal)?),
        ("for clients alone", forged("client", client)?),
        ("another host", forged("host", host)?),
        ("nobody", forged("nobody", nameless)?),
    ])
}

#[tokio::test]
async fn the_portal_sends_nothing_to_anybody_but_its_agent() -> anyhow::Result<()> {
    let scratch = Scratch::new("impostors")?;
    let lab = Lab::start().await?;
    let impostors = impostors(&lab, scratch.path())?;
    assert_never_sent_to(lab, impostors).await
}
