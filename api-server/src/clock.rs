//! Where time and randomness come from: the only places that ask the operating system.

use rand::CryptoRng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use time::OffsetDateTime;

pub use shared::clock::{Clock, SystemClock};

/// Milliseconds since 1970 UTC, for ids; zero for a clock that stands before that.
pub fn unix_ms(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

/// The random number generator of the operating system. Linux's cannot fail once it was seeded at
/// boot, so its error type is unwrapped here.
pub fn os_rng() -> impl CryptoRng + Send + use<> {
    UnwrapErr(SysRng)
}
