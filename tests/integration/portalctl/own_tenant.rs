//! Whoever is confined to a tenant: how they come to a password, and whose users are meant by them.

use anyhow::ensure;
use serde_json::Value;
use tests::lab::PortalLab;

use super::{Terminal, ended};

const PASSWORD: &str = "correct horse battery staple";
const NEXT_PASSWORD: &str = "Wiege Ampel 7 Überholspur";

/// A tenant with an administrator, who sits at a terminal of their own and has no password yet; and
/// the token that sets it.
async fn newcomer(lab: &PortalLab) -> anyhow::Result<(Terminal, String)> {
    let boss = Terminal::signed_in(lab).await?;
    let acme = ["tenant", "create", "--slug", "acme", "--name", "Acme"];
    let acme = [&acme[..], &["--ext-min", "1000", "--ext-max", "1499"]].concat();
    boss.says(&acme).await?;
    let chief = ["--tenant", "acme", "account", "create", "--login", "chief"];
    let chief = [&chief[..], &["--name", "Chief", "--role", "tenant_admin"]].concat();
    let said = boss.says(&chief).await?;
    ensure!(said.contains("account reset-password chief"), "{said}");
    let reset = ["account", "reset-password", "chief"];
    let said = boss.says(&reset).await?;
    ensure!(said.contains("portalctl account set-password"), "{said}");
    let issued = boss.json(&reset).await?;
    let token = issued["token"].as_str().unwrap_or_default().to_owned();
    Ok((Terminal::of(lab)?, token))
}

/// Where nobody has signed in.
async fn set_password(terminal: &Terminal, token: &str, password: &str) -> anyhow::Result<i32> {
    let ca = terminal.ca.display().to_string();
    let set = ["--url", &terminal.url, "--ca", &ca, "account"];
    let set = [&set[..], &["set-password", "--password-stdin"]].concat();
    let input = format!("{token}\n{password}\n");
    let output = terminal.run_with(&set, &input).await?;
    ensure!(!output.stdout.contains(password) && !output.stderr.contains(password));
    Ok(output.status.code().unwrap_or_default())
}

#[tokio::test]
async fn who_gets_a_token_sets_a_password_and_changes_it() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let (chief, token) = newcomer(&lab).await?;
    // One that is refused leaves the token good.
    assert_eq!(set_password(&chief, &token, "short").await?, 5);
    assert_eq!(set_password(&chief, &token, PASSWORD).await?, 0);
    assert_eq!(set_password(&chief, &token, PASSWORD).await?, 3);
    chief.login("chief", PASSWORD).await?.success()?;

    let change = ["password", "--password-stdin"];
    ended(&chief.run_with(&change, &format!("{PASSWORD}\n")).await?, 2)?;
    let input = format!("{PASSWORD}\n{NEXT_PASSWORD}\n");
    ended(&chief.run_with(&change, &input).await?, 0)?;
    chief.says(&["whoami"]).await?;
    ended(&chief.login("chief", PASSWORD).await?, 3)?;
    chief.login("chief", NEXT_PASSWORD).await?.success()?;
    Ok(())
}

/// Lists and creates users without naming a tenant, and sees those of the own one.
async fn works_in_acme(terminal: &Terminal, email: &str) -> anyhow::Result<()> {
    let create = ["user", "create", "--name", "Carl", "--email", email];
    let made = terminal.json(&create).await?;
    let own = terminal.json(&["user", "list"]).await?;
    let named = terminal.json(&["--tenant", "acme", "user", "list"]).await?;
    assert_eq!(own, named);
    let users = own.as_array().into_iter().flatten();
    let ids: Vec<&Value> = users.map(|user| &user["id"]).collect();
    ensure!(ids.contains(&&made["id"]), "{made} is not in {own}");
    terminal.says(&["user", "export"]).await?;
    terminal
        .fails(4, &["--tenant", "default", "user", "list"])
        .await?;
    Ok(())
}

#[tokio::test]
async fn who_is_confined_to_a_tenant_means_that_one() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let (chief, token) = newcomer(&lab).await?;
    assert_eq!(set_password(&chief, &token, PASSWORD).await?, 0);
    chief.login("chief", PASSWORD).await?.success()?;
    works_in_acme(&chief, "carl@acme.example").await?;

    // A session of an earlier version does not tell whose it is.
    let mut session = chief.session()?;
    let kept = session
        .as_object_mut()
        .and_then(|kept| kept.remove("account"));
    ensure!(kept.is_some_and(|kept| kept["tenant_id"].is_string()));
    tests::scratch::write(&chief.session_file(), 0o600, &session.to_string())?;
    works_in_acme(&chief, "cora@acme.example").await?;

    // By a token that may read accounts, and by one that may not.
    let by_token = async |scopes: &str| {
        let create = ["token", "create", "--name", scopes, "--scopes", scopes];
        let made = chief.json(&create).await?;
        let token = made["token"].as_str().unwrap_or_default().to_owned();
        let ca = chief.ca.display().to_string();
        let there = Terminal::of(&lab)?.env("PORTAL_TOKEN", &token);
        let there = there.env("PORTAL_URL", &chief.url);
        anyhow::Ok(there.env("PORTAL_CA", &ca))
    };
    let program = by_token("users.read,users.write,accounts.read").await?;
    works_in_acme(&program, "cleo@acme.example").await?;
    let blind = by_token("users.read").await?;
    let said = blind.fails(4, &["user", "list"]).await?;
    ensure!(said.contains("--tenant"), "{said}");
    blind.says(&["--tenant", "acme", "user", "list"]).await?;
    Ok(())
}
