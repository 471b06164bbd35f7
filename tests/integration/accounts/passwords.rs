//! Passwords: changed by who knows them, set by a token that is good once.

use anyhow::ensure;
use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::api_tokens::token;
use super::{
    OTHER_PASSWORD, PASSWORD, account, dump, me, person, redeem, refused, reset_token, sign_in,
    text, trail,
};

const CHANGE: &str = "/accounts/me/password";

fn change(current: &str, new: &str) -> Value {
    json!({ "current_password": current, "new_password": new })
}

#[tokio::test]
async fn whoever_changes_a_password_knows_it_and_ends_all_other_sessions() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    let elsewhere = lab.client.sign_in("ann", PASSWORD).await?;
    let token = reset_token(&lab.client, &ann.id).await?;

    let wrong = ann
        .client
        .post(CHANGE, &change("wrong", OTHER_PASSWORD))
        .await?;
    let expected = ("current_password".to_owned(), "wrong_password".to_owned());
    assert_eq!(refused(&wrong)?, expected);
    for (easy, code) in [("short", "too_short"), ("password1234", "too_easy")] {
        let reply = ann.client.post(CHANGE, &change(PASSWORD, easy)).await?;
        assert_eq!(
            refused(&reply)?,
            ("new_password".to_owned(), code.to_owned())
        );
    }
    let own_name = ann
        .client
        .post(CHANGE, &change(PASSWORD, "ann-ann-ann-ann"))
        .await?;
    assert_eq!(refused(&own_name)?.1, "too_easy");
    me(&elsewhere).await?.expect(200)?;

    let before = me(&ann.client).await?.expect(200)?;
    let changed = ann
        .client
        .post(CHANGE, &change(PASSWORD, OTHER_PASSWORD))
        .await?
        .expect(200)?;
    assert_ne!(changed.header("etag"), before.header("etag"));
    me(&ann.client).await?.expect(200)?;
    assert_eq!(me(&elsewhere).await?.problem(401)?, "unauthenticated");
    let old = sign_in(&lab.client, "ann", PASSWORD, None).await?;
    assert_eq!(old.problem(401)?, "wrong_credentials");
    lab.client.sign_in("ann", OTHER_PASSWORD).await?;
    // Nor does what was issued before set another one.
    assert_eq!(
        redeem(&lab.client, &token, PASSWORD).await?.problem(403)?,
        "reset_refused"
    );
    let others = format!(
        "/accounts/{}/password",
        text(&me(&lab.client).await?.json()?["id"])
    );
    let others = ann
        .client
        .post(&others, &change(OTHER_PASSWORD, PASSWORD))
        .await?;
    assert_eq!(others.problem(404)?, "account_not_found");

    let pool = lab.database.pool().await?;
    let reasons: Vec<String> = sqlx::query_scalar(
        "select end_reason from session where account_id::text = $1 and ended_at is not null",
    )
    .bind(&ann.id)
    .fetch_all(&pool)
    .await?;
    assert_eq!(reasons, ["password_changed"]);
    assert_eq!(
        trail(&lab, "password.%").await?.last().map(String::as_str),
        Some("password.changed")
    );
    let shown = dump(&lab).await? + &lab.portal.log();
    for secret in [PASSWORD, OTHER_PASSWORD, &token, &token[5..]] {
        ensure!(!shown.contains(secret), "{secret} is kept or logged");
    }
    Ok(())
}

