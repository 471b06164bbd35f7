//! Table `pbx`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shared::bundle::Revision;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use super::audit::{self, AuditKey};
use super::page::Listing;
use crate::causes::causes;
use crate::domain::audit::{Author, Entry};
use crate::domain::device::{Transport, TransportSection};
use crate::domain::page::{Page, Slice, sort_keys};
use crate::domain::pbx::{AgentAddress, NewPbx, Pbx, PbxRef, Transports};
use crate::domain::{PbxId, SipRealm, Version};

/// The index that keeps a name unique among the PBXes in service.
pub const NAME_KEY: &str = "pbx_name_key";

/// Likewise an agent's address.
pub const AGENT_ADDRESS_KEY: &str = "pbx_agent_address_key";

/// Likewise an agent's identity.
pub const AGENT_IDENTITY_KEY: &str = "pbx_agent_identity_key";

/// What the environment says about a PBX.
#[derive(Clone, Debug)]
pub struct PbxSettings {
    /// Which PBX.
    pub id: PbxId,
    /// Where its agent listens.
    pub agent_address: AgentAddress,
    /// Whom its agent's certificate must name.
    pub agent_identity: shared::tls::Identity,
    /// The realm of its SIP digests.
    pub sip_realm: SipRealm,
}

/// Writes the settings into the PBX's row. What changes by that is in the audit trail.
pub async fn configure(
    connection: &mut PgConnection,
    settings: &PbxSettings,
    key: &AuditKey,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    let mut transaction = connection.begin().await?;
    let before = configured(&mut transaction, settings.id).await?;
    let changed = sqlx::query!(
        "update pbx
         set agent_address = $2, agent_identity = $3, sip_realm = $4, version = version + 1
         where pbx_id = $1
            and (agent_address, agent_identity, sip_realm) is distinct from ($2, $3, $4)",
        settings.id.0,
        settings.agent_address.as_str(),
        settings.agent_identity.to_string(),
        settings.sip_realm.as_str(),
    )
    .execute(&mut *transaction)
    .await?;
    if changed.rows_affected() > 0
        && let Some(after) = find(&mut transaction, &settings.id.into()).await?
    {
        let before = before.map(|before| before.told());
        let entry = Entry::new("pbx.changed", "pbx", &after.id)
            .called(after.name.as_str())
            .on(after.id)
            .changing(before, Some(after.told()));
        audit::append(&mut transaction, key, &Author::portal(), at, &[entry]).await?;
    }
    Ok(transaction.commit().await?)
}

/// What the audit trail is told that a PBX was; nothing before the first time, when it has no agent. A
/// row that cannot be read is told of in the log: the settings may be what puts it right.
async fn configured(connection: &mut PgConnection, id: PbxId) -> Result<Option<Pbx>, DbError> {
    let row = find_row(connection, &id.into()).await?;
    let row = row.filter(|row| row.agent_address.is_some() || row.agent_identity.is_some());
    match row.map(Pbx::try_from).transpose() {
        Err(error @ DbError::Inconsistent { .. }) => {
            tracing::warn!(error = causes(&error), "what the PBX was cannot be told");
            Ok(None)
        }
        before => before,
    }
}

