//! Tables `data_key` and `data_key_wrapping`: which keys seal the rows, and under which master keys
//! they lie.

use sqlx::PgConnection;
use uuid::Uuid;

use super::apply_lock::is_lock_timeout;
use super::{DbError, sealed};
use crate::clock::os_rng;
use crate::vault::{DataKey, DataKeyId, MasterKeyId, OpenError, Opener, Sealer, TooLarge, Vault};

/// How often the current key is looked for: once more than it can change in between.
const CURRENT_TRIES: usize = 3;

/// Why a master key is not the one to serve a database with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It opens nothing.
    #[error(
        "the database is sealed with {}, and SECRET_KEY is key {given}: set SECRET_KEY or \
         SECRET_KEY_FILE to the key that the database is sealed with, which after a rotation is the \
         new one",
        named(sealed_with)
    )]
    Other {
        /// The one that was given.
        given: MasterKeyId,
        /// Those that would open it.
        sealed_with: Vec<MasterKeyId>,
    },
    /// It opens the data keys, but rows of before that are sealed with another master key itself.
    #[error(
        "SECRET_KEY is key {given}, and some rows are still sealed with {}: the rotation has not \
         ended. Run `api-server secret-key rotate` again with the same keys",
        named(sealed_with)
    )]
    Unfinished {
        /// The one that was given.
        given: MasterKeyId,
        /// Those of the rows.
        sealed_with: Vec<MasterKeyId>,
    },
    /// What says that it is wrapped under this key does not open.
    #[error(
        "a data key of the database does not open with SECRET_KEY (key {given}): its row was altered"
    )]
    Altered {
        /// The one that was given.
        given: MasterKeyId,
    },
    /// The cipher's own limit.
    #[error(transparent)]
    Sealing(#[from] TooLarge),
    /// The database cannot be asked.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl KeyError {
    /// Whether another key, and nothing else, would help.
    pub const fn is_wrong_key(&self) -> bool {
        match self {
            Self::Other { .. } | Self::Unfinished { .. } | Self::Altered { .. } => true,
            Self::Sealing(_) | Self::Database(_) => false,
        }
    }
}

impl From<sqlx::Error> for KeyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

fn named(keys: &[MasterKeyId]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("key {key}")).collect();
    keys.join(" or ")
}

impl Vault {
    /// What seals until the caller's transaction ends. A rotation waits for that transaction, so
    /// that nothing is sealed with an older key once the rotation has begun to seal rows anew.
    ///
    /// # Errors
    /// [`DbError::OtherKey`] when this master key was retired.
    pub async fn sealer(&self, transaction: &mut PgConnection) -> Result<Sealer, DbError> {
        for _ in 0..CURRENT_TRIES {
            // No row: the one that was current is not any more, and its successor was committed
            // after this statement began.
            let current =
                sqlx::query_scalar!("select data_key_id from data_key where is_current for share")
                    .fetch_optional(&mut *transaction)
                    .await?;
            if let Some(id) = current.map(DataKeyId) {
                if self.sealer_with(id).is_none() {
                    self.learn_all(transaction).await?;
                }
                return self.sealer_with(id).ok_or(DbError::OtherKey);
            }
        }
        Err(DbError::OtherKey)
    }

    /// What opens rows: to be asked for in the transaction that reads them when that sees one
    /// instant, or after they were read.
    ///
    /// # Errors
    /// [`DbError::OtherKey`] when this master key was retired.
    pub async fn opener(&self, connection: &mut PgConnection) -> Result<Opener, DbError> {
        self.learn_all(connection).await?;
        Ok(self.opener_with_known())
    }

    /// Unwraps whatever is new. An older key that does not open is left out: its rows say so.
    async fn learn_all(&self, connection: &mut PgConnection) -> Result<(), DbError> {
        let rows = sqlx::query!(
            r#"select k.data_key_id, k.is_current, w.wrapped as "wrapped?"
               from data_key k
               left join data_key_wrapping w
                   on w.data_key_id = k.data_key_id and w.master_key_id = $1"#,
            &self.master_key_id().0,
        )
        .fetch_all(connection)
        .await?;
        for row in rows {
            let id = DataKeyId(row.data_key_id);
            if let Some(Err(error)) = row.wrapped.map(|wrapped| self.learn(id, &wrapped)) {
                tracing::error!(data_key = %id.0, %error, "a data key cannot be unwrapped");
            }
            if row.is_current && self.sealer_with(id).is_none() {
                return Err(DbError::OtherKey);
            }
        }
        Ok(())
    }
}

/// Checks that the database is sealed with this master key, and that it can be worked with; an
/// empty database gets its first data key.
///
/// # Errors
/// [`KeyError::is_wrong_key`] tells whether the key is to blame.
pub async fn ensure(connection: &mut PgConnection, vault: &Vault) -> Result<(), KeyError> {
    let given = vault.master_key_id();
    let directly = sealed::directly_sealed_with(connection).await?;
    let foreign: Vec<MasterKeyId> = directly.into_iter().filter(|id| *id != given).collect();
    let mut masters = masters_of_current(connection).await?;
    if masters.is_empty() {
        if !foreign.is_empty() {
            let sealed_with = foreign;
            return Err(KeyError::Other { given, sealed_with });
        }
        make_first(connection, vault).await?;
        // Another portal may have been faster, with another key.
        masters = masters_of_current(connection).await?;
    }
    if !masters.contains(&given) {
        let sealed_with = masters;
        return Err(KeyError::Other { given, sealed_with });
    }
    if !foreign.is_empty() {
        let sealed_with = foreign;
        return Err(KeyError::Unfinished { given, sealed_with });
    }
    for (id, wrapped) in wrappings(connection, given).await? {
        let learnt = vault.learn(id, &wrapped);
        learnt.map_err(|_: OpenError| KeyError::Altered { given })?;
    }
    Ok(())
}