/// A stolen session must not suffice to try passwords for ever.
#[tokio::test]
async fn guessing_within_a_session_locks_out() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    for _ in 0..5 {
        let wrong = ann
            .client
            .post(CHANGE, &change("wrong", OTHER_PASSWORD))
            .await?;
        assert_eq!(refused(&wrong)?.1, "wrong_password");
    }
    let right = ann
        .client
        .post(CHANGE, &change(PASSWORD, OTHER_PASSWORD))
        .await?;
    assert_eq!(right.problem(429)?, "sign_in_locked");
    ensure!(right.header("retry-after").parse::<u64>()? <= 30);
    let signed = sign_in(&lab.client, "ann", PASSWORD, None).await?;
    assert_eq!(signed.problem(429)?, "sign_in_locked");
    lab.client
        .post_nothing(&format!("{}/unlock", ann.path()))
        .await?
        .expect(200)?;
    ann.client
        .post(CHANGE, &change(PASSWORD, OTHER_PASSWORD))
        .await?
        .expect(200)?;
    assert_eq!(trail(&lab, "account.unlocked").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_reset_token_is_good_once_and_for_a_day() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    let replaced = reset_token(&lab.client, &ann.id).await?;
    let token = reset_token(&lab.client, &ann.id).await?;
    // It counts for nothing before it is used.
    me(&ann.client).await?.expect(200)?;
    assert_eq!(
        redeem(&lab.client, &replaced, OTHER_PASSWORD)
            .await?
            .problem(403)?,
        "reset_refused"
    );
    let easy = redeem(&lab.client, &token, "password1234").await?;
    assert_eq!(
        refused(&easy)?,
        ("password".to_owned(), "too_easy".to_owned())
    );
    redeem(&lab.client, &token, OTHER_PASSWORD)
        .await?
        .expect(204)?;
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");
    assert_eq!(
        redeem(&lab.client, &token, PASSWORD).await?.problem(403)?,
        "reset_refused"
    );
    lab.client.sign_in("ann", OTHER_PASSWORD).await?;

    let late = reset_token(&lab.client, &ann.id).await?;
    let pool = lab.database.pool().await?;
    let moved = sqlx::query(
        "update password_reset set expires_at = expires_at - interval '1 day'
         where used_at is null and expires_at > now() + interval '23 hours'",
    );
    assert_eq!(moved.execute(&pool).await?.rows_affected(), 1);
    assert_eq!(
        redeem(&lab.client, &late, PASSWORD).await?.problem(403)?,
        "reset_refused"
    );
    for (hostile, code) in [
        (json!(""), "malformed"),
        (json!("pbxp_x"), "malformed"),
        (json!(token.replace("pbxp_", "pbxt_")), "malformed"),
        (json!(7), "wrong_type"),
        (json!("pbxp_\u{0}"), "malformed"),
    ] {
        let body = json!({ "token": hostile, "password": PASSWORD });
        let reply = lab
            .client
            .anonymous()
            .post("/password-resets", &body)
            .await?;
        assert_eq!(
            refused(&reply)?,
            ("token".to_owned(), code.to_owned()),
            "{hostile}"
        );
    }
    let well_formed = format!("pbxp_{}", "A".repeat(43));
    assert_eq!(
        redeem(&lab.client, &well_formed, PASSWORD)
            .await?
            .problem(403)?,
        "reset_refused"
    );
    let shown = dump(&lab).await? + &lab.portal.log();
    for secret in [&token, &late, &replaced] {
        ensure!(!shown.contains(&secret[5..]), "a token is kept or logged");
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_ends_a_lock_out() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let body = json!({ "login": "ann", "name": "Ann", "role": "operator", "tenant": "default" });
    let made = account(&lab.client, &body).await?;
    for _ in 0..5 {
        let wrong = sign_in(&lab.client, "ann", "wrong", None).await?;
        assert_eq!(wrong.problem(401)?, "wrong_credentials");
    }
    let locked = sign_in(&lab.client, "ann", PASSWORD, None).await?;
    assert_eq!(locked.problem(429)?, "sign_in_locked");
    let token = reset_token(&lab.client, text(&made["id"])).await?;
    redeem(&lab.client, &token, PASSWORD).await?.expect(204)?;
    lab.client.sign_in("ann", PASSWORD).await?;
    Ok(())
}

/// Whoever knows login and name tries what is made of them first.
#[tokio::test]
async fn what_is_made_of_login_and_name_is_too_easy() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    for (login, name, easy) in [
        ("acme-adm", "Acme Administration", "acme-adm acme-adm"),
        ("anna", "Anna Example", "anna example anna example"),
        ("novak.olga", "Olga Novak", "novak.olga.1"),
        ("ann6162@example.org", "Ann", "ann@example.com"),
        ("ann6162@example.net", "Ann", "EXAMPLE-6162-2026!Ann"),
    ] {
        let body = json!({ "login": login, "name": name, "role": "operator", "tenant": "default" });
        let made = account(&lab.client, &body).await?;
        let token = reset_token(&lab.client, text(&made["id"])).await?;
        let reply = redeem(&lab.client, &token, easy).await?;
        let expected = ("password".to_owned(), "too_easy".to_owned());
        assert_eq!(refused(&reply)?, expected, "{easy}");
        let good = format!("{name} {PASSWORD}");
        redeem(&lab.client, &token, &good).await?.expect(204)?;
    }
    Ok(())
}

/// An account that somebody else had may have tokens of that one as well.
#[tokio::test]
async fn a_reset_revokes_api_tokens_and_a_change_does_not() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    let (program, _) = token(&ann.client, "Program", &["users.read"]).await?;
    ann.client
        .post(CHANGE, &change(PASSWORD, OTHER_PASSWORD))
        .await?
        .expect(200)?;
    program.get("/users").await?.expect(200)?;
    let reset = reset_token(&lab.client, &ann.id).await?;
    program.get("/users").await?.expect(200)?;
    redeem(&lab.client, &reset, PASSWORD).await?.expect(204)?;
    assert_eq!(
        program.get("/users").await?.problem(401)?,
        "unauthenticated"
    );
    assert_eq!(trail(&lab, "api_token.revoked").await?.len(), 1);
    Ok(())
}
