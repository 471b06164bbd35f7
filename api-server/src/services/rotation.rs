//! Another `SECRET_KEY` while portals run: [`rotate`], and when every portal has the new one,
//! [`retire`]. Each may be ended at any time and run again.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::clock::{Clock as _, SystemClock, os_rng};
use crate::db::DbError;
use crate::db::audit::{self, AuditKey};
use crate::db::data_keys::{self, KeyError};
use crate::db::sealed::{self, SEALED};
use crate::domain::audit::{Author, Entry};
use crate::vault::{DataKey, DataKeyId, MasterKeyId, TooLarge, Vault};

/// Most passes over all rows. One does it unless somebody holds rows locked.
const PASSES_MAX: usize = 300;

/// Between two passes, in milliseconds: those who hold rows locked are left to end.
const PAUSE_MS: u64 = 200;

/// Most attempts to lock those out who seal.
const LOCK_TRIES: usize = 100;

/// Most rows that an error names.
const BROKEN_MAX: usize = 10;

/// Why the keys were not changed, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The two are one.
    #[error(
        "NEW_SECRET_KEY is the key that SECRET_KEY is: make another one with `api-server secret-key`"
    )]
    Same,
    /// Another process does this now.
    #[error("another `secret-key rotate` or `secret-key retire` is at work on this database")]
    Busy,
    /// A transaction that seals does not end.
    #[error(
        "a transaction on this database holds the table data_key and does not end: nothing was \
         changed. pg_locks names it; run this again"
    )]
    Held,
    /// The given key is not the one that the database is sealed with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Portals with a third key may be running.
    #[error(
        "the database still opens with key {0}, from an earlier rotation: end that one first, by \
         `api-server secret-key retire` with the key in use"
    )]
    Third(MasterKeyId),
    /// Rows that nobody can read any more.
    #[error(
        "{count} rows of {column} do not open and stay as they are: {rows}. Replace or delete them, \
         and run this again"
    )]
    Broken {
        /// In which column.
        column: String,
        /// How many.
        count: usize,
        /// The first of them.
        rows: String,
    },
    /// Rows stay locked, or somebody goes on sealing with an older key.
    #[error("{0} rows are not sealed with the new data key yet: run this again")]
    Outstanding(u64),
    /// The rotation that came before has not ended.
    #[error(
        "{0} rows are sealed with an older data key: run `api-server secret-key rotate` with the same \
         keys as before, and then this again"
    )]
    NotRotated(u64),
    /// A data key would be lost.
    #[error("a data key does not open with SECRET_KEY (key {0}): nothing was removed")]
    WouldLose(MasterKeyId),
    /// The cipher's own limit.
    #[error(transparent)]
    Sealing(#[from] TooLarge),
    /// The database cannot be asked.
    #[error("the database")]
    Database(#[from] DbError),
}

impl From<sqlx::Error> for RotationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// What [`rotate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// How many rows of each column were sealed anew.
    pub rows: Vec<(String, u64)>,
    /// How many data keys were dropped.
    pub dropped: u64,
}

/// Seals everything anew with a data key that lies under the old and the new master key, while
/// portals go on with the old one.
///
/// # Errors
/// Whatever was done stays; the same again goes on from there.
pub async fn rotate(
    connection: &mut PgConnection,
    old: &Vault,
    new: &Vault,
) -> Result<Rotated, RotationError> {
    if old.master_key_id() == new.master_key_id() {
        return Err(RotationError::Same);
    }
    if !data_keys::try_lock_change(connection).await? {
        return Err(RotationError::Busy);
    }
    data_keys::ensure(connection, old).await?;
    let key = audit::ensure_key(connection, old).await?;
    add_master(connection, old, new, &key).await?;
    let rows = reseal_all(connection, old).await?;
    let used = sealed::data_keys_in_use(connection).await?;
    let dropped = data_keys::drop_unused(connection, &used).await?;
    Ok(Rotated { rows, dropped })
}

