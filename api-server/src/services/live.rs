//! The applies of this process while they run, for whoever follows them: where each stands, and
//! how it ended. Kept in memory, so that following needs no database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::bundle::ApplyId;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::domain::PbxId;
use crate::domain::apply::Attempt;

/// Followers at a time, in all.
const FOLLOWERS_MAX: usize = 64;

/// Most states of one apply that are kept: a link that flickers must not fill memory.
const STATES_MAX: usize = 64;

/// Where an apply stands, as far as the portal itself is concerned. What the agent does is told by
/// its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for its turn.
    Waiting,
    /// The configuration is read from the database and rendered.
    Rendering,
    /// The attempt is committed, and its bundle goes to the agent.
    Sending,
    /// The agent was told to bring it into force.
    Running,
    /// The agent's answer was lost; the portal asks again.
    AgentLost,
    /// The agent did not answer for so long that the request was given up; the portal goes on
    /// asking.
    OutcomeUnknown,
    /// Another portal has it: it is sent, or about to be.
    Started,
    /// The database does not say how it stands; the portal goes on asking.
    DatabaseLost,
}

impl State {
    /// The word that the API uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Rendering => "rendering",
            Self::Sending => "sending",
            Self::Running => "running",
            Self::AgentLost => "agent_lost",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Started => "started",
            Self::DatabaseLost => "database_lost",
        }
    }
}

/// A state and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub at: OffsetDateTime,
}

/// What is known of an apply of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Every state so far.
    pub(super) states: Vec<Told>,
    /// The attempt, once it has ended.
    pub(super) ended: Option<Arc<Attempt>>,
}

/// An apply of this process.
struct Running {
    pbx: PbxId,
    progress: watch::Sender<Progress>,
}

/// The applies of this process, and who follows any.
pub struct Live {
    applies: Mutex<HashMap<ApplyId, Running>>,
    places: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            applies: Mutex::default(),
            places: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            stopping: watch::Sender::new(false),
        }
    }
}

impl Live {
    /// An apply begins; it is forgotten when the value is dropped, whatever becomes of it.
    pub(super) fn begin(&self, id: ApplyId, pbx: PbxId) -> Begun<'_> {
        let progress = watch::Sender::new(Progress::default());
        self.lock().insert(id, Running { pbx, progress });
        Begun { live: self, id }
    }

    /// Says where an apply of this process stands.
    pub(super) fn tell(&self, id: ApplyId, state: State, at: OffsetDateTime) {
        self.change(id, |progress| {
            let last = progress.states.last().map(|told| told.state);
            if last == Some(state) || progress.states.len() == STATES_MAX {
                return false;
            }
            progress.states.push(Told { state, at });
            true
        });
    }

    fn change(&self, id: ApplyId, change: impl FnOnce(&mut Progress) -> bool) {
        if let Some(running) = self.lock().get(&id) {
            running.progress.send_if_modified(change);
        }
    }

    /// An apply of this process that runs.
    pub(super) fn find(&self, id: ApplyId) -> Option<watch::Receiver<Progress>> {
        Some(self.lock().get(&id)?.progress.subscribe())
    }

    /// Likewise, with the PBX that it runs on.
    pub(super) fn find_on(&self, id: ApplyId) -> Option<(PbxId, watch::Receiver<Progress>)> {
        let applies = self.lock();
        let running = applies.get(&id)?;
        Some((running.pbx, running.progress.subscribe()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ApplyId, Running>> {
        self.applies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more follower; `None` when there are too many.
    pub(super) fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// How many follow.
    pub(super) fn followers(&self) -> usize {
        FOLLOWERS_MAX - self.places.available_permits()
    }

    /// Ends every stream of a follower, now and from now on.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Resolves when [`Live::stop`] was called.
    pub(super) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // Without a sender there is no portal any more.
            stopping.wait_for(|stopping| *stopping).await.ok();
        }
    }
}

/// An apply that is being run.
pub(super) struct Begun<'a> {
    live: &'a Live,
    id: ApplyId,
}

impl Begun<'_> {
    /// It has ended like this.
    pub(super) fn end(self, attempt: &Attempt) {
        let attempt = Arc::new(attempt.clone());
        self.live.change(self.id, |progress| {
            progress.ended = Some(attempt);
            true
        });
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.live.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pbx::DEFAULT_PBX;

    #[test]
    fn states_are_kept_in_order_bounded_and_forgotten_with_the_apply() {
        let (live, at) = (Live::default(), OffsetDateTime::UNIX_EPOCH);
        let id = ApplyId(uuid::Uuid::nil());
        let begun = live.begin(id, DEFAULT_PBX);
        for _ in 0..STATES_MAX {
            live.tell(id, State::Running, at);
            live.tell(id, State::Running, at);
            live.tell(id, State::AgentLost, at);
        }
        let follower = live.find(id).unwrap();
        let states = follower.borrow().states.clone();
        assert_eq!(states.len(), STATES_MAX);
        assert_eq!(states[1].state, State::AgentLost);
        drop(begun);
        assert!(live.find(id).is_none());
        // Whoever follows keeps what was said last.
        assert_eq!(follower.borrow().states.len(), STATES_MAX);
    }

    #[test]
    fn places_are_bounded() {
        let live = Live::default();
        let places: Vec<_> = std::iter::from_fn(|| live.take_place()).collect();
        assert_eq!(
            (places.len(), live.followers()),
            (FOLLOWERS_MAX, FOLLOWERS_MAX)
        );
        drop(places);
        assert_eq!(live.followers(), 0);
    }
}
