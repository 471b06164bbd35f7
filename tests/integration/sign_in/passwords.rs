//! How passwords are kept.

use argon2::password_hash::PasswordHasher as _;
use argon2::{Algorithm, Argon2, Params, Version};

use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{PASSWORD, STRANGER, Tokens, ann, lab, noted, try_from};
use crate::crowd::at_once;

const TODAY: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

/// Puts a hash of less effort in place of the one that there is.
async fn weaken(pool: &PgPool, id: Uuid) -> anyhow::Result<String> {
    let weak = Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(9_216, 1, 1, None)?,
    );
    let weak = weak
        .hash_password(PASSWORD.as_bytes())
        .map_err(|error| anyhow::anyhow!("{error}"))?
        .to_string();
    sqlx::query("update account set password_hash = $2 where account_id = $1")
        .bind(id)
        .bind(&weak)
        .execute(pool)
        .await?;
    Ok(weak)
}

/// Nobody is taken for a guesser because its password is hashed anew for somebody else.
#[tokio::test]
async fn a_hash_that_is_made_anew_meanwhile_is_of_the_same_password() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, id) = ann(&lab).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    let own = lab.client.with_bearer(&tokens.access);
    for round in 0..2 {
        weaken(&pool, id).await?;
        let client = lab.client.clone();
        let statuses = at_once(8, 8, move |number| {
            let client = client.clone();
            let address = format!("198.51.{round}.{number}");
            async move { Ok(try_from(&client, &address, "ann", PASSWORD).await?.status) }
        });
        // Somebody who shows it again, within a session.
        let body = json!({ "password": PASSWORD });
        let shown = own.post("/accounts/me/totp/remove", &body);
        let (statuses, shown) = tokio::join!(statuses, shown);
        assert_eq!(statuses?, [201; 8]);
        assert_eq!(shown?.problem(409)?, "no_second_factor");
    }
    assert_eq!(noted(&pool, "sign_in.failed").await?, []);
    Ok(())
}

#[tokio::test]
async fn a_hash_of_less_effort_is_made_anew_at_sign_in() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, id) = ann(&lab).await?;
    let weak = weaken(&pool, id).await?;
    let kept = async || {
        let hash = "select password_hash from account where account_id = $1";
        let hash = sqlx::query_scalar::<_, String>(hash).bind(id);
        hash.fetch_one(&pool).await
    };
    let wrong = try_from(&lab.client, STRANGER, "ann", "wrong").await?;
    assert_eq!(wrong.problem(401)?, "wrong_credentials");
    assert_eq!(kept().await?, weak);
    Tokens::open(&lab.client, "ann").await?;
    let anew = kept().await?;
    assert!(anew.starts_with(TODAY), "{anew}");
    Tokens::open(&lab.client, "ann").await?;
    assert_eq!(kept().await?, anew, "made anew without need");
    Ok(())
}

/// An account that awaits its first password lets nobody in, and says so to nobody.
#[tokio::test]
async fn an_account_without_a_password_is_like_none() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, id) = ann(&lab).await?;
    sqlx::query(
        "update account set password_hash = null, password_set_at = null where account_id = $1",
    )
    .bind(id)
    .execute(&pool)
    .await?;
    let mut said = Vec::new();
    for login in ["ann", "nobody"] {
        let reply = try_from(&lab.client, STRANGER, login, PASSWORD).await?;
        assert_eq!(reply.problem(401)?, "wrong_credentials");
        let mut body = reply.json()?;
        body["request_id"] = serde_json::Value::Null;
        said.push(body);
    }
    assert_eq!(said[0], said[1]);
    Ok(())
}
