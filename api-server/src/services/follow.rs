//! Following an apply: its states and steps as they come, then its end. Works for an apply of this
//! portal, of another one, for one that ended long ago, and across restarts of the agent and of the
//! database.
//!
//! Each follower has a task, which hands what it finds to the caller through a short channel: a
//! slow caller holds up its own task and nothing else.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use shared::bundle::ApplyId;
use shared::record::Step;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _};

use super::live::{Progress, State, Told};
use super::pbxes::{self, Pbx};
use super::{Error, Portal, applies};
use crate::agent::AgentError;
use crate::db::{self, DbError};
use crate::domain::apply::{Attempt, AttemptOutcome};
use crate::domain::viewer::{Seen as _, Viewer};

/// What is found but not taken yet.
const PENDING_MAX: usize = 4;

/// How long a caller may take for one event, in seconds.
const TAKE_SECONDS: u64 = 30;

/// How often the database is asked about an apply of another portal, in milliseconds.
const ROW_POLL_MS: u64 = 500;

/// Pause before the agent is asked again for the steps, in milliseconds.
const STEPS_PAUSE_MS: u64 = 250;

/// Something that a follower hears.
#[derive(Debug)]
pub enum Heard {
    /// Where the apply stands.
    State(Told),
    /// The step at this position of the record has ended.
    Step(u32, Step),
    /// The apply has ended; nothing follows.
    Ended(Arc<Attempt>),
}

/// Follows an apply whose first `known` steps are known already, as the viewer may see it.
///
/// # Errors
/// [`Error::ApplyNotFound`], and [`Error::Overloaded`] when too many follow.
pub async fn follow(
    portal: Arc<Portal>,
    viewer: Viewer,
    id: ApplyId,
    known: u32,
) -> Result<mpsc::Receiver<Heard>, Error> {
    let place = portal
        .live
        .take_place()
        .ok_or(Error::Overloaded("too many applies are being followed"))?;
    let own = portal.live.find_on(id);
    let first = match &own {
        Some(_) => None,
        None => Some(applies::find(&portal, id).await?),
    };
    let of_first = first.as_ref().map(|attempt| attempt.pbx_id);
    let pbx = own.as_ref().map(|(pbx, _)| *pbx).or(of_first);
    if !pbx.is_some_and(|pbx| viewer.sees(pbx)) {
        return Err(Error::ApplyNotFound);
    }
    let own = own.map(|(_, own)| own);
    // One that is no longer in service has nothing to tell.
    let pbx = match pbx {
        Some(pbx) if first.as_ref().is_none_or(|a| !a.outcome.has_ended()) => {
            pbxes::find(&portal, &pbx.into()).await.ok()
        }
        Some(_) | None => None,
    };
    let (sender, receiver) = mpsc::channel(PENDING_MAX);
    let stopping = portal.live.stopping();
    let follower = Follower {
        portal,
        viewer,
        pbx,
        id,
        known,
        resumed: known > 0,
        out: sender.clone(),
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = follower.run(own, first) => {}
            () = stopping => {}
            () = sender.closed() => {}
        }
        drop(place);
    });
    Ok(receiver)
}

/// The caller is gone, or takes nothing.
struct Gone;

struct Follower {
    portal: Arc<Portal>,
    viewer: Viewer,
    pbx: Option<Arc<Pbx>>,
    id: ApplyId,
    known: u32,
    resumed: bool,
    out: mpsc::Sender<Heard>,
}

impl Follower {
    async fn run(
        mut self,
        own: Option<watch::Receiver<Progress>>,
        first: Option<Attempt>,
    ) -> Result<(), Gone> {
        if let Some(attempt) = first.filter(|attempt| attempt.outcome.has_ended()) {
            return self.end(Arc::new(attempt)).await;
        }
        let mut source = Source::new(Arc::clone(&self.portal), self.id, own, self.resumed);
        let mut steps = Steps::new(self.pbx.clone(), self.id, self.known);
        loop {
            tokio::select! {
                // What is said first comes first: the steps belong after the state.
                biased;
                news = source.next() => match news {
                    News::State(told) => self.say(Heard::State(told)).await?,
                    News::Ended(attempt) => return self.end(attempt).await,
                },
                (index, step) = steps.next() => {
                    self.known = index + 1;
                    self.say(Heard::Step(index, step)).await?;
                }
            }
        }
    }

    /// The rest of the steps, from the record, and the end.
    async fn end(&self, attempt: Arc<Attempt>) -> Result<(), Gone> {
        let steps = attempt.record.iter().flat_map(|record| &record.steps);
        for (index, step) in (0_u32..).zip(steps) {
            if index >= self.known {
                self.say(Heard::Step(index, step.clone())).await?;
            }
        }
        self.say(Heard::Ended(attempt)).await
    }

    async fn say(&self, heard: Heard) -> Result<(), Gone> {
        let limit = Duration::from_secs(TAKE_SECONDS);
        let heard = heard.seen_by(self.viewer);
        self.out.send_timeout(heard, limit).await.map_err(|_| Gone)
    }
}

enum News {
    State(Told),
    Ended(Arc<Attempt>),
}

/// Where the states and the end come from: this process while it runs the apply, the database
/// otherwise.
struct Source {
    portal: Arc<Portal>,
    id: ApplyId,
    own: Option<watch::Receiver<Progress>>,
    /// How many of this process's states were told.
    told: usize,
    last: Option<State>,
    next_poll: Instant,
}

