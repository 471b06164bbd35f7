//! Encryption of secrets at rest: XChaCha20-Poly1305 in two levels.
//!
//! The master key is `SECRET_KEY`, which is in no database. It wraps data keys, which lie in the
//! database, and they seal the rows. So the master key can be changed while portals run, by wrapping
//! the data keys a second time (`services::rotation`), and reading ten thousand rows asks the
//! database for keys once. `db::data_keys` finds the keys: [`Vault::sealer`], [`Vault::opener`].
//!
//! Layout: version (1 byte), key id, nonce (24 bytes), ciphertext with its tag. Version 2 is sealed
//! with a data key, whose id has 16 bytes; version 1 with a master key itself, whose id has 4: wrapped
//! data keys, and rows from before there were data keys. The associated data names the row, so that
//! a ciphertext copied to another row does not open.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{Key, KeyInit as _, XChaCha20Poly1305, XNonce};
use rand::CryptoRng;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use shared::bundle::ApplyId;
use uuid::Uuid;

use crate::domain::idempotency::AnswerId;
use crate::domain::session::SigningKeyId;
use crate::domain::{AccountId, DeviceId};

const KEY_BYTES: usize = 32;
const MASTER_KEY_ID_BYTES: usize = 4;
const DATA_KEY_ID_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;

/// Sealed with a master key itself.
const BY_MASTER_KEY: u8 = 1;

/// Sealed with a data key.
const BY_DATA_KEY: u8 = 2;

/// What a ciphertext belongs to: it opens for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `device.sip_password_encrypted` of this device.
    SipPassword(DeviceId),
    /// `device.previous_sip_password_encrypted` of this device.
    PreviousSipPassword(DeviceId),
    /// `apply.bundle_encrypted` of this attempt.
    Bundle(ApplyId),
    /// `idempotency_key.answer_encrypted` of this key.
    Answer(AnswerId),
    /// `signing_key.key_encrypted` of this key.
    SigningKey(SigningKeyId),
    /// `account.totp_secret_encrypted` of this account.
    TotpSecret(AccountId),
    /// `audit_key.key_encrypted`, of which there is one.
    AuditKey,
}

impl Place {
    fn associated_data(self) -> String {
        match self {
            Self::SipPassword(device) => format!("device.sip_password:{device}"),
            Self::PreviousSipPassword(device) => format!("device.previous_sip_password:{device}"),
            Self::Bundle(apply) => format!("apply.bundle:{apply}"),
            Self::Answer(answer) => format!("idempotency_key.answer:{answer}"),
            Self::TotpSecret(account) => format!("account.totp_secret:{account}"),
            Self::SigningKey(key) => format!("signing_key.key:{key}"),
            Self::AuditKey => "audit_key.key".to_owned(),
        }
    }

    /// What rows from before there were data keys are bound to. `None`: the place is newer.
    fn associated_data_before(self) -> Option<String> {
        match self {
            // The first device of a user took over the user's id.
            Self::SipPassword(device) => Some(format!("extension.sip_password:{device}")),
            Self::Bundle(_) => Some(self.associated_data()),
            Self::PreviousSipPassword(_)
            | Self::Answer(_)
            | Self::TotpSecret(_)
            | Self::SigningKey(_)
            | Self::AuditKey => None,
        }
    }
}

/// Why a ciphertext does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, or of a later version.
    #[error("the stored secret is malformed")]
    Malformed,
    /// `SECRET_KEY` is not the key that it was sealed with, nor one that opens its data key.
    #[error("the stored secret was sealed with another SECRET_KEY")]
    OtherKey,
    /// Altered, or copied from another row.
    #[error("the stored secret was altered or belongs to another row")]
    Altered,
}

/// More than 256 GiB in one piece.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too large to encrypt")]
pub struct TooLarge;

/// The text is no key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a secret key is 64 hexadecimal digits; `api-server secret-key` prints a fresh one")]
pub struct NotAKey;

/// What tells master keys apart; it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MasterKeyId(pub [u8; MASTER_KEY_ID_BYTES]);

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What tells data keys apart; it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataKeyId(pub Uuid);

