//! Table `apply`: the audit trail of applies.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::bundle::{ApplyId, Digest, Revision};
use shared::record::{ApplyRecord, OnReloadFailure};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::page::Listing;
use super::{DbError, audit, changes, without_nul};
use crate::domain::apply::{
    ApplyFilter, ApplySort, Attempt, AttemptOutcome, Failure, IncludedUser, RestoredFrom,
    UserCounts,
};
use crate::domain::audit::PendingChange;
use crate::domain::page::{Page, Slice};
use crate::domain::{Invalid, PbxId, TenantId, TenantNumber, UserId};

/// Inserts an attempt that goes to the agent, with its bundle and the changes that it carries, and
/// gives it the next revision of its PBX; `None` when that is no longer in service. To be called under the PBX's lock, and
/// committed before anything is sent.
pub async fn open(
    connection: &mut PgConnection,
    attempt: &Attempt,
    digest: Digest,
    bundle_encrypted: &[u8],
    carried: &[PendingChange],
) -> Result<Option<Revision>, DbError> {
    let revision = sqlx::query_scalar!(
        r#"
        with next as (
            update pbx set last_revision = last_revision + 1
            where pbx_id = $2 and deleted_at is null
            returning last_revision
        )
        insert into apply (
            apply_id, pbx_id, revision, digest, on_reload_failure, outcome, requested_by,
            request_id, source_address, started_at, user_count, users, bundle_encrypted,
            changes, restored_from, notes, requested_tenant, user_counts, change_count
        )
        select $1, $2, last_revision, $3, $4, 'started', $5, $6, $7, $8, $9, $10, $11, $12, $13,
            $14, $15, $16, $17
        from next
        returning revision as "revision!"
        "#,
        attempt.id.0,
        attempt.pbx_id.0,
        &digest.0,
        policy_name(attempt.on_reload_failure),
        attempt.requested_by,
        attempt.request_id,
        attempt.source_address,
        attempt.started_at,
        count(attempt),
        users_json(attempt),
        bundle_encrypted,
        attempt.changes.as_ref().map(changes::to_json),
        attempt.restored_from.map(|source| source.id.0),
        serde_json::json!(attempt.notes),
        attempt.requested_tenant.map(|tenant| tenant.0),
        serde_json::json!(attempt.user_counts.0),
        i32::try_from(carried.len()).unwrap_or(i32::MAX),
    )
    .fetch_optional(&mut *connection)
    .await?;
    if revision.is_some() {
        audit::carry(connection, attempt.id, carried).await?;
    }
    revision
        .map(|revision| to_revision(attempt.id, revision))
        .transpose()
}

