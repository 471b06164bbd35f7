//! The second factor: an app's codes, each taken once, and recovery codes in their place.

use anyhow::{Context as _, ensure};
use api_server::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::{Client, Reply};
use totp_rs::{Builder, Secret};

use super::{PASSWORD, Person, dump, me, person, refused, sign_in, text, trail};

/// What an app with that secret shows, some steps from now.
pub(crate) fn code(secret: &str, steps: i64) -> anyhow::Result<String> {
    let secret = Secret::try_from_base32(secret).map_err(|_| anyhow::anyhow!("no secret"))?;
    let app = Builder::new().with_secret(secret).build()?;
    let at = SystemClock.now().unix_timestamp() + 30 * steps;
    Ok(app.generate(u64::try_from(at)?).to_string())
}

/// Waits until a step has just begun, so that what a test shows is of the step that it means.
async fn at_the_beginning_of_a_step() {
    let into = SystemClock.now().unix_timestamp().rem_euclid(30);
    if into > 15 {
        let rest = u64::try_from(30 - into).unwrap_or_default();
        tokio::time::sleep(std::time::Duration::from_secs(rest)).await;
    }
}

/// What becomes of an attempt to begin with a second factor.
async fn begin(client: &Client, password: &str) -> anyhow::Result<Reply> {
    let body = json!({ "password": password });
    client.post("/accounts/me/totp", &body).await
}

/// Begins with a second factor: its secret.
pub(crate) async fn begun(client: &Client) -> anyhow::Result<String> {
    let begun = begin(client, PASSWORD).await?;
    Ok(text(&begun.expect(200)?.json()?["secret"]).to_owned())
}

/// Gives an account a second factor: its secret and the recovery codes.
pub(crate) async fn enrolled(client: &Client) -> anyhow::Result<(String, Vec<String>)> {
    enrolled_by(client, PASSWORD).await
}

/// Likewise, where the account has another password.
pub(crate) async fn enrolled_by(
    client: &Client,
    password: &str,
) -> anyhow::Result<(String, Vec<String>)> {
    let begun = begin(client, password).await?.expect(200)?.json()?;
    let secret = text(&begun["secret"]).to_owned();
    let body = json!({ "code": code(&secret, 0)? });
    let confirmed = client
        .post("/accounts/me/totp/confirm", &body)
        .await?
        .expect(200)?;
    Ok((secret, codes(&confirmed.json()?)?))
}

fn codes(body: &Value) -> anyhow::Result<Vec<String>> {
    let codes = body["recovery_codes"].as_array().context("no codes")?;
    Ok(codes.iter().map(|code| text(code).to_owned()).collect())
}

async fn somebody(lab: &PortalLab) -> anyhow::Result<Person> {
    person(lab, "ann", "operator", Some("default")).await
}

#[tokio::test]
async fn each_code_of_an_app_lets_in_once() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = somebody(&lab).await?;
    let first = begin(&ann.client, PASSWORD).await?.expect(200)?.json()?;
    let begun = begin(&ann.client, PASSWORD).await?.expect(200)?.json()?;
    let secret = text(&begun["secret"]).to_owned();
    ensure!(text(&begun["otpauth_uri"]).starts_with("otpauth://totp/PBX%20portal:ann?secret="));
    // What was only begun is not asked for.
    lab.client.sign_in("ann", PASSWORD).await?;
    let confirm = "/accounts/me/totp/confirm";
    at_the_beginning_of_a_step().await;
    for wrong in [
        code(text(&first["secret"]), 0)?,
        code(&secret, 3)?,
        code(&secret, -3)?,
        "abcd-efgh-ijkl-mnop".to_owned(),
    ] {
        let reply = ann.client.post(confirm, &json!({ "code": wrong })).await?;
        assert_eq!(
            refused(&reply)?,
            ("code".to_owned(), "wrong_code".to_owned())
        );
    }
    let malformed = ann
        .client
        .post(confirm, &json!({ "code": "12345" }))
        .await?;
    assert_eq!(
        refused(&malformed)?,
        ("code".to_owned(), "malformed".to_owned())
    );
    ensure!(me(&ann.client).await?.json()?["second_factor"] == false);

    let now = code(&secret, 0)?;
    let confirmed = ann
        .client
        .post(confirm, &json!({ "code": now }))
        .await?
        .expect(200)?;
    assert_eq!(codes(&confirmed.json()?)?.len(), 10);
    ensure!(me(&ann.client).await?.json()?["second_factor"] == true);
    let without = sign_in(&lab.client, "ann", PASSWORD, None).await?;
    assert_eq!(without.problem(401)?, "second_factor_required");
    // Confirming has taken the step.
    for replayed in [&now, &code(&secret, -1)?] {
        let reply = sign_in(&lab.client, "ann", PASSWORD, Some(replayed)).await?;
        assert_eq!(reply.problem(401)?, "wrong_code");
    }
    let next = code(&secret, 1)?;
    sign_in(&lab.client, "ann", PASSWORD, Some(&next))
        .await?
        .expect(201)?;
    let replayed = sign_in(&lab.client, "ann", PASSWORD, Some(&next)).await?;
    assert_eq!(replayed.problem(401)?, "wrong_code");
    let wrong = json!({ "code": "123456" });
    for reply in [
        begin(&ann.client, PASSWORD).await?,
        ann.client.post(confirm, &wrong).await?,
    ] {
        assert_eq!(reply.problem(409)?, "second_factor_set");
    }
    let shown = dump(&lab).await? + &lab.portal.log();
    ensure!(
        !shown.contains(&secret),
        "the secret is kept in clear or logged"
    );
    Ok(())
}

