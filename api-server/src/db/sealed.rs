//! Every column that holds secrets, in one list, and what a change of keys does to all of them.
//!
//! A test compares the list with the schema, so that a later table cannot be forgotten.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::DbError;
use super::data_keys::master_key_id;
use crate::clock::os_rng;
use crate::domain::idempotency::AnswerId;
use crate::domain::session::SigningKeyId;
use crate::domain::{AccountId, DeviceId};
use crate::vault::{DataKeyId, MasterKeyId, Opener, Place, Vault};
use shared::bundle::ApplyId;

/// A column whose values a vault has sealed.
pub struct Sealed {
    /// Its table.
    pub table: &'static str,
    /// Its name, which ends in `_encrypted`.
    pub column: &'static str,
    /// SQL for the text that tells one row from another.
    key: &'static str,
    /// What a row's value is bound to.
    place: fn(&str) -> Option<Place>,
    /// How many rows are sealed anew in one transaction: few where values are large.
    batch: u16,
}

/// All of them.
pub const SEALED: [Sealed; 7] = [
    Sealed {
        table: "account",
        column: "totp_secret_encrypted",
        key: "account_id::text",
        place: |key| Some(Place::TotpSecret(AccountId(key.parse().ok()?))),
        batch: 200,
    },
    Sealed {
        table: "device",
        column: "sip_password_encrypted",
        key: "device_id::text",
        place: |key| Some(Place::SipPassword(DeviceId(key.parse().ok()?))),
        batch: 200,
    },
    Sealed {
        table: "device",
        column: "previous_sip_password_encrypted",
        key: "device_id::text",
        place: |key| Some(Place::PreviousSipPassword(DeviceId(key.parse().ok()?))),
        batch: 200,
    },
    Sealed {
        table: "idempotency_key",
        column: "answer_encrypted",
        key: "json_build_array(actor, key)::text",
        place: |key| {
            let (actor, key): (String, String) = serde_json::from_str(key).ok()?;
            Some(Place::Answer(AnswerId::of_row(&actor, &key)))
        },
        batch: 50,
    },
    Sealed {
        table: "apply",
        column: "bundle_encrypted",
        key: "apply_id::text",
        place: |key| Some(Place::Bundle(ApplyId(key.parse().ok()?))),
        batch: 5,
    },
    Sealed {
        table: "signing_key",
        column: "key_encrypted",
        key: "signing_key_id::text",
        place: |key| Some(Place::SigningKey(SigningKeyId(key.parse().ok()?))),
        batch: 200,
    },
    Sealed {
        table: "audit_key",
        column: "key_encrypted",
        key: "audit_key_id::text",
        place: |_| Some(Place::AuditKey),
        batch: 1,
    },
];

impl Sealed {
    /// `table.column`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.table, self.column)
    }
}

/// What [`reseal`] did to a column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// How many rows are sealed with the current key now that were not.
    pub rows: u64,
    /// The keys of rows that do not open, and why.
    pub broken: Vec<String>,
}

/// Seals every row of a column anew that is not sealed with the current data key, batch by batch.
/// Rows that somebody else has locked are left for another pass.
pub async fn reseal(
    connection: &mut PgConnection,
    vault: &Vault,
    sealed: &Sealed,
) -> Result<Resealed, DbError> {
    let (mut done, mut last) = (Resealed::default(), String::new());
    loop {
        let mut transaction = connection.begin().await?;
        let seal = vault.sealer(&mut transaction).await?;
        let opener = vault.opener(&mut transaction).await?;
        let rows = batch(&mut transaction, sealed, seal.data_key_id(), &last).await?;
        let Some((newest, _)) = rows.last() else {
            return Ok(done);
        };
        last.clone_from(newest);
        let mut anew = Anew::default();
        for (key, old) in rows {
            match clear(&opener, sealed, &key, &old) {
                Ok((place, clear)) => {
                    let new = seal.seal(place, &clear, &mut os_rng());
                    anew.new
                        .push(new.map_err(|error| inconsistent(sealed, &key, &error))?);
                    anew.keys.push(key);
                    anew.old.push(old);
                }
                Err(reason) => done.broken.push(format!("{key}: {reason}")),
            }
        }
        done.rows += update(&mut transaction, sealed, anew).await?;
        transaction.commit().await?;
    }
}

