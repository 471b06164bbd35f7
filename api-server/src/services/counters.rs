//! What this portal has counted since it started, by names that a metric would have.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::apply::AttemptOutcome;

/// Questions to the agent about its state.
pub const MONITOR_POLLS: &str = "pbx_portal_monitor_polls_total";

/// Those of them that brought no answer.
pub const MONITOR_FAILURES: &str = "pbx_portal_monitor_failures_total";

/// Events that this portal was the first to record.
pub const EVENTS_RECORDED: &str = "pbx_portal_events_recorded_total";

/// Open attempts that were closed afterwards.
pub const RECONCILED: &str = "pbx_portal_applies_reconciled_total";

/// Applies that were accepted to run on their own.
pub const ACCEPTED: &str = "pbx_portal_applies_accepted_total";

/// Applies that are followed by somebody now.
pub const FOLLOWERS: &str = "pbx_portal_followers";

/// Comparisons in full that were asked for.
pub const VERIFICATIONS: &str = "pbx_portal_verifications_total";

/// Requests that were turned away because there was too much to do.
pub const OVERLOADED: &str = "pbx_portal_overloaded_total";

/// The counters of one process.
#[derive(Debug)]
pub struct Counters(Mutex<BTreeMap<String, u64>>);

impl Default for Counters {
    /// All of them, at zero: a counter that is missing cannot be told from one that stands still.
    fn default() -> Self {
        let plain = [
            MONITOR_POLLS,
            MONITOR_FAILURES,
            EVENTS_RECORDED,
            RECONCILED,
            ACCEPTED,
            VERIFICATIONS,
            OVERLOADED,
        ];
        let ended = AttemptOutcome::ALL.into_iter().filter(|o| o.has_ended());
        let names = plain.map(str::to_owned).into_iter().chain(ended.map(of));
        Self(Mutex::new(names.map(|name| (name, 0)).collect()))
    }
}

impl Counters {
    /// Counts one more.
    pub fn count(&self, name: &str) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counters.entry(name.to_owned()).or_default() += 1;
    }

    /// Counts an apply of this portal that ended.
    pub fn count_ended(&self, outcome: AttemptOutcome) {
        self.count(&of(outcome));
    }

    /// All of them.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.clone()
    }
}

fn of(outcome: AttemptOutcome) -> String {
    format!("pbx_portal_applies_{}_total", outcome.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_there_from_the_start() {
        let counters = Counters::default();
        let busy = "pbx_portal_applies_busy_total";
        assert_eq!(counters.read().get(busy), Some(&0));
        counters.count_ended(AttemptOutcome::Busy);
        counters.count(MONITOR_POLLS);
        let read = counters.read();
        assert_eq!((read[busy], read[MONITOR_POLLS]), (1, 1));
        assert!(!read.keys().any(|name| name.contains("queued")));
    }
}
