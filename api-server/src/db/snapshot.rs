//! What the database says at one instant.

use std::ops::RangeInclusive;

use secrecy::SecretString;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{Database, DbError, extensions};
use crate::domain::device::{Codecs, DigestAlgorithm, Nat};
use crate::domain::snapshot::{Snapshot, SnapshotDevice, SnapshotTenant, SnapshotUser};
use crate::domain::tenant::DEFAULT_TENANT;
use crate::domain::{DeviceId, DeviceSlot, PbxId, SipPassword, TenantNumber, UserId};
use crate::vault::{Opener, Place, Vault};

struct SnapshotRow {
    user_id: Uuid,
    name: String,
    email: String,
    number: i32,
    sip_password_encrypted: Vec<u8>,
}

/// Reads everything that the configuration of a PBX depends on, in one read-only transaction that
/// is closed before this returns.
///
/// # Errors
/// [`DbError::Inconsistent`] also when a SIP password was sealed with another key.
pub async fn read(database: &Database, pbx: PbxId, vault: &Vault) -> Result<Snapshot, DbError> {
    let mut transaction = begin(database).await?;
    let opener = vault.opener(&mut transaction).await?;
    let snapshot = read_within(&mut transaction, pbx, &opener).await;
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
) -> Result<Snapshot, DbError> {
    let realm = sqlx::query_scalar!("select sip_realm from pbx where pbx_id = $1", pbx.0)
        .fetch_one(&mut *transaction)
        .await?;
    let reserved_numbers = ranges(&mut *transaction, pbx).await?;
    let rows = sqlx::query_as!(
        SnapshotRow,
        r#"select u.user_id, u.name, u.email, e.number, e.sip_password_encrypted
           from tenant t
           join extension e on e.tenant_id = t.tenant_id
           join "user" u on u.user_id = e.user_id
           where t.pbx_id = $1
           order by e.number, e.tenant_id"#,
        pbx.0,
    )
    .fetch_all(&mut *transaction)
    .await?;
    Ok(Snapshot {
        realm: realm
            .parse()
            .map_err(|reason| DbError::inconsistent("pbx", "sip_realm", &pbx, &reason))?,
        reserved_numbers,
        tenants: vec![SnapshotTenant {
            id: DEFAULT_TENANT,
            number: TenantNumber::DEFAULT,
            users: rows
                .iter()
                .map(|row| to_user(row, opener))
                .collect::<Result<_, _>>()?,
        }],
    })
}

async fn ranges(
    connection: &mut PgConnection,
    pbx: PbxId,
) -> Result<Vec<RangeInclusive<u32>>, DbError> {
    sqlx::query!(
        "select ext_min, ext_max from tenant where pbx_id = $1 order by ext_min, ext_max",
        pbx.0
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

fn to_user(row: &SnapshotRow, opener: &Opener) -> Result<SnapshotUser, DbError> {
    let user_id = UserId(row.user_id);
    let broken = |table, column, reason: &dyn ToString| {
        DbError::inconsistent(table, column, &user_id, &reason.to_string())
    };
    let password = |reason: &dyn ToString| broken("extension", "sip_password_encrypted", reason);
    let clear = opener
        .open(Place::SipPassword(user_id), &row.sip_password_encrypted)
        .map_err(|reason| password(&reason))?;
    let clear = String::from_utf8(clear).map_err(|_| password(&"not UTF-8"))?;
    Ok(SnapshotUser {
        user_id,
        extension: extensions::to_number(user_id, row.number)?,
        name: row
            .name
            .parse()
            .map_err(|reason| broken("user", "name", &reason))?,
        email: row
            .email
            .parse()
            .map_err(|reason| broken("user", "email", &reason))?,
        devices: vec![SnapshotDevice {
            device_id: DeviceId(row.user_id),
            slot: DeviceSlot::FIRST,
            sip_password: SipPassword::try_from(SecretString::from(clear))
                .map_err(|reason| password(&reason))?,
            previous_password: None,
            algorithm: DigestAlgorithm::default(),
            transport: None,
            nat: Nat::default(),
            codecs: Codecs::default(),
        }],
    })
}
