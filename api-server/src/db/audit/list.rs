//! Reading the audit trail.

use std::collections::HashMap;

use serde_json::Value;
use shared::bundle::ApplyId;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::DbError;
use crate::db::applies::to_revision;
use crate::db::page::Listing;
use crate::domain::audit::{
    AppliedBy, AuditEntryId, AuditFilter, AuditSort, AuthorKind, CarriedChange, Place, Written,
};
use crate::domain::page::{Page, Slice};
use crate::domain::{AccountId, PbxId, TenantId};

/// What a search looks at, as the index has it.
pub const SEARCHED: &[&str] = &["(e.actor_name || ' ' || e.action || ' ' \
     || coalesce(e.entity_name, '') || ' ' || coalesce(e.source_address, ''))"];

/// A part of the entries.
pub async fn list(
    connection: &mut PgConnection,
    filter: &AuditFilter,
    page: &Page<AuditSort>,
) -> Result<Slice<Written>, DbError> {
    // What an apply carried lies in its own order.
    let (from, at, id) = match (filter.apply, page.order.key) {
        (None, AuditSort::At) => ("audit_entry e", "e.at", "e.audit_entry_id"),
        (Some(_), AuditSort::At) => (
            "apply_change c join audit_entry e on e.audit_entry_id = c.audit_entry_id",
            "c.at",
            "c.audit_entry_id",
        ),
    };
    let rows = Listing::new(COLUMNS, from, page, at, id)
        .equal("c.apply_id", filter.apply.map(|apply| apply.0))
        .equal("e.tenant_id", filter.tenant.map(|tenant| tenant.0))
        .equal("e.actor_name", filter.actor.clone())
        .equal("e.action", filter.action.clone())
        .equal("e.entity_type", filter.entity.clone())
        .equal("e.entity_id", filter.entity_id.clone())
        .equal("e.request_id", filter.request_id.clone())
        .since(at, filter.since)
        .until(at, filter.until)
        .search(SEARCHED, filter.search.as_deref())
        .fetch::<EntryRow>(connection)
        .await?;
    // Asked for the rows of the page alone, however many a search has found.
    let ids: Vec<Uuid> = rows.items.iter().map(|row| row.audit_entry_id).collect();
    let mut links = links(connection, &ids).await?;
    rows.try_map(|row| {
        let links = links.remove(&row.audit_entry_id).unwrap_or_default();
        row.written(links)
    })
}

/// Of an entry.
const COLUMNS: &str = "e.audit_entry_id, e.lane, e.position, e.hash, e.at, e.actor_kind, \
     e.actor_id, e.actor_name, e.credential_id, e.action, e.entity_type, e.entity_id, \
     e.entity_name, e.tenant_id, e.before, e.after, e.source_address, e.request_id";

