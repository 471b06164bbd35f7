//! The engine's thread: it opens and repairs the state, carries out one job after another, and
//! enters and leaves safe mode.

use std::sync::{Arc, mpsc};

use shared::bundle::{Bundle, Revision};
use shared::status::EventKind;
use tokio::sync::{oneshot, watch};
use tracing::Span;

use super::board::Running;
use super::{Agent, Job, Refusal, StartError, state_error};
use crate::apply::{self, Request};
use crate::engine::Engine;
use crate::events::Counter;
use crate::journal::{Generation, JournalError};
use crate::preflight;
use crate::recover::{self, Unfinished};
use crate::safe_mode::{self, Remains};
use crate::stage::Header;
use crate::steps::{Log, chain};

impl Agent {
    /// The engine's thread.
    pub(super) fn run_engine(
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
                        self.publish(engine);
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
        let generation = Generation {
            revision: header.revision,
            digest: header.digest,
            apply_id: header.apply_id,
        };
        let stored = engine.store(generation, bundle);
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
        let aside = safe_mode::set_aside(&self.config, forced, self.clock.now());
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
}
