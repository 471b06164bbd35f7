//! What happened apart from applies, and how often: the last hundred events, and counters with
//! names for metrics. Both begin anew with each start of the agent, which `instance` tells.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::record::Outcome;
use shared::status::{Event, EventKind};
use uuid::Uuid;

use crate::clock::Clock;

/// How many events are kept.
const KEPT: usize = 100;
/// How many of them may tell of refused peers: a flood must not push out what matters.
const REFUSALS_KEPT: usize = 20;
/// At most one event of each [`Refused`] is told in this time.
const REFUSAL_PAUSE: Duration = Duration::from_mins(1);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Looks at the live files.
    DriftChecks,
    /// Looks that found files which are not what was applied, and had not been found before.
    DriftFound,
    /// Times that an apply replaced such files.
    DriftOverwritten,
    /// Peers that were refused in their handshake, or before it.
    HandshakesRefused,
    /// RPCs refused because the peer of an open connection would not be let in any more.
    PeersRefused,
    /// RPCs refused for any other reason.
    RpcsRefused,
    /// Uploads that did not become a staged bundle.
    UploadsRefused,
    /// Applies that ended, by outcome.
    Applies(Outcome),
}

/// Every outcome of an apply.
const OUTCOMES: [Outcome; 9] = [
    Outcome::Applied,
    Outcome::Unchanged,
    Outcome::Rejected,
    Outcome::WriteFailed,
    Outcome::ReloadFailedFilesKept,
    Outcome::RolledBack,
    Outcome::RollbackFailed,
    Outcome::ReloadUnknown,
    Outcome::Interrupted,
];

impl Counter {
    const PLAIN: [Self; 7] = [
        Self::DriftChecks,
        Self::DriftFound,
        Self::DriftOverwritten,
        Self::HandshakesRefused,
        Self::PeersRefused,
        Self::RpcsRefused,
        Self::UploadsRefused,
    ];

    fn name(self) -> String {
        let word = match self {
            Self::DriftChecks => "drift_checks",
            Self::DriftFound => "drift_found",
            Self::DriftOverwritten => "drift_overwritten",
            Self::HandshakesRefused => "handshakes_refused",
            Self::PeersRefused => "peers_refused",
            Self::RpcsRefused => "rpcs_refused",
            Self::UploadsRefused => "uploads_refused",
            Self::Applies(outcome) => return format!("pbx_agent_applies_{}_total", word(outcome)),
        };
        format!("pbx_agent_{word}_total")
    }
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Unchanged => "unchanged",
        Outcome::Rejected => "rejected",
        Outcome::WriteFailed => "write_failed",
        Outcome::ReloadFailedFilesKept => "reload_failed_files_kept",
        Outcome::RolledBack => "rolled_back",
        Outcome::RollbackFailed => "rollback_failed",
        Outcome::ReloadUnknown => "reload_unknown",
        Outcome::Interrupted => "interrupted",
    }
}

/// How somebody was refused. Told apart, so that a port scan does not hide a revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refused {
    /// No handshake came about.
    Handshake,
    /// A certificate that is not the portal's.
    Certificate,
    /// A peer that was let in once.
    OpenConnection,
}

/// See the module's text.
pub(crate) struct Events {
    instance: Uuid,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    next: u64,
    kept: VecDeque<Event>,
    counters: BTreeMap<String, u64>,
    /// When a refusal was told last, and how many were not told since.
    refusals: BTreeMap<Refused, (Instant, u64)>,
}

