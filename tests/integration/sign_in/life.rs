//! How long sessions last, when their use is written down, and what is swept away.

use std::time::Duration;

use sqlx::PgPool;
use tests::portal::Client;
use tests::process::wait_until;

use super::{Tokens, ann, assert_out, current, lab};

const DEADLINE: Duration = Duration::from_secs(20);

async fn set(pool: &PgPool, what: &str) -> anyhow::Result<u64> {
    let sql = format!("update session set {what}");
    let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(pool).await?;
    Ok(done.rows_affected())
}

/// When each session was used last, in seconds ago, and its version, by kind.
async fn uses(pool: &PgPool) -> anyhow::Result<Vec<(String, f64, i64)>> {
    Ok(sqlx::query_as(
        "select s.kind, extract(epoch from now() - s.last_used_at)::float8, s.version
         from session s join account a using (account_id) where a.login = 'ann' order by s.kind",
    )
    .fetch_all(pool)
    .await?)
}

async fn both(client: &Client) -> anyhow::Result<[Client; 2]> {
    Ok([
        client.sign_in("ann", super::PASSWORD).await?,
        client.sign_in_by_cookie("ann", super::PASSWORD).await?,
    ])
}

#[tokio::test]
async fn a_session_ends_by_itself() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    let clients = both(&lab.client).await?;
    let spans: Vec<(String, f64, f64)> = sqlx::query_as(
        "select s.kind, extract(epoch from idle_until - s.created_at)::float8,
            extract(epoch from expires_at - s.created_at)::float8
         from session s join account a using (account_id) where a.login = 'ann' order by s.kind",
    )
    .fetch_all(&pool)
    .await?;
    let (hour, day) = (3_600.0, 86_400.0);
    let kinds = ["bearer".to_owned(), "cookie".to_owned()];
    let [bearer, cookie] = kinds;
    assert_eq!(
        spans,
        [
            (bearer, 30.0 * day, 90.0 * day),
            (cookie, 12.0 * hour, 7.0 * day)
        ]
    );
    for over in ["idle_until", "expires_at"] {
        for client in &clients {
            current(client).await?.expect(200)?;
        }
        let now = format!("{over} = now() - interval '1 second'");
        set(&pool, &now).await?;
        for client in &clients {
            assert_out(client, over).await?;
        }
        set(&pool, &format!("{over} = now() + interval '1 hour'")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_use_of_a_session_is_noted_once_a_minute() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    let clients = both(&lab.client).await?;
    for client in &clients {
        for _ in 0..5 {
            current(client).await?.expect(200)?;
        }
    }
    let versions =
        |uses: Vec<(String, f64, i64)>| uses.into_iter().map(|(_, _, v)| v).collect::<Vec<_>>();
    assert_eq!(versions(uses(&pool).await?), [1, 1]);
    set(
        &pool,
        "last_used_at = now() - interval '2 minutes', idle_until = now() + interval '1 minute'",
    )
    .await?;
    let noted = async || {
        for client in &clients {
            current(client).await.ok();
        }
        let uses = uses(&pool).await.unwrap_or_default();
        uses.iter().all(|(_, ago, _)| *ago < 30.0)
    };
    wait_until("it is noted", DEADLINE, noted).await?;
    // Once, however many requests there were; and the session lasts from then on.
    assert_eq!(versions(uses(&pool).await?), [2, 2]);
    let longer: i64 = sqlx::query_scalar(
        "select count(*) from session s join account a using (account_id)
         where a.login = 'ann' and s.idle_until > now() + interval '11 hours'",
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(longer, 2);
    Ok(())
}

#[tokio::test]
async fn what_is_over_for_long_is_swept_away_in_passing() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, account) = ann(&lab).await?;
    for _ in 0..3 {
        Tokens::open(&lab.client, "ann").await?;
    }
    set(&pool, "expires_at = now() - interval '8 days' where account_id = (select account_id from account where login = 'ann')").await?;
    sqlx::query(
        "insert into sign_in_failure (login_hash, source_address, failures, last_at)
         values (sha256('x'), '', 9, now() - interval '2 days'),
            (sha256('y'), '', 1, now() - interval '2 hours')",
    )
    .execute(&pool)
    .await?;
    sqlx::query(
        "insert into password_reset (token_hash, account_id, created_at, created_by, expires_at)
         values (sha256('x'), $1, now(), 'test', now() - interval '8 days'),
            (sha256('y'), $1, now(), 'test', now() - interval '1 day')",
    )
    .bind(account)
    .execute(&pool)
    .await?;
    Tokens::open(&lab.client, "ann").await?;
    let left: (i64, i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from session where account_id = $1),
            (select count(*) from refresh_token r join session s using (session_id)
             where s.account_id = $1),
            (select count(*) from sign_in_failure), (select count(*) from password_reset)",
    )
    .bind(account)
    .fetch_one(&pool)
    .await?;
    assert_eq!(left, (1, 1, 1, 1));
    Ok(())
}
