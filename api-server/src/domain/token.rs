//! Tokens that stand for somebody: random, shown once, and kept as a hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::{Invalid, redacted};

/// Of each token, so that nobody guesses one.
const RANDOM_BYTES: usize = 32;

/// What [`RANDOM_BYTES`] are in base64url.
const RANDOM_CHARS: usize = 43;

/// What a token is for. Its first letters say it, so that one that was found is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Lets a program in.
    Api,
    /// Sets a password, once.
    Reset,
    /// Is exchanged, once, for an access token and the next of its kind.
    Refresh,
    /// Is what the cookie of a browser holds, of which nobody sees more than that.
    Cookie,
}

impl TokenKind {
    /// What tokens of the kind begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Api => "pbxt_",
            Self::Reset => "pbxp_",
            Self::Refresh => "pbxr_",
            Self::Cookie => "",
        }
    }
}

/// A token in clear. Whoever has it is taken for whom it stands for.
#[derive(Clone)]
pub struct Token(SecretString);

impl Token {
    /// A fresh one.
    pub fn generate(kind: TokenKind, rng: &mut impl CryptoRng) -> Self {
        let mut random = [0; RANDOM_BYTES];
        rng.fill_bytes(&mut random);
        let text = format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(random));
        Self(text.into())
    }

    /// Reads one of that kind; `None` when the text can be none.
    pub fn read(kind: TokenKind, text: &str) -> Option<Self> {
        let random = text.strip_prefix(kind.prefix())?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let whole = random.len() == RANDOM_CHARS && random.bytes().all(plain);
        whole.then(|| Self(text.to_owned().into()))
    }

    /// The clear text, for whoever it was made for.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is kept of it. A fast hash suffices, because nobody can try all tokens.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.expose().as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "Token")
    }
}

/// A token that sets a password, as it was given to somebody.
#[derive(Clone, Debug)]
pub struct ResetToken(pub Token);

impl FromStr for ResetToken {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let token = Token::read(TokenKind::Reset, text.trim());
        token.map(Self).ok_or(Invalid::new(
            "malformed",
            "must be a token of a password reset: pbxp_ and 43 characters",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::os_rng;

    #[test]
    fn a_token_is_read_as_what_it_is_and_shows_nothing() {
        let token = Token::generate(TokenKind::Api, &mut os_rng());
        let text = token.expose().to_owned();
        assert_eq!(text.len(), "pbxt_".len() + RANDOM_CHARS);
        let again = Token::read(TokenKind::Api, &text).unwrap();
        assert_eq!(again.hash(), token.hash());
        assert!(!format!("{token:?}").contains(&text[5..]));
        assert!(Token::read(TokenKind::Reset, &text).is_none());
        let long = format!("{text}a");
        let hostile = text.replace(&text[10..12], "é");
        for bad in ["", "pbxt_", &text[1..], &text[..47], &long, &hostile] {
            assert!(Token::read(TokenKind::Api, bad).is_none(), "{bad}");
        }
        let other = Token::generate(TokenKind::Api, &mut os_rng());
        assert_ne!(other.hash(), token.hash());
    }
}
