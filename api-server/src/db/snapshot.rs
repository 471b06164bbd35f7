//! What the database says at one instant.

use std::ops::RangeInclusive;

use secrecy::SecretString;
use sqlx::{PgConnection, Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Database, DbError, devices, extensions, tenants};
use crate::domain::device::{DigestAlgorithm, Nat};
use crate::domain::snapshot::{Snapshot, SnapshotDevice, SnapshotTenant, SnapshotUser};
use crate::domain::tenant::DEFAULT_TENANT;
use crate::domain::{DeviceId, DisplayName, Invalid, PbxId, SipPassword, TenantId, UserId};
use crate::vault::{Opener, Place, Vault};

#[expect(clippy::struct_excessive_bools, reason = "the columns of the table")]
struct SnapshotRow {
    tenant_id: Uuid,
    tenant_number: i32,
    user_id: Uuid,
    name: String,
    email: String,
    number: i32,
    device_id: Uuid,
    slot: i16,
    sip_password_encrypted: Vec<u8>,
    previous_sip_password_encrypted: Option<Vec<u8>>,
    digest_algorithm: String,
    transport: Option<String>,
    rtp_symmetric: bool,
    force_rport: bool,
    rewrite_contact: bool,
    direct_media: bool,
    codecs: Vec<String>,
}

/// Reads everything that the configuration of a PBX depends on as of `now`, in one read-only transaction that
/// is closed before this returns.
///
/// # Errors
/// [`DbError::Inconsistent`] also when a SIP password was sealed with another key.
pub async fn read(
    database: &Database,
    pbx: PbxId,
    vault: &Vault,
    now: OffsetDateTime,
) -> Result<Snapshot, DbError> {
    let mut transaction = begin(database).await?;
    let opener = vault.opener(&mut transaction).await?;
    let snapshot = read_within(&mut transaction, pbx, &opener, now).await;
    super::commit(transaction).await?;
    snapshot
}

/// A read-only transaction in which every question is answered from one instant.
pub async fn begin(database: &Database) -> Result<Transaction<'static, Postgres>, DbError> {
    let mut transaction = database.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// As [`read`], in a transaction of [`begin`].
pub async fn read_within(
    transaction: &mut PgConnection,
    pbx: PbxId,
    opener: &Opener,
    now: OffsetDateTime,
) -> Result<Snapshot, DbError> {
    let realm = sqlx::query_scalar!("select sip_realm from pbx where pbx_id = $1", pbx.0)
        .fetch_one(&mut *transaction)
        .await?;
    let reserved_numbers = ranges(&mut *transaction, pbx).await?;
    // An overlap that has passed ends here: the password before is not read any more.
    let rows = sqlx::query_as!(
        SnapshotRow,
        r#"select t.tenant_id, t.number as tenant_number, u.user_id, u.name, u.email, e.number,
            d.device_id, d.slot, d.sip_password_encrypted,
            case when d.overlap_until > $2 then d.previous_sip_password_encrypted end
                as previous_sip_password_encrypted,
            d.digest_algorithm, p.transports ->> d.transport as transport, d.rtp_symmetric,
            d.force_rport, d.rewrite_contact, d.direct_media, d.codecs
           from pbx p
           join tenant t on t.pbx_id = p.pbx_id
           join "user" u on u.tenant_id = t.tenant_id
           join extension e on e.user_id = u.user_id
           join device d on d.user_id = u.user_id
           where p.pbx_id = $1 and t.status = 'active' and t.deleted_at is null
              and u.status = 'active' and u.deleted_at is null and d.enabled
           order by t.number, e.number, d.slot"#,
        pbx.0,
        now,
    )
    .fetch_all(&mut *transaction)
    .await?;
    Ok(Snapshot {
        realm: realm
            .parse()
            .map_err(|reason| DbError::inconsistent("pbx", "sip_realm", &pbx, &reason))?,
        reserved_numbers,
        tenants: rows
            .chunk_by(|one, other| one.tenant_id == other.tenant_id)
            .map(|rows| to_tenant(rows, opener))
            .collect::<Result<_, _>>()?,
    })
}