/// Raises the last revision of a PBX to `revision` unless it is higher already.
pub async fn raise_last_revision(
    connection: &mut PgConnection,
    id: PbxId,
    revision: Revision,
) -> Result<(), DbError> {
    let revision = i64::try_from(revision.0).unwrap_or(i64::MAX);
    sqlx::query!(
        "update pbx set last_revision = $2 where pbx_id = $1 and last_revision < $2",
        id.0,
        revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Inserts a PBX.
pub async fn insert(
    connection: &mut PgConnection,
    id: PbxId,
    new: &NewPbx,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into pbx
            (pbx_id, name, agent_address, agent_identity, sip_realm, transports, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.0,
        new.name.as_str(),
        new.agent_address.as_str(),
        new.agent_identity.to_string(),
        new.sip_realm.as_str(),
        transports_json(&new.transports),
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Every PBX in service, by name; the error of a row that cannot be read stands for that row alone.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Result<Pbx, DbError>>, DbError> {
    let rows = sqlx::query_as!(
        PbxRow,
        "select pbx_id, name, agent_address, agent_identity, sip_realm, transports, version,
            created_at
         from pbx where deleted_at is null order by name",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Pbx::try_from).collect())
}

/// One PBX in service.
pub async fn find(connection: &mut PgConnection, pbx: &PbxRef) -> Result<Option<Pbx>, DbError> {
    let row = find_row(connection, pbx).await?;
    row.map(Pbx::try_from).transpose()
}

async fn find_row(connection: &mut PgConnection, pbx: &PbxRef) -> Result<Option<PbxRow>, DbError> {
    let (id, name) = by(pbx);
    Ok(sqlx::query_as!(
        PbxRow,
        "select pbx_id, name, agent_address, agent_identity, sip_realm, transports, version,
            created_at
         from pbx where deleted_at is null and (pbx_id = $1 or name = $2)",
        id,
        name,
    )
    .fetch_optional(connection)
    .await?)
}

/// Whether there is such a PBX, in service or not.
pub async fn was(connection: &mut PgConnection, id: PbxId) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select from pbx where pbx_id = $1) as "found!""#,
        id.0,
    )
    .fetch_one(connection)
    .await?)
}

/// One PBX in service, so that nobody else changes it, and no tenant comes to it, until the
/// transaction ends.
pub async fn hold(connection: &mut PgConnection, pbx: &PbxRef) -> Result<Option<Pbx>, DbError> {
    let (id, name) = by(pbx);
    sqlx::query_as!(
        PbxRow,
        "select pbx_id, name, agent_address, agent_identity, sip_realm, transports, version,
            created_at
         from pbx where deleted_at is null and (pbx_id = $1 or name = $2)
         for update",
        id,
        name,
    )
    .fetch_optional(connection)
    .await?
    .map(Pbx::try_from)
    .transpose()
}

/// Whether a PBX is in service, and stays so until the transaction ends: for whoever puts something
/// on it. Several may hold it so at a time.
pub async fn stays(connection: &mut PgConnection, id: PbxId) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        "select pbx_id from pbx where pbx_id = $1 and deleted_at is null for key share",
        id.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Writes what may change of a PBX, under the next version, which is returned.
pub async fn update(connection: &mut PgConnection, pbx: &Pbx) -> Result<Version, DbError> {
    let version = sqlx::query_scalar!(
        "update pbx set name = $2, agent_address = $3, agent_identity = $4, sip_realm = $5,
            transports = $6, version = version + 1
         where pbx_id = $1
         returning version",
        pbx.id.0,
        pbx.name.as_str(),
        pbx.agent_address.as_str(),
        pbx.agent_identity.to_string(),
        pbx.sip_realm.as_str(),
        transports_json(&pbx.transports),
    )
    .fetch_one(connection)
    .await?;
    Ok(Version(version))
}

/// Takes a PBX out of service.
pub async fn delete(
    connection: &mut PgConnection,
    id: PbxId,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update pbx set deleted_at = $2, version = version + 1 where pbx_id = $1",
        id.0,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a living tenant is on it.
pub async fn has_tenants(connection: &mut PgConnection, id: PbxId) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
            select from tenant where pbx_id = $1 and deleted_at is null
        ) as "found!""#,
        id.0,
    )
    .fetch_one(connection)
    .await?)
}

/// Whether an accepted apply waits for its turn on it.
pub async fn has_queued(connection: &mut PgConnection, id: PbxId) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select from queued_apply where pbx_id = $1) as "found!""#,
        id.0,
    )
    .fetch_one(connection)
    .await?)
}

