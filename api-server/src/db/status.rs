//! Attempts in short, for the status of a PBX.

use serde_json::Value;
use shared::bundle::{ApplyId, Revision};
use shared::record::WrittenFile;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use crate::domain::apply::{AttemptOutcome, Failure};
use crate::domain::status::AttemptBrief;
use crate::domain::{PbxId, TenantId};

/// Of which attempts the newest is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newest {
    /// Those that were given a revision, to be sent. What ended before is in the audit trail only.
    Begun,
    /// Those that were proven to be in force.
    Proven,
}

/// The newest attempt of a kind.
pub async fn newest(
    connection: &mut PgConnection,
    pbx: PbxId,
    of: Newest,
) -> Result<Option<AttemptBrief>, DbError> {
    sqlx::query_as!(
        BriefRow,
        "select apply_id, revision, outcome, requested_by, requested_tenant, started_at, ended_at, failure_code,
            failure_message, record->'files' as files
         from apply
         where pbx_id = $1 and revision is not null
            and (outcome in ('applied', 'unchanged') or not $2)
         order by revision desc limit 1",
        pbx.0,
        of == Newest::Proven,
    )
    .fetch_optional(connection)
    .await?
    .map(AttemptBrief::try_from)
    .transpose()
}

/// The attempts that had these revisions.
pub async fn of_revisions(
    connection: &mut PgConnection,
    pbx: PbxId,
    revisions: &[Revision],
) -> Result<Vec<AttemptBrief>, DbError> {
    let numbers: Vec<i64> = revisions
        .iter()
        .filter_map(|revision| i64::try_from(revision.0).ok())
        .collect();
    sqlx::query_as!(
        BriefRow,
        "select apply_id, revision, outcome, requested_by, requested_tenant, started_at, ended_at, failure_code,
            failure_message, record->'files' as files
         from apply where pbx_id = $1 and revision = any($2)",
        pbx.0,
        &numbers,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(AttemptBrief::try_from)
    .collect()
}

/// How an attempt stands; `None` when there is none of that id.
pub async fn outcome(
    connection: &mut PgConnection,
    id: ApplyId,
) -> Result<Option<AttemptOutcome>, DbError> {
    let name = sqlx::query_scalar!(
        r#"select outcome as "outcome!" from apply where apply_id = $1
           union all
           select 'queued' from queued_apply where apply_id = $1"#,
        id.0,
    )
    .fetch_optional(connection)
    .await?;
    let unknown = || DbError::inconsistent("apply", "outcome", &id, &"unknown");
    name.map(|name| AttemptOutcome::from_name(&name).ok_or_else(unknown))
        .transpose()
}

struct BriefRow {
    apply_id: Uuid,
    revision: Option<i64>,
    outcome: String,
    requested_by: String,
    requested_tenant: Option<Uuid>,
    started_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
    failure_code: Option<String>,
    failure_message: Option<String>,
    files: Option<Value>,
}

impl TryFrom<BriefRow> for AttemptBrief {
    type Error = DbError;

    fn try_from(row: BriefRow) -> Result<Self, DbError> {
        let id = ApplyId(row.apply_id);
        let broken = |column, reason: String| DbError::inconsistent("apply", column, &id, &reason);
        let files: Option<Vec<WrittenFile>> = row
            .files
            .map(serde_json::from_value)
            .transpose()
            .map_err(|reason| broken("record", reason.to_string()))?;
        let revision = row.revision.map(u64::try_from).transpose();
        Ok(Self {
            id,
            revision: revision
                .map_err(|_| broken("revision", "negative".to_owned()))?
                .map(Revision),
            outcome: AttemptOutcome::from_name(&row.outcome)
                .ok_or_else(|| broken("outcome", "unknown".to_owned()))?,
            requested_by: row.requested_by,
            requested_tenant: row.requested_tenant.map(TenantId),
            started_at: row.started_at,
            ended_at: row.ended_at,
            failure: row
                .failure_code
                .zip(row.failure_message)
                .map(|(code, message)| Failure { code, message }),
            files: files.unwrap_or_default(),
        })
    }
}