/// In one transaction: every data key lies under both master keys, and a fresh one is current.
/// When the fresh one is there already, an earlier run was ended after this.
async fn add_master(
    connection: &mut PgConnection,
    old: &Vault,
    new: &Vault,
    key: &AuditKey,
) -> Result<(), RotationError> {
    let mut transaction = connection.begin().await?;
    lock_out_sealers(&mut transaction).await?;
    let ids = [old, new].map(Vault::master_key_id);
    let masters = data_keys::masters_of_current(&mut transaction).await?;
    if let Some(third) = masters.iter().find(|id| !ids.contains(id)) {
        return Err(RotationError::Third(*third));
    }
    for (id, wrapped) in data_keys::wrappings(&mut transaction, old.master_key_id()).await? {
        let given = old.master_key_id();
        let key = old.unwrap(id, &wrapped);
        let key = key.map_err(|_| KeyError::Altered { given })?;
        wrap(&mut transaction, new, &key).await?;
    }
    if !masters.contains(&new.master_key_id()) {
        let fresh = DataKey::generate(&mut os_rng());
        data_keys::replace_current(&mut transaction, fresh.id()).await?;
        wrap(&mut transaction, old, &fresh).await?;
        wrap(&mut transaction, new, &fresh).await?;
        let entry = told("secret_key.rotated", new, &masters, &ids);
        append(&mut transaction, key, entry).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// An entry of the audit trail: which master keys opened the database, and which do now.
fn told(action: &'static str, key: &Vault, before: &[MasterKeyId], after: &[MasterKeyId]) -> Entry {
    let keys = |ids: &[MasterKeyId]| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        Some(json!({ "opened_by": ids }))
    };
    Entry::new(action, "secret_key", &key.master_key_id()).changing(keys(before), keys(after))
}

async fn append(
    transaction: &mut PgConnection,
    key: &AuditKey,
    entry: Entry,
) -> Result<(), DbError> {
    let (author, now) = (Author::command_line(), SystemClock.now());
    audit::append(transaction, key, &author, now, &[entry]).await
}

async fn wrap(
    transaction: &mut PgConnection,
    master: &Vault,
    key: &DataKey,
) -> Result<(), RotationError> {
    let wrapped = master.wrap(key, &mut os_rng())?;
    let id = master.master_key_id();
    Ok(data_keys::add_wrapping(transaction, key.id(), id, &wrapped).await?)
}

/// Sealers end soon, but they would stand in line behind a long wait of ours: short ones instead.
async fn lock_out_sealers(transaction: &mut PgConnection) -> Result<(), RotationError> {
    for _ in 0..LOCK_TRIES {
        let mut attempt = transaction.begin().await?;
        if data_keys::lock_soon(&mut attempt).await? {
            attempt.commit().await?;
            return Ok(());
        }
        attempt.rollback().await?;
        tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
    }
    Err(RotationError::Held)
}

/// Every row of every column, with the current data key.
async fn reseal_all(
    connection: &mut PgConnection,
    vault: &Vault,
) -> Result<Vec<(String, u64)>, RotationError> {
    let mut rows: Vec<(String, u64)> = SEALED.iter().map(|c| (c.name(), 0)).collect();
    for _ in 0..PASSES_MAX {
        let mut broken = Ok(());
        for (column, (name, count)) in SEALED.iter().zip(&mut rows) {
            let resealed = sealed::reseal(connection, vault, column).await?;
            *count += resealed.rows;
            if !resealed.broken.is_empty() {
                let first = resealed.broken.iter().take(BROKEN_MAX);
                broken = Err(RotationError::Broken {
                    column: name.clone(),
                    count: resealed.broken.len(),
                    rows: first.cloned().collect::<Vec<_>>().join("; "),
                });
            }
        }
        // Everything else is done before that is told.
        broken?;
        if outstanding(connection).await? == 0 {
            return Ok(rows);
        }
        tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
    }
    Err(RotationError::Outstanding(outstanding(connection).await?))
}

/// How many rows are not sealed with the current data key.
async fn outstanding(connection: &mut PgConnection) -> Result<u64, DbError> {
    let current = data_keys::current(connection).await?;
    let current = current.ok_or(DbError::OtherKey)?;
    let mut count = 0;
    for column in &SEALED {
        count += sealed::outstanding(connection, column, current).await?;
    }
    Ok(count)
}

/// Takes every data key from under all master keys but this one, and tells from under how many
/// places that was: afterwards only this one opens the database.
///
/// # Errors
/// Nothing was removed.
pub async fn retire(connection: &mut PgConnection, vault: &Vault) -> Result<u64, RotationError> {
    if !data_keys::try_lock_change(connection).await? {
        return Err(RotationError::Busy);
    }
    data_keys::ensure(connection, vault).await?;
    let key = audit::ensure_key(connection, vault).await?;
    let mut transaction = connection.begin().await?;
    lock_out_sealers(&mut transaction).await?;
    match outstanding(&mut transaction).await? {
        0 => {}
        rows => return Err(RotationError::NotRotated(rows)),
    }
    let master = vault.master_key_id();
    let opened = data_keys::wrappings(&mut transaction, master).await?;
    let opened: Vec<DataKeyId> = opened
        .iter()
        .filter(|(id, wrapped)| vault.unwrap(*id, wrapped).is_ok())
        .map(|(id, _)| *id)
        .collect();
    let all = data_keys::all(&mut transaction).await?;
    if !all.iter().all(|id| opened.contains(id)) {
        return Err(RotationError::WouldLose(master));
    }
    let before = data_keys::masters_of_current(&mut transaction).await?;
    let removed = data_keys::drop_wrappings_but(&mut transaction, master).await?;
    if removed > 0 {
        let entry = told("secret_key.retired", vault, &before, &[master]);
        append(&mut transaction, &key, entry).await?;
    }
    transaction.commit().await?;
    Ok(removed)
}
