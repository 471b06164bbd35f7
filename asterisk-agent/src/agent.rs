//! The face of the engine towards the RPCs: decides what may start, lets callers wait for what
//! runs, and tells what is in force.
//!
//! An apply belongs to the engine's thread, not to the RPC that asked for it: when the caller goes
//! away, the apply goes on, and whoever asks again with the same id gets the same record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use shared::bundle::{ApplyId, Bundle, Digest, Revision};
use shared::record::ApplyRecord;
use shared::status::EventKind;
use time::OffsetDateTime;
use tokio::sync::{oneshot, watch};
use tracing::Span;

use crate::apply::{self, Request};
use crate::asterisk::Asterisk;
use crate::clock::Clock;
use crate::config::Config;
use crate::durable::{Dir, FileError};
use crate::engine::Engine;
use crate::events::{Counter, Events};
use crate::journal::{Generation, JournalError, Ledger};
use crate::preflight;
use crate::records::Records;
use crate::recover::{self, Unfinished};
use crate::safe_mode::{self, Remains};
use crate::stage::Header;
use crate::steps::{Log, chain};
use crate::verify::Questions;
use crate::watch::Watch;

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

struct Running {
    request: Request,
    log: Log,
    done: watch::Sender<Option<ApplyRecord>>,
}

/// What the engine has published.
#[derive(Default)]
struct Board {
    ledger: Option<Ledger>,
    staged: BTreeMap<Revision, Option<Generation>>,
    running: Option<Running>,
    safe_mode: Option<String>,
    /// In safe mode: the apply that was under way, as far as it is known.
    open_record: Option<ApplyRecord>,
    /// In safe mode: whether an apply was under way is not known.
    is_blind: bool,
    /// How many applies have begun or ended.
    applies: u64,
    stopping: bool,
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

