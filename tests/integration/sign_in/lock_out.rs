//! Guessing passwords: how soon it ends, and that nobody can be locked out by it.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use tests::portal::{Client, Reply};
use tests::process::wait_until;

use super::{PASSWORD, STRANGER, ann, lab, noted, try_from};

/// Fails to sign in as often from as many addresses that nobody knows.
async fn fail(client: &Client, login: &str, times: u8) -> anyhow::Result<()> {
    for n in 0..times {
        let reply = try_from(client, &format!("198.51.100.{n}"), login, "wrong").await?;
        assert_eq!(reply.problem(401)?, "wrong_credentials", "failure {n}");
    }
    Ok(())
}

/// Fails unless the reply says to be locked, for about so many seconds.
fn assert_locked(reply: &Reply, seconds: i64) -> anyhow::Result<()> {
    assert_eq!(reply.problem(429)?, "sign_in_locked");
    let wait: i64 = reply.header("retry-after").parse()?;
    assert!(
        (seconds - 10..=seconds + 1).contains(&wait),
        "{wait} of {seconds}"
    );
    Ok(())
}

/// Lets the time of every lock pass.
async fn let_pass(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query("update sign_in_failure set locked_until = now() - interval '1 second'")
        .execute(pool)
        .await?;
    Ok(())
}

/// What a refusal says, without what differs from one request to the next.
fn told(reply: &Reply) -> anyhow::Result<Value> {
    let mut body = reply.json()?;
    body["request_id"] = Value::Null;
    Ok(json!([reply.status, body]))
}

#[tokio::test]
async fn guessing_is_locked_out_for_longer_each_time() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, id) = ann(&lab).await?;
    fail(&lab.client, "ann", 5).await?;
    let mut longest = 0;
    for (round, seconds) in [30, 60, 120, 240, 480, 900, 900].into_iter().enumerate() {
        // From an address each, because the trail is told only so much of one.
        let [first, second, third] = [7, 8, 9].map(|n| format!("198.51.{round}.{n}"));
        let until: time::OffsetDateTime =
            sqlx::query_scalar("select locked_until from sign_in_failure")
                .fetch_one(&pool)
                .await?;
        // Neither the right password nor a wrong one gets an answer, and neither prolongs it.
        let right = try_from(&lab.client, &first, "ann", PASSWORD).await?;
        let wrong = try_from(&lab.client, &second, "ann", "wrong").await?;
        assert_locked(&right, seconds)?;
        assert_eq!(told(&right)?, told(&wrong)?);
        let after: time::OffsetDateTime =
            sqlx::query_scalar("select locked_until from sign_in_failure")
                .fetch_one(&pool)
                .await?;
        assert_eq!(after, until);
        longest = seconds;
        let_pass(&pool).await?;
        let reply = try_from(&lab.client, &third, "ann", "wrong").await?;
        assert_eq!(reply.problem(401)?, "wrong_credentials");
    }
    assert_eq!(longest, 900);
    let failed = noted(&pool, "sign_in.failed").await?;
    assert_eq!(failed.len(), 12);
    let (who, whom, after) = &failed[0];
    assert_eq!(
        (who.as_str(), whom.as_str()),
        ("unknown", id.to_string().as_str())
    );
    assert_eq!(
        (&after["reason"], &after["failures"]),
        (&json!("wrong_password"), &json!(12))
    );
    assert_eq!(noted(&pool, "sign_in.locked").await?.len(), 14);

    // The time is over, and whoever knows the password comes in; then the count begins anew.
    let_pass(&pool).await?;
    let reply = try_from(&lab.client, STRANGER, "ann", PASSWORD).await?;
    reply.expect(201)?;
    let left: i64 = sqlx::query_scalar("select count(*) from sign_in_failure")
        .fetch_one(&pool)
        .await?;
    assert_eq!(left, 0);
    Ok(())
}

#[tokio::test]
async fn strangers_lock_nobody_out_who_comes_from_where_it_did_before() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    let (home, household) = ("192.0.2.7", "2001:db8:1:2::1");
    for address in [home, household] {
        let reply = try_from(&lab.client, address, "ann", PASSWORD).await?;
        reply.expect(201)?;
    }
    fail(&lab.client, "ann", 5).await?;
    let stranger = try_from(&lab.client, STRANGER, "ann", PASSWORD).await?;
    assert_locked(&stranger, 30)?;
    for address in [home, household, "2001:db8:1:2:ffff::9"] {
        let reply = try_from(&lab.client, address, "ann", PASSWORD).await?;
        reply.expect(201)?;
    }
    // Who signs in from home does not let the strangers in.
    let stranger = try_from(&lab.client, STRANGER, "ann", PASSWORD).await?;
    assert_locked(&stranger, 30)?;
    // Guessing from home locks home, and only that.
    let_pass(&pool).await?;
    for _ in 0..5 {
        let reply = try_from(&lab.client, home, "ann", "wrong").await?;
        assert_eq!(reply.problem(401)?, "wrong_credentials");
    }
    assert_locked(&try_from(&lab.client, home, "ann", PASSWORD).await?, 30)?;
    for address in [household, STRANGER] {
        let reply = try_from(&lab.client, address, "ann", PASSWORD).await?;
        reply.expect(201)?;
    }
    Ok(())
}

