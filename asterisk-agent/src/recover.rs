//! Repairs what a kill or a power cut left, before the agent says that it is ready.
//!
//! | what the journal says | what is done |
//! |---|---|
//! | nothing | leftovers are removed |
//! | PREPARED | the old files are restored; the record says `interrupted` |
//! | SWITCHED | the new files are completed; Asterisk is reloaded and verified once it answers |
//! | a roll-back, in any phase | the proven files are completed, and so on |
//!
//! Old and new lie in the state directory, so it needs no network.

use std::sync::Arc;

use shared::record::{Outcome, Phase};

use crate::durable::FileError;
use crate::engine::{Engine, Past, Target, TargetError};
use crate::finish;
use crate::journal::{Direction, Intent, IntentPhase, JournalError};
use crate::live::Live;
use crate::reload::Patience;
use crate::steps::Log;
use crate::switch::{self, SwitchError};

/// The failure of an apply that recovery undid.
const STOPPED_BEFORE_SWITCH: &str = "the agent was stopped before the files were switched; the old \
                                     files are in place and nothing was reloaded";

/// The state cannot be repaired by itself: nothing more is touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file cannot be restored.
    #[error(transparent)]
    File(#[from] FileError),
    /// The files cannot be completed.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// A switch failed half way, and the journal does not say how to mend it.
    #[error("the managed files are a mixture of two revisions")]
    Torn,
    /// The bundle that was being brought into force cannot be used.
    #[error("the interrupted apply cannot be completed")]
    Target(#[from] TargetError),
}

/// An interrupted apply whose files are in place, and which Asterisk has yet to take.
pub(crate) struct Unfinished {
    /// The record so far.
    pub(crate) log: Log,
    direction: Direction,
    target: Target,
    /// What was live and proven before.
    before: Past,
    live: Live,
}

/// Repairs the files. What is left to do needs Asterisk, which starts after the agent.
pub(crate) fn files(engine: &mut Engine) -> Result<Option<Unfinished>, RecoverError> {
    let intent = engine.journal.read()?;
    let ended = engine.ledger.last.as_ref().map(|last| last.apply_id);
    let intent = intent.filter(|intent| Some(intent.record.apply_id) != ended);
    let Some(intent) = intent else {
        // Without the directories there are no leftovers either.
        if let Ok(live) = Live::open(&engine.config.asterisk_config_dir) {
            live.remove_leftovers()?;
        }
        engine.tidy_up();
        return Ok(None);
    };
    let log = Log::new(intent.record.clone(), Arc::clone(&engine.clock));
    let apply_id = intent.record.apply_id;
    tracing::warn!(%apply_id, phase = ?intent.phase, "an apply was interrupted");
    let live = Live::open(&engine.config.asterisk_config_dir)?;
    if (intent.phase, intent.direction) == (IntentPhase::Prepared, Direction::Forward) {
        restore_old(engine, &live, &intent, &log)?;
        STOPPED_BEFORE_SWITCH.clone_into(&mut log.record().failure);
        engine.close(Outcome::Interrupted, &log);
        engine.tidy_up();
        return Ok(None);
    }
    let before = engine.past();
    let target = complete_new(engine, &live, &intent, &log)?;
    Ok(Some(Unfinished {
        log,
        direction: intent.direction,
        target,
        before,
        live,
    }))
}

fn restore_old(
    engine: &Engine,
    live: &Live,
    intent: &Intent,
    log: &Log,
) -> Result<(), RecoverError> {
    log.step_saying(Phase::Recovered, "restore the old files", || {
        let mut restored = Vec::new();
        for (slot, place) in live.places() {
            let Some(old) = intent.old.get(&slot) else {
                continue;
            };
            match switch::restore(place, slot, old, &engine.state, intent.new.revision) {
                Ok(true) => restored.push(slot.relative_path()),
                Ok(false) => {}
                Err(error) => return (Err(error), String::new()),
            }
        }
        let said = match &restored[..] {
            [] => "they were still in place".to_owned(),
            restored => restored.join(", "),
        };
        (live.remove_leftovers(), said)
    })?;
    Ok(())
}

/// After a switch that failed and could not be taken back: puts the old files back after all. The
/// record of that apply stays as it was told.
pub(crate) fn mend(engine: &mut Engine) -> Result<(), RecoverError> {
    let last = engine.ledger.last.as_ref().map(|last| last.apply_id);
    let intent = engine.journal.read()?;
    let intent = intent.filter(|intent| Some(intent.record.apply_id) == last);
    let Some(intent) = intent.filter(|intent| intent.direction == Direction::Forward) else {
        return Err(RecoverError::Torn);
    };
    let live = Live::open(&engine.config.asterisk_config_dir)?;
    let log = Log::new(intent.record.clone(), Arc::clone(&engine.clock));
    restore_old(engine, &live, &intent, &log)?;
    engine.ledger.torn = false;
    Ok(engine.journal.write_ledger(&engine.ledger)?)
}

/// Makes sure that every live file is that of the generation which was being switched to.
fn complete_new(
    engine: &mut Engine,
    live: &Live,
    intent: &Intent,
    log: &Log,
) -> Result<Target, RecoverError> {
    engine.ledger.owed = intent.owed.clone();
    let target = engine.target(intent.new)?;
    let revision = intent.new.revision;
    let action = format!("complete the files of revision {revision}");
    log.step(Phase::Recovered, action, || -> Result<(), RecoverError> {
        let (old, unreadable) = live.read_or(&target.bundle.files);
        if !unreadable.is_empty() || old != target.bundle.files {
            switch::prepare(live, revision, &target.bundle.files)?;
            switch::switch(live, revision, &target.bundle.files, &old)?;
        }
        Ok(live.remove_leftovers()?)
    })?;
    engine.ledger.live = Some(intent.new);
    let intent = Intent {
        phase: IntentPhase::Switched,
        record: log.snapshot(),
        ..intent.clone()
    };
    engine.journal.write(&intent)?;
    Ok(target)
}

/// Brings the interrupted apply to its end. Asterisk may only just be starting.
pub(crate) fn finish(engine: &mut Engine, unfinished: &Unfinished) -> Outcome {
    let Unfinished {
        log,
        direction,
        target,
        before,
        live,
    } = unfinished;
    match direction {
        Direction::Forward => finish::run(engine, live, target, before, Patience::Starting, log),
        Direction::RollBack => {
            // Every option of every object is compared, because what failed is no longer known.
            let before = Past {
                more: true,
                ..before.clone()
            };
            finish::rolled_back(engine, target, &before, Patience::Starting, log)
        }
    }
}
