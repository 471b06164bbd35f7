//! What goes on on a connection: whose turn it is in each of its requests, the portal's or the peer's.
//!
//! While it is the portal's turn in one of them, the connection waits for nobody. Otherwise the peer
//! keeps it, and may not do so for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a connection may stay without a request, and an answer without any of it being taken.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Who has to do something next in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The portal works on it.
    Portal,
    /// The peer has more of the body to send. Whoever reads that has a deadline of its own.
    Sender,
    /// The peer has more of the answer to take.
    Taker,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// It had no request for a while.
    Idle {
        /// Whether it ever had one.
        asked: bool,
    },
    /// Nothing of an answer was taken for a while.
    Stalled,
}

/// What goes on on one connection.
pub(super) struct Activity {
    state: Mutex<State>,
    waits: Arc<Notify>,
}

struct State {
    /// How many requests there were.
    asked: u64,
    /// When anything went on last.
    since: Instant,
    /// Whose turn it is, and since when.
    requests: BTreeMap<u64, (Turn, Instant)>,
}

impl State {
    fn is_worked_on(&self) -> bool {
        let mut turns = self.requests.values();
        turns.any(|(turn, _)| *turn == Turn::Portal)
    }
}

impl Activity {
    /// Of a connection that was just accepted. `waits` is told whenever it waits for its peer.
    pub(super) fn new(waits: Arc<Notify>) -> Self {
        Self {
            state: Mutex::new(State {
                asked: 0,
                since: Instant::now(),
                requests: BTreeMap::new(),
            }),
            waits,
        }
    }

    /// A request has begun; it is the portal's turn.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let now = Instant::now();
        let mut state = self.state();
        let id = state.asked;
        state.asked += 1;
        state.since = now;
        state.requests.insert(id, (Turn::Portal, now));
        drop(state);
        UnderWay(Request {
            activity: Arc::clone(self),
            id,
        })
    }

    /// Since when it has waited for its peer; `None`: the portal works for it.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let state = self.state();
        (!state.is_worked_on()).then_some(state.since)
    }

    /// Returns when the connection has to end.
    pub(super) async fn over(&self) -> Over {
        loop {
            // Whatever begins from now on may last as long as the patience does.
            let now = Instant::now();
            let (until, over) = self.limit().unwrap_or((now + PATIENCE, Over::Stalled));
            if until <= now {
                return over;
            }
            sleep_until(until.min(now + PATIENCE)).await;
        }
    }

    /// Until when it may go on like this.
    fn limit(&self) -> Option<(Instant, Over)> {
        let state = self.state();
        let answers = state.requests.values();
        let answers = answers.filter(|(turn, _)| *turn == Turn::Taker);
        if let Some(since) = answers.map(|(_, since)| *since).min() {
            return Some((since + PATIENCE, Over::Stalled));
        }
        let asked = state.asked > 0;
        let idle = state.requests.is_empty();
        idle.then(|| (state.since + PATIENCE, Over::Idle { asked }))
    }

    fn change(&self, change: impl FnOnce(&mut State, Instant)) {
        let now = Instant::now();
        let mut state = self.state();
        change(&mut state, now);
        state.since = now;
        let waits = !state.is_worked_on();
        drop(state);
        if waits {
            self.waits.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request of a connection.
#[derive(Clone)]
pub(super) struct Request {
    activity: Arc<Activity>,
    id: u64,
}

impl Request {
    /// Whose turn it is now.
    pub(super) fn turn(&self, turn: Turn) {
        self.activity.change(|state, now| {
            if let Some(request) = state.requests.get_mut(&self.id) {
                *request = (turn, now);
            }
        });
    }
}

/// A request under way: from its head to the last byte of its answer.
pub(super) struct UnderWay(Request);

impl UnderWay {
    /// Which request.
    pub(super) const fn request(&self) -> &Request {
        &self.0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Request { activity, id } = &self.0;
        activity.change(|state, _| {
            state.requests.remove(id);
        });
    }
}
