//! Refresh tokens, and the removal of what is over for long.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db::DbError;
use crate::domain::account::SessionId;

/// How many rows of a table one sweep removes at most.
const SWEEP_MAX: i64 = 20;

/// Inserts a refresh token of a session.
pub async fn insert_refresh_token(
    connection: &mut PgConnection,
    token: &[u8; 32],
    session: SessionId,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into refresh_token (token_hash, session_id, created_at, expires_at)
         values ($1, $2, $3, $4)",
        token.as_slice(),
        session.0,
        now,
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What became of an attempt to use a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was good, and now it is used.
    Now(SessionId),
    /// It was used before.
    Before(SessionId),
    /// It is unknown, or too old.
    Never,
}

/// Uses a refresh token. Of two at once one gets it.
pub async fn take_refresh_token(
    connection: &mut PgConnection,
    hash: &[u8; 32],
    now: OffsetDateTime,
) -> Result<Taken, DbError> {
    let session = sqlx::query_scalar!(
        "update refresh_token set used_at = $2
         where token_hash = $1 and used_at is null and expires_at > $2
         returning session_id",
        hash.as_slice(),
        now,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(session) = session {
        return Ok(Taken::Now(SessionId(session)));
    }
    let used = sqlx::query_scalar!(
        "select session_id from refresh_token where token_hash = $1 and used_at is not null",
        hash.as_slice(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(used.map_or(Taken::Never, |session| Taken::Before(SessionId(session))))
}

/// Removes some of the sessions that were over before `over`, of the refresh tokens that were too
/// old by then, and of the ways to set a password that were; never waiting for anybody.
pub async fn sweep(connection: &mut PgConnection, over: OffsetDateTime) -> Result<(), DbError> {
    sqlx::query!(
        "delete from session where session_id in (
            select session_id from session
            where least(ended_at, idle_until, expires_at) <= $1
            order by least(ended_at, idle_until, expires_at) limit $2
            for update skip locked
         )",
        over,
        SWEEP_MAX,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from refresh_token where token_hash in (
            select token_hash from refresh_token where expires_at <= $1
            order by expires_at limit $2
            for update skip locked
         )",
        over,
        SWEEP_MAX,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from password_reset where token_hash in (
            select token_hash from password_reset where expires_at <= $1
            order by expires_at limit $2
            for update skip locked
         )",
        over,
        SWEEP_MAX,
    )
    .execute(connection)
    .await?;
    Ok(())
}
