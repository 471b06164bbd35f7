//! Tables `audit_entry`, `audit_lane` and `audit_key`: the audit trail and the chain that it forms.

mod chain;
mod key;
mod list;
mod pending;
mod verify;

use std::iter;

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{DbError, without_nul};
use crate::clock::{os_rng, unix_ms};
use crate::domain::audit::{Author, Entry};
use crate::domain::uuid_v7;

use self::chain::Row;

pub use chain::{Hash, Head};
pub use key::{AuditKey, ensure as ensure_key, find as key};
pub use list::{SEARCHED, carried, find, list};
pub use pending::{carry, forget, pending, settle};
pub use verify::{Fault, FaultKind, Verified, heads, verify};

/// Writes entries, as the last thing in the transaction of what they tell of: from here to the commit
/// one lane is this transaction's, and nobody waits for it.
pub async fn append(
    connection: &mut PgConnection,
    key: &AuditKey,
    author: &Author,
    at: OffsetDateTime,
    entries: &[Entry],
) -> Result<(), DbError> {
    if entries.is_empty() {
        return Ok(());
    }
    let (head, texts) = take_lane(connection, entries).await?;
    let mut head = match head {
        Some(head) => head,
        None => make_lane(connection).await?,
    };
    let mut rows = Vec::with_capacity(entries.len());
    for (entry, text) in iter::zip(entries, texts) {
        let row = row(&head, author, at, entry, text);
        let sealed = key.seal(&head, &row);
        rows.push(row.to_json(head.hash, sealed.hash));
        head = sealed;
    }
    write(connection, rows, &head).await
}

fn row(head: &Head, author: &Author, at: OffsetDateTime, entry: &Entry, text: Text) -> Row {
    let author = entry.author.as_ref().unwrap_or(author);
    let pbxes = entry.pbxes.iter().map(|pbx| pbx.0);
    let of_tenant = text
        .pbx
        .filter(|pbx| pbxes.clone().all(|other| other != *pbx));
    Row {
        lane: head.lane,
        position: head.position + 1,
        id: uuid_v7(unix_ms(at), &mut os_rng()),
        // As precise as PostgreSQL keeps it.
        at_us: i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MAX),
        actor_kind: author.kind.name().to_owned(),
        actor_id: author.account.map(|account| account.0),
        actor_name: plain(&author.name),
        credential_id: author.credential,
        action: entry.action.to_owned(),
        entity_type: entry.entity.to_owned(),
        entity_id: plain(&entry.id),
        entity_name: entry.name.as_deref().map(plain),
        tenant_id: entry.tenant.map(|tenant| tenant.0),
        pbx_ids: pbxes.chain(of_tenant).collect(),
        before: text.before,
        after: text.after,
        source_address: author.source.map(|source| source.to_string()),
        request_id: author.request_id.as_deref().map(plain),
    }
}

/// PostgreSQL stores no U+0000.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// What only the database knows of an entry.
struct Text {
    /// JSON as PostgreSQL writes it, which is what the hash is of: so whoever verifies reads the
    /// same bytes.
    before: Option<String>,
    after: Option<String>,
    /// The PBX that its tenant is on, if an apply of that carries it.
    pbx: Option<Uuid>,
}

/// Takes a lane that nobody has, the lowest one, and asks what else is needed on the way; no lane when
/// there is none.
async fn take_lane(
    connection: &mut PgConnection,
    entries: &[Entry],
) -> Result<(Option<Head>, Vec<Text>), DbError> {
    let told = entries.iter().enumerate().map(|(number, entry)| {
        json!({
            "number": number,
            "before": entry.before.clone().map(without_nul),
            "after": entry.after.clone().map(without_nul),
            "tenant_id": entry.tenant.filter(|_| entry.on_pbx_of_tenant).map(|tenant| tenant.0),
        })
    });
    let rows = sqlx::query!(
        r#"with lane as materialized (
            select lane, position, hash from audit_lane order by lane limit 1
            for update skip locked
        )
        select l.lane as "lane?", l.position as "position?", l.hash as "hash?",
            e.before::text, e.after::text,
            (select pbx_id from tenant t where t.tenant_id = e.tenant_id) as pbx_id
        from jsonb_to_recordset($1)
            as e (number integer, before jsonb, after jsonb, tenant_id uuid)
        left join lane l on true
        order by e.number"#,
        Value::Array(told.collect()),
    )
    .fetch_all(connection)
    .await?;
    let mut head = None;
    let mut texts = Vec::with_capacity(rows.len());
    for row in rows {
        if let (Some(lane), Some(position), Some(hash)) = (row.lane, row.position, row.hash) {
            head = Some(Head::read(lane, position, &hash)?);
        }
        texts.push(Text {
            before: row.before,
            after: row.after,
            pbx: row.pbx_id,
        });
    }
    Ok((head, texts))
}

async fn make_lane(connection: &mut PgConnection) -> Result<Head, DbError> {
    let row = sqlx::query!("insert into audit_lane default values returning lane, position, hash")
        .fetch_one(connection)
        .await?;
    Head::read(row.lane, row.position, &row.hash)
}

/// Writes the entries with what is pending by them, and moves the lane forward.
async fn write(
    connection: &mut PgConnection,
    rows: Vec<Value>,
    last: &Head,
) -> Result<(), DbError> {
    sqlx::query!(
        "with told as (
            select * from jsonb_to_recordset($1) as e (
                audit_entry_id uuid, lane integer, position bigint, previous_hash bytea, hash bytea,
                at timestamptz, actor_kind text, actor_id uuid, actor_name text, credential_id uuid,
                action text, entity_type text, entity_id text, entity_name text, tenant_id uuid,
                pbx_ids uuid[], before text, after text, source_address text, request_id text
            )
        ), written as (
            insert into audit_entry (
                audit_entry_id, lane, position, previous_hash, hash, at, actor_kind, actor_id,
                actor_name, credential_id, action, entity_type, entity_id, entity_name, tenant_id,
                pbx_ids, before, after, source_address, request_id
            )
            select audit_entry_id, lane, position, previous_hash, hash, at, actor_kind, actor_id,
                actor_name, credential_id, action, entity_type, entity_id, entity_name, tenant_id,
                pbx_ids, before::jsonb, after::jsonb, source_address, request_id
            from told
        ), waiting as (
            insert into audit_pending (pbx_id, audit_entry_id, at)
            select unnest(pbx_ids), audit_entry_id, at from told
        )
        update audit_lane set position = $2, hash = $3 where lane = $4",
        Value::Array(rows),
        last.position,
        last.hash.0.as_slice(),
        last.lane,
    )
    .execute(connection)
    .await?;
    Ok(())
}
