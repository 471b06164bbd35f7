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
mod name;
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

use name::{breaks_a_line, legible, name};

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

/// Shows that there is a secret, and nothing of it.
fn redacted(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    write!(f, "{name}(…)")
}
