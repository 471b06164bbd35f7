//! Table `idempotency_key`: requests that are carried out once, and their answers.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::DbError;
use crate::domain::idempotency::{AttemptRoot, Fingerprint, IdempotencyKey, KeyedRequest};
use crate::domain::{ActorKey, PbxId};

/// How long a request is taken to be carried out without a sign of life of its portal, in seconds.
const LEASE_SECONDS: f64 = 20.0;

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
    actor: &ActorKey,
    request: &KeyedRequest,
    now: OffsetDateTime,
    expired: OffsetDateTime,
) -> Result<bool, DbError> {
    let taken = sqlx::query!(
        "insert into idempotency_key as k (actor, key, fingerprint, created_at)
         values ($1, $2, $3, $4)
         on conflict on constraint idempotency_key_pkey do update
         set fingerprint = excluded.fingerprint, created_at = excluded.created_at,
            attempt_root = null, lease_until = null, status = null, location = null, etag = null,
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
    actor: &ActorKey,
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
    actor: &ActorKey,
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

/// Says that the portal that carries a request out lives; `false` when it is answered, or another
/// one has taken it over. `root` is what the request was claimed with.
pub async fn renew(
    connection: &mut PgConnection,
    actor: &ActorKey,
    key: &IdempotencyKey,
    root: AttemptRoot,
) -> Result<bool, DbError> {
    let renewed = sqlx::query!(
        "update idempotency_key
         set attempt_root = $3, lease_until = now() + make_interval(secs => $4)
         where actor = $1 and key = $2 and status is null
            and (attempt_root is null or attempt_root = $3)",
        actor.as_str(),
        key.as_str(),
        root.0,
        LEASE_SECONDS,
    )
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// What the attempts of a request whose portal gave no sign of life for too long are made from;
/// `None` when its portal lives, or it is answered.
pub async fn abandoned(
    connection: &mut PgConnection,
    actor: &ActorKey,
    key: &IdempotencyKey,
) -> Result<Option<AttemptRoot>, DbError> {
    let root = sqlx::query_scalar!(
        r#"select attempt_root as "attempt_root!" from idempotency_key
         where actor = $1 and key = $2 and status is null and attempt_root is not null
            and lease_until < now()"#,
        actor.as_str(),
        key.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(root.map(AttemptRoot))
}

/// Takes an abandoned request over under another root; `false` when somebody else was quicker.
pub async fn take_over(
    connection: &mut PgConnection,
    actor: &ActorKey,
    key: &IdempotencyKey,
    abandoned: AttemptRoot,
    root: AttemptRoot,
) -> Result<bool, DbError> {
    let taken = sqlx::query!(
        "update idempotency_key
         set attempt_root = $4, lease_until = now() + make_interval(secs => $5)
         where actor = $1 and key = $2 and status is null and attempt_root = $3
            and lease_until < now()",
        actor.as_str(),
        key.as_str(),
        abandoned.0,
        root.0,
        LEASE_SECONDS,
    )
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Lets a request that changed nothing be sent again.
pub async fn release(
    connection: &mut PgConnection,
    actor: &ActorKey,
    key: &IdempotencyKey,
    root: AttemptRoot,
) -> Result<(), DbError> {
    sqlx::query!(
        "delete from idempotency_key
         where actor = $1 and key = $2 and status is null and attempt_root = $3",
        actor.as_str(),
        key.as_str(),
        root.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Says that nobody carries a request out any more, though it is not answered.
pub async fn leave(
    connection: &mut PgConnection,
    actor: &ActorKey,
    key: &IdempotencyKey,
    root: AttemptRoot,
) -> Result<(), DbError> {
    sqlx::query!(
        "update idempotency_key set lease_until = now() - interval '1 second'
         where actor = $1 and key = $2 and status is null and attempt_root = $3",
        actor.as_str(),
        key.as_str(),
        root.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Every PBX on which there may be an attempt.
pub async fn pbxes(connection: &mut PgConnection) -> Result<Vec<PbxId>, DbError> {
    let ids = sqlx::query_scalar!("select pbx_id from pbx order by name")
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().map(PbxId).collect())
}
