//! Plain values without I/O. Each newtype has one constructor, and that constructor checks: whoever
//! holds one need not check again.

use std::fmt;

use uuid::{Builder, Uuid};

pub mod access;
pub mod account;
pub mod admin;
pub mod api_token;
pub mod apply;
pub mod audit;
pub mod bulk;
pub mod calling;
pub mod change;
pub mod device;
pub mod diff;
pub mod event;
pub mod idempotency;
pub mod metadata;
pub mod page;
pub mod password;
pub mod patch;
pub mod pbx;
pub mod recovery;
pub mod revision;
pub mod session;
pub mod snapshot;
pub mod status;
pub mod tenant;
pub mod token;
pub mod totp;
pub mod user;
pub mod version;
pub mod viewer;

pub use access::{Permission, Reach, Role, Within};
pub use account::{AccountId, Login};
pub use admin::{Actor, ActorKey, AdminUser, Principal, RequestId};
pub use device::{DeviceId, DeviceSlot};
pub use metadata::Metadata;
pub use pbx::{PbxId, PbxName, SipRealm};
pub use tenant::{TenantId, TenantNumber};
pub use user::{DisplayName, Email, ExtensionNumber, SipPassword, UserId};
pub use version::{Expected, Version};

/// Why a value was refused: a stable code, and a sentence that never repeats the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// For programs, e.g. `too_long`.
    pub code: &'static str,
    /// For people: what is expected.
    pub message: &'static str,
}

impl Invalid {
    const fn new(code: &'static str, message: &'static str) -> Self {
        Self { code, message }
    }
}

impl From<std::convert::Infallible> for Invalid {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// A version 7 UUID of the instant `unix_ms` (milliseconds since 1970 UTC), so that ids sort by
/// time and indexes grow at their end.
pub fn uuid_v7(unix_ms: u64, rng: &mut impl rand::CryptoRng) -> Uuid {
    let mut random = [0; 10];
    rng.fill_bytes(&mut random);
    Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
}

/// Declares a UUID that cannot be mistaken for the id of something else.
macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub uuid::Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
use typed_id;

/// Whether a character may not stand in one line of text: ASCII and C1 controls (U+0085 is one of
/// them) and the two Unicode line ends.
fn breaks_a_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// What a person calls something: one line in which no character turns others around, with something
/// to be seen.
fn legible(name: &str) -> Result<(), Invalid> {
    let refused = |message| Err(Invalid::new("control_character", message));
    if name.chars().any(breaks_a_line) {
        return refused("must not hold control characters or line breaks");
    }
    if name.chars().any(turns_others_around) {
        return refused("must not hold characters that change the direction of others");
    }
    if name.chars().all(shows_nothing) {
        return Err(Invalid::new("empty", "must hold something to be seen"));
    }
    Ok(())
}

/// The marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9): with them a
/// name is shown as another one. Scripts from right to left need none.
const fn turns_others_around(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// White space, what Unicode calls default ignorable, and what is drawn as an empty square of Braille.
fn shows_nothing(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fff8}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Shows that there is a secret, and nothing of it.
fn redacted(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    write!(f, "{name}(…)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_legible_and_reads_as_it_is_written() {
        for good in [
            "Ann",
            "עברית",
            "a\u{200b}b",
            "👩‍👩‍👧",
            "e\u{301}",
            "\u{fe0f}1",
            ";",
        ] {
            assert_eq!(legible(good), Ok(()), "{good:?}");
        }
        for (bad, code) in [
            ("a\nb", "control_character"),
            ("a\u{85}b", "control_character"),
            ("a\u{2028}b", "control_character"),
            ("nimda\u{202e}", "control_character"),
            ("\u{2066}a\u{2069}", "control_character"),
            ("a\u{200f}", "control_character"),
            ("a\u{61c}", "control_character"),
            ("\u{200b}", "empty"),
            ("\u{3164}\u{2800}\u{a0}", "empty"),
            ("\u{e0041}\u{feff}", "empty"),
        ] {
            assert_eq!(legible(bad).map_err(|e| e.code), Err(code), "{bad:?}");
        }
    }
}
