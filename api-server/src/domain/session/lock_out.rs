//! How long a login stays locked after how many failures.

use time::Duration;

/// How many failures are free.
const FREE: u32 = 4;

/// How long the first failure beyond that locks.
const FIRST: Duration = Duration::seconds(30);

/// The longest lock: nobody is locked out for good.
const LONGEST: Duration = Duration::minutes(15);

/// After how long without another failure the count begins anew.
pub const FORGOTTEN_AFTER: Duration = Duration::days(1);

/// For how long a login is locked by its `failures`th failure; `None`: not at all.
pub fn locked_for(failures: u32) -> Option<Duration> {
    let beyond = failures.checked_sub(FREE + 1)?;
    // Larger shifts are longer than the longest lock anyway.
    let factor = 1_i32 << beyond.min(16);
    Some((FIRST * factor).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lock_is_twice_as_long_as_the_one_before_up_to_a_limit() {
        let seconds = |failures| locked_for(failures).map(Duration::whole_seconds);
        for failures in 0..=4 {
            assert_eq!(seconds(failures), None);
        }
        for (failures, locked) in [(5, 30), (6, 60), (7, 120), (8, 240), (9, 480), (10, 900)] {
            assert_eq!(seconds(failures), Some(locked));
        }
        assert_eq!(seconds(11), Some(900));
        assert_eq!(seconds(u32::MAX), Some(900));
    }
}