fn inconsistent(sealed: &Sealed, key: &str, reason: &impl ToString) -> DbError {
    DbError::inconsistent(sealed.table, sealed.column, &key, reason)
}

fn clear(
    opener: &Opener,
    sealed: &Sealed,
    key: &str,
    old: &[u8],
) -> Result<(Place, Vec<u8>), String> {
    let place = (sealed.place)(key).ok_or("its key is malformed")?;
    let clear = opener.open(place, old).map_err(|error| error.to_string())?;
    Ok((place, clear))
}

/// The rows that are not sealed with `current`, after the key `last`, locked.
async fn batch(
    transaction: &mut PgConnection,
    sealed: &Sealed,
    current: DataKeyId,
    last: &str,
) -> Result<Vec<(String, Vec<u8>)>, DbError> {
    let Sealed {
        table,
        column,
        key,
        batch,
        ..
    } = sealed;
    let sql = format!(
        "select {key}, {column} from {table}
         where {} and {key} > $2 collate \"C\"
         order by {key} collate \"C\" limit {batch}
         for no key update skip locked",
        other_key(column)
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(current.0.as_bytes().as_slice())
        .bind(last)
        .fetch_all(transaction)
        .await?)
}

/// Rows to be sealed anew.
#[derive(Default)]
struct Anew {
    keys: Vec<String>,
    old: Vec<Vec<u8>>,
    new: Vec<Vec<u8>>,
}

/// Each row only while it is what was read.
async fn update(
    transaction: &mut PgConnection,
    sealed: &Sealed,
    anew: Anew,
) -> Result<u64, DbError> {
    let Sealed {
        table, column, key, ..
    } = sealed;
    let sql = format!(
        "update {table} set {column} = anew.new
         from unnest($1::text[], $2::bytea[], $3::bytea[]) as anew (key, old, new)
         where {key} = anew.key and {column} = anew.old"
    );
    let updated = sqlx::query(AssertSqlSafe(sql))
        .bind(anew.keys)
        .bind(anew.old)
        .bind(anew.new)
        .execute(transaction)
        .await?;
    Ok(updated.rows_affected())
}

/// How many rows of a column are not sealed with the current data key.
pub async fn outstanding(
    connection: &mut PgConnection,
    sealed: &Sealed,
    current: DataKeyId,
) -> Result<u64, DbError> {
    let Sealed { table, column, .. } = sealed;
    let sql = format!("select count(*) from {table} where {}", other_key(column));
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(current.0.as_bytes().as_slice())
        .fetch_one(connection)
        .await?;
    Ok(count.unsigned_abs())
}

/// Whether a value is not sealed with the data key `$1`: the layout stands in `vault`.
fn other_key(column: &str) -> String {
    format!(
        "{column} is not null
         and (substr({column}, 1, 1) <> '\\x02' or substr({column}, 2, 16) <> $1)"
    )
}

/// The data keys that anything is sealed with.
pub async fn data_keys_in_use(connection: &mut PgConnection) -> Result<Vec<DataKeyId>, DbError> {
    let mut used = Vec::new();
    for Sealed { table, column, .. } in &SEALED {
        let sql = format!(
            "select distinct substr({column}, 2, 16) from {table}
             where substr({column}, 1, 1) = '\\x02'"
        );
        let ids: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut *connection)
            .await?;
        let ids = ids.iter().filter_map(|id| Uuid::from_slice(id).ok());
        used.extend(ids.map(DataKeyId));
    }
    Ok(used)
}

/// The master keys that rows of before there were data keys are sealed with.
pub async fn directly_sealed_with(
    connection: &mut PgConnection,
) -> Result<Vec<MasterKeyId>, DbError> {
    let mut used = Vec::new();
    for Sealed { table, column, .. } in &SEALED {
        let sql = format!(
            "select distinct substr({column}, 2, 4) from {table}
             where substr({column}, 1, 1) = '\\x01' and octet_length({column}) > 4"
        );
        let ids: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut *connection)
            .await?;
        for id in ids {
            used.push(master_key_id(&id)?);
        }
    }
    used.sort_unstable();
    used.dedup();
    Ok(used)
}
