//! The face of the engine towards the RPCs: decides what may start, lets callers wait for what
//! runs, and tells what is in force.
//!
//! An apply belongs to the engine's thread, not to the RPC that asked for it: when the caller goes
//! away, the apply goes on, and whoever asks again with the same id gets the same record.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use shared::bundle::{ApplyId, Bundle, Revision};
use shared::record::ApplyRecord;
use time::OffsetDateTime;
use tokio::sync::{oneshot, watch};
use tracing::Span;

use crate::apply::Request;
use crate::asterisk::Asterisk;
use crate::clock::Clock;
use crate::config::Config;
use crate::durable::{Dir, FileError};
use crate::engine::Engine;
use crate::events::Events;
use crate::journal::{JournalError, Ledger};
use crate::records::Records;
use crate::stage::Header;
use crate::steps::{Log, chain};
use crate::verify::Questions;
use crate::watch::Watch;

mod board;
mod engine_thread;

use board::{Board, Running, same_apply};

/// Nothing was started, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// One apply at a time.
    #[error("apply {0} is running")]
    Busy(ApplyId),
    /// The fence: a portal that lost its lock without knowing.
    #[error("STALE_REVISION: this agent has seen revision {highest}, {offered} is older")]
    Stale {
        /// What was asked for.
        offered: Revision,
        /// The highest revision that was ever staged here.
        highest: Revision,
    },
    /// The revision or apply id is known with other content.
    #[error("{0}")]
    Conflict(String),
    /// Nothing of that revision was uploaded.
    #[error("NOT_STAGED: revision {0} has not been staged")]
    NotStaged(Revision),
    /// The state directory is damaged.
    #[error("SAFE_MODE: {0}")]
    SafeMode(String),
    /// There is nothing that could be verified.
    #[error("NOTHING_APPLIED: nothing was ever applied here")]
    NothingApplied,
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopping,
    /// The bundle could not be stored.
    #[error("the bundle could not be stored")]
    Storage(#[from] FileError),
}

/// The agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be used.
    #[error("the state directory cannot be used: {0}")]
    State(String),
    /// The engine's thread could not be started, or it ended.
    #[error("the engine cannot run")]
    Engine(#[source] std::io::Error),
}

/// Where an apply stands.
pub(crate) enum Attached {
    /// It has ended.
    Ended(Box<ApplyRecord>),
    /// It runs; the record comes when it ends.
    Running(watch::Receiver<Option<ApplyRecord>>),
}

/// How to follow an apply.
pub(crate) enum Followed {
    /// It has ended.
    Ended(Box<ApplyRecord>),
    /// It runs: its steps so far, and its end.
    Running(Log, watch::Receiver<Option<ApplyRecord>>),
}

type Question = Box<dyn FnOnce(&mut Engine) + Send>;

enum Job {
    Stage {
        header: Box<Header>,
        bundle: Bundle,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// In the span of the RPC that asked for it.
    Apply(Request, Log, Span),
    /// A question about what only the engine's thread may touch.
    Ask(Question),
    Stop,
}

/// See the module's text.
pub(crate) struct Agent {
    pub(crate) config: Config,
    pub(crate) asterisk: Arc<dyn Asterisk>,
    pub(crate) events: Arc<Events>,
    pub(crate) watch: Watch,
    clock: Arc<dyn Clock>,
    board: Mutex<Board>,
    jobs: mpsc::Sender<Job>,
    records: Records,
    /// Ends the thread that watches the files when it is dropped.
    stop_watching: mpsc::Sender<()>,
}

/// What `GetStatus` tells about the state.
pub(crate) struct Standing {
    pub(crate) ledger: Option<Ledger>,
    pub(crate) highest: Revision,
    pub(crate) running: Option<ApplyId>,
    pub(crate) safe_mode: Option<String>,
    /// Every revision that is stored.
    pub(crate) staged: Vec<Revision>,
    /// How many applies have begun or ended.
    pub(crate) applies: u64,
}

impl Agent {
    /// Starts the engine and repairs what an earlier life left: when this returns, the agent is
    /// ready. The second value resolves when the engine has ended.
    pub(crate) async fn start(
        config: Config,
        asterisk: Arc<dyn Asterisk>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, oneshot::Receiver<()>), StartError> {
        let state = Dir::open(&config.state_dir).map_err(|error| state_error(&error.into()))?;
        let records = state
            .subdir("applies")
            .map_err(|error| state_error(&error.into()))?;
        let (jobs, queue) = mpsc::channel();
        let board = Mutex::new(Board::default());
        let records = Records::open(records);
        let events = Arc::new(Events::new(Arc::clone(&clock)));
        let (stop_watching, watching_stopped) = mpsc::channel();
        let agent = Arc::new(Self {
            config,
            asterisk,
            watch: Watch::new(Arc::clone(&events)),
            events,
            clock,
            board,
            jobs,
            records,
            stop_watching,
        });
        let (ready, is_ready) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let face = Arc::clone(&agent);
        let body = move || {
            face.run_engine(&queue, ready);
            // Dropped by a panic as well, which ends the process: the journal then repairs.
            drop(ended);
        };
        let spawned = thread::Builder::new().name("engine".to_owned()).spawn(body);
        spawned.map_err(StartError::Engine)?;
        match is_ready.await {
            Ok(started) => started?,
            Err(_) => return Err(StartError::Engine(std::io::Error::other("it panicked"))),
        }
        let (watched, period) = (Arc::downgrade(&agent), agent.config.drift_period);
        let body = move || crate::watch::run(&watched, &watching_stopped, period);
        let spawned = thread::Builder::new().name("watch".to_owned()).spawn(body);
        spawned.map_err(StartError::Engine)?;
        Ok((agent, has_ended))
    }