/// Inserts an attempt that ended before there was a bundle.
pub async fn insert_ended(connection: &mut PgConnection, attempt: &Attempt) -> Result<(), DbError> {
    sqlx::query!(
        "insert into apply (
            apply_id, pbx_id, on_reload_failure, outcome, requested_by, request_id,
            source_address, started_at, ended_at, failure_code, failure_message, user_count, users,
            restored_from, requested_tenant, user_counts
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        attempt.id.0,
        attempt.pbx_id.0,
        policy_name(attempt.on_reload_failure),
        attempt.outcome.name(),
        attempt.requested_by,
        attempt.request_id,
        attempt.source_address,
        attempt.started_at,
        attempt.ended_at,
        failure_code(attempt),
        failure_message(attempt),
        count(attempt),
        users_json(attempt),
        attempt.restored_from.map(|source| source.id.0),
        attempt.requested_tenant.map(|tenant| tenant.0),
        serde_json::json!(attempt.user_counts.0),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes how an attempt ended; `false` when its row was closed already. When it is proven, what it
/// carried waits no longer.
///
/// `never_started` may be replaced: it is a conclusion, and a portal that was stopped between
/// commit and sending may prove it wrong when it wakes.
pub async fn close(connection: &mut PgConnection, attempt: &Attempt) -> Result<bool, DbError> {
    let closed = sqlx::query!(
        "update apply
         set outcome = $2, ended_at = $3, failure_code = $4, failure_message = $5, record = $6
         where apply_id = $1 and outcome in ('started', 'never_started')",
        attempt.id.0,
        attempt.outcome.name(),
        attempt.ended_at,
        failure_code(attempt),
        failure_message(attempt),
        record_json(attempt),
    )
    .execute(&mut *connection)
    .await?;
    if closed.rows_affected() == 1 && attempt.outcome.is_proven() {
        audit::settle(connection, attempt.id, attempt.pbx_id).await?;
    }
    Ok(closed.rows_affected() == 1)
}

/// The attempts of a PBX whose outcome is not known, oldest first.
pub async fn unsettled(connection: &mut PgConnection, pbx: PbxId) -> Result<Vec<Attempt>, DbError> {
    sqlx::query_as!(
        ApplyRow,
        r#"select apply_id, pbx_id,
            (select name from pbx p where p.pbx_id = a.pbx_id) as "pbx_name!", revision, digest, on_reload_failure, outcome, requested_by,
            request_id, source_address, started_at, ended_at, failure_code, failure_message,
            record, requested_tenant, user_counts, '[]'::jsonb as "users!", changes, restored_from, notes, bundle_encrypted is not null as "bundle_kept!", change_count,
            (select revision from apply s where s.apply_id = a.restored_from) as restored_revision
         from apply a where pbx_id = $1 and outcome = 'started'
         order by apply_id"#,
        pbx.0,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Attempt::try_from)
    .collect()
}

/// One attempt, with the users it included.
pub async fn find(connection: &mut PgConnection, id: ApplyId) -> Result<Option<Attempt>, DbError> {
    sqlx::query_as!(
        ApplyRow,
        r#"select apply_id, pbx_id,
            (select name from pbx p where p.pbx_id = a.pbx_id) as "pbx_name!", revision, digest, on_reload_failure, outcome, requested_by,
            request_id, source_address, started_at, ended_at, failure_code, failure_message,
            record, requested_tenant, user_counts, users, changes, restored_from, notes, bundle_encrypted is not null as "bundle_kept!", change_count,
            (select revision from apply s where s.apply_id = a.restored_from) as restored_revision
         from apply a where apply_id = $1"#,
        id.0,
    )
    .fetch_optional(connection)
    .await?
    .map(Attempt::try_from)
    .transpose()
}

/// Rows of `apply`, and what stands in line as if it were one: both in one question, so that no
/// attempt is missed or found twice while its turn comes.
const ATTEMPTS: &str = "(
    select apply_id, pbx_id, revision, digest, on_reload_failure, outcome, requested_by,
        request_id, source_address, started_at, ended_at, failure_code, failure_message,
        requested_tenant, user_counts, changes, restored_from, notes,
        bundle_encrypted is not null as bundle_kept, change_count
    from apply
    union all
    select apply_id, pbx_id, null, null, on_reload_failure, 'queued', requested_by,
        request_id, source_address, started_at, null, null, null,
        requested_tenant, '{}', null, restored_from, '[]', false, 0
    from queued_apply
) a";

/// What a search looks at, as the index has it.
pub(super) const SEARCHED: &[&str] =
    &["(a.requested_by || ' ' || a.request_id || ' ' || coalesce(a.failure_message, ''))"];

/// What a search looks at beside [`SEARCHED`], which the index needs, when failures are withheld.
const SEARCHED_OF_TENANT: &[&str] = &["(a.requested_by || ' ' || a.request_id)"];

/// A part of the attempts. The users they included are only counted.
pub async fn list(
    connection: &mut PgConnection,
    filter: &ApplyFilter,
    page: &Page<ApplySort>,
) -> Result<Slice<Attempt>, DbError> {
    let key = match page.order.key {
        ApplySort::StartedAt => "a.started_at",
    };
    Listing::new(
        "a.*, '[]'::jsonb as users,
         (select name from pbx p where p.pbx_id = a.pbx_id) as pbx_name,
        (select record from apply r where r.apply_id = a.apply_id) as record,
        (select revision from apply s where s.apply_id = a.restored_from) as restored_revision",
        ATTEMPTS,
        page,
        key,
        "a.apply_id",
    )
    .equal("a.pbx_id", filter.pbx.map(|pbx| pbx.0))
    .equal("a.outcome", filter.outcome.map(AttemptOutcome::name))
    .equal("a.requested_by", filter.requested_by.clone())
    .equal(
        "a.requested_tenant",
        filter.of_tenant.map(|tenant| tenant.0),
    )
    .search(SEARCHED, filter.search.as_deref())
    .search(
        SEARCHED_OF_TENANT,
        filter
            .search
            .as_deref()
            .filter(|_| filter.of_tenant.is_some()),
    )
    .fetch::<ApplyRow>(connection)
    .await?
    .try_map(Attempt::try_from)
}

#[derive(FromRow)]
pub(super) struct ApplyRow {
    pub(super) apply_id: Uuid,
    pub(super) pbx_id: Uuid,
    pub(super) pbx_name: String,
    pub(super) revision: Option<i64>,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) on_reload_failure: String,
    pub(super) outcome: String,
    pub(super) requested_by: String,
    pub(super) request_id: String,
    pub(super) source_address: String,
    pub(super) started_at: OffsetDateTime,
    pub(super) ended_at: Option<OffsetDateTime>,
    pub(super) failure_code: Option<String>,
    pub(super) failure_message: Option<String>,
    pub(super) record: Option<Value>,
    pub(super) requested_tenant: Option<Uuid>,
    pub(super) user_counts: Value,
    pub(super) users: Value,
    pub(super) changes: Option<Value>,
    pub(super) restored_from: Option<Uuid>,
    pub(super) restored_revision: Option<i64>,
    pub(super) notes: Value,
    pub(super) bundle_kept: bool,
    pub(super) change_count: i32,
}

