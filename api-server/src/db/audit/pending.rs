//! Tables `audit_pending` and `apply_change`: which changes wait for an apply, and which apply carried
//! them.

use shared::bundle::ApplyId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::DbError;
use crate::domain::PbxId;
use crate::domain::audit::{AuditEntryId, PendingChange};

/// The changes that the next apply of a PBX carries. To be asked in the transaction that reads what
/// is applied, which sees one instant: what was committed later is not among them.
pub async fn pending(
    connection: &mut PgConnection,
    pbx: PbxId,
) -> Result<Vec<PendingChange>, DbError> {
    let rows = sqlx::query!(
        "select audit_entry_id, at from audit_pending where pbx_id = $1",
        pbx.0,
    )
    .fetch_all(connection)
    .await?;
    let change = |id, at| PendingChange {
        id: AuditEntryId(id),
        at,
    };
    Ok(rows
        .into_iter()
        .map(|row| change(row.audit_entry_id, row.at))
        .collect())
}

/// Notes what an apply carries.
pub async fn carry(
    connection: &mut PgConnection,
    apply: ApplyId,
    changes: &[PendingChange],
) -> Result<(), DbError> {
    if changes.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = changes.iter().map(|change| change.id.0).collect();
    let times: Vec<OffsetDateTime> = changes.iter().map(|change| change.at).collect();
    sqlx::query!(
        "insert into apply_change (apply_id, audit_entry_id, at)
         select $1, * from unnest($2::uuid[], $3::timestamptz[])",
        apply.0,
        &ids,
        &times,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What an apply carried is in force: it waits no longer.
pub async fn settle(
    connection: &mut PgConnection,
    apply: ApplyId,
    pbx: PbxId,
) -> Result<(), DbError> {
    sqlx::query!(
        "delete from audit_pending p using apply_change c
         where c.apply_id = $1 and p.pbx_id = $2 and p.audit_entry_id = c.audit_entry_id",
        apply.0,
        pbx.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Nothing waits for an apply of a PBX any more, because there will be none.
pub async fn forget(connection: &mut PgConnection, pbx: PbxId) -> Result<(), DbError> {
    sqlx::query!("delete from audit_pending where pbx_id = $1", pbx.0)
        .execute(connection)
        .await?;
    Ok(())
}