    /// The time.
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an uploaded bundle.
    pub(crate) async fn stage(&self, header: Header, bundle: Bundle) -> Result<(), Refusal> {
        let receiver = {
            let board = self.board();
            if board.admits_stage(&header)? {
                return Ok(());
            }
            let (reply, receiver) = oneshot::channel();
            let header = Box::new(header);
            let sent = self.jobs.send(Job::Stage {
                header,
                bundle,
                reply,
            });
            sent.map_err(|_| Refusal::Stopping)?;
            receiver
        };
        receiver.await.map_err(|_| Refusal::Stopping)?
    }

    /// Whether it would be asked now.
    pub(crate) fn would_ask(&self) -> Result<(), Refusal> {
        self.board().admits_question()
    }

    /// How to ask Asterisk, beside the engine.
    pub(crate) fn questions(&self) -> Questions<'_> {
        Questions {
            asterisk: self.asterisk.as_ref(),
            deadline: self.config.asterisk.query_deadline,
        }
    }

    /// Asks the engine something while no apply runs; one that is started meanwhile waits.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let receiver = {
            let board = self.board();
            board.admits_question()?;
            let (reply, receiver) = oneshot::channel();
            let question = move |engine: &mut Engine| drop(reply.send(question(engine)));
            let sent = self.jobs.send(Job::Ask(Box::new(question)));
            sent.map_err(|_| Refusal::Stopping)?;
            receiver
        };
        receiver.await.map_err(|_| Refusal::Stopping)
    }

    /// Whether such an upload would be accepted, before it is received.
    pub(crate) fn would_stage(&self, header: &Header) -> Result<(), Refusal> {
        self.board().admits_stage(header).map(drop)
    }

    /// Starts an apply, or finds the one that was started before under the same id.
    pub(crate) fn apply(&self, request: Request) -> Result<Attached, Refusal> {
        let mut board = self.board();
        if let Some(running) = &board.running {
            if running.request.apply_id != request.apply_id {
                return Err(Refusal::Busy(running.request.apply_id));
            }
            same_apply(&running.log.record(), &request)?;
            return Ok(Attached::Running(running.done.subscribe()));
        }
        if let Some(record) = self.ended(&board, request.apply_id)? {
            same_apply(&record, &request)?;
            return Ok(Attached::Ended(Box::new(record)));
        }
        board.admits_apply(&request)?;
        let log = Log::new(request.record(), Arc::clone(&self.clock));
        let (done, receiver) = watch::channel(None);
        let job = Job::Apply(request, log.clone(), Span::current());
        self.jobs.send(job).map_err(|_| Refusal::Stopping)?;
        board.applies += 1;
        board.running = Some(Running { request, log, done });
        Ok(Attached::Running(receiver))
    }

    /// The record of an apply that ended, or its state so far.
    ///
    /// # Errors
    /// In safe mode when nobody can know whether it was started.
    pub(crate) fn record(&self, apply_id: ApplyId) -> Result<Option<ApplyRecord>, Refusal> {
        let board = self.board();
        if let Some(running) = board.running_apply(apply_id) {
            return Ok(Some(running.log.snapshot()));
        }
        let open = board.open_record.as_ref();
        if let Some(record) = open.filter(|record| record.apply_id == apply_id) {
            return Ok(Some(record.clone()));
        }
        match (self.ended(&board, apply_id)?, &board.safe_mode) {
            (None, Some(reason)) if board.is_blind => Err(Refusal::SafeMode(reason.clone())),
            (record, _) => Ok(record),
        }
    }

    /// An apply to be followed; `None` when there is no such.
    pub(crate) fn follow(&self, apply_id: ApplyId) -> Result<Option<Followed>, Refusal> {
        let board = self.board();
        if let Some(running) = board.running_apply(apply_id) {
            let done = running.done.subscribe();
            return Ok(Some(Followed::Running(running.log.clone(), done)));
        }
        let record = self.ended(&board, apply_id)?;
        Ok(record.map(|record| Followed::Ended(Box::new(record))))
    }

    fn ended(&self, board: &Board, apply_id: ApplyId) -> Result<Option<ApplyRecord>, FileError> {
        let last = board
            .ledger
            .as_ref()
            .and_then(|ledger| ledger.last.as_ref());
        match last {
            Some(last) if last.apply_id == apply_id => Ok(Some(last.clone())),
            _ => self.records.read(apply_id),
        }
    }

    /// What is in force and what runs.
    pub(crate) fn standing(&self) -> Standing {
        let board = self.board();
        Standing {
            ledger: board.ledger.clone(),
            highest: board.highest(),
            running: board
                .running
                .as_ref()
                .map(|running| running.request.apply_id),
            safe_mode: board.safe_mode.clone(),
            staged: board.staged.keys().copied().collect(),
            applies: board.applies,
        }
    }

    /// Refuses new work, and lets the engine end after what it is doing.
    pub(crate) fn stop(&self) {
        self.board().stopping = true;
        self.stop_watching.send(()).ok();
        self.jobs.send(Job::Stop).ok();
    }
}

fn state_error(error: &JournalError) -> StartError {
    StartError::State(chain(error))
}

#[cfg(test)]
mod tests;