    /// The engine's thread.
    fn run_engine(
        &self,
        queue: &mpsc::Receiver<Job>,
        ready: oneshot::Sender<Result<(), StartError>>,
    ) {
        let opened = self.open_engine();
        let (mut engine, unfinished) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                ready.send(Err(error)).ok();
                return;
            }
        };
        ready.send(Ok(())).ok();
        if let (Some(engine), Some(unfinished)) = (&mut engine, &unfinished) {
            // Nobody asked for it: a tree of its own, which the apply's id links to the first one.
            self.carry_out(engine, &unfinished.log, &Span::none(), |engine, _| {
                recover::finish(engine, unfinished)
            });
        }
        for job in queue {
            match job {
                Job::Stop => return,
                Job::Stage {
                    header,
                    bundle,
                    reply,
                } => {
                    reply.send(self.store(&mut engine, &header, &bundle)).ok();
                }
                Job::Apply(request, log, asked) => {
                    // In safe mode nothing is admitted, so that nothing arrives.
                    let Some(engine) = &mut engine else { continue };
                    self.carry_out(engine, &log, &asked, |engine, log| {
                        apply::run(engine, &request, log)
                    });
                }
                Job::Ask(question) => {
                    if let Some(engine) = &mut engine {
                        question(engine);
                    }
                }
            }
            if self.board().safe_mode.is_some() {
                engine = None;
            }
        }
    }

    /// Stores an upload that was admitted; a forced one leaves safe mode first.
    fn store(
        &self,
        engine: &mut Option<Engine>,
        header: &Header,
        bundle: &Bundle,
    ) -> Result<(), Refusal> {
        let engine = match engine {
            Some(engine) => engine,
            None if header.force => engine.insert(self.leave_safe_mode(header.revision)?),
            None => {
                let reason = self.board().safe_mode.clone().unwrap_or_default();
                return Err(Refusal::SafeMode(reason));
            }
        };
        let stored = engine
            .generations
            .store(header.apply_id, header.revision, bundle);
        self.publish(engine);
        Ok(stored?)
    }

    /// Sets what is damaged aside and opens the rest.
    fn leave_safe_mode(&self, forced: Revision) -> Result<Engine, Refusal> {
        let unable = |error: &dyn std::error::Error| {
            let reason = format!("it cannot be left: {}", chain(error));
            tracing::error!(reason, "safe mode");
            Refusal::SafeMode(reason)
        };
        let aside = safe_mode::set_aside(&self.config, self.clock.now());
        let place = aside.map_err(|error| unable(&error))?;
        let (engine, _) = self.open_engine().map_err(|error| unable(&error))?;
        let Some(engine) = engine else {
            let reason = self.board().safe_mode.clone().unwrap_or_default();
            return Err(Refusal::SafeMode(reason));
        };
        {
            let mut board = self.board();
            board.safe_mode = None;
            board.open_record = None;
            board.is_blind = false;
        }
        self.events.tell(
            EventKind::SafeModeLeft,
            format!(
                "revision {forced} was forced; what was damaged lies in {place} of the state \
                 directory"
            ),
        );
        Ok(engine)
    }

    /// Opens the state and repairs the files; without an engine, the agent is in safe mode.
    fn open_engine(&self) -> Result<(Option<Engine>, Option<Unfinished>), StartError> {
        let config = self.config.clone();
        let (asterisk, clock) = (Arc::clone(&self.asterisk), Arc::clone(&self.clock));
        preflight::clean(&config.state_dir);
        let opened = Engine::open(config, asterisk, clock, Arc::clone(&self.events));
        let mut engine = match opened {
            Ok(engine) => engine,
            Err(error @ (JournalError::Damaged(_) | JournalError::Lost(_))) => {
                self.enter_safe_mode(&chain(&error));
                return Ok((None, None));
            }
            Err(error) => return Err(state_error(&error)),
        };
        if engine.ledger.torn {
            if let Err(error) = recover::mend(&mut engine) {
                self.enter_safe_mode(&chain(&error));
                return Ok((None, None));
            }
            let detail =
                "the files that a failed switch had left as a mixture are the old ones again";
            self.events.tell(EventKind::SafeModeLeft, detail);
        }
        let unfinished = match recover::files(&mut engine) {
            Ok(unfinished) => unfinished,
            Err(error) => {
                self.enter_safe_mode(&chain(&error));
                return Ok((None, None));
            }
        };
        self.publish(&engine);
        if let Some(unfinished) = &unfinished {
            let record = unfinished.log.snapshot();
            let request = Request {
                apply_id: record.apply_id,
                revision: record.revision,
                digest: record.digest,
                on_reload_failure: record.on_reload_failure,
            };
            let (done, _) = watch::channel(None);
            let log = unfinished.log.clone();
            self.board().running = Some(Running { request, log, done });
        }
        Ok((Some(engine), unfinished))
    }

    fn enter_safe_mode(&self, reason: &str) {
        tracing::error!(
            reason,
            "safe mode: no file is touched and no apply accepted"
        );
        let remains = Remains::look(&self.config);
        {
            let mut board = self.board();
            board.open_record = remains.open_record().cloned();
            board.is_blind = remains.is_blind;
            // As far as they are known: the fence holds also now.
            board.ledger = remains.ledger.or(board.ledger.take());
            board.staged.extend(remains.staged);
            board.safe_mode = Some(format!(
                "{reason}. Nothing is touched. Look at the live files and at {}; then one apply with \
                 {{\"force\": true}} sets what is damaged there aside (`intent`, `active`) and goes on",
                self.config.state_dir.display()
            ));
        }
        self.events.tell(EventKind::SafeModeEntered, reason);
    }

    /// Runs one apply to its end and lets everybody know.
    fn carry_out(
        &self,
        engine: &mut Engine,
        log: &Log,
        asked: &Span,
        work: impl FnOnce(&mut Engine, &Log) -> shared::record::Outcome,
    ) {
        let (apply_id, revision) = {
            let record = log.record();
            (record.apply_id, record.revision)
        };
        let span = tracing::info_span!(parent: asked, "apply", %apply_id, %revision);
        let _entered = span.enter();
        tracing::info!("apply begins");
        let outcome = work(engine, log);
        let record = engine.close(outcome, log);
        self.events.count(Counter::Applies(outcome));
        self.publish(engine);
        let torn = engine.ledger.torn;
        if torn {
            // Before anybody hears of the end, and could ask for the next one.
            self.enter_safe_mode(&record.failure);
        }
        {
            let mut board = self.board();
            board.applies += 1;
            if let Some(running) = board.running.take() {
                running.done.send_replace(Some(record));
            }
        }
        if !torn {
            engine.tidy_up();
            self.publish(engine);
        }
    }

    fn publish(&self, engine: &Engine) {
        let mut board = self.board();
        board.ledger = Some(engine.ledger.clone());
        board.staged.clone_from(engine.generations.all());
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

impl Board {
    /// A generation that is live counts as well: its directory may have been removed by hand.
    fn highest(&self) -> Revision {
        let staged = self.staged.keys().next_back().copied();
        let live = self.ledger.as_ref().and_then(|ledger| ledger.live);
        staged
            .max(live.map(|live| live.revision))
            .unwrap_or_default()
    }

    fn running_apply(&self, apply_id: ApplyId) -> Option<&Running> {
        let running = self.running.as_ref();
        running.filter(|running| running.request.apply_id == apply_id)
    }

    fn admits_anything(&self, force: bool) -> Result<(), Refusal> {
        if let Some(reason) = &self.safe_mode
            && !force
        {
            return Err(Refusal::SafeMode(reason.clone()));
        }
        if self.stopping {
            Err(Refusal::Stopping)
        } else {
            Ok(())
        }
    }

    fn admits_question(&self) -> Result<(), Refusal> {
        self.admits_anything(false)?;
        match &self.running {
            Some(running) => Err(Refusal::Busy(running.request.apply_id)),
            None => Ok(()),
        }
    }

    /// `true` when the very bundle is there already.
    fn admits_stage(&self, header: &Header) -> Result<bool, Refusal> {
        self.admits_anything(header.force)?;
        let (revision, highest) = (header.revision, self.highest());
        match self.staged.get(&revision) {
            Some(Some(known)) if revision == highest && self.safe_mode.is_none() => {
                return same_bundle(known, revision, header.digest, header.apply_id).map(|()| true);
            }
            _ if revision <= highest => {
                return Err(Refusal::Stale {
                    offered: revision,
                    highest,
                });
            }
            _ => {}
        }
        match &self.running {
            Some(running) => Err(Refusal::Busy(running.request.apply_id)),
            None => Ok(false),
        }
    }

    fn admits_apply(&self, request: &Request) -> Result<(), Refusal> {
        self.admits_anything(false)?;
        let highest = self.highest();
        if request.revision < highest {
            return Err(Refusal::Stale {
                offered: request.revision,
                highest,
            });
        }
        match self.staged.get(&request.revision) {
            Some(Some(known)) => {
                same_bundle(known, request.revision, request.digest, request.apply_id)
            }
            _ => Err(Refusal::NotStaged(request.revision)),
        }
    }
}

fn same_bundle(
    known: &Generation,
    revision: Revision,
    digest: Digest,
    apply_id: ApplyId,
) -> Result<(), Refusal> {
    if known.digest != digest {
        let text = format!("revision {revision} was staged with another digest");
        return Err(Refusal::Conflict(text));
    }
    if known.apply_id != apply_id {
        let text = format!("revision {revision} belongs to apply {}", known.apply_id);
        return Err(Refusal::Conflict(text));
    }
    Ok(())
}

fn same_apply(record: &ApplyRecord, request: &Request) -> Result<(), Refusal> {
    if (record.revision, record.digest) == (request.revision, request.digest) {
        return Ok(());
    }
    let text = format!(
        "apply {} was for revision {}",
        record.apply_id, record.revision
    );
    Err(Refusal::Conflict(text))
}

fn state_error(error: &JournalError) -> StartError {
    StartError::State(chain(error))
}

#[cfg(test)]
mod tests;
