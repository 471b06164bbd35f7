//! Encryption of secrets at rest: XChaCha20-Poly1305 with the portal's one key.
//!
//! Layout: version (1 byte, `1`), key id (4 bytes), nonce (24 bytes), ciphertext with its tag. The
//! key id is there so that a later rotation can tell which key a row was sealed with. The
//! associated data names the row, so that a ciphertext copied to another row does not open.

use std::fmt;
use std::str::FromStr;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{Key, KeyInit as _, XChaCha20Poly1305, XNonce};
use rand::CryptoRng;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use shared::bundle::ApplyId;

use crate::domain::UserId;
use crate::domain::idempotency::AnswerId;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;

/// What a ciphertext belongs to: it opens for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `extension.sip_password_encrypted` of this user.
    SipPassword(UserId),
    /// `apply.bundle_encrypted` of this attempt.
    Bundle(ApplyId),
    /// `idempotency_key.answer_encrypted` of this key.
    Answer(AnswerId),
}

impl Place {
    fn associated_data(self) -> String {
        match self {
            Self::SipPassword(user) => format!("extension.sip_password:{user}"),
            Self::Bundle(apply) => format!("apply.bundle:{apply}"),
            Self::Answer(answer) => format!("idempotency_key.answer:{answer}"),
        }
    }
}

/// Why a ciphertext does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, or of a later version.
    #[error("the stored secret is malformed")]
    Malformed,
    /// `SECRET_KEY` is not the key that it was sealed with.
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

/// The portal's key. No `Debug` shows it.
#[derive(Clone)]
pub struct Vault {
    cipher: XChaCha20Poly1305,
    key_id: [u8; KEY_ID_BYTES],
}

impl Vault {
    fn new(key: [u8; 32]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"synergycall key id");
        hasher.update(key);
        let hash: [u8; 32] = hasher.finalize().into();
        Self {
            cipher: XChaCha20Poly1305::new(&Key::from(key)),
            key_id: [hash[0], hash[1], hash[2], hash[3]],
        }
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
        let mut nonce = [0; NONCE_BYTES];
        // 192 random bits: no counter needed, a repetition is out of reach.
        rng.fill_bytes(&mut nonce);
        let associated = place.associated_data();
        let payload = Payload {
            msg: clear,
            aad: associated.as_bytes(),
        };
        let ciphertext = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| TooLarge)?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + ciphertext.len());
        sealed.push(VERSION);
        sealed.extend(self.key_id);
        sealed.extend(nonce);
        sealed.extend(ciphertext);
        Ok(sealed)
    }

    /// Decrypts what was sealed for `place`.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (header, ciphertext) = sealed
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(OpenError::Malformed)?;
        let (version, rest) = header.split_first().ok_or(OpenError::Malformed)?;
        let (key_id, nonce) = rest
            .split_first_chunk::<KEY_ID_BYTES>()
            .ok_or(OpenError::Malformed)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| OpenError::Malformed)?;
        if *version != VERSION {
            return Err(OpenError::Malformed);
        }
        if *key_id != self.key_id {
            return Err(OpenError::OtherKey);
        }
        let associated = place.associated_data();
        let payload = Payload {
            msg: ciphertext,
            aad: associated.as_bytes(),
        };
        self.cipher
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| OpenError::Altered)
    }
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
    let mut key = [0; 32];
    rng.fill_bytes(&mut key);
    shared::bundle::Digest(key).to_string().into()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use secrecy::ExposeSecret as _;
    use uuid::Uuid;

    use super::*;

    fn rng() -> StdRng {
        StdRng::seed_from_u64(7)
    }

    fn user(number: u128) -> Place {
        Place::SipPassword(UserId(Uuid::from_u128(number)))
    }

    #[test]
    fn opens_in_its_place_only() {
        let vault = Vault::new([1; 32]);
        let sealed = vault.seal(user(1), b"secret", &mut rng()).unwrap();
        assert_eq!(vault.open(user(1), &sealed).unwrap(), b"secret");
        assert_eq!(vault.open(user(2), &sealed), Err(OpenError::Altered));
        let bundle = Place::Bundle(ApplyId(Uuid::from_u128(1)));
        assert_eq!(vault.open(bundle, &sealed), Err(OpenError::Altered));
        let other = Vault::new([2; 32]);
        assert_eq!(other.open(user(1), &sealed), Err(OpenError::OtherKey));
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn every_altered_bit_and_every_cut_is_noticed() {
        let vault = Vault::new([1; 32]);
        let sealed = vault.seal(user(1), b"secret", &mut rng()).unwrap();
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert!(vault.open(user(1), &altered).is_err(), "byte {index}");
            assert!(
                vault.open(user(1), &sealed[..index]).is_err(),
                "{index} bytes"
            );
        }
    }

    #[test]
    fn the_same_text_seals_differently() {
        let (vault, mut rng) = (Vault::new([1; 32]), rng());
        let first = vault.seal(user(1), b"secret", &mut rng).unwrap();
        let second = vault.seal(user(1), b"secret", &mut rng).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn keys() {
        let key = generate_key(&mut rng());
        let vault: Vault = key.expose_secret().parse().unwrap();
        assert_eq!(format!("{vault:?}"), "Vault(…)");
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
            assert!(bad.parse::<Vault>().is_err());
        }
    }
}
