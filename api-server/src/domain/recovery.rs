//! Recovery codes: what leads in when the second factor is lost.

use std::fmt;
use std::str::FromStr;

use rand::{CryptoRng, RngExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::{Invalid, redacted};

/// How many there are of an account.
pub const CODES: usize = 10;

/// What a code consists of: 5 bits each, nothing that is mistaken for something else.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Of each code: 80 bits, too many to try, so that a fast hash of them may be kept.
const CHARS: usize = 16;

/// How many characters stand together when a code is shown.
const GROUP: usize = 4;

/// A recovery code: taken once.
#[derive(Clone)]
pub struct RecoveryCode(SecretString);

impl RecoveryCode {
    /// A fresh set.
    pub fn generate_set(rng: &mut impl CryptoRng) -> Vec<Self> {
        (0..CODES).map(|_| Self::generate(rng)).collect()
    }

    fn generate(rng: &mut impl CryptoRng) -> Self {
        let text: String = (0..CHARS)
            .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
            .collect();
        Self(text.into())
    }

    /// As it is shown: `abcd-efgh-ijkl-mnop`.
    pub fn expose(&self) -> String {
        let text = self.0.expose_secret();
        let mut shown = String::with_capacity(CHARS + CHARS / GROUP);
        for (at, char) in text.chars().enumerate() {
            if at > 0 && at % GROUP == 0 {
                shown.push('-');
            }
            shown.push(char);
        }
        shown
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose_secret().as_bytes()).into()
    }
}

impl FromStr for RecoveryCode {
    type Err = Invalid;

    /// Capitals, spaces and hyphens do not matter.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text: String = text
            .chars()
            .filter(|char| !matches!(char, ' ' | '-'))
            .map(|char| char.to_ascii_lowercase())
            .take(CHARS + 1)
            .collect();
        if text.len() == CHARS && text.bytes().all(|byte| ALPHABET.contains(&byte)) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "malformed",
                "a recovery code is 16 of a-z and 2-7, as in abcd-efgh-ijkl-mnop",
            ))
        }
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "RecoveryCode")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::os_rng;

    #[test]
    fn a_code_is_known_however_it_is_typed() {
        let set = RecoveryCode::generate_set(&mut os_rng());
        assert_eq!(set.len(), CODES);
        let code = &set[0];
        let shown = code.expose();
        assert_eq!(shown.len(), 19);
        for typed in [
            shown.clone(),
            shown.to_uppercase(),
            shown.replace('-', " "),
            shown.replace('-', ""),
        ] {
            assert_eq!(typed.parse::<RecoveryCode>().unwrap().hash(), code.hash());
        }
        assert_ne!(set[1].hash(), code.hash());
        assert!(!format!("{code:?}").contains(&shown[..4]));
        for bad in ["", "abcd", "abcd-efgh-ijkl-mno1", "abcd-efgh-ijkl-mnopq"] {
            assert!(bad.parse::<RecoveryCode>().is_err(), "{bad}");
        }
    }
}