/// Somebody else's known address is nobody's here.
#[tokio::test]
async fn a_login_that_is_nobodys_is_locked_like_any_other() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    let mut said = Vec::new();
    for login in ["ann", "nobody", "n'or 1=1--", "admin@nowhere.example"] {
        let mut answers = Vec::new();
        for n in 0..7 {
            let address = format!("198.51.100.{n}");
            let reply = try_from(&lab.client, &address, login, "wrong").await?;
            answers.push(told(&reply)?);
        }
        said.push((login, answers));
    }
    for (login, answers) in &said {
        assert_eq!(answers, &said[0].1, "{login}");
        assert_eq!(answers[4][0], 401);
        assert_eq!(answers[5][0], 429);
    }
    // Of what is no login only a hash is kept: people type passwords there.
    let everything: String =
        sqlx::query_scalar("select coalesce(string_agg(e::text, ' '), '') from audit_entry e")
            .fetch_one(&pool)
            .await?;
    assert!(!everything.contains("nobody"), "{everything}");
    Ok(())
}

/// Of many guesses at once no more are judged than of one after the other.
#[tokio::test]
async fn guessing_at_once_is_no_faster() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    let guess = |n: u8, password: &'static str| {
        let (client, address) = (lab.client.clone(), format!("198.51.100.{n}"));
        tokio::spawn(async move { try_from(&client, &address, "ann", password).await })
    };
    let mut guesses: Vec<_> = (0..29).map(|n| guess(n, "wrong")).collect();
    // The right one comes when some were judged and many are in line before it.
    let some = async || {
        let failures = sqlx::query_scalar("select failures from sign_in_failure");
        let failures: Result<Option<i32>, _> = failures.fetch_optional(&pool).await;
        failures.is_ok_and(|failures| failures >= Some(3))
    };
    wait_until("some are judged", Duration::from_secs(30), some).await?;
    guesses.push(guess(29, PASSWORD));
    let (mut judged, mut locked) = (0, 0);
    for guess in guesses {
        let reply = guess.await??;
        match reply.problem(reply.status)?.as_str() {
            "wrong_credentials" => judged += 1,
            "sign_in_locked" => locked += 1,
            other => anyhow::bail!("{other}"),
        }
    }
    assert_eq!((judged, locked), (5, 25));
    Ok(())
}

#[tokio::test]
async fn an_administrator_unlocks_a_login_on_the_host() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    fail(&lab.client, "ann", 5).await?;
    assert_locked(&try_from(&lab.client, STRANGER, "ann", PASSWORD).await?, 30)?;
    lab.portal.command(&["account", "unlock", "ann"]).await?;
    let reply = try_from(&lab.client, STRANGER, "ann", PASSWORD).await?;
    reply.expect(201)?;
    Ok(())
}

#[tokio::test]
async fn failures_are_forgotten_after_a_day() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    fail(&lab.client, "ann", 4).await?;
    sqlx::query("update sign_in_failure set last_at = now() - interval '25 hours'")
        .execute(&pool)
        .await?;
    fail(&lab.client, "ann", 4).await?;
    let failures: i32 = sqlx::query_scalar("select failures from sign_in_failure")
        .fetch_one(&pool)
        .await?;
    assert_eq!(failures, 4);
    Ok(())
}

/// Whoever tries without end fills no audit trail.
#[tokio::test]
async fn of_many_failures_of_an_address_a_few_are_told() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    for n in 0..12 {
        let reply = try_from(&lab.client, STRANGER, &format!("nobody{n}"), "wrong").await?;
        assert_eq!(reply.problem(401)?, "wrong_credentials");
    }
    assert_eq!(noted(&pool, "sign_in.failed").await?.len(), 5);
    fail(&lab.client, "ann", 5).await?;
    assert_eq!(noted(&pool, "sign_in.failed").await?.len(), 10);
    for _ in 0..6 {
        let reply = try_from(&lab.client, STRANGER, "ann", PASSWORD).await?;
        assert_eq!(reply.problem(429)?, "sign_in_locked");
    }
    let locked = noted(&pool, "sign_in.locked").await?;
    assert_eq!(locked.len(), 1);
    assert_eq!(locked[0].2["count"], 1);
    Ok(())
}

/// What somebody typed as a login may be its password: whoever has the database cannot try which.
#[tokio::test]
async fn what_was_typed_as_a_login_is_kept_under_a_key() -> anyhow::Result<()> {
    let mut lab = lab().await?;
    let (pool, typed) = (lab.database.pool().await?, "hunter2 and more");
    for _ in 0..3 {
        let reply = try_from(&lab.client, STRANGER, typed, "wrong").await?;
        assert_eq!(reply.problem(401)?, "wrong_credentials");
        // Another start is the same portal.
        lab.portal.stop().await?;
        lab.portal.resume().await?;
        let ready = async || {
            let ready = lab.client.get("/health/ready").await;
            ready.is_ok_and(|r| r.json().is_ok_and(|body| body["database"]["ok"] == true))
        };
        let deadline = Duration::from_secs(30);
        wait_until("the database is ready", deadline, ready).await?;
    }
    let kept: Vec<(Vec<u8>, i32)> =
        sqlx::query_as("select login_hash, failures from sign_in_failure")
            .fetch_all(&pool)
            .await?;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].1, 3);
    assert_ne!(kept[0].0, Sha256::digest(typed).to_vec());
    Ok(())
}
