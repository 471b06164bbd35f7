//! Table `audit_key`.

use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox};
use sqlx::{Connection as _, PgConnection};

use crate::clock::os_rng;
use crate::db::DbError;
use crate::db::data_keys::KeyError;
use crate::vault::{Place, Vault};
use rand::CryptoRng;

const KEY_BYTES: usize = 32;

/// What entries are sealed with. Whoever has only the database does not have it. No `Debug`.
pub struct AuditKey(SecretBox<[u8; KEY_BYTES]>);

impl AuditKey {
    pub(super) fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut key = Self::new([0; KEY_BYTES]);
        rng.fill_bytes(key.0.expose_secret_mut());
        key
    }

    pub(super) fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.expose_secret()
    }
}

/// The key of a database; a fresh one when it has none yet. To be called once the vault is known to
/// be the right one.
pub async fn ensure(connection: &mut PgConnection, vault: &Vault) -> Result<AuditKey, KeyError> {
    if let Some(key) = find(connection, vault).await? {
        return Ok(key);
    }
    let mut transaction = connection.begin().await?;
    let seal = vault.sealer(&mut transaction).await?;
    let fresh = AuditKey::generate(&mut os_rng());
    let sealed = seal.seal(Place::AuditKey, fresh.expose(), &mut os_rng())?;
    // Of two portals at once, the second one waits for the first one's and inserts nothing.
    sqlx::query!(
        "insert into audit_key (audit_key_id, key_encrypted) values (1, $1) on conflict do nothing",
        sealed,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let key = find(connection, vault).await?;
    Ok(key.ok_or_else(|| inconsistent(&"it is gone again"))?)
}

/// The key of a database, if it has one.
pub async fn find(
    connection: &mut PgConnection,
    vault: &Vault,
) -> Result<Option<AuditKey>, DbError> {
    let sealed = sqlx::query_scalar!("select key_encrypted from audit_key")
        .fetch_optional(&mut *connection)
        .await?;
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    // Asked for after the row was read: so it knows the data key of that.
    let opener = vault.opener(connection).await?;
    let clear = opener.open(Place::AuditKey, &sealed);
    let clear = SecretBox::new(Box::new(clear.map_err(|error| inconsistent(&error))?));
    let bytes = clear.expose_secret().as_slice().try_into();
    let bytes = bytes.map_err(|_| inconsistent(&"it has not 32 octets"))?;
    Ok(Some(AuditKey::new(bytes)))
}

fn inconsistent(reason: &impl ToString) -> DbError {
    DbError::inconsistent("audit_key", "key_encrypted", &"1", reason)
}