/// A data key. No `Debug`.
pub struct DataKey {
    id: DataKeyId,
    secret: SecretBox<[u8; KEY_BYTES]>,
}

impl DataKey {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut id = [0; DATA_KEY_ID_BYTES];
        rng.fill_bytes(&mut id);
        let mut secret = SecretBox::new(Box::new([0; KEY_BYTES]));
        rng.fill_bytes(secrecy::ExposeSecretMut::expose_secret_mut(&mut secret));
        Self {
            id: DataKeyId(uuid::Builder::from_random_bytes(id).into_uuid()),
            secret,
        }
    }

    /// Which one it is.
    pub const fn id(&self) -> DataKeyId {
        self.id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.secret.expose_secret()))
    }
}

struct MasterKey {
    cipher: XChaCha20Poly1305,
    id: MasterKeyId,
}

impl MasterKey {
    fn new(key: [u8; KEY_BYTES]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"synergycall key id");
        hasher.update(key);
        let hash: [u8; 32] = hasher.finalize().into();
        Self {
            cipher: XChaCha20Poly1305::new(&Key::from(key)),
            id: MasterKeyId([hash[0], hash[1], hash[2], hash[3]]),
        }
    }

    fn seal(
        &self,
        label: &str,
        clear: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, TooLarge> {
        seal(&self.cipher, BY_MASTER_KEY, &self.id.0, label, clear, rng)
    }

    /// Opens what follows the version.
    fn open(&self, label: &str, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (id, rest) = sealed.split_first_chunk().ok_or(OpenError::Malformed)?;
        if *id != self.id.0 {
            return Err(OpenError::OtherKey);
        }
        open(&self.cipher, label, rest)
    }
}

type DataKeys = HashMap<DataKeyId, Arc<DataKey>>;

/// The master key, and the data keys that it has unwrapped so far. Clones share them. No `Debug`
/// shows any.
#[derive(Clone)]
pub struct Vault {
    master: Arc<MasterKey>,
    known: Arc<Mutex<Arc<DataKeys>>>,
}

impl Vault {
    fn new(key: [u8; KEY_BYTES]) -> Self {
        Self {
            master: Arc::new(MasterKey::new(key)),
            known: Arc::default(),
        }
    }

    /// Which master key it has.
    pub fn master_key_id(&self) -> MasterKeyId {
        self.master.id
    }

    /// A data key as this master key's row of `data_key_wrapping` holds it.
    ///
    /// # Errors
    /// Only the cipher's own limit.
    pub fn wrap(&self, key: &DataKey, rng: &mut impl CryptoRng) -> Result<Vec<u8>, TooLarge> {
        let secret = key.secret.expose_secret();
        self.master.seal(&wrapping_label(key.id), secret, rng)
    }

    /// What [`Vault::wrap`] made.
    pub fn unwrap(&self, id: DataKeyId, wrapped: &[u8]) -> Result<DataKey, OpenError> {
        let Some((&BY_MASTER_KEY, sealed)) = wrapped.split_first() else {
            return Err(OpenError::Malformed);
        };
        let clear = SecretBox::new(Box::new(self.master.open(&wrapping_label(id), sealed)?));
        let secret: [u8; KEY_BYTES] = clear
            .expose_secret()
            .as_slice()
            .try_into()
            .map_err(|_| OpenError::Malformed)?;
        Ok(DataKey {
            id,
            secret: SecretBox::new(Box::new(secret)),
        })
    }