/// One entry; of `tenant` only, if there is one.
pub async fn find(
    connection: &mut PgConnection,
    id: AuditEntryId,
    tenant: Option<TenantId>,
) -> Result<Option<Written>, DbError> {
    let row = sqlx::query_as!(
        EntryRow,
        "select e.audit_entry_id, e.lane, e.position, e.hash, e.at, e.actor_kind, e.actor_id,
            e.actor_name, e.credential_id, e.action, e.entity_type, e.entity_id, e.entity_name,
            e.tenant_id, e.before, e.after, e.source_address, e.request_id
         from audit_entry e
         where e.audit_entry_id = $1 and ($2::uuid is null or e.tenant_id = $2)",
        id.0,
        tenant.map(|tenant| tenant.0),
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let links = links(connection, &[id.0]).await?.remove(&id.0);
    row.written(links.unwrap_or_default()).map(Some)
}

/// What became of a change.
#[derive(Default)]
struct Links {
    applied_by: Option<AppliedBy>,
    pending_on: Vec<PbxId>,
}

/// The apply that brought each of the entries into force is the first that was proven of those that
/// carried it.
async fn links(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Links>, DbError> {
    let rows = sqlx::query!(
        r#"select e.id as "id!",
            array(select p.pbx_id from audit_pending p
                where p.audit_entry_id = e.id order by p.pbx_id) as "pending_on!",
            a.apply_id as "apply_id?", a.revision, a.ended_at
         from unnest($1::uuid[]) as e (id)
         left join lateral (
            select a.apply_id, a.revision, a.ended_at
            from apply_change c join apply a on a.apply_id = c.apply_id
            where c.audit_entry_id = e.id and a.outcome in ('applied', 'unchanged')
            order by a.started_at, a.apply_id limit 1
         ) a on true"#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    let mut links = HashMap::with_capacity(rows.len());
    for row in rows {
        let applied = row.apply_id.map(ApplyId).zip(row.ended_at);
        let applied_by = match applied {
            None => None,
            Some((apply, at)) => Some(AppliedBy {
                apply,
                revision: row
                    .revision
                    .map(|revision| to_revision(apply, revision))
                    .transpose()?,
                at,
            }),
        };
        let pending_on = row.pending_on.into_iter().map(PbxId).collect();
        let of_entry = Links {
            applied_by,
            pending_on,
        };
        links.insert(row.id, of_entry);
    }
    Ok(links)
}

/// The first changes that an apply carried, in their order. Of `tenant` only, if there is one.
pub async fn carried(
    connection: &mut PgConnection,
    apply: ApplyId,
    tenant: Option<TenantId>,
    limit: u16,
) -> Result<Vec<CarriedChange>, DbError> {
    let rows = sqlx::query!(
        "select e.audit_entry_id, e.at, e.actor_name, e.action, e.entity_type, e.entity_id,
            e.entity_name
         from apply_change c join audit_entry e on e.audit_entry_id = c.audit_entry_id
         where c.apply_id = $1 and ($2::uuid is null or e.tenant_id = $2)
         order by c.at, c.audit_entry_id limit $3",
        apply.0,
        tenant.map(|tenant| tenant.0),
        i64::from(limit),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| CarriedChange {
            id: AuditEntryId(row.audit_entry_id),
            at: row.at,
            author: row.actor_name,
            action: row.action,
            entity: row.entity_type,
            entity_id: row.entity_id,
            entity_name: row.entity_name,
        })
        .collect())
}

#[derive(FromRow)]
struct EntryRow {
    audit_entry_id: Uuid,
    lane: i32,
    position: i64,
    hash: Vec<u8>,
    at: OffsetDateTime,
    actor_kind: String,
    actor_id: Option<Uuid>,
    actor_name: String,
    credential_id: Option<Uuid>,
    action: String,
    entity_type: String,
    entity_id: String,
    entity_name: Option<String>,
    tenant_id: Option<Uuid>,
    before: Option<Value>,
    after: Option<Value>,
    source_address: Option<String>,
    request_id: Option<String>,
}

impl EntryRow {
    fn written(self, links: Links) -> Result<Written, DbError> {
        let id = AuditEntryId(self.audit_entry_id);
        let broken =
            |column, reason: &str| DbError::inconsistent("audit_entry", column, &id, &reason);
        Ok(Written {
            id,
            at: self.at,
            author_kind: AuthorKind::from_name(&self.actor_kind)
                .ok_or_else(|| broken("actor_kind", "unknown"))?,
            account: self.actor_id.map(AccountId),
            author: self.actor_name,
            credential: self.credential_id,
            action: self.action,
            entity: self.entity_type,
            entity_id: self.entity_id,
            entity_name: self.entity_name,
            tenant: self.tenant_id.map(TenantId),
            before: self.before,
            after: self.after,
            source: self.source_address,
            request_id: self.request_id,
            place: Place {
                lane: self.lane,
                position: self.position,
                hash: (*self.hash)
                    .try_into()
                    .map_err(|_| broken("hash", "not 32 octets"))?,
            },
            applied_by: links.applied_by,
            pending_on: links.pending_on,
        })
    }
}
