//! Table `device`.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::page::Listing;
use super::{DbError, extensions, tenants};
use crate::domain::device::{
    Codecs, Device, DeviceLabel, DeviceSettings, DigestAlgorithm, Nat, NewDevice, Transport,
};
use crate::domain::page::{Page, Slice, sort_keys};
use crate::domain::{
    AdminUser, DeviceId, DeviceSlot, ExtensionNumber, Invalid, PbxId, SipRealm, TenantId,
    TenantNumber, UserId, Version, Within,
};

#[derive(sqlx::FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of the table")]
struct DeviceRow {
    device_id: Uuid,
    tenant_id: Uuid,
    tenant_number: i32,
    user_id: Uuid,
    extension: i32,
    slot: i16,
    label: String,
    password_set_at: OffsetDateTime,
    password_revealed_at: Option<OffsetDateTime>,
    overlap_until: Option<OffsetDateTime>,
    digest_algorithm: String,
    transport: Option<String>,
    rtp_symmetric: bool,
    force_rport: bool,
    rewrite_contact: bool,
    direct_media: bool,
    codecs: Vec<String>,
    enabled: bool,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<DeviceRow> for Device {
    type Error = DbError;

    fn try_from(row: DeviceRow) -> Result<Self, DbError> {
        let id = DeviceId(row.device_id);
        let user = UserId(row.user_id);
        let broken =
            |column, reason: Invalid| DbError::inconsistent("device", column, &id, &reason);
        let algorithm = DigestAlgorithm::from_name(&row.digest_algorithm);
        Ok(Self {
            id,
            tenant: TenantId(row.tenant_id),
            tenant_number: tenants::to_number(row.tenant_number)?,
            user,
            extension: extensions::to_number(user, row.extension)?,
            slot: to_slot(id, row.slot)?,
            label: DeviceLabel::from_stored(&row.label)
                .map_err(|reason| broken("label", reason))?,
            settings: DeviceSettings {
                enabled: row.enabled,
                algorithm: algorithm.map_err(|reason| broken("digest_algorithm", reason))?,
                transport: row
                    .transport
                    .map(|name| Transport::from_name(&name))
                    .transpose()
                    .map_err(|reason| broken("transport", reason))?,
                nat: Nat {
                    rtp_symmetric: row.rtp_symmetric,
                    force_rport: row.force_rport,
                    rewrite_contact: row.rewrite_contact,
                    direct_media: row.direct_media,
                },
                codecs: to_codecs(id, &row.codecs)?,
            },
            password_set_at: row.password_set_at,
            password_revealed_at: row.password_revealed_at,
            overlap_until: row.overlap_until,
            version: Version(row.version),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Reads a slot.
pub(super) fn to_slot(id: DeviceId, slot: i16) -> Result<DeviceSlot, DbError> {
    DeviceSlot::try_from(u32::try_from(slot).unwrap_or_default())
        .map_err(|reason| DbError::inconsistent("device", "slot", &id, &reason))
}

/// Reads codecs.
pub(super) fn to_codecs(id: DeviceId, names: &[String]) -> Result<Codecs, DbError> {
    Codecs::from_names(names.iter().map(String::as_str))
        .map_err(|reason| DbError::inconsistent("device", "codecs", &id, &reason))
}

/// The passwords of a device, sealed.
#[derive(Clone, Debug)]
pub struct SealedPasswords {
    /// What it registers with.
    pub current: Vec<u8>,
    /// What it may register with as well, until `overlap_until` of the device.
    pub previous: Option<Vec<u8>>,
}

/// The lowest slot that is free among the devices of a user; `None` when there is none. To be called
/// under the lock of the user.
pub async fn lowest_free_slot(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
) -> Result<Option<DeviceSlot>, DbError> {
    let taken = sqlx::query_scalar!(
        "select slot from device where tenant_id = $1 and user_id = $2",
        tenant.0,
        user.0,
    )
    .fetch_all(connection)
    .await?;
    Ok(DeviceSlot::all().find(|slot| !taken.contains(&i16::from(slot.get()))))
}

/// A device that has no row yet.
#[derive(Clone, Copy, Debug)]
pub struct NewRow<'a> {
    /// Which device.
    pub id: DeviceId,
    /// Whose tenant's.
    pub tenant: TenantId,
    /// Its place.
    pub slot: DeviceSlot,
    /// The rest of it.
    pub new: &'a NewDevice,
    /// Its password, sealed.
    pub sip_password_encrypted: &'a [u8],
    /// When its password was shown.
    pub revealed_at: Option<OffsetDateTime>,
}

/// Inserts a device.
pub async fn insert(
    connection: &mut PgConnection,
    row: NewRow<'_>,
    by: &AdminUser,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    let settings = &row.new.settings;
    let codecs = codecs_column(settings);
    sqlx::query!(
        "insert into device (
            device_id, tenant_id, user_id, slot, label, sip_password_encrypted, password_set_at,
            password_revealed_at, digest_algorithm, transport, rtp_symmetric, force_rport,
            rewrite_contact, direct_media, codecs, enabled, created_at, created_by, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $7, $17, $7)",
        row.id.0,
        row.tenant.0,
        row.new.user.0,
        i16::from(row.slot.get()),
        row.new.label.as_str(),
        row.sip_password_encrypted,
        at,
        row.revealed_at,
        settings.algorithm.name(),
        settings.transport.map(Transport::name),
        settings.nat.rtp_symmetric,
        settings.nat.force_rport,
        settings.nat.rewrite_contact,
        settings.nat.direct_media,
        &codecs,
        settings.enabled,
        by.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn codecs_column(settings: &DeviceSettings) -> Vec<String> {
    settings.codecs.names().map(str::to_owned).collect()
}

/// Writes everything of a device that can be changed. To be called on what was read under [`lock`].
pub async fn update(
    connection: &mut PgConnection,
    device: &Device,
    sealed: &SealedPasswords,
) -> Result<(), DbError> {
    let settings = &device.settings;
    let codecs = codecs_column(settings);
    sqlx::query!(
        "update device set
            user_id = $3, slot = $4, label = $5, sip_password_encrypted = $6,
            previous_sip_password_encrypted = $7, overlap_until = $8, password_set_at = $9,
            password_revealed_at = $10, digest_algorithm = $11, transport = $12,
            rtp_symmetric = $13, force_rport = $14, rewrite_contact = $15, direct_media = $16,
            codecs = $17, enabled = $18, updated_at = $19, version = $20
         where tenant_id = $1 and device_id = $2",
        device.tenant.0,
        device.id.0,
        device.user.0,
        i16::from(device.slot.get()),
        device.label.as_str(),
        sealed.current,
        sealed.previous,
        device.overlap_until,
        device.password_set_at,
        device.password_revealed_at,
        settings.algorithm.name(),
        settings.transport.map(Transport::name),
        settings.nat.rtp_symmetric,
        settings.nat.force_rport,
        settings.nat.rewrite_contact,
        settings.nat.direct_media,
        &codecs,
        settings.enabled,
        device.updated_at,
        device.version.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps others from changing a device until the transaction ends, and gives its passwords; `None`
/// when there is none. It must be a statement of its own, before the device is read.
pub async fn lock(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: DeviceId,
) -> Result<Option<SealedPasswords>, DbError> {
    let row = sqlx::query!(
        "select sip_password_encrypted, previous_sip_password_encrypted from device
         where tenant_id = $1 and device_id = $2
         for no key update",
        tenant.0,
        id.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| SealedPasswords {
        current: row.sip_password_encrypted,
        previous: row.previous_sip_password_encrypted,
    }))
}

/// One device.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: DeviceId,
) -> Result<Option<Device>, DbError> {
    sqlx::query_as!(
        DeviceRow,
        "select d.device_id, d.tenant_id, t.number as tenant_number, d.user_id,
            e.number as extension, d.slot, d.label, d.password_set_at, d.password_revealed_at,
            d.overlap_until, d.digest_algorithm, d.transport, d.rtp_symmetric, d.force_rport,
            d.rewrite_contact, d.direct_media, d.codecs, d.enabled, d.version, d.created_at,
            d.updated_at
         from device d
         join tenant t on t.tenant_id = d.tenant_id
         join extension e on e.user_id = d.user_id
         where d.tenant_id = $1 and d.device_id = $2",
        tenant.0,
        id.0,
    )
    .fetch_optional(connection)
    .await?
    .map(Device::try_from)
    .transpose()
}

/// Devices with one of these ids, or of one of these users, by user and place.
pub async fn find_many(
    connection: &mut PgConnection,
    tenant: TenantId,
    ids: &[DeviceId],
    users: &[UserId],
) -> Result<Vec<Device>, DbError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    sqlx::query_as!(
        DeviceRow,
        "select d.device_id, d.tenant_id, t.number as tenant_number, d.user_id,
            e.number as extension, d.slot, d.label, d.password_set_at, d.password_revealed_at,
            d.overlap_until, d.digest_algorithm, d.transport, d.rtp_symmetric, d.force_rport,
            d.rewrite_contact, d.direct_media, d.codecs, d.enabled, d.version, d.created_at,
            d.updated_at
         from device d
         join tenant t on t.tenant_id = d.tenant_id
         join extension e on e.user_id = d.user_id
         where d.tenant_id = $1 and (d.device_id = any($2) or d.user_id = any($3))
         order by d.user_id, d.slot",
        tenant.0,
        &ids,
        &users,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Device::try_from)
    .collect()
}

/// Removes a device. To be called under [`lock`].
pub async fn delete(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: DeviceId,
) -> Result<(), DbError> {
    sqlx::query!(
        "delete from device where tenant_id = $1 and device_id = $2",
        tenant.0,
        id.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Which transports the PBX of a tenant offers, by their kinds.
pub async fn transports(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<String>, DbError> {
    let kinds = sqlx::query_scalar!(
        r#"select jsonb_object_keys(p.transports) as "kind!"
           from tenant t join pbx p on p.pbx_id = t.pbx_id
           where t.tenant_id = $1"#,
        tenant.0,
    )
    .fetch_all(connection)
    .await?;
    Ok(kinds)
}

/// A transport that devices of a tenant use and a PBX does not offer.
pub async fn transport_not_offered(
    connection: &mut PgConnection,
    tenant: TenantId,
    pbx: PbxId,
) -> Result<Option<String>, DbError> {
    let kind = sqlx::query_scalar!(
        r#"select d.transport as "kind!"
           from device d
           where d.tenant_id = $1 and d.transport is not null
              and not exists (
                select from pbx p where p.pbx_id = $2 and p.transports ? d.transport
              )
           limit 1"#,
        tenant.0,
        pbx.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(kind)
}

/// The number of a living user.
pub async fn extension(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
) -> Result<Option<ExtensionNumber>, DbError> {
    let number = sqlx::query_scalar!(
        "select number from extension where tenant_id = $1 and user_id = $2",
        tenant.0,
        user.0,
    )
    .fetch_optional(connection)
    .await?;
    number
        .map(|number| extensions::to_number(user, number))
        .transpose()
}

/// What names and digests of a tenant's devices are made of: its number, and the realm of its PBX.
pub async fn naming(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<(TenantNumber, SipRealm), DbError> {
    let row = sqlx::query!(
        "select t.number, p.sip_realm, p.pbx_id from tenant t join pbx p on p.pbx_id = t.pbx_id
         where t.tenant_id = $1",
        tenant.0,
    )
    .fetch_one(connection)
    .await?;
    Ok((
        tenants::to_number(row.number)?,
        to_realm(row.pbx_id, &row.sip_realm)?,
    ))
}

fn to_realm(pbx: Uuid, realm: &str) -> Result<SipRealm, DbError> {
    realm
        .parse()
        .map_err(|reason: Invalid| DbError::inconsistent("pbx", "sip_realm", &pbx, &reason))
}

sort_keys! {
    /// What devices are listed by.
    pub enum DeviceSort of Id, default CreatedAt ascending {
        CreatedAt = "created_at" Time,
        Label = "label" Text,
    }
}

/// Which devices are wanted.
#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    /// Those of this user.
    pub user: Option<UserId>,
    /// Those that are in service, or are not.
    pub enabled: Option<bool>,
    /// Those whose label holds this text.
    pub search: Option<String>,
}

/// Devices of a tenant.
pub async fn list(
    connection: &mut PgConnection,
    within: Within,
    page: &Page<DeviceSort>,
    filter: DeviceFilter,
) -> Result<Slice<Device>, DbError> {
    let key = match page.order.key {
        DeviceSort::CreatedAt => "d.created_at",
        DeviceSort::Label => "lower(d.label)",
    };
    Listing::new(
        "d.device_id, d.tenant_id, t.number as tenant_number, d.user_id, e.number as extension, \
         d.slot, d.label, d.password_set_at, d.password_revealed_at, d.overlap_until, \
         d.digest_algorithm, d.transport, d.rtp_symmetric, d.force_rport, d.rewrite_contact, \
         d.direct_media, d.codecs, d.enabled, d.version, d.created_at, d.updated_at",
        "device d join tenant t on t.tenant_id = d.tenant_id \
         join extension e on e.user_id = d.user_id",
        page,
        key,
        "d.device_id",
    )
    .equal("d.tenant_id", Some(within.tenant().0))
    .equal("d.user_id", within.user().map(|user| user.0))
    .equal("d.user_id", filter.user.map(|user| user.0))
    .equal("d.enabled", filter.enabled)
    .search(&["lower(d.label)"], filter.search.as_deref())
    .fetch::<DeviceRow>(connection)
    .await?
    .try_map(Device::try_from)
}
