//! Table `signing_key`: what access tokens are signed with, sealed.

use rand::CryptoRng;
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox};
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;

use super::DbError;
use super::data_keys::KeyError;
use crate::clock::unix_ms;
use crate::domain::session::SigningKeyId;
use crate::domain::uuid_v7;
use crate::vault::{Place, Vault};

const KEY_BYTES: usize = 32;

/// A key, sealed.
pub struct SealedKey {
    /// Which.
    pub id: SigningKeyId,
    /// The key.
    pub encrypted: Vec<u8>,
    /// Since when it is there.
    pub created_at: OffsetDateTime,
}

/// The newest key, which signs.
pub async fn newest(connection: &mut PgConnection) -> Result<Option<SealedKey>, DbError> {
    let row = sqlx::query!(
        "select signing_key_id, key_encrypted, created_at from signing_key
         order by created_at desc, signing_key_id desc limit 1"
    );
    let row = row.fetch_optional(connection).await?;
    Ok(row.map(|row| SealedKey {
        id: SigningKeyId(row.signing_key_id),
        encrypted: row.key_encrypted,
        created_at: row.created_at,
    }))
}

/// One key.
pub async fn find(
    connection: &mut PgConnection,
    id: SigningKeyId,
) -> Result<Option<SealedKey>, DbError> {
    let row = sqlx::query!(
        "select key_encrypted, created_at from signing_key where signing_key_id = $1",
        id.0,
    );
    let row = row.fetch_optional(connection).await?;
    Ok(row.map(|row| SealedKey {
        id,
        encrypted: row.key_encrypted,
        created_at: row.created_at,
    }))
}

/// Makes a fresh key, which signs from the commit on.
pub async fn make(
    transaction: &mut PgConnection,
    vault: &Vault,
    now: OffsetDateTime,
    rng: &mut (impl CryptoRng + Send),
) -> Result<(), DbError> {
    let id = SigningKeyId(uuid_v7(unix_ms(now), rng));
    let mut key = SecretBox::new(Box::new([0; KEY_BYTES]));
    rng.fill_bytes(key.expose_secret_mut());
    let seal = vault.sealer(transaction).await?;
    let sealed = seal
        .seal(Place::SigningKey(id), key.expose_secret(), rng)
        .map_err(|error| DbError::inconsistent("signing_key", "key_encrypted", &id, &error))?;
    sqlx::query!(
        "insert into signing_key (signing_key_id, key_encrypted, created_at) values ($1, $2, $3)",
        id.0,
        sealed,
        now,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Sees to it that there is a key.
///
/// # Errors
/// As of [`super::data_keys::ensure`].
pub async fn ensure(
    connection: &mut PgConnection,
    vault: &Vault,
    now: OffsetDateTime,
    rng: &mut (impl CryptoRng + Send),
) -> Result<(), KeyError> {
    let mut transaction = connection.begin().await?;
    // Of portals that start at once, one makes it. Readers pass.
    sqlx::query!("lock table signing_key in share row exclusive mode")
        .execute(&mut *transaction)
        .await?;
    if newest(&mut transaction).await?.is_none() {
        make(&mut transaction, vault, now, rng).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Removes the keys that were made before `before`.
pub async fn remove_older(
    connection: &mut PgConnection,
    before: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!("delete from signing_key where created_at < $1", before)
        .execute(connection)
        .await?;
    Ok(())
}