#[tokio::test]
async fn each_recovery_code_lets_in_once() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = somebody(&lab).await?;
    let (secret, codes) = enrolled(&ann.client).await?;
    let typed = codes[0].to_uppercase().replace('-', " ");
    sign_in(&lab.client, "ann", PASSWORD, Some(&typed))
        .await?
        .expect(201)?;
    let again = sign_in(&lab.client, "ann", PASSWORD, Some(&codes[0])).await?;
    assert_eq!(again.problem(401)?, "wrong_code");
    assert_eq!(trail(&lab, "recovery_code.used").await?.len(), 1);

    let renew = "/accounts/me/recovery-codes";
    let wrong = ann.client.post(renew, &json!({ "code": codes[0] })).await?;
    assert_eq!(
        refused(&wrong)?,
        ("code".to_owned(), "wrong_code".to_owned())
    );
    let renewed = ann
        .client
        .post(renew, &json!({ "code": codes[1] }))
        .await?
        .expect(200)?;
    let renewed = self::codes(&renewed.json()?)?;
    let old = sign_in(&lab.client, "ann", PASSWORD, Some(&codes[2])).await?;
    assert_eq!(old.problem(401)?, "wrong_code");
    sign_in(&lab.client, "ann", PASSWORD, Some(&renewed[0]))
        .await?
        .expect(201)?;
    let shown = dump(&lab).await? + &lab.portal.log();
    for code in codes.iter().chain(&renewed) {
        let plain = code.replace('-', "");
        ensure!(
            !shown.contains(code.as_str()) && !shown.contains(&plain),
            "a code is kept or logged"
        );
    }
    ensure!(!shown.contains(&secret));
    Ok(())
}

/// Somebody who has a stolen session must not make codes by trying.
#[tokio::test]
async fn guessing_codes_within_a_session_locks_out() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = somebody(&lab).await?;
    let (secret, codes) = enrolled(&ann.client).await?;
    let renew = "/accounts/me/recovery-codes";
    for steps in 10..15 {
        let body = json!({ "code": code(&secret, steps)? });
        assert_eq!(
            refused(&ann.client.post(renew, &body).await?)?.1,
            "wrong_code"
        );
    }
    let right = ann.client.post(renew, &json!({ "code": codes[0] })).await?;
    assert_eq!(right.problem(429)?, "sign_in_locked");
    lab.client
        .post_nothing(&format!("{}/unlock", ann.path()))
        .await?
        .expect(200)?;
    // What was refused took nothing.
    ann.client
        .post(renew, &json!({ "code": codes[0] }))
        .await?
        .expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_second_factor_is_removed_with_the_password_or_by_an_administrator() -> anyhow::Result<()>
{
    let lab = PortalLab::login().await?;
    let ann = somebody(&lab).await?;
    let remove = "/accounts/me/totp/remove";
    let none = ann
        .client
        .post(remove, &json!({ "password": PASSWORD }))
        .await?;
    assert_eq!(none.problem(409)?, "no_second_factor");
    let (_, codes) = enrolled(&ann.client).await?;
    for (body, code) in [
        (json!({}), "missing"),
        (json!({ "password": "wrong" }), "wrong_password"),
    ] {
        let reply = ann.client.post(remove, &body).await?;
        assert_eq!(refused(&reply)?, ("password".to_owned(), code.to_owned()));
    }
    ann.client
        .post(remove, &json!({ "password": PASSWORD }))
        .await?
        .expect(200)?;
    lab.client.sign_in("ann", PASSWORD).await?;

    enrolled(&ann.client).await?;
    let theirs = format!("{}/totp/remove", ann.path());
    let with = lab
        .client
        .post(&theirs, &json!({ "password": PASSWORD }))
        .await?;
    assert_eq!(refused(&with)?.1, "not_wanted");
    lab.client.post_nothing(&theirs).await?.expect(200)?;
    lab.client.sign_in("ann", PASSWORD).await?;
    let pool = lab.database.pool().await?;
    let rest: i64 = sqlx::query_scalar(
        "select (select count(*) from recovery_code)
            + (select count(*) from account where totp_secret_encrypted is not null)",
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(rest, 0);
    let gone = sign_in(&lab.client, "ann", PASSWORD, Some(&codes[5])).await?;
    gone.expect(201)?;
    assert_eq!(trail(&lab, "totp.removed").await?.len(), 2);
    Ok(())
}

/// With somebody's session alone nobody puts an app of its own before the account.
#[tokio::test]
async fn a_second_factor_is_begun_with_the_password() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = somebody(&lab).await?;
    let without = ann.client.post("/accounts/me/totp", &json!({})).await?;
    assert_eq!(
        refused(&without)?,
        ("password".to_owned(), "missing".to_owned())
    );
    for _ in 0..5 {
        let wrong = begin(&ann.client, "wrong").await?;
        assert_eq!(refused(&wrong)?.1, "wrong_password");
    }
    let right = begin(&ann.client, PASSWORD).await?;
    assert_eq!(right.problem(429)?, "sign_in_locked");
    assert!(trail(&lab, "totp.requested").await?.is_empty());
    Ok(())
}