impl Source {
    fn new(
        portal: Arc<Portal>,
        id: ApplyId,
        own: Option<watch::Receiver<Progress>>,
        resumed: bool,
    ) -> Self {
        // Whoever comes back has heard the earlier states.
        let states = own.as_ref().map_or(0, |own| own.borrow().states.len());
        Self {
            portal,
            id,
            own,
            told: if resumed { states.saturating_sub(1) } else { 0 },
            last: None,
            next_poll: Instant::now(),
        }
    }

    /// Keeps its place when it is dropped and called again.
    async fn next(&mut self) -> News {
        loop {
            let news = match &mut self.own {
                Some(own) => {
                    let untold = own.borrow_and_update().states.get(self.told).copied();
                    if let Some(told) = untold {
                        self.told += 1;
                        self.last = Some(told.state);
                        return News::State(told);
                    }
                    let ended = own.borrow().ended.clone();
                    if let Some(attempt) = ended {
                        return News::Ended(attempt);
                    }
                    if own.changed().await.is_err() {
                        // Given up without an end; the row is closed by the reconciler.
                        self.own = None;
                        Some(State::OutcomeUnknown)
                    } else {
                        None
                    }
                }
                None => match self.poll().await {
                    Ok(news) => return news,
                    Err(state) => state,
                },
            };
            if let Some(state) = news.filter(|state| self.is_new(*state)) {
                self.last = Some(state);
                let at = self.portal.clock.now();
                return News::State(Told { state, at });
            }
        }
    }

    /// Between "given up" and "it runs" nothing new is known.
    fn is_new(&self, state: State) -> bool {
        let given_up = self.last == Some(State::OutcomeUnknown) && state == State::Started;
        self.last != Some(state) && !given_up
    }

    /// Asks the database, not too often.
    async fn poll(&mut self) -> Result<News, Option<State>> {
        tokio::time::sleep_until(self.next_poll).await;
        self.next_poll = Instant::now() + Duration::from_millis(ROW_POLL_MS);
        match self.outcome().await {
            Ok(Some(AttemptOutcome::Queued)) => Err(Some(State::Waiting)),
            Ok(Some(AttemptOutcome::Started)) => Err(Some(State::Started)),
            Ok(Some(_)) => match applies::find(&self.portal, self.id).await {
                Ok(attempt) => Ok(News::Ended(Arc::new(attempt))),
                Err(_) => Err(Some(State::DatabaseLost)),
            },
            Err(DbError::Busy) => Err(None),
            // A row is never removed; a database may be replaced by an older one.
            Ok(None) | Err(_) => Err(Some(State::DatabaseLost)),
        }
    }

    async fn outcome(&self) -> Result<Option<AttemptOutcome>, DbError> {
        let mut connection = self.portal.database.acquire().await?;
        db::status::outcome(&mut connection, self.id).await
    }
}

type Progressing = Pin<Box<dyn Stream<Item = Result<(u32, Step), AgentError>> + Send>>;

/// The steps as the agent tells them, for as long as it takes: an agent that does not know the
/// apply yet, or restarts, is asked again. It lets only a few follow at a time; whoever finds no
/// place asks for the record so far, again and again.
struct Steps {
    pbx: Option<Arc<Pbx>>,
    id: ApplyId,
    known: u32,
    stream: Option<Progressing>,
    /// From a record, not handed out yet.
    read: VecDeque<(u32, Step)>,
    not_before: Instant,
    /// The agent is too old to tell: the steps come with the record.
    in_vain: bool,
}

impl Steps {
    fn new(pbx: Option<Arc<Pbx>>, id: ApplyId, known: u32) -> Self {
        Self {
            pbx,
            id,
            known,
            stream: None,
            read: VecDeque::new(),
            not_before: Instant::now(),
            in_vain: false,
        }
    }

    /// Keeps its place when it is dropped and called again.
    async fn next(&mut self) -> (u32, Step) {
        loop {
            if let Some((index, step)) = self.read.pop_front() {
                self.known = index + 1;
                return (index, step);
            }
            let pbx = self.pbx.clone().filter(|_| !self.in_vain);
            let Some(pbx) = pbx else {
                return std::future::pending().await;
            };
            if let Some(stream) = &mut self.stream {
                if let Some(Ok((index, step))) = stream.next().await {
                    if index >= self.known {
                        self.known = index + 1;
                        return (index, step);
                    }
                    continue;
                }
                // It has ended, or the agent is gone.
                self.stream = None;
                self.pause();
            }
            tokio::time::sleep_until(self.not_before).await;
            match pbx.agent().follow(self.id, self.known).await {
                Ok(stream) => self.stream = Some(Box::pin(stream)),
                Err(error) if error.is_too_old() => self.in_vain = true,
                Err(_) => {
                    self.pause();
                    self.read_record(&pbx).await;
                }
            }
        }
    }

    async fn read_record(&mut self, pbx: &Pbx) {
        // An agent that is gone is asked again after the pause.
        let Ok(Some(record)) = pbx.agent().find_apply(self.id).await else {
            return;
        };
        let steps = (0..).zip(record.steps);
        self.read = steps.skip_while(|(index, _)| *index < self.known).collect();
    }

    fn pause(&mut self) {
        self.not_before = Instant::now() + Duration::from_millis(STEPS_PAUSE_MS);
    }
}
