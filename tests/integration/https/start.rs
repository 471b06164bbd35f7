//! Where the portal refuses to start, and what it warns of when it does.

use anyhow::{Context as _, ensure};
use api_server::pki::Role;
use tests::loopback::Loopback;
use tests::pki::Pki;
use tests::portal::SECRET_KEY;
use tests::process::Program;
use tests::scratch::Scratch;

use super::*;

const START_DEADLINE: Duration = Duration::from_secs(20);

/// What `serve` says with these variables, which must make it end by itself, before it listens.
async fn refused(variables: &[(&str, &str)]) -> anyhow::Result<String> {
    let (dir, pki) = (Scratch::new("start")?, Pki::temporary()?);
    let tls = pki.issue(&Role::Portal, &dir.path().join("tls"), None)?;
    let mut program = Program::new(tests::agent::binary("api-server")?)
        .arg("serve")
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
        .env("SECRET_KEY", SECRET_KEY)
        .env("PBX_AGENT_ADDR", "127.0.0.1:1");
    for (name, value) in tests::pki::environment(&tls) {
        program = program.env(name, value);
    }
    for (name, value) in variables {
        program = program.env(name, value);
    }
    let output = program.run(START_DEADLINE).await?;
    ensure!(!output.status.success(), "{}", output.stderr);
    let said = format!("{}{}", output.stdout, output.stderr);
    ensure!(!said.contains("listening"), "{said}");
    Ok(said)
}

async fn assert_refused(variables: &[(&str, &str)], words: &[&str]) -> anyhow::Result<()> {
    let said = refused(variables).await?;
    for words in words {
        ensure!(said.contains(words), "{variables:?}: {words}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_served_that_was_not_meant() -> anyhow::Result<()> {
    let own = Loopback::take()?.port(8080).to_string();
    let trusted = ("AUTH_MODE", "trusted_network");
    let plain = ("PLAIN_HTTP", "behind_proxy");
    let open = ("TRUSTED_NETWORK_LISTEN_ADDR", own.as_str());
    let sign_in = ("LISTEN_ADDR", own.as_str());
    let public = ("LISTEN_ADDR", "0.0.0.0:8080");
    let open_public = ("TRUSTED_NETWORK_LISTEN_ADDR", "0.0.0.0:8080");
    for (variables, words) in [
        (
            &[trusted, plain][..],
            &["TRUSTED_NETWORK_LISTEN_ADDR is not set"][..],
        ),
        (
            &[trusted, plain, open, sign_in],
            &["LISTEN_ADDR is set, but AUTH_MODE=trusted_network"],
        ),
        (&[plain, open], &["AUTH_MODE is not trusted_network"]),
        (&[plain, public], &["PLAIN_HTTP", "loopback"]),
        (&[trusted, plain, open_public], &["PLAIN_HTTP", "loopback"]),
        (
            &[sign_in],
            &["HTTPS_CERT_FILE", "HTTPS_KEY_FILE", "PLAIN_HTTP"],
        ),
        // Everything at once.
        (
            &[
                trusted,
                sign_in,
                ("HTTPS_CERT_FILE", "/x"),
                ("SIP_REALM", "A B"),
            ],
            &[
                "LISTEN_ADDR is set",
                "TRUSTED_NETWORK_LISTEN_ADDR is not set",
                "HTTPS_KEY_FILE is not set",
                "SIP_REALM",
            ],
        ),
    ] {
        assert_refused(variables, words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() -> anyhow::Result<()> {
    let dir = Scratch::new("https")?;
    let good = tests::pki::https(&dir.path().join("good"), "127.0.0.1")?;
    let other = tests::pki::https(&dir.path().join("other"), "127.0.0.1")?;
    let own = Loopback::take()?.port(8443).to_string();
    let text = |path: &Path| path.display().to_string();
    let missing = text(&dir.path().join("missing.key"));
    for (cert, key, word) in [
        (text(&good.pair.cert), missing.clone(), missing.as_str()),
        (missing.clone(), text(&good.pair.key), missing.as_str()),
        (text(&good.pair.cert), text(&other.pair.key), "https.crt"),
        (text(&good.pair.key), text(&good.pair.key), "https.key"),
    ] {
        let variables = [
            ("LISTEN_ADDR", own.as_str()),
            ("HTTPS_CERT_FILE", &cert),
            ("HTTPS_KEY_FILE", &key),
        ];
        assert_refused(&variables, &["HTTPS cannot be served", word]).await?;
    }
    Ok(())
}

/// At every start and for as long as it lasts.
#[tokio::test]
async fn a_trusted_network_is_warned_of() -> anyhow::Result<()> {
    let mut lab = lab(&[]).await?;
    let ready = lab.client.get("/health/ready").await?.json()?;
    let codes = ready["warnings"].to_string();
    ensure!(codes.contains(r#""code":"trusted_network""#), "{codes}");
    lab.portal.stop().await?;
    lab.portal.resume().await?;
    let log = lab.portal.log();
    let warned = log.lines().filter(|line| {
        line.contains("there is no sign-in") && line.contains(&lab.portal.address().to_string())
    });
    ensure!(warned.count() == 2, "{log}");
    Ok(())
}

#[tokio::test]
async fn signing_in_is_the_default_and_warns_of_nothing() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ready = lab.client.get("/health/ready").await?.json()?;
    let warnings = ready["warnings"].as_array().context("no warnings")?;
    ensure!(
        warnings
            .iter()
            .all(|warning| warning["code"] != "trusted_network"),
        "{ready}"
    );
    lab.client.get("/users").await?.expect(200)?;
    lab.client.anonymous().get("/users").await?.expect(401)?;
    let named = lab
        .client
        .anonymous()
        .request(reqwest::Method::GET, "/users");
    let named = named.header("x-admin-user", "anna").send().await?;
    named.expect(401)?;
    ensure!(!lab.portal.log().contains("there is no sign-in"));
    Ok(())
}
