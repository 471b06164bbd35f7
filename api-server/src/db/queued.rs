//! Table `queued_apply`: applies that were accepted and wait for their turn.

use shared::bundle::ApplyId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use super::applies::{policy, policy_name, restored};
use crate::domain::apply::{Attempt, AttemptOutcome, UserCounts};
use crate::domain::{Invalid, PbxId, TenantId};

/// How long an apply stays in line without a sign of life of its portal, in seconds.
const LEASE_SECONDS: f64 = 20.0;

/// Puts an attempt in line.
pub async fn insert(connection: &mut PgConnection, attempt: &Attempt) -> Result<(), DbError> {
    sqlx::query!(
        "insert into queued_apply (
            apply_id, pbx_id, on_reload_failure, requested_by, request_id, source_address,
            started_at, restored_from, requested_tenant, lease_until
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10))",
        attempt.id.0,
        attempt.pbx_id.0,
        policy_name(attempt.on_reload_failure),
        attempt.requested_by,
        attempt.request_id,
        attempt.source_address,
        attempt.started_at,
        attempt.restored_from.map(|source| source.id.0),
        attempt.requested_tenant.map(|tenant| tenant.0),
        LEASE_SECONDS,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Says that the portal of an attempt lives; `false` when the attempt is not in line any more.
pub async fn renew(connection: &mut PgConnection, id: ApplyId) -> Result<bool, DbError> {
    let renewed = sqlx::query!(
        "update queued_apply set lease_until = now() + make_interval(secs => $2)
         where apply_id = $1",
        id.0,
        LEASE_SECONDS,
    )
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Takes an attempt out of the line, in the transaction that makes it a row of `apply`; `false`
/// when somebody else has ended it.
pub async fn take(connection: &mut PgConnection, id: ApplyId) -> Result<bool, DbError> {
    let taken = sqlx::query!("delete from queued_apply where apply_id = $1", id.0)
        .execute(connection)
        .await?;
    Ok(taken.rows_affected() == 1)
}

/// Takes an attempt whose portal has given no sign of life for too long out of the line.
pub async fn take_abandoned(
    connection: &mut PgConnection,
    pbx: PbxId,
) -> Result<Option<Attempt>, DbError> {
    sqlx::query_as!(
        QueuedRow,
        r#"delete from queued_apply q where apply_id = (
            select apply_id from queued_apply where pbx_id = $1 and lease_until < now()
            order by apply_id limit 1 for update skip locked
        )
        returning apply_id, pbx_id,
            (select name from pbx p where p.pbx_id = q.pbx_id) as "pbx_name!", on_reload_failure, requested_by, request_id, source_address,
            started_at, restored_from, requested_tenant,
            (select revision from apply s where s.apply_id = q.restored_from) as restored_revision"#,
        pbx.0,
    )
    .fetch_optional(connection)
    .await?
    .map(Attempt::try_from)
    .transpose()
}

/// One attempt that waits.
pub async fn find(connection: &mut PgConnection, id: ApplyId) -> Result<Option<Attempt>, DbError> {
    Ok(select(connection, Some(id), None, None, 1).await?.pop())
}

/// The attempts that wait, the newest first, before `before`, for one PBX if there is one.
pub async fn list(
    connection: &mut PgConnection,
    pbx: Option<PbxId>,
    before: Option<ApplyId>,
    limit: u16,
) -> Result<Vec<Attempt>, DbError> {
    select(connection, None, pbx, before, limit).await
}

async fn select(
    connection: &mut PgConnection,
    id: Option<ApplyId>,
    pbx: Option<PbxId>,
    before: Option<ApplyId>,
    limit: u16,
) -> Result<Vec<Attempt>, DbError> {
    sqlx::query_as!(
        QueuedRow,
        r#"select apply_id, pbx_id,
            (select name from pbx p where p.pbx_id = q.pbx_id) as "pbx_name!", on_reload_failure, requested_by, request_id, source_address,
            started_at, restored_from, requested_tenant,
            (select revision from apply s where s.apply_id = q.restored_from) as restored_revision
         from queued_apply q
         where ($1::uuid is null or apply_id = $1) and ($2::uuid is null or apply_id < $2)
            and ($4::uuid is null or pbx_id = $4)
         order by apply_id desc
         limit $3"#,
        id.map(|id| id.0),
        before.map(|id| id.0),
        i64::from(limit),
        pbx.map(|pbx| pbx.0),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Attempt::try_from)
    .collect()
}

struct QueuedRow {
    apply_id: Uuid,
    pbx_id: Uuid,
    pbx_name: String,
    on_reload_failure: String,
    requested_by: String,
    request_id: String,
    source_address: String,
    started_at: OffsetDateTime,
    restored_from: Option<Uuid>,
    requested_tenant: Option<Uuid>,
    restored_revision: Option<i64>,
}

impl TryFrom<QueuedRow> for Attempt {
    type Error = DbError;

    fn try_from(row: QueuedRow) -> Result<Self, DbError> {
        let id = ApplyId(row.apply_id);
        let unknown =
            || DbError::inconsistent("queued_apply", "on_reload_failure", &id, &"unknown");
        Ok(Self {
            id,
            pbx_id: PbxId(row.pbx_id),
            pbx_name: row.pbx_name.parse().map_err(|reason: Invalid| {
                DbError::inconsistent("queued_apply", "pbx_id", &id, &reason)
            })?,
            revision: None,
            digest: None,
            on_reload_failure: policy(&row.on_reload_failure).ok_or_else(unknown)?,
            outcome: AttemptOutcome::Queued,
            requested_by: row.requested_by,
            request_id: row.request_id,
            source_address: row.source_address,
            started_at: row.started_at,
            ended_at: None,
            failure: None,
            record: None,
            requested_tenant: row.requested_tenant.map(TenantId),
            user_counts: UserCounts::default(),
            users: Vec::new(),
            changes: None,
            restored_from: row
                .restored_from
                .zip(row.restored_revision)
                .map(|(source, revision)| restored(ApplyId(source), revision))
                .transpose()?,
            notes: Vec::new(),
            bundle_kept: false,
            change_count: Some(0),
        })
    }
}
