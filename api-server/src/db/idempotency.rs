//! Table `idempotency_key`: requests that are carried out once, and their answers.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::DbError;
use crate::domain::AdminUser;
use crate::domain::idempotency::{Fingerprint, IdempotencyKey, KeyedRequest};

/// How many old rows one request removes at most.
const SWEEP_MAX: i64 = 20;

/// What a key was used for.
#[derive(Debug)]
pub struct Used {
    /// What the request said.
    pub fingerprint: Fingerprint,
    /// How it was answered; `None`: not yet.
    pub answer: Option<SealedAnswer>,
}

/// A stored answer, its body encrypted.
#[derive(Debug)]
pub struct SealedAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Where the new resource is.
    pub location: Option<String>,
    /// Its entity tag.
    pub etag: Option<String>,
    /// The body.
    pub body_encrypted: Vec<u8>,
}

/// Takes a key for a request, in the transaction that carries it out; `false` when it was taken
/// since `expired`. Waits for whoever is taking it at this moment.
pub async fn take(
    connection: &mut PgConnection,
    actor: &AdminUser,
    request: &KeyedRequest,
    now: OffsetDateTime,
    expired: OffsetDateTime,
) -> Result<bool, DbError> {
    let taken = sqlx::query!(
        "insert into idempotency_key as k (actor, key, fingerprint, created_at)
         values ($1, $2, $3, $4)
         on conflict on constraint idempotency_key_pkey do update
         set fingerprint = excluded.fingerprint, created_at = excluded.created_at,
            attempts = default, lease_until = null, status = null, location = null, etag = null,
            answer_encrypted = null
         where k.created_at <= $5",
        actor.as_str(),
        request.key.as_str(),
        &request.fingerprint.0,
        now,
        expired,
    )
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// What a key was used for; `None`: for nothing.
pub async fn find(
    connection: &mut PgConnection,
    actor: &AdminUser,
    key: &IdempotencyKey,
) -> Result<Option<Used>, DbError> {
    let row = sqlx::query!(
        "select fingerprint, status, location, etag, answer_encrypted
         from idempotency_key where actor = $1 and key = $2",
        actor.as_str(),
        key.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let broken =
            |column| DbError::inconsistent("idempotency_key", column, &key.as_str(), &"malformed");
        let fingerprint = row.fingerprint.try_into();
        let answer = row.status.zip(row.answer_encrypted);
        let answer = answer.map(|(status, body_encrypted)| {
            Ok::<_, DbError>(SealedAnswer {
                status: u16::try_from(status).map_err(|_| broken("status"))?,
                location: row.location,
                etag: row.etag,
                body_encrypted,
            })
        });
        Ok(Used {
            fingerprint: Fingerprint(fingerprint.map_err(|_| broken("fingerprint"))?),
            answer: answer.transpose()?,
        })
    })
    .transpose()
}

/// Keeps the answer to a request whose key was taken.
pub async fn keep(
    connection: &mut PgConnection,
    actor: &AdminUser,
    key: &IdempotencyKey,
    answer: &SealedAnswer,
) -> Result<(), DbError> {
    sqlx::query!(
        "update idempotency_key
         set status = $3, location = $4, etag = $5, answer_encrypted = $6, lease_until = null
         where actor = $1 and key = $2",
        actor.as_str(),
        key.as_str(),
        i32::from(answer.status),
        answer.location,
        answer.etag,
        answer.body_encrypted,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes some of the rows that are older than `expired`, never waiting for anybody.
pub async fn sweep(connection: &mut PgConnection, expired: OffsetDateTime) -> Result<u64, DbError> {
    let swept = sqlx::query!(
        "delete from idempotency_key where (actor, key) in (
            select actor, key from idempotency_key where created_at <= $1
            order by created_at limit $2
            for update skip locked
        )",
        expired,
        SWEEP_MAX,
    )
    .execute(connection)
    .await?;
    Ok(swept.rows_affected())
}