impl TryFrom<ApplyRow> for Attempt {
    type Error = DbError;

    fn try_from(row: ApplyRow) -> Result<Self, DbError> {
        let id = ApplyId(row.apply_id);
        let broken = |column, reason: String| DbError::inconsistent("apply", column, &id, &reason);
        let digest = row.digest.map(|bytes| Digest::try_from(bytes.as_slice()));
        let record = row.record.map(serde_json::from_value::<ApplyRecord>);
        let changes = row.changes.map(changes::from_json).transpose();
        let restored_from = row.restored_from.zip(row.restored_revision);
        Ok(Self {
            id,
            pbx_id: PbxId(row.pbx_id),
            pbx_name: row
                .pbx_name
                .parse()
                .map_err(|reason: Invalid| broken("pbx_id", reason.to_string()))?,
            revision: row
                .revision
                .map(|revision| to_revision(id, revision))
                .transpose()?,
            digest: digest
                .transpose()
                .map_err(|reason| broken("digest", reason.to_string()))?,
            on_reload_failure: policy(&row.on_reload_failure)
                .ok_or_else(|| broken("on_reload_failure", "unknown".to_owned()))?,
            outcome: AttemptOutcome::from_name(&row.outcome)
                .ok_or_else(|| broken("outcome", "unknown".to_owned()))?,
            requested_by: row.requested_by,
            request_id: row.request_id,
            source_address: row.source_address,
            started_at: row.started_at,
            ended_at: row.ended_at,
            failure: row
                .failure_code
                .zip(row.failure_message)
                .map(|(code, message)| Failure { code, message }),
            record: record
                .transpose()
                .map_err(|reason| broken("record", reason.to_string()))?,
            requested_tenant: row.requested_tenant.map(TenantId),
            user_counts: serde_json::from_value(row.user_counts)
                .map(UserCounts)
                .map_err(|reason| broken("user_counts", reason.to_string()))?,
            users: users(id, row.users)?,
            changes: changes.map_err(|reason| broken("changes", reason.to_string()))?,
            restored_from: restored_from
                .map(|(source, revision)| restored(ApplyId(source), revision))
                .transpose()?,
            notes: serde_json::from_value(row.notes)
                .map_err(|reason| broken("notes", reason.to_string()))?,
            bundle_kept: row.bundle_kept,
            change_count: usize::try_from(row.change_count).ok(),
        })
    }
}

