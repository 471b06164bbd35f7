//! Signing in and out, and what is kept meanwhile.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::ensure;
use serde_json::{Value, json};
use tests::agent::binary;
use tests::lab::PortalLab;
use tests::process::Program;
use tests::scratch::{self, Scratch};

use super::canned::{Answer, Desk};
use super::{Terminal, ended};

fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(std::fs::metadata(path)?.mode() & 0o777)
}

/// As if the access token had been used up.
fn expire(terminal: &Terminal) -> anyhow::Result<()> {
    let mut session = terminal.session()?;
    session["access_until"] = json!("2020-01-01T00:00:00Z");
    scratch::write(&terminal.session_file(), 0o600, &session.to_string())
}

#[tokio::test]
async fn a_session_is_kept_for_its_owner_alone_and_ends() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::of(&lab)?;
    let said = terminal.fails(2, &["whoami"]).await?;
    ensure!(said.contains("portalctl login"), "{said}");

    terminal.sign_in().await?;
    let file = terminal.session_file();
    assert_eq!(mode(&file)?, 0o600);
    assert_eq!(mode(file.parent().unwrap_or(&file))?, 0o700);
    ensure!(!std::fs::read_to_string(&file)?.contains(&terminal.administrator.password));
    // Portal and CA are remembered.
    let said = terminal.says(&["whoami"]).await?;
    ensure!(
        said.contains("platform_admin") && said.contains("127.0"),
        "{said}"
    );

    let whole = terminal.json(&["whoami"]).await?;
    ensure!(
        whole["login"] == "admin" && whole["session"]["id"].is_string(),
        "{whole}"
    );

    let token = terminal.session()?["access_token"].clone();
    let token = lab.client.with_bearer(token.as_str().unwrap_or_default());
    token.get("/sessions/current").await?.expect(200)?;
    terminal.says(&["logout"]).await?;
    token.get("/sessions/current").await?.expect(401)?;
    ensure!(!file.exists());
    let said = terminal
        .fails(
            3,
            &["--url", &terminal.url, "--ca", &ca(&terminal), "whoami"],
        )
        .await?;
    ensure!(said.contains("portalctl login"), "{said}");
    Ok(())
}

fn ca(terminal: &Terminal) -> String {
    terminal.ca.display().to_string()
}

#[tokio::test]
async fn wrong_credentials_and_a_second_factor() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::of(&lab)?;
    let wrong = terminal.login("admin", "wrong\n").await?;
    ended(&wrong, 3)?;
    ensure!(wrong.stderr.contains("wrong_credentials") && wrong.stderr.contains("request id"));
    ensure!(!terminal.session_file().exists());
    ended(&terminal.login("admin", "").await?, 2)?;

    let password = terminal.administrator.password.clone();
    let (_, codes) = crate::accounts::second_factor::enrolled_by(&lab.client, &password).await?;
    let code = &codes[0];
    let without = terminal.login("admin", &format!("{password}\n")).await?;
    ended(&without, 3)?;
    ensure!(
        without.stderr.contains("second_factor_required"),
        "{}",
        without.stderr
    );
    let input = format!("{password}\n{code}\n");
    terminal.login("admin", &input).await?.success()?;
    ensure!(
        terminal
            .says(&["whoami"])
            .await?
            .contains("second factor shown")
    );
    Ok(())
}

#[tokio::test]
async fn what_others_can_read_is_not_used() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let file = terminal.session_file();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640))?;
    let said = terminal.fails(1, &["whoami"]).await?;
    ensure!(
        said.contains("can be read or written by others (mode 640)"),
        "{said}"
    );
    // Signing in again is a way out.
    terminal.sign_in().await?;
    terminal.says(&["whoami"]).await?;
    assert_eq!(mode(&file)?, 0o600);

    let dir = file.parent().unwrap_or(&file).to_owned();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777))?;
    let again = terminal
        .login("admin", &terminal.administrator.password)
        .await?;
    ended(&again, 1)?;
    ensure!(again.stderr.contains("chmod 700"), "{}", again.stderr);
    Ok(())
}

/// Who has a session's access token finds out whether it has ended.
async fn is_over(lab: &PortalLab, session: &Value) -> anyhow::Result<bool> {
    let token = session["access_token"].as_str().unwrap_or_default();
    let reply = lab
        .client
        .with_bearer(token)
        .get("/sessions/current")
        .await?;
    Ok(reply.status == 401)
}