    /// Unwraps a data key, unless it is known.
    pub fn learn(&self, id: DataKeyId, wrapped: &[u8]) -> Result<(), OpenError> {
        if self.known().contains_key(&id) {
            return Ok(());
        }
        let key = Arc::new(self.unwrap(id, wrapped)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Openers that are in use keep what they have.
        Arc::make_mut(&mut known).insert(id, key);
        Ok(())
    }

    /// A sealer with a data key that is known. Only [`Vault::sealer`] knows which one to ask for.
    pub fn sealer_with(&self, id: DataKeyId) -> Option<Sealer> {
        let key = self.known().get(&id).map(Arc::clone)?;
        Some(Sealer { key })
    }

    /// An opener with every data key that is known.
    pub fn opener_with_known(&self) -> Opener {
        Opener {
            master: Arc::clone(&self.master),
            keys: self.known(),
        }
    }

    /// Seals as portals did before there were data keys, for whatever must read such rows.
    ///
    /// # Errors
    /// `None` for a place that is newer than that.
    pub fn seal_as_before(
        &self,
        place: Place,
        clear: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Option<Vec<u8>> {
        let label = place.associated_data_before()?;
        self.master.seal(&label, clear, rng).ok()
    }

    fn known(&self) -> Arc<DataKeys> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn wrapping_label(id: DataKeyId) -> String {
    format!("data_key:{}", id.0)
}

/// Seals with the current data key, for as long as the transaction lasts that it was made in.
pub struct Sealer {
    key: Arc<DataKey>,
}

impl Sealer {
    /// Which data key it seals with.
    pub fn data_key_id(&self) -> DataKeyId {
        self.key.id
    }

    /// Encrypts `clear` for `place`.
    ///
    /// # Errors
    /// Only the cipher's own limit of 256 GiB.
    pub fn seal(
        &self,
        place: Place,
        clear: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, TooLarge> {
        let (cipher, label) = (self.key.cipher(), place.associated_data());
        seal(
            &cipher,
            BY_DATA_KEY,
            self.key.id.0.as_bytes(),
            &label,
            clear,
            rng,
        )
    }
}

/// Opens whatever was sealed with the keys that it holds. Clones are cheap.
#[derive(Clone)]
pub struct Opener {
    master: Arc<MasterKey>,
    keys: Arc<DataKeys>,
}

impl Opener {
    /// Decrypts what was sealed for `place`.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        match sealed.split_first().ok_or(OpenError::Malformed)? {
            (&BY_MASTER_KEY, rest) => {
                let label = place.associated_data_before();
                self.master.open(&label.ok_or(OpenError::Altered)?, rest)
            }
            (&BY_DATA_KEY, rest) => {
                let (id, rest) = rest
                    .split_first_chunk::<DATA_KEY_ID_BYTES>()
                    .ok_or(OpenError::Malformed)?;
                let id = DataKeyId(Uuid::from_bytes(*id));
                let key = self.keys.get(&id).ok_or(OpenError::OtherKey)?;
                open(&key.cipher(), &place.associated_data(), rest)
            }
            _ => Err(OpenError::Malformed),
        }
    }
}

fn seal(
    cipher: &XChaCha20Poly1305,
    version: u8,
    key_id: &[u8],
    label: &str,
    clear: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, TooLarge> {
    let mut nonce = [0; NONCE_BYTES];
    // 192 random bits: no counter needed, a repetition is out of reach.
    rng.fill_bytes(&mut nonce);
    let payload = Payload {
        msg: clear,
        aad: label.as_bytes(),
    };
    let ciphertext = cipher
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_| TooLarge)?;
    Ok([&[version], key_id, &nonce, &ciphertext].concat())
}

/// Opens what follows the key id.
fn open(cipher: &XChaCha20Poly1305, label: &str, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (nonce, ciphertext) = sealed
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(OpenError::Malformed)?;
    let payload = Payload {
        msg: ciphertext,
        aad: label.as_bytes(),
    };
    cipher
        .decrypt(&XNonce::from(*nonce), payload)
        .map_err(|_| OpenError::Altered)
}

impl FromStr for Vault {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        // A digest has the same form: 32 bytes as 64 hexadecimal digits.
        let digest: shared::bundle::Digest = text.parse().map_err(|_| NotAKey)?;
        Ok(Self::new(digest.0))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

/// A fresh key in the form that `SECRET_KEY` takes.
pub fn generate_key(rng: &mut impl CryptoRng) -> SecretString {
    let mut key = [0; KEY_BYTES];
    rng.fill_bytes(&mut key);
    shared::bundle::Digest(key).to_string().into()
}

#[cfg(test)]
mod tests;
