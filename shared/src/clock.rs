//! The time, as a seam: tests set it.

use time::OffsetDateTime;

/// Tells what time it is. Deadlines do not use it: they are monotonic.
pub trait Clock: Send + Sync {
    /// Now, in UTC and whole microseconds, which is what PostgreSQL keeps: a time reads back as it
    /// was written.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_in_whole_microseconds() {
        assert_eq!(SystemClock.now().nanosecond() % 1000, 0);
    }
}
