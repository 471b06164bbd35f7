//! Table `audit_key`.

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox};
use sha2::Sha256;
use sqlx::{Connection as _, PgConnection};

use crate::clock::os_rng;
use crate::db::DbError;
use crate::db::data_keys::KeyError;
use crate::domain::session::LoginHash;
use crate::vault::{Place, Vault};
use rand::CryptoRng;

const KEY_BYTES: usize = 32;

/// What the key of hashes of logins is derived by.
const LOGIN_KEY: &str = "sign_in_failure.login_hash";

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

    /// What failures to sign in with a login are counted under. The key is that of the trail, because
    /// every portal has the same one and it outlives a change of `SECRET_KEY`; it seals entries and keys
    /// these hashes apart from each other.
    pub fn login_hash(&self, login: &str) -> LoginHash {
        let mac = |key: &[u8; KEY_BYTES], text: &str| -> [u8; KEY_BYTES] {
            let mac = Hmac::<Sha256>::new_from_slice(key);
            // A key of any length will do.
            mac.map_or([0; KEY_BYTES], |mac| {
                mac.chain_update(text.as_bytes())
                    .finalize()
                    .into_bytes()
                    .into()
            })
        };
        let key = SecretBox::new(Box::new(mac(self.expose(), LOGIN_KEY)));
        LoginHash(mac(key.expose_secret(), login))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_hashed_by_the_key() {
        let hash = |key: u8, login: &str| AuditKey::new([key; KEY_BYTES]).login_hash(login);
        assert_eq!(hash(1, "ann"), hash(1, "ann"));
        assert_ne!(hash(1, "ann"), hash(2, "ann"));
        assert_ne!(hash(1, "ann"), hash(1, "anna"));
        assert_ne!(hash(1, "ann").0, [0; KEY_BYTES]);
    }
}