impl Events {
    /// Nothing has happened yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let applies = OUTCOMES.into_iter().map(Counter::Applies);
        let counters = Counter::PLAIN.into_iter().chain(applies);
        let state = State {
            next: 1,
            kept: VecDeque::with_capacity(KEPT),
            counters: counters.map(|counter| (counter.name(), 0)).collect(),
            refusals: BTreeMap::new(),
        };
        Self {
            instance: Uuid::now_v7(),
            clock,
            state: Mutex::new(state),
        }
    }

    /// Chosen at the start.
    pub(crate) fn instance(&self) -> String {
        self.instance.to_string()
    }

    /// Something happened.
    pub(crate) fn tell(&self, kind: EventKind, detail: impl Into<String>) {
        let detail = detail.into();
        tracing::warn!(event = kind.name(), detail, "event");
        self.push(&mut self.state(), kind, detail);
    }

    /// Somebody was refused at the door.
    pub(crate) fn refused(&self, how: Refused, why: String) {
        let mut state = self.state();
        let untold = match state.refusals.get_mut(&how) {
            Some((at, untold)) if at.elapsed() < REFUSAL_PAUSE => {
                *untold += 1;
                return;
            }
            Some((_, untold)) => *untold,
            None => 0,
        };
        state.refusals.insert(how, (Instant::now(), 0));
        let detail = match untold {
            0 => why,
            more => format!("{why} (and {more} more since the last of these)"),
        };
        self.push(&mut state, EventKind::PeerRefused, detail);
    }

    fn push(&self, state: &mut State, kind: EventKind, detail: String) {
        let refusal = |event: &Event| event.kind == EventKind::PeerRefused;
        let refusals = state.kept.iter().filter(|event| refusal(event)).count();
        if kind == EventKind::PeerRefused && refusals >= REFUSALS_KEPT {
            let oldest = state.kept.iter().position(refusal);
            oldest.and_then(|index| state.kept.remove(index));
        }
        if state.kept.len() >= KEPT {
            state.kept.pop_front();
        }
        let event = Event {
            sequence: state.next,
            at: self.clock.now(),
            kind,
            detail,
        };
        state.next += 1;
        state.kept.push_back(event);
    }

    /// Once more.
    pub(crate) fn count(&self, counter: Counter) {
        *self.state().counters.entry(counter.name()).or_default() += 1;
    }

    /// The last events, the oldest first.
    pub(crate) fn recent(&self) -> Vec<Event> {
        self.state().kept.iter().cloned().collect()
    }

    /// Every counter by its name.
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        self.state().counters.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn the_last_hundred_stay_and_a_flood_of_refusals_pushes_nothing_out() {
        let events = Events::new(Arc::new(SystemClock));
        events.tell(EventKind::DriftFound, "by hand");
        for number in 0..1000 {
            events.refused(Refused::Handshake, format!("peer {number}"));
            events.state().refusals.clear();
        }
        let kept = events.recent();
        assert_eq!(kept.len(), 1 + REFUSALS_KEPT);
        assert_eq!(kept[0].detail, "by hand");
        assert_eq!((kept[0].sequence, kept[20].sequence), (1, 1001));
        for number in 0..200 {
            events.tell(EventKind::DriftEnded, number.to_string());
        }
        let kept = events.recent();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[99].detail, "199");
    }

    #[test]
    fn refusals_are_told_once_a_minute_and_counted_in_between() {
        let events = Events::new(Arc::new(SystemClock));
        for _ in 0..5 {
            events.refused(Refused::Handshake, "silent".to_owned());
        }
        events.refused(Refused::Certificate, "revoked".to_owned());
        assert_eq!(events.recent().len(), 2);
        let past = Instant::now().checked_sub(REFUSAL_PAUSE * 2).unwrap();
        for (at, _) in events.state().refusals.values_mut() {
            *at = past;
        }
        events.refused(Refused::Handshake, "silent".to_owned());
        let told = events.recent().pop().map(|event| event.detail);
        assert_eq!(
            told.as_deref(),
            Some("silent (and 4 more since the last of these)")
        );
    }

    #[test]
    fn every_counter_has_its_own_name_and_begins_with_zero() {
        let events = Events::new(Arc::new(SystemClock));
        assert_eq!(
            events.counters().len(),
            Counter::PLAIN.len() + OUTCOMES.len()
        );
        events.count(Counter::Applies(Outcome::RolledBack));
        assert_eq!(events.counters()["pbx_agent_applies_rolled_back_total"], 1);
        assert_eq!(events.counters()["pbx_agent_drift_checks_total"], 0);
    }
}