/// The range of the default tenant: its users' first devices are called by their plain numbers.
async fn ranges(
    connection: &mut PgConnection,
    pbx: PbxId,
) -> Result<Vec<RangeInclusive<u32>>, DbError> {
    sqlx::query!(
        "select ext_min, ext_max from tenant where pbx_id = $1 and tenant_id = $2",
        pbx.0,
        DEFAULT_TENANT.0,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let (first, last) = (u32::try_from(row.ext_min), u32::try_from(row.ext_max));
        match (first, last) {
            (Ok(first), Ok(last)) => Ok(first..=last),
            _ => Err(DbError::inconsistent(
                "tenant",
                "ext_min",
                &pbx,
                &"negative",
            )),
        }
    })
    .collect()
}

/// From the rows of one tenant.
fn to_tenant(rows: &[SnapshotRow], opener: &Opener) -> Result<SnapshotTenant, DbError> {
    let first = &rows[0];
    Ok(SnapshotTenant {
        id: TenantId(first.tenant_id),
        number: tenants::to_number(first.tenant_number)?,
        users: rows
            .chunk_by(|one, other| one.user_id == other.user_id)
            .map(|rows| to_user(rows, opener))
            .collect::<Result<_, _>>()?,
    })
}

/// From the rows of one user.
fn to_user(rows: &[SnapshotRow], opener: &Opener) -> Result<SnapshotUser, DbError> {
    let row = &rows[0];
    let user_id = UserId(row.user_id);
    let broken = |column, reason: Invalid| DbError::inconsistent("user", column, &user_id, &reason);
    Ok(SnapshotUser {
        user_id,
        extension: extensions::to_number(user_id, row.number)?,
        name: DisplayName::from_stored(&row.name).map_err(|reason| broken("name", reason))?,
        email: row
            .email
            .parse()
            .map_err(|reason| broken("email", reason))?,
        devices: rows
            .iter()
            .map(|row| to_device(row, opener))
            .collect::<Result<_, _>>()?,
    })
}

fn to_device(row: &SnapshotRow, opener: &Opener) -> Result<SnapshotDevice, DbError> {
    let id = DeviceId(row.device_id);
    let broken = |column, reason: &dyn ToString| {
        // Nobody knows a device by its id alone.
        let whose = format!("{id} (of user {}, extension {})", row.user_id, row.number);
        DbError::inconsistent("device", column, &whose, &reason.to_string())
    };
    let password = |column, place, sealed: &[u8]| {
        let clear = opener.open(place, sealed);
        let clear = clear.map_err(|reason| broken(column, &reason))?;
        let clear = String::from_utf8(clear).map_err(|_| broken(column, &"not UTF-8"))?;
        SipPassword::try_from(SecretString::from(clear)).map_err(|reason| broken(column, &reason))
    };
    let previous = row.previous_sip_password_encrypted.as_deref();
    let section = row.transport.as_ref().map(|name| name.parse());
    let algorithm = DigestAlgorithm::from_name(&row.digest_algorithm);
    Ok(SnapshotDevice {
        device_id: id,
        slot: devices::to_slot(id, row.slot)?,
        sip_password: password(
            "sip_password_encrypted",
            Place::SipPassword(id),
            &row.sip_password_encrypted,
        )?,
        previous_password: previous
            .map(|sealed| {
                let place = Place::PreviousSipPassword(id);
                password("previous_sip_password_encrypted", place, sealed)
            })
            .transpose()?,
        algorithm: algorithm.map_err(|reason| broken("digest_algorithm", &reason))?,
        transport: section
            .transpose()
            .map_err(|reason: Invalid| broken("transport", &reason))?,
        nat: Nat {
            rtp_symmetric: row.rtp_symmetric,
            force_rport: row.force_rport,
            rewrite_contact: row.rewrite_contact,
            direct_media: row.direct_media,
        },
        codecs: devices::to_codecs(id, &row.codecs)?,
    })
}
