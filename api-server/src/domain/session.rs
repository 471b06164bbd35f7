//! Sessions: what is shown of them, and the secrets by which they are continued.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use super::account::SessionId;
use super::token::{Token, TokenKind};
use super::{AccountId, Invalid, Login, Version, breaks_a_line, redacted, typed_id};

mod lock_out;

pub use lock_out::{FORGOTTEN_AFTER, locked_for};

typed_id! {
    /// Which key access tokens are signed with.
    SigningKeyId
}

/// How long an access token is good for.
pub const ACCESS_TOKEN_LIFE: Duration = Duration::minutes(10);

/// How long a session stays in the tables after its end.
pub const KEPT_AFTER_END: Duration = Duration::days(7);

/// How often it is written down that a session or API token was used, at most.
pub const USE_NOTED_EVERY: Duration = Duration::minutes(1);

/// Longest note of what a session was opened with, in characters.
const USER_AGENT_CHARS_MAX: usize = 200;

/// Longest login that is looked up, in characters.
const LOGIN_CHARS_MAX: usize = 254;

/// What opens a session's next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// Access tokens, and refresh tokens to get more of them.
    Bearer,
    /// The cookie of a browser.
    Cookie,
}

impl SessionKind {
    const ALL: [Self; 2] = [Self::Bearer, Self::Cookie];

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Cookie => "cookie",
        }
    }

    /// How long such a session lasts without being used.
    pub const fn idle_limit(self) -> Duration {
        match self {
            Self::Bearer => Duration::days(30),
            Self::Cookie => Duration::hours(12),
        }
    }

    /// How long it lasts, however much it is used.
    pub const fn limit(self) -> Duration {
        match self {
            Self::Bearer => Duration::days(90),
            Self::Cookie => Duration::days(7),
        }
    }
}

impl FromStr for SessionKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or(Invalid::new(
            "unknown_value",
            "must be \"bearer\" or \"cookie\"",
        ))
    }
}

/// Why a session is over before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// By itself.
    SignedOut,
    /// By another session of the account.
    Revoked,
    /// Its browser signed in again.
    Replaced,
    /// A refresh token came a second time: one of the two who have it stole it.
    RefreshReused,
    /// The account has another password.
    PasswordChanged,
    /// The account may do something else, or nothing any more.
    AccountChanged,
}

impl EndReason {
    /// The word that the database and the audit trail use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Revoked => "revoked",
            Self::Replaced => "replaced",
            Self::RefreshReused => "refresh_reused",
            Self::PasswordChanged => "password_changed",
            Self::AccountChanged => "account_changed",
        }
    }
}

/// Somebody who has signed in.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which one.
    pub id: SessionId,
    /// Whose.
    pub account: AccountId,
    /// What opens its next request.
    pub kind: SessionKind,
    /// Whether a second factor was shown.
    pub second_factor: bool,
    /// Where it was opened from.
    pub source_address: String,
    /// What it was opened with.
    pub user_agent: UserAgent,
    /// When.
    pub created_at: OffsetDateTime,
    /// When it was last used, to a minute.
    pub last_used_at: OffsetDateTime,
    /// When it ends unless it is used before.
    pub idle_until: OffsetDateTime,
    /// When it ends at the latest.
    pub expires_at: OffsetDateTime,
    /// Its state.
    pub version: Version,
}

/// What a client says it is: one line, at most 200 characters. Never trusted, only shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent(String);

impl UserAgent {
    /// What can be shown of a header.
    pub fn of(header: &[u8]) -> Self {
        let text = String::from_utf8_lossy(header);
        let shown = text.trim().chars().filter(|c| !breaks_a_line(*c));
        Self(shown.take(USER_AGENT_CHARS_MAX).collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What somebody typed as login, in lower case: 1 to 254 characters. There may be no such account.
#[derive(Clone)]
pub struct TypedLogin(String);

impl TypedLogin {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TypedLogin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Invalid::new("empty", "must not be empty"));
        }
        if text.chars().count() > LOGIN_CHARS_MAX {
            return Err(Invalid::new(
                "too_long",
                "must be at most 254 characters long",
            ));
        }
        if text.chars().any(breaks_a_line) {
            return Err(Invalid::new(
                "control_character",
                "must not hold control characters or line breaks",
            ));
        }
        Ok(Self(text.to_lowercase()))
    }
}

impl From<&Login> for TypedLogin {
    /// That of an account.
    fn from(login: &Login) -> Self {
        Self(login.as_str().to_owned())
    }
}

impl fmt::Debug for TypedLogin {
    /// People type passwords there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "TypedLogin")
    }
}

/// A keyed hash of a login, under which failures with it are counted, whether there is such an account or
/// not: people type passwords there, so whoever has only the database must not be able to try them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginHash(pub [u8; 32]);

impl fmt::Display for LoginHash {
    /// As much as is needed to tell logins apart in the audit trail.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.iter().take(8);
        start
            .into_iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who is counted together at sign-in: an IPv4 address, or the /64 network of an IPv6 address, which is
/// what one household or host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// What is exchanged, once, for an access token and the next of its kind.
#[derive(Clone, Debug)]
pub struct RefreshToken(Token);

impl RefreshToken {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Token::generate(TokenKind::Refresh, rng))
    }

    /// The clear text, to be shown once.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What is stored of it.
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash()
    }
}

impl FromStr for RefreshToken {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let token = Token::read(TokenKind::Refresh, text);
        token.map(Self).ok_or(Invalid::new(
            "malformed",
            "must be a refresh token: pbxr_ and 43 characters",
        ))
    }
}

/// What the cookie of a browser's session holds.
#[derive(Clone, Debug)]
pub struct CookieSecret(Token);

impl CookieSecret {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Token::generate(TokenKind::Cookie, rng))
    }

    /// Reads what a cookie holds; `None` when it can be none of these.
    pub fn read(text: &str) -> Option<Self> {
        Token::read(TokenKind::Cookie, text).map(Self)
    }

    /// The clear text, for the cookie.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What is stored of it.
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash()
    }

    /// What a page of the portal must send with each change, so that other sites, which cannot read
    /// it, can cause none.
    pub fn csrf_token(&self) -> CsrfToken {
        let mut hasher = Sha256::new();
        hasher.update(b"csrf");
        hasher.update(self.expose().as_bytes());
        CsrfToken(URL_SAFE_NO_PAD.encode(hasher.finalize()).into())
    }
}

/// See [`CookieSecret::csrf_token`].
#[derive(Clone)]
pub struct CsrfToken(SecretString);

impl CsrfToken {
    /// The text, for the page.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether a header says the same, in a time that does not tell how much of it is right.
    pub fn is(&self, said: &[u8]) -> bool {
        Sha256::digest(said) == Sha256::digest(self.expose().as_bytes())
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "CsrfToken")
    }
}

#[cfg(test)]
mod tests;
