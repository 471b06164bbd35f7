//! How often an address may try to sign in, over all logins.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::domain::session::Network;
use crate::services::denied::Denied;

/// How many attempts there may be at once.
const AT_ONCE: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// How long it takes until one more may be made, in seconds.
const ONE_MORE_SECONDS: u64 = 3;

/// How many addresses are kept apart. Those that have not tried for a minute are forgotten; beyond
/// this, newcomers share one allowance.
const ADDRESSES_MAX: usize = 50_000;

/// The attempts of each address.
pub struct Attempts {
    apart: DefaultKeyedRateLimiter<Option<Network>>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new(Duration::from_secs(ONE_MORE_SECONDS))
    }
}

impl Attempts {
    fn new(one_more: Duration) -> Self {
        // There is a quota for every period but none at all.
        let quota = Quota::with_period(one_more).unwrap_or(Quota::per_second(AT_ONCE));
        Self {
            apart: DefaultKeyedRateLimiter::keyed(quota.allow_burst(AT_ONCE)),
        }
    }

    /// Counts one attempt.
    ///
    /// # Errors
    /// [`Denied::TooManyAttempts`].
    pub(super) fn admit(&self, network: Network) -> Result<(), Denied> {
        self.admit_of(network, ADDRESSES_MAX)
    }

    fn admit_of(&self, network: Network, addresses_max: usize) -> Result<(), Denied> {
        if self.apart.len() >= addresses_max {
            self.apart.retain_recent();
        }
        let newcomers_share = self.apart.len() >= addresses_max;
        let key = (!newcomers_share).then_some(network);
        self.apart.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            Denied::TooManyAttempts { wait }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn network(last: u8) -> Network {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn each_address_has_so_many_at_once_and_more_with_time() {
        let attempts = Attempts::new(Duration::from_millis(20));
        for _ in 0..20 {
            assert!(attempts.admit(network(1)).is_ok());
        }
        let Err(Denied::TooManyAttempts { wait }) = attempts.admit(network(1)) else {
            panic!("one more was let in");
        };
        assert!(wait <= Duration::from_millis(20), "{wait:?}");
        assert!(attempts.admit(network(2)).is_ok());
        std::thread::sleep(Duration::from_millis(25));
        assert!(attempts.admit(network(1)).is_ok());
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let attempts = Attempts::default();
        for last in 0..=255 {
            attempts.admit_of(network(last), 10).ok();
        }
        assert!(attempts.apart.len() <= 11);
        assert!(attempts.admit_of(network(200), 10).is_err());
    }
}
