//! Table `apply` as the history of a PBX: which revision is in force, which bundles are kept.

use shared::bundle::{ApplyId, Digest};
use sqlx::PgConnection;

use super::DbError;
use super::applies::{ApplyRow, SEARCHED, restored, to_revision, users};
use super::page::Listing;
use crate::domain::apply::{ApplyFilter, Attempt, AttemptOutcome, IncludedUser, RevisionSort};
use crate::domain::page::{Page, Slice};
use crate::domain::revision::{Doubt, InForce};
use crate::domain::{PbxId, TenantId};

/// The stored content of a revision.
#[derive(Clone, Debug)]
pub struct StoredContent {
    /// The bundle, encrypted; `None` when it is no longer kept.
    pub bundle_encrypted: Option<Vec<u8>>,
    /// Who was in it.
    pub users: Vec<IncludedUser>,
}

/// The revision of a PBX that was proven last; `None` before the first.
pub async fn in_force(
    connection: &mut PgConnection,
    pbx: PbxId,
) -> Result<Option<InForce>, DbError> {
    let doubt = doubt(&mut *connection, pbx).await?;
    let row = sqlx::query!(
        r#"select apply_id, revision as "revision!", digest as "digest!", requested_by,
            requested_tenant, ended_at as "ended_at!", restored_from, notes,
            (select revision from apply s where s.apply_id = a.restored_from) as restored_revision
         from apply a
         where pbx_id = $1 and outcome in ('applied', 'unchanged')
         order by revision desc
         limit 1"#,
        pbx.0,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id = ApplyId(row.apply_id);
    let digest = Digest::try_from(row.digest.as_slice())
        .map_err(|reason| DbError::inconsistent("apply", "digest", &id, &reason))?;
    let revision = to_revision(id, row.revision)?;
    let restored_from = row.restored_from.zip(row.restored_revision);
    Ok(Some(InForce {
        apply_id: id,
        revision,
        digest,
        requested_by: row.requested_by,
        requested_tenant: row.requested_tenant.map(TenantId),
        proven_at: row.ended_at,
        restored_from: restored_from
            .map(|(source, revision)| restored(ApplyId(source), revision))
            .transpose()?,
        notes: serde_json::from_value(row.notes)
            .map_err(|reason| DbError::inconsistent("apply", "notes", &id, &reason))?,
        // What was proven between the two questions has ended it.
        doubt: doubt.filter(|doubt| doubt.revision > revision),
    }))
}

/// The newest apply that leaves open what Asterisk holds, while nothing was proven since; one that
/// has ended before one that runs. A roll-back proves as well: the revision that it restored.
pub async fn doubt(connection: &mut PgConnection, pbx: PbxId) -> Result<Option<Doubt>, DbError> {
    let row = sqlx::query!(
        r#"select apply_id, revision as "revision!", outcome
         from apply
         where pbx_id = $1
            and outcome in (
                'started', 'reload_failed_files_kept', 'rollback_failed', 'reload_unknown',
                'interrupted'
            )
            and revision > coalesce((
                select max(revision) from apply
                where pbx_id = $1 and outcome in ('applied', 'unchanged', 'rolled_back')
            ), 0)
         order by outcome = 'started', revision desc
         limit 1"#,
        pbx.0,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let id = ApplyId(row.apply_id);
        let unknown = || DbError::inconsistent("apply", "outcome", &id, &"unknown");
        Ok(Doubt {
            apply_id: id,
            revision: to_revision(id, row.revision)?,
            outcome: AttemptOutcome::from_name(&row.outcome).ok_or_else(unknown)?,
        })
    })
    .transpose()
}

/// What an attempt consisted of; `None` when there is no such attempt.
pub async fn content(
    connection: &mut PgConnection,
    id: ApplyId,
) -> Result<Option<StoredContent>, DbError> {
    let row = sqlx::query!(
        "select bundle_encrypted, users from apply where apply_id = $1",
        id.0,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(StoredContent {
            bundle_encrypted: row.bundle_encrypted,
            users: users(id, row.users)?,
        })
    })
    .transpose()
}

/// A part of the attempts of a PBX that had a bundle. Without the agent's records; the users they
/// included are only counted.
pub async fn list(
    connection: &mut PgConnection,
    pbx: PbxId,
    filter: &ApplyFilter,
    page: &Page<RevisionSort>,
) -> Result<Slice<Attempt>, DbError> {
    let key = match page.order.key {
        RevisionSort::Revision => "a.revision",
    };
    Listing::new(
        "a.apply_id, a.pbx_id, (select name from pbx p where p.pbx_id = a.pbx_id) as pbx_name,
         a.revision, a.digest, a.on_reload_failure, a.outcome,
        a.requested_by, a.request_id, a.source_address, a.started_at, a.ended_at, a.failure_code,
        a.failure_message, null::jsonb as record, a.requested_tenant, a.user_counts,
        '[]'::jsonb as users, a.changes,
        a.restored_from, a.notes, a.bundle_encrypted is not null as bundle_kept,
        a.change_count,
        (select revision from apply s where s.apply_id = a.restored_from) as restored_revision",
        "apply a",
        page,
        key,
        "a.apply_id",
    )
    .only("a.revision is not null")
    .equal("a.pbx_id", Some(pbx.0))
    .equal("a.outcome", filter.outcome.map(AttemptOutcome::name))
    .equal("a.requested_by", filter.requested_by.clone())
    .search(SEARCHED, filter.search.as_deref())
    .fetch::<ApplyRow>(connection)
    .await?
    .try_map(Attempt::try_from)
}

/// Drops the bundles of old revisions: of those that were proven all but the newest `kept`, of the
/// others likewise. The one in force is the newest of the proven ones, so it stays.
pub async fn prune(connection: &mut PgConnection, pbx: PbxId, kept: u32) -> Result<u64, DbError> {
    let pruned = sqlx::query!(
        "with ranked as (
            select apply_id, row_number() over (
                partition by outcome in ('applied', 'unchanged') order by revision desc
            ) as place
            from apply
            where pbx_id = $1 and bundle_encrypted is not null and outcome <> 'started'
        )
        update apply set bundle_encrypted = null
        where apply_id in (select apply_id from ranked where place > $2)",
        pbx.0,
        i64::from(kept),
    )
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected())
}