/// Reads `apply.users`.
pub(super) fn users(id: ApplyId, json: Value) -> Result<Vec<IncludedUser>, DbError> {
    let users: Vec<UserJson> = serde_json::from_value(json)
        .map_err(|reason| DbError::inconsistent("apply", "users", &id, &reason))?;
    Ok(users.into_iter().map(IncludedUser::from).collect())
}

/// Reads `apply.restored_from` with the revision of that row.
pub(super) fn restored(id: ApplyId, revision: i64) -> Result<RestoredFrom, DbError> {
    let revision = to_revision(id, revision)?;
    Ok(RestoredFrom { id, revision })
}

/// An element of `apply.users`.
#[derive(Serialize, Deserialize)]
struct UserJson {
    id: Uuid,
    name: String,
    /// The default one in rows from before there were others.
    #[serde(default = "default_tenant")]
    tenant: u32,
    extension: u32,
}

/// The tenant of whoever was kept before there was more than one.
pub(super) const fn default_tenant() -> u32 {
    TenantNumber::DEFAULT.get()
}

impl From<UserJson> for IncludedUser {
    fn from(user: UserJson) -> Self {
        Self {
            id: UserId(user.id),
            name: user.name,
            tenant: user.tenant,
            extension: user.extension,
        }
    }
}

fn users_json(attempt: &Attempt) -> Value {
    let users = attempt.users.iter().map(|user| {
        serde_json::json!({
            "id": user.id.0, "name": user.name, "tenant": user.tenant, "extension": user.extension,
        })
    });
    Value::Array(users.collect())
}

fn record_json(attempt: &Attempt) -> Option<Value> {
    let record = attempt.record.as_ref()?;
    serde_json::to_value(record).ok().map(without_nul)
}

fn failure_code(attempt: &Attempt) -> Option<String> {
    let failure = attempt.failure.as_ref()?;
    Some(failure.code.clone())
}

fn failure_message(attempt: &Attempt) -> Option<String> {
    let failure = attempt.failure.as_ref()?;
    Some(failure.message.replace('\0', "\u{fffd}"))
}

fn count(attempt: &Attempt) -> i32 {
    i32::try_from(attempt.user_counts.total()).unwrap_or(i32::MAX)
}

pub(super) fn to_revision(id: ApplyId, revision: i64) -> Result<Revision, DbError> {
    u64::try_from(revision)
        .map(Revision)
        .map_err(|_| DbError::inconsistent("apply", "revision", &id, &"negative"))
}

pub(super) const fn policy_name(policy: OnReloadFailure) -> &'static str {
    match policy {
        OnReloadFailure::RollBack => "roll_back",
        OnReloadFailure::KeepNewFiles => "keep_new_files",
    }
}

pub(super) fn policy(name: &str) -> Option<OnReloadFailure> {
    [OnReloadFailure::RollBack, OnReloadFailure::KeepNewFiles]
        .into_iter()
        .find(|policy| policy_name(*policy) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_before_there_were_tenants_are_those_of_the_default_one() {
        let id = ApplyId(Uuid::nil());
        let read = |tenant: Value| {
            let mut json = serde_json::json!({ "id": id.0, "name": "A", "extension": 1000 });
            if !tenant.is_null() {
                json["tenant"] = tenant;
            }
            users(id, Value::Array(vec![json])).unwrap()[0].tenant
        };
        assert_eq!(read(Value::Null), 1);
        assert_eq!(read(2.into()), 2);
    }

    #[test]
    fn policies_read_back() {
        for name in ["roll_back", "keep_new_files"] {
            assert_eq!(policy(name).map(policy_name), Some(name));
        }
    }
}
