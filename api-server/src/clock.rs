//! Where time and randomness come from: the only places that ask the operating system.

use rand::CryptoRng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use time::OffsetDateTime;

/// What tells the time.
pub trait Clock: Send + Sync {
    /// Now, in whole microseconds, which is what PostgreSQL keeps: a time reads back as it was
    /// written.
    fn now(&self) -> OffsetDateTime;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the machine's clock"
    )]
    fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        let microsecond = now.microsecond();
        now.replace_microsecond(microsecond).unwrap_or(now)
    }
}

/// Milliseconds since 1970 UTC, for ids; zero for a clock that stands before that.
pub fn unix_ms(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

/// The random number generator of the operating system. Linux's cannot fail once it was seeded at
/// boot, so its error type is unwrapped here.
pub fn os_rng() -> impl CryptoRng + Send + use<> {
    UnwrapErr(SysRng)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_in_whole_microseconds() {
        assert_eq!(SystemClock.now().nanosecond() % 1000, 0);
    }
}