fn by(pbx: &PbxRef) -> (Option<Uuid>, Option<&str>) {
    match pbx {
        PbxRef::Id(id) => (Some(id.0), None),
        PbxRef::Name(name) => (None, Some(name.as_str())),
    }
}

#[derive(sqlx::FromRow)]
struct PbxRow {
    pbx_id: Uuid,
    name: String,
    agent_address: Option<String>,
    agent_identity: Option<String>,
    sip_realm: String,
    transports: Value,
    version: i64,
    created_at: OffsetDateTime,
}

impl TryFrom<PbxRow> for Pbx {
    type Error = DbError;

    fn try_from(row: PbxRow) -> Result<Self, DbError> {
        let id = PbxId(row.pbx_id);
        let broken = |column, reason: &dyn ToString| {
            DbError::inconsistent("pbx", column, &id, &reason.to_string())
        };
        let missing = |column| broken(column, &"missing");
        Ok(Self {
            id,
            name: row.name.parse().map_err(|reason| broken("name", &reason))?,
            agent_address: row
                .agent_address
                .ok_or_else(|| missing("agent_address"))?
                .parse()
                .map_err(|reason| broken("agent_address", &reason))?,
            agent_identity: row
                .agent_identity
                .ok_or_else(|| missing("agent_identity"))?
                .parse()
                .map_err(|reason| broken("agent_identity", &reason))?,
            sip_realm: row
                .sip_realm
                .parse()
                .map_err(|reason| broken("sip_realm", &reason))?,
            transports: transports(row.transports)
                .ok_or_else(|| broken("transports", &"not names of sections by transport"))?,
            version: Version(row.version),
            created_at: row.created_at,
        })
    }
}

fn transports(json: Value) -> Option<Transports> {
    let sections: BTreeMap<String, String> = serde_json::from_value(json).ok()?;
    let section = |(name, section): (String, String)| {
        let section: TransportSection = section.parse().ok()?;
        Some((Transport::from_name(&name).ok()?, section))
    };
    let sections: Option<_> = sections.into_iter().map(section).collect();
    sections.map(Transports)
}

fn transports_json(transports: &Transports) -> Value {
    let sections = transports.0.iter();
    let pairs = sections
        .map(|(transport, section)| (transport.name().to_owned(), Value::from(section.as_str())));
    Value::Object(pairs.collect())
}

/// The transports that devices of a PBX's tenants are reached by.
pub async fn transports_in_use(
    connection: &mut PgConnection,
    id: PbxId,
) -> Result<BTreeSet<Transport>, DbError> {
    let names = sqlx::query_scalar!(
        r#"select distinct d.transport as "transport!"
           from tenant t join device d on d.tenant_id = t.tenant_id
           where t.pbx_id = $1 and d.transport is not null"#,
        id.0,
    )
    .fetch_all(connection)
    .await?;
    names
        .iter()
        .map(|name| {
            Transport::from_name(name)
                .map_err(|reason| DbError::inconsistent("device", "transport", &id, &reason))
        })
        .collect()
}

sort_keys! {
    /// What PBXes are listed by.
    pub enum PbxSort of Id, default Name ascending {
        Name = "name" Text,
        CreatedAt = "created_at" Time,
    }
}

/// PBXes in service whose name holds `search`.
pub async fn page(
    connection: &mut PgConnection,
    page: &Page<PbxSort>,
    search: Option<&str>,
) -> Result<Slice<Pbx>, DbError> {
    let key = match page.order.key {
        PbxSort::Name => "p.name",
        PbxSort::CreatedAt => "p.created_at",
    };
    Listing::new(
        "p.pbx_id, p.name, p.agent_address, p.agent_identity, p.sip_realm, p.transports, \
         p.version, p.created_at",
        "pbx p",
        page,
        key,
        "p.pbx_id",
    )
    .only("p.deleted_at is null")
    .search(&["p.name"], search)
    .fetch::<PbxRow>(connection)
    .await?
    .try_map(Pbx::try_from)
}
