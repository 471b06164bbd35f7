//! Writes the record of an apply while it runs: every thing that is done becomes a step.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::bundle::{ApplyId, Digest, Revision};
use shared::record::{ApplyRecord, Mismatch, OnReloadFailure, Phase, SAID_BYTES_MAX, Step};
use tokio::sync::watch;
use tracing::field::Empty;

use crate::clock::{Clock, SystemClock};

/// The record of a running apply, readable from other threads.
#[derive(Clone)]
pub(crate) struct Log {
    record: Arc<Mutex<ApplyRecord>>,
    /// How many steps have ended. Whoever follows reads at its own pace: nobody waits for it.
    progress: Arc<watch::Sender<usize>>,
    clock: Arc<dyn Clock>,
}

/// A result together with what was said about it.
pub(crate) type Saying<T, E> = (Result<T, E>, String);

/// What may have gone well and still have found what should not be.
pub(crate) trait Finding {
    /// Whether nothing was found.
    fn is_clean(&self) -> bool;
}

impl Log {
    /// Goes on with `record`.
    pub(crate) fn new(record: ApplyRecord, clock: Arc<dyn Clock>) -> Self {
        Self {
            progress: Arc::new(watch::Sender::new(record.steps.len())),
            record: Arc::new(Mutex::new(record)),
            clock,
        }
    }

    /// One that nobody reads, for work that belongs to no apply.
    pub(crate) fn nowhere() -> Self {
        let record = ApplyRecord {
            apply_id: ApplyId(uuid::Uuid::nil()),
            revision: Revision(0),
            digest: Digest([0; 32]),
            on_reload_failure: OnReloadFailure::RollBack,
            outcome: None,
            steps: Vec::new(),
            files: Vec::new(),
            failure: String::new(),
            mismatches: Vec::new(),
            live_revision: None,
            notes: Vec::new(),
        };
        Self::new(record, Arc::new(SystemClock))
    }

    /// The record, to read or to change. A thread that panicked while it held the lock has at
    /// worst left out a step.
    pub(crate) fn record(&self) -> MutexGuard<'_, ApplyRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever a step has ended.
    pub(crate) fn progress(&self) -> watch::Receiver<usize> {
        self.progress.subscribe()
    }

    /// A copy of the steps after the first `known`.
    pub(crate) fn snapshot_steps(&self, known: usize) -> Vec<Step> {
        let record = self.record();
        record.steps.get(known..).unwrap_or_default().to_vec()
    }

    /// A copy of the record so far.
    pub(crate) fn snapshot(&self) -> ApplyRecord {
        self.record().clone()
    }

    /// Does something and notes how it went.
    pub(crate) fn step<T, E: Error>(
        &self,
        phase: Phase,
        action: impl Into<String>,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.step_saying(phase, action, || {
            let result = work();
            let said = result
                .as_ref()
                .err()
                .map(|error| chain(error))
                .unwrap_or_default();
            (result, said)
        })
    }

    /// Does something and notes how it went and what was said.
    pub(crate) fn step_saying<T, E>(
        &self,
        phase: Phase,
        action: impl Into<String>,
        work: impl FnOnce() -> Saying<T, E>,
    ) -> Result<T, E> {
        self.step_judged(phase, action.into(), work, |_| true)
    }

    /// Looks for something: a step that found what should not be is no good one.
    pub(crate) fn step_finding<T: Finding, E>(
        &self,
        phase: Phase,
        action: impl Into<String>,
        work: impl FnOnce() -> Saying<T, E>,
    ) -> Result<T, E> {
        self.step_judged(phase, action.into(), work, T::is_clean)
    }

    fn step_judged<T, E>(
        &self,
        phase: Phase,
        action: String,
        work: impl FnOnce() -> Saying<T, E>,
        is_good: impl FnOnce(&T) -> bool,
    ) -> Result<T, E> {
        let span = tracing::info_span!("step", ?phase, action, duration_us = Empty, ok = Empty);
        let _entered = span.enter();
        let started_at = self.clock.now();
        let began = Instant::now();
        let (result, said) = work();
        let step = Step {
            phase,
            started_at,
            duration_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            ok: result.as_ref().is_ok_and(is_good),
            said: capped(&said),
            action,
        };
        span.record("duration_us", step.duration_us);
        span.record("ok", step.ok);
        let ms = step.duration_us / 1000;
        if step.ok {
            tracing::info!(ms, "step done");
        } else {
            tracing::warn!(ms, said = step.said, "step failed");
        }
        let ended = {
            let mut record = self.record();
            record.steps.push(step);
            record.steps.len()
        };
        self.progress.send_replace(ended);
        result
    }

    /// Notes something that an administrator should know although the outcome stands.
    pub(crate) fn note(&self, note: impl Into<String>) {
        let note = note.into();
        tracing::warn!(note, "note");
        self.record().notes.push(note);
    }

    /// Notes objects that Asterisk holds otherwise, at most a thousand of them.
    pub(crate) fn mismatches(&self, found: &[Mismatch]) {
        const MISMATCHES_MAX: usize = 1000;
        let mut record = self.record();
        let room = MISMATCHES_MAX.saturating_sub(record.mismatches.len());
        record.mismatches.extend(found.iter().take(room).cloned());
    }
}

/// An error with everything that caused it, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Stands where something was cut off.
const CUT: &str = " …";

/// The beginning of `text`, cut between two characters.
fn capped(text: &str) -> String {
    let text = text.trim_end();
    if text.len() <= SAID_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(SAID_BYTES_MAX - CUT.len());
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_cut_between_characters() {
        assert_eq!(capped("short\n"), "short");
        let cut = capped(&"ž".repeat(SAID_BYTES_MAX));
        assert!(cut.len() <= SAID_BYTES_MAX && cut.ends_with('…'));
    }
}
