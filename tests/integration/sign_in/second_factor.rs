//! What a password alone leads to where a second factor is set.

use api_server::clock::os_rng;
use api_server::domain::recovery::RecoveryCode;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::portal::{Client, Reply};
use uuid::Uuid;

use super::{PASSWORD, ann, attempt, credentials, lab, noted, try_from};

/// Sets a second factor with these recovery codes.
async fn protect(pool: &PgPool, account: Uuid, codes: &[RecoveryCode]) -> anyhow::Result<()> {
    sqlx::query(
        r"update account set totp_secret_encrypted = '\x00', totp_confirmed_at = now()
          where account_id = $1",
    )
    .bind(account)
    .execute(pool)
    .await?;
    for code in codes {
        sqlx::query("insert into recovery_code (account_id, code_hash) values ($1, $2)")
            .bind(account)
            .bind(code.hash().as_slice())
            .execute(pool)
            .await?;
    }
    Ok(())
}

async fn with_code(client: &Client, address: &str, code: &str) -> anyhow::Result<Reply> {
    let mut body = credentials("ann", PASSWORD);
    body["code"] = json!(code);
    attempt(client, address, &body).send().await
}

#[tokio::test]
async fn a_stolen_password_alone_opens_nothing() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, account) = ann(&lab).await?;
    let codes = RecoveryCode::generate_set(&mut os_rng());
    protect(&pool, account, &codes).await?;
    let reply = try_from(&lab.client, "198.51.100.1", "ann", PASSWORD).await?;
    assert_eq!(reply.problem(401)?, "second_factor_required");
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    // Whoever does not know the password does not hear of the second factor.
    let reply = try_from(&lab.client, "198.51.100.1", "ann", "wrong").await?;
    assert_eq!(reply.problem(401)?, "wrong_credentials");
    let opened = with_code(&lab.client, "198.51.100.1", &codes[0].expose()).await?;
    assert_eq!(opened.expect(201)?.json()?["second_factor"], json!(true));
    // Each code is good once, also for whoever looked over a shoulder.
    let again = with_code(&lab.client, "198.51.100.1", &codes[0].expose()).await?;
    assert_eq!(again.problem(401)?, "wrong_code");
    let failed = noted(&pool, "sign_in.failed").await?;
    let reasons: Vec<&Value> = failed
        .iter()
        .map(|(_, _, after)| &after["reason"])
        .collect();
    assert_eq!(
        reasons,
        ["wrong_code", "wrong_password", "second_factor_required"]
    );
    Ok(())
}

#[tokio::test]
async fn guessing_codes_is_locked_out_like_guessing_passwords() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, account) = ann(&lab).await?;
    let codes = RecoveryCode::generate_set(&mut os_rng());
    protect(&pool, account, &codes[..1]).await?;
    let guesses = (0..20_u8).map(|n| {
        let (client, guess) = (lab.client.clone(), codes[9].expose());
        tokio::spawn(async move { with_code(&client, &format!("198.51.100.{n}"), &guess).await })
    });
    let mut said = Vec::new();
    for guess in guesses.collect::<Vec<_>>() {
        let reply = guess.await??;
        said.push(reply.problem(reply.status)?);
    }
    let judged = said.iter().filter(|code| *code == "wrong_code").count();
    assert_eq!(judged, 5, "{said:?}");
    assert!(
        said.iter()
            .all(|code| ["wrong_code", "sign_in_locked"].contains(&code.as_str()))
    );
    let right = with_code(&lab.client, "198.51.100.99", &codes[0].expose()).await?;
    assert_eq!(right.problem(429)?, "sign_in_locked");
    Ok(())
}