#[tokio::test]
async fn signing_in_ends_the_session_that_it_replaces() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let first = terminal.session()?;
    ended(&terminal.login("admin", "wrong\n").await?, 3)?;
    ensure!(!is_over(&lab, &first).await?);
    terminal.sign_in().await?;
    ensure!(is_over(&lab, &first).await?);

    // Its access token is not good any more, and others could read it.
    let second = terminal.session()?;
    let mut file = second.clone();
    file["access_token"] = json!("eyJ.not.good");
    scratch::write(&terminal.session_file(), 0o644, &file.to_string())?;
    terminal.sign_in().await?;
    ensure!(is_over(&lab, &second).await?);

    // One that has ended is nothing to speak of; one whose portal is away is.
    let mut file = second;
    let away = json!("http://127.0.0.1:9/");
    for (url, told) in [(file["url"].clone(), false), (away, true)] {
        file["url"] = url;
        scratch::write(&terminal.session_file(), 0o600, &file.to_string())?;
        let password = &terminal.administrator.password;
        let output = terminal.login("admin", password).await?;
        ended(&output, 0)?;
        let said = &output.stderr;
        assert_eq!(said.contains("could not be ended"), told, "{said}");
        terminal.says(&["whoami"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_comes_by_a_token_is_shown_without_a_session() -> anyhow::Result<()> {
    let id = "01900000-0000-7000-8000-000000000009";
    let account = json!({ "id": id, "login": "ann", "name": "Ann", "role": "tenant_admin",
        "status": "active", "tenant_id": id, "user_id": null, "second_factor": false,
        "password_set_at": null, "last_sign_in_at": null, "created_at": "2026-11-21T03:45:12Z",
        "updated_at": "2026-11-21T03:45:12Z" });
    let needed = Answer::Whole(403, "{}".to_owned());
    let desk = Desk::new(vec![Answer::Account(200, account.to_string()), needed]).await?;
    let said = desk.run(&["whoami"]).await?.success()?;
    assert_eq!(said.matches("tenant ").count(), 1, "{said}");
    Ok(())
}

/// A session that nobody could keep is not begun.
#[tokio::test]
async fn where_a_session_cannot_be_kept_nobody_signs_in() -> anyhow::Result<()> {
    let desk = Desk::new(vec![Answer::Whole(200, "{}".to_owned())]).await?;
    let dir = desk.place.path().join("portalctl");
    scratch::directory(&dir, 0o777)?;
    let output = desk.run(&["login", "--password-stdin", "ann"]).await?;
    ended(&output, 1)?;
    ensure!(output.stderr.contains("chmod 700"), "{}", output.stderr);
    ensure!(desk.asked().is_empty());
    Ok(())
}

/// Where nobody signs in, the audit trail names who said to be asking.
#[tokio::test]
async fn a_trusted_network_hears_who_asks() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let home = Scratch::new("trusted")?;
    let portalctl = async |env: Option<&str>, option: &[&str], name: &str| {
        let create = ["tenant", "create", "--slug", name, "--name", name];
        let create = [&create[..], &["--ext-min", "10", "--ext-max", "19"], option].concat();
        let program = Program::new(binary("portalctl")?).args(&create);
        let program = program.env("XDG_CONFIG_HOME", home.path());
        let program = program.env("PORTAL_URL", lab.portal.url());
        let program = match env {
            Some(name) => program.env("PORTAL_ADMIN_USER", name),
            None => program,
        };
        program.run(super::DEADLINE).await
    };
    let option = ["--admin-user", "Žofie Nováková"];
    ended(&portalctl(None, &[], "a").await?, 0)?;
    ended(&portalctl(Some("berta"), &[], "b").await?, 0)?;
    ended(&portalctl(Some("berta"), &option, "c").await?, 0)?;
    let trail = lab
        .client
        .get("/audit?action=tenant.created&sort=at")
        .await?;
    let trail = trail.expect(200)?.json()?;
    let actors = trail.as_array().into_iter().flatten();
    let actors: Vec<_> = actors.filter_map(|entry| entry["actor"].as_str()).collect();
    assert_eq!(actors, ["trusted-network", "berta", "Žofie Nováková"]);

    for bad in ["", "a\nb"] {
        ended(&portalctl(Some(bad), &[], "d").await?, 2)?;
    }
    let long = "x".repeat(101);
    let output = portalctl(Some(&long), &[], "d").await?;
    ended(&output, 5)?;
    ensure!(output.stderr.contains("X-Admin-User"), "{}", output.stderr);
    Ok(())
}

/// A refresh token that is presented twice ends the session: of many at once, one presents it and the
/// others take what came of it.
#[tokio::test]
async fn many_at_once_renew_a_session_once() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    for _ in 0..3 {
        expire(&terminal)?;
        let before = terminal.session()?;
        let all = (0..6).map(|_| terminal.says(&["user", "list"]));
        for said in all_of(all).await {
            said?;
        }
        let after = terminal.session()?;
        ensure!(before["refresh_token"] != after["refresh_token"]);
        assert_eq!(mode(&terminal.session_file())?, 0o600);
    }
    let pool = lab.database.pool().await?;
    let ended: i64 = sqlx::query_scalar(
        "select count(*) from audit_entry where action = 'session.refresh_reused'",
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(ended, 0);
    Ok(())
}

/// All at once.
async fn all_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[tokio::test]
async fn an_access_token_that_is_not_good_any_more_is_renewed() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let mut session = terminal.session()?;
    session["access_token"] = json!("eyJ.not.good");
    scratch::write(&terminal.session_file(), 0o600, &session.to_string())?;
    terminal.says(&["whoami"]).await?;

    // Ended elsewhere: it cannot be renewed.
    lab.client.get("/sessions").await?.expect(200)?;
    let token = terminal.session()?["access_token"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    lab.client
        .with_bearer(&token)
        .delete("/sessions/current")
        .await?
        .expect(204)?;
    let said = terminal.fails(3, &["whoami"]).await?;
    ensure!(said.contains("the session has ended"), "{said}");
    ensure!(!terminal.session_file().exists());
    Ok(())
}

#[tokio::test]
async fn the_token_of_the_environment_comes_first() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let create = [
        "token",
        "create",
        "--name",
        "reader",
        "--scopes",
        "users.read",
        "--days",
        "1",
    ];
    let made = terminal.json(&create).await?;
    let token = made["token"].as_str().unwrap_or_default().to_owned();
    ensure!(token.starts_with("pbxt_"));
    let before = std::fs::read(terminal.session_file())?;

    let reader = Terminal::of(&lab)?
        .env("PORTAL_TOKEN", &token)
        .env("PORTAL_URL", &lab.portal.url())
        .env("PORTAL_CA", &ca(&terminal));
    reader.says(&["user", "list"]).await?;
    let said = reader.fails(3, &["tenant", "list"]).await?;
    ensure!(
        said.contains("forbidden") && !said.contains(&token),
        "{said}"
    );
    let said = reader.fails(3, &["token", "list"]).await?;
    ensure!(said.contains("An API token cannot do this"), "{said}");
    ensure!(!reader.session_file().exists());

    let over = terminal.env("PORTAL_TOKEN", "pbxt_nonsense");
    let said = over.fails(3, &["user", "list"]).await?;
    ensure!(!said.contains("pbxt_nonsense"), "{said}");
    assert_eq!(std::fs::read(over.session_file())?, before);
    Ok(())
}

#[tokio::test]
async fn tokens_go_to_their_portal_alone() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let other = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let elsewhere = other
        .portal
        .https()
        .map(|https| https.ca.display().to_string());
    let elsewhere = elsewhere.unwrap_or_default();
    // It is another portal: nobody has signed in there.
    let there = [
        "--url",
        &other.portal.url(),
        "--ca",
        &elsewhere,
        "user",
        "list",
    ];
    let said = terminal.fails(3, &there).await?;
    ensure!(said.contains("portalctl login"), "{said}");
    // The CA that is remembered does not vouch for another.
    let said = terminal
        .fails(7, &["--url", &other.portal.url(), "user", "list"])
        .await?;
    ensure!(said.contains("cannot reach"), "{said}");
    let said = terminal
        .fails(2, &["--url", "http://portal.example.com", "user", "list"])
        .await?;
    ensure!(said.contains("https://"), "{said}");
    let session: Value = terminal.session()?;
    assert_eq!(session["url"], format!("{}/", lab.portal.url()));
    Ok(())
}
