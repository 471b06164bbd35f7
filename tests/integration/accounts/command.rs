//! `api-server account …`: for whoever has the host.

use anyhow::ensure;
use serde_json::{Value, json};
use tests::agent::binary;
use tests::lab::PortalLab;
use tests::portal::SECRET_KEY;
use tests::process::{Output, Program};

use super::{PASSWORD, me, redeem, sign_in, text, trail};

const DEADLINE: std::time::Duration = std::time::Duration::from_mins(1);

async fn command(lab: &PortalLab, arguments: &[&str]) -> anyhow::Result<Output> {
    let program = Program::new(binary("api-server")?)
        .arg("account")
        .args(arguments);
    let program = program
        .env("DATABASE_URL", &lab.database.url)
        .env("SECRET_KEY", SECRET_KEY);
    program.run(DEADLINE).await
}

/// The token that a command printed last.
async fn token(lab: &PortalLab, arguments: &[&str]) -> anyhow::Result<String> {
    let said = command(lab, arguments).await?.success()?;
    let token = said.lines().last().unwrap_or_default().to_owned();
    ensure!(token.starts_with("pbxp_"), "{said}");
    Ok(token)
}

#[tokio::test]
async fn the_first_administrator_is_made_on_the_host() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let first = token(&lab, &["create", "Root", "--name", "Root"]).await?;
    redeem(&lab.client, &first, PASSWORD).await?.expect(204)?;
    let root = lab.client.sign_in("root", PASSWORD).await?;
    let own = me(&root).await?.expect(200)?.json()?;
    assert_eq!(
        (text(&own["role"]), &own["tenant_id"]),
        ("platform_admin", &Value::Null)
    );

    let body = ["create", "olga", "--name", "Olga", "--role", "operator"];
    let homeless = command(&lab, &body).await?;
    ensure!(!homeless.status.success() && homeless.stderr.contains("belong to a tenant"));
    let nowhere = [&body[..], &["--tenant", "nobody"]].concat();
    ensure!(!command(&lab, &nowhere).await?.status.success());
    let default = [&body[..], &["--tenant", "default"]].concat();
    token(&lab, &default).await?;
    let twin = command(&lab, &default).await?;
    ensure!(
        !twin.status.success() && twin.stderr.contains("the login is taken"),
        "{}",
        twin.stderr
    );
    let hostile = command(&lab, &["create", "a b", "--name", "X"]).await?;
    ensure!(!hostile.status.success());

    // Whoever has the host is the one who did it.
    let pool = lab.database.pool().await?;
    let by: Vec<(String, String)> = sqlx::query_as(
        "select distinct actor_kind, actor_name from audit_entry where action = 'account.created'",
    )
    .fetch_all(&pool)
    .await?;
    assert_eq!(by, [("portal".to_owned(), "command-line".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn a_password_file_is_read_and_judged() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let place = tests::scratch::Scratch::new("passwords")?;
    for (content, error) in [
        (format!("{PASSWORD}\n"), None),
        ("password1234\n".to_owned(), Some("too easy")),
        ("\n".to_owned(), Some("must not be empty")),
        ("x".repeat(3000), Some("at most 128 characters")),
    ] {
        let file = place.path().join("password");
        tests::scratch::write(&file, 0o600, &content)?;
        let file = file.display().to_string();
        let create = ["create", "ann", "--name", "Ann", "--password-file", &file];
        let output = command(&lab, &create).await?;
        ensure!(!(output.stdout.clone() + &output.stderr).contains(PASSWORD));
        match error {
            None => {
                output.success()?;
                let ann = lab.client.sign_in("ann", PASSWORD).await?;
                me(&ann).await?.expect(200)?;
                let id = text(&me(&ann).await?.json()?["id"]).to_owned();
                lab.client
                    .delete(&format!("/accounts/{id}"))
                    .await?
                    .expect(204)?;
            }
            Some(error) => {
                ensure!(
                    !output.status.success() && output.stderr.contains(error),
                    "{}",
                    output.stderr
                );
            }
        }
    }
    // What was refused left nothing.
    let list = lab.client.get("/accounts?q=ann").await?.expect(200)?;
    assert_eq!(list.json()?, json!([]));
    Ok(())
}

/// For when nobody can sign in any more.
#[tokio::test]
async fn whoever_has_the_host_lets_somebody_in_again() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let first = token(&lab, &["create", "root", "--name", "Root"]).await?;
    for _ in 0..5 {
        sign_in(&lab.client, "root", "wrong", None).await?;
    }
    assert_eq!(
        sign_in(&lab.client, "root", PASSWORD, None)
            .await?
            .problem(429)?,
        "sign_in_locked"
    );
    command(&lab, &["unlock", "root"]).await?.success()?;
    let wrong = sign_in(&lab.client, "root", PASSWORD, None).await?;
    assert_eq!(wrong.problem(401)?, "wrong_credentials");
    let second = token(&lab, &["reset", "ROOT"]).await?;
    assert_eq!(
        redeem(&lab.client, &first, PASSWORD).await?.problem(403)?,
        "reset_refused"
    );
    redeem(&lab.client, &second, PASSWORD).await?.expect(204)?;
    lab.client.sign_in("root", PASSWORD).await?;
    ensure!(!command(&lab, &["reset", "nobody"]).await?.status.success());
    let told = trail(&lab, "%").await?;
    for action in [
        "account.unlocked",
        "password_reset.created",
        "password.reset",
    ] {
        ensure!(told.iter().any(|told| told == action), "{action}: {told:?}");
    }
    Ok(())
}