/// Whether this master key opens the current data key.
pub async fn is_opened_by(connection: &mut PgConnection, vault: &Vault) -> Result<bool, DbError> {
    let masters = masters_of_current(connection).await?;
    Ok(masters.contains(&vault.master_key_id()))
}

/// The master keys under which the current data key lies; none when there is no data key.
pub async fn masters_of_current(
    connection: &mut PgConnection,
) -> Result<Vec<MasterKeyId>, DbError> {
    let rows = sqlx::query_scalar!(
        "select w.master_key_id
         from data_key k join data_key_wrapping w on w.data_key_id = k.data_key_id
         where k.is_current
         order by w.created_at, w.master_key_id"
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|id| master_key_id(id)).collect()
}

/// Every data key that lies under a master key, as it lies there.
pub async fn wrappings(
    connection: &mut PgConnection,
    master: MasterKeyId,
) -> Result<Vec<(DataKeyId, Vec<u8>)>, DbError> {
    let rows = sqlx::query!(
        "select data_key_id, wrapped from data_key_wrapping where master_key_id = $1",
        &master.0,
    )
    .fetch_all(connection)
    .await?;
    let pair = |id, wrapped| (DataKeyId(id), wrapped);
    Ok(rows
        .into_iter()
        .map(|row| pair(row.data_key_id, row.wrapped))
        .collect())
}

/// Every data key.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<DataKeyId>, DbError> {
    let ids = sqlx::query_scalar!("select data_key_id from data_key order by created_at")
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().map(DataKeyId).collect())
}

/// The data key that rows are sealed with now.
pub async fn current(connection: &mut PgConnection) -> Result<Option<DataKeyId>, DbError> {
    let id = sqlx::query_scalar!("select data_key_id from data_key where is_current")
        .fetch_optional(connection)
        .await?;
    Ok(id.map(DataKeyId))
}

async fn make_first(connection: &mut PgConnection, vault: &Vault) -> Result<(), KeyError> {
    let key = DataKey::generate(&mut os_rng());
    let wrapped = vault.wrap(&key, &mut os_rng())?;
    // One statement, and of two at once one inserts nothing: all portals agree on one key.
    sqlx::query!(
        "with first as (
            insert into data_key (data_key_id, is_current) values ($1, true)
            on conflict (is_current) where is_current do nothing
            returning data_key_id
        )
        insert into data_key_wrapping (data_key_id, master_key_id, wrapped)
        select data_key_id, $2, $3 from first",
        key.id().0,
        &vault.master_key_id().0,
        wrapped,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps everybody from sealing until the transaction ends; `false` when somebody who seals does not
/// end soon, which fails what the transaction did so far.
pub async fn lock_soon(transaction: &mut PgConnection) -> Result<bool, DbError> {
    sqlx::query!("set local lock_timeout = '500ms'")
        .execute(&mut *transaction)
        .await?;
    // Sealers take the table in ROW SHARE mode, which is in line behind this; readers pass.
    let locked = sqlx::query!("lock table data_key in exclusive mode")
        .execute(transaction)
        .await;
    match locked {
        Ok(_) => Ok(true),
        Err(error) if is_lock_timeout(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes `key` the one that rows are sealed with from now on. To be called under [`lock_soon`].
pub async fn replace_current(
    transaction: &mut PgConnection,
    key: DataKeyId,
) -> Result<(), DbError> {
    sqlx::query!("update data_key set is_current = false where is_current")
        .execute(&mut *transaction)
        .await?;
    sqlx::query!(
        "insert into data_key (data_key_id, is_current) values ($1, true)",
        key.0
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Lays a data key under a master key, unless it lies there.
pub async fn add_wrapping(
    connection: &mut PgConnection,
    key: DataKeyId,
    master: MasterKeyId,
    wrapped: &[u8],
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into data_key_wrapping (data_key_id, master_key_id, wrapped) values ($1, $2, $3)
         on conflict do nothing",
        key.0,
        &master.0,
        wrapped,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Drops the data keys that are neither current nor in `used`, and tells how many.
pub async fn drop_unused(
    connection: &mut PgConnection,
    used: &[DataKeyId],
) -> Result<u64, DbError> {
    let used: Vec<Uuid> = used.iter().map(|id| id.0).collect();
    let dropped = sqlx::query!(
        "delete from data_key where not is_current and data_key_id <> all($1)",
        &used
    )
    .execute(connection)
    .await?;
    Ok(dropped.rows_affected())
}

/// Takes every data key from under all master keys but one, and tells how many wrappings that were.
pub async fn drop_wrappings_but(
    transaction: &mut PgConnection,
    master: MasterKeyId,
) -> Result<u64, DbError> {
    let dropped = sqlx::query!(
        "delete from data_key_wrapping where master_key_id <> $1",
        &master.0
    )
    .execute(transaction)
    .await?;
    Ok(dropped.rows_affected())
}

/// First and second key of the advisory lock under which the keys of a database are changed.
const CHANGE_LOCK: (i32, i32) = (0x006b_6579, 0);

/// Takes the lock of whoever changes keys, which ends with the connection; `false` when somebody
/// has it.
pub async fn try_lock_change(connection: &mut PgConnection) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"select pg_try_advisory_lock($1, $2) as "locked!""#,
        CHANGE_LOCK.0,
        CHANGE_LOCK.1,
    )
    .fetch_one(connection)
    .await?)
}

pub(super) fn master_key_id(bytes: &[u8]) -> Result<MasterKeyId, DbError> {
    bytes.try_into().map(MasterKeyId).map_err(|_| {
        DbError::inconsistent("data_key_wrapping", "master_key_id", &"", &"not 4 octets")
    })
}
