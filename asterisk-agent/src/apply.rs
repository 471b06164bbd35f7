//! One apply, from the stored bundle to the proven fact: every branch is visible in [`run`] and, for
//! what follows the switch, in [`crate::finish`].
//!
//! | step | when it fails |
//! |---|---|
//! | load, check the text and what lies beside the files | `rejected`: nothing was touched |
//! | nothing to do, and Asterisk holds it | `unchanged` |
//! | a throw-away Asterisk reads it | `rejected`: nothing was touched |
//! | copies beside the files, intent, renames | `write_failed`: the old files are intact, nothing was reloaded |
//! | taking the renames back | `rollback_failed`: the files are a mixture, nothing was reloaded; safe mode |
//! | reload, read back, remove contacts | the policy decides: see `finish` |

use std::collections::BTreeMap;

use shared::bundle::{ApplyId, Digest, Revision, Slot};
use shared::model::Model;
use shared::record::{ApplyRecord, OnReloadFailure, Outcome, Phase, WrittenFile};
use shared::status::EventKind;

use crate::config::Reload;
use crate::contacts;
use crate::drift;
use crate::durable::FileError;
use crate::engine::{Engine, Past, Target, TargetError};
use crate::events::Counter;
use crate::finish;
use crate::foreign;
use crate::journal::{Direction, Generation, Intent, IntentPhase, JournalError, Old, Owed};
use crate::live::{Files, Live, Stamps};
use crate::preflight;
use crate::reload::{self, Patience};
use crate::steps::{Log, chain};
use crate::switch::{self, SwitchError};
use crate::validate;
use crate::verify::{self, Depth};

/// What the portal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) apply_id: ApplyId,
    pub(crate) revision: Revision,
    pub(crate) digest: Digest,
    pub(crate) on_reload_failure: OnReloadFailure,
}

impl Request {
    /// The record that the apply begins with.
    pub(crate) fn record(&self) -> ApplyRecord {
        ApplyRecord {
            apply_id: self.apply_id,
            revision: self.revision,
            digest: self.digest,
            on_reload_failure: self.on_reload_failure,
            outcome: None,
            steps: Vec::new(),
            files: Vec::new(),
            failure: String::new(),
            mismatches: Vec::new(),
            live_revision: None,
            notes: Vec::new(),
        }
    }
}

/// Brings a staged revision into force. What is in force afterwards stands in the engine's ledger.
pub(crate) fn run(engine: &mut Engine, request: &Request, log: &Log) -> Outcome {
    let Request {
        apply_id,
        revision,
        digest,
        ..
    } = *request;
    let generation = Generation {
        revision,
        digest,
        apply_id,
    };
    let target = match load(engine, generation, log) {
        Ok(target) => target,
        Err(error) => return ended(log, Outcome::Rejected, chain(&error)),
    };
    let opened = log.step(
        Phase::Prepared,
        "open the directories of the managed files",
        || {
            let live = Live::open(&engine.config.asterisk_config_dir)?;
            let files = live.read()?;
            Ok::<_, FileError>((live, files))
        },
    );
    let (live, old) = match opened {
        Ok(opened) => opened,
        Err(error) => return ended(log, Outcome::WriteFailed, chain(&error)),
    };
    let beside = log.step(
        Phase::Validated,
        "check foreign files and Asterisk's program",
        || {
            validate::program(engine.asterisk.as_ref())?;
            validate::surroundings(&live, &target.model, log)?;
            validate::transports(engine.questions(), &target.model, log)
        },
    );
    if let Err(error) = beside {
        return ended(log, Outcome::Rejected, chain(&error));
    }
    // What cannot be looked at is not trusted.
    let stamps = live.stamps().ok();
    let trusted = is_trusted(engine, &live, stamps.as_ref());
    if is_in_force(engine, &target, &old, trusted, log) {
        finish::proven(engine, &target);
        engine.proven_stamps = stamps;
        return Outcome::Unchanged;
    }
    // What was proven before need not be tried: it is only to be read again.
    let proven = engine.ledger.proven.map(|proven| proven.generation.digest);
    if proven != Some(digest)
        && let Err(error) = preflight::check(&engine.config, &target, log)
    {
        return ended(log, Outcome::Rejected, chain(&error));
    }
    let mut before = engine.past();
    let owed_before = engine.ledger.owed.clone();
    engine.ledger.owed = owed(engine, &before, &target.model);
    before.has_pjsip = trusted && has_pjsip(engine, &target, &old);
    before.suspect = !trusted;
    before.more |= engine.ledger.unsettled || drifted(engine, &old);
    settle(engine, log);
    if let Err(error) = switch_files(engine, &live, &old, &target, Direction::Forward, log) {
        engine.ledger.owed = owed_before;
        let outcome = if engine.ledger.torn {
            Outcome::RollbackFailed
        } else {
            Outcome::WriteFailed
        };
        return ended(log, outcome, chain(&error));
    }
    finish::run(engine, &live, &target, &before, Patience::Running, log)
}

/// Notes why an apply ends otherwise than it should.
pub(crate) fn ended(log: &Log, outcome: Outcome, failure: String) -> Outcome {
    log.record().failure = failure;
    outcome
}

fn load(engine: &mut Engine, generation: Generation, log: &Log) -> Result<Target, TargetError> {
    log.step(Phase::Validated, "check the text of the bundle", || {
        engine.target(generation)
    })
}

/// Whether the same content is live, was proven before, and Asterisk still holds it.
fn is_in_force(engine: &Engine, target: &Target, old: &Files, trusted: bool, log: &Log) -> bool {
    let proven = engine.ledger.proven.map(|proven| proven.generation.digest);
    let live = engine.ledger.live.map(|live| live.digest);
    let digest = Some(target.generation.digest);
    if proven != digest || live != digest || *old != target.bundle.files {
        return false;
    }
    if engine.ledger.unsettled || !engine.ledger.owed.is_empty() {
        return false;
    }
    let expected = verify::Expected {
        model: &target.model,
        manifest: &target.manifest,
        before: &[],
        depth: if trusted {
            Depth::Markers
        } else {
            Depth::Everything
        },
    };
    let found = verify::both(engine.questions(), &expected, Phase::Verifying, log);
    let in_force = found.is_ok_and(|found| found.mismatches.is_empty());
    if !in_force {
        log.note("the files are the same, but Asterisk does not hold them: they are read again");
    }
    in_force
}

/// After a reload that was given up: waits until Asterisk is done with it, because renaming under a
/// reload makes it read a mixture. Writing does not depend on it: an Asterisk that still does not
/// answer is reported by the reload that follows.
fn settle(engine: &mut Engine, log: &Log) {
    if !engine.ledger.unsettled {
        return;
    }
    let deadline = engine.config.asterisk.reload_deadline;
    let asterisk = engine.asterisk.as_ref();
    let settled = reload::wait_until_booted(asterisk, deadline, Patience::Running, log)
        .and_then(|()| reload::pjsip(asterisk, deadline, log))
        .and_then(|()| reload::dialplan(asterisk, deadline, log));
    match settled {
        Ok(()) => log.note("an earlier reload had been given up; it has ended by now"),
        Err(error) => log.note(format!("an earlier reload was given up: {}", chain(&error))),
    }
}

/// Everything whose contacts must go once the target is in force.
fn owed(engine: &Engine, before: &Past, after: &Model) -> Owed {
    let mut owed = engine.ledger.owed.clone();
    for earlier in &before.known {
        owed.aors
            .extend(contacts::changed_hands(&earlier.model, after));
    }
    owed.everything |= before.more;
    owed
}

/// Whether the live files are not those that were put there last.
fn drifted(engine: &Engine, old: &Files) -> bool {
    let live = engine.ledger.live;
    let manifest = live.and_then(|live| engine.generations.manifest(live.revision).ok());
    manifest.is_none_or(|manifest| !drift::drifted(old, Some(&manifest)).is_empty())
}

/// Whether nobody can have made Asterisk hold something else since this process proved it: nobody
/// has written to the managed files, put one beside them, or changed Asterisk's own configuration.
fn is_trusted(engine: &Engine, live: &Live, stamps: Option<&Stamps>) -> bool {
    stamps.is_some()
        && stamps == engine.proven_stamps.as_ref()
        && foreign::list(live).is_ok_and(|foreign| foreign.is_empty())
}

/// Whether the PJSIP file is to stay as it is, and was proven as it is: nothing is owed or under way.
/// To be asked of what is trusted only.
fn has_pjsip(engine: &Engine, target: &Target, old: &Files) -> bool {
    let slot = Slot::PjsipEndpoints;
    let ledger = &engine.ledger;
    let proven = ledger.proven.map(|proven| proven.generation);
    engine.config.reload == Reload::WhenNeeded
        && ledger.live.is_some()
        && ledger.live == proven
        && !ledger.unsettled
        && ledger.owed.is_empty()
        && old.get(&slot) == target.bundle.files.get(&slot)
}

/// The files could not be brought into place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// A copy could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The intent could not be written down.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The renames failed and were taken back.
    #[error(transparent)]
    Switch(#[from] SwitchError),
}

/// PREPARED, then SWITCHED: afterwards the target's files are the live ones, and the journal knows.
/// When it fails, the files are as they were, or the ledger says that they are torn.
pub(crate) fn switch_files(
    engine: &mut Engine,
    live: &Live,
    old: &Files,
    target: &Target,
    direction: Direction,
    log: &Log,
) -> Result<(), WriteError> {
    let (revision, files) = (target.generation.revision, &target.bundle.files);
    let (prepared, switched) = match direction {
        Direction::Forward => (Phase::Prepared, Phase::Switched),
        Direction::RollBack => (Phase::RollingBack, Phase::RollingBack),
    };
    let (kept, overwritten) = log.step(prepared, "keep what is replaced", || {
        keep_old(engine, old, log)
    })?;
    let action = format!("write copies of revision {revision} beside the files");
    log.step(prepared, action, || switch::prepare(live, revision, files))?;
    let intent = Intent {
        phase: IntentPhase::Prepared,
        direction,
        new: target.generation,
        old: kept,
        owed: engine.ledger.owed.clone(),
        record: log.snapshot(),
    };
    let noted = log.step(prepared, "note the intent", || {
        engine.journal.write(&intent)
    });
    if noted.is_err() {
        live.remove_leftovers().ok();
    }
    noted?;
    let action = format!("rename the files of revision {revision} into place");
    let renamed = log.step(switched, action, || {
        switch::switch(live, revision, files, old)
    });
    engine.ledger.torn = matches!(renamed, Err(SwitchError::Torn { .. }));
    renamed?;
    if let Some(what) = overwritten {
        engine.events.tell(EventKind::DriftOverwritten, what);
        engine.events.count(Counter::DriftOverwritten);
    }
    engine.ledger.live = Some(target.generation);
    log.record().files = written(live, target);
    let intent = Intent {
        phase: IntentPhase::Switched,
        record: log.snapshot(),
        ..intent
    };
    let noted = log.step(switched, "note that the files are switched", || {
        engine.journal.write(&intent)
    });
    if let Err(error) = noted {
        // Should the agent be killed now, it restores the old files at its start.
        log.note(format!(
            "the journal could not be written: {}",
            chain(&error)
        ));
    }
    live.remove_leftovers().ok();
    Ok(())
}

/// Where the old bytes can be had, and what to tell of drift among them.
type Kept = (BTreeMap<Slot, Old>, Option<String>);

fn keep_old(engine: &Engine, old: &Files, log: &Log) -> Result<Kept, FileError> {
    let live = engine.ledger.live;
    let manifest = live.and_then(|live| engine.generations.manifest(live.revision).ok());
    let expected = live.as_ref().zip(manifest.as_ref());
    let (kept, note) = drift::keep(&engine.drift, old, expected, engine.clock.now())?;
    if let Some(note) = &note {
        log.note(note.as_str());
    }
    // Files of the time before the first apply are nobody's drift.
    Ok((kept, note.filter(|_| live.is_some())))
}

fn written(live: &Live, target: &Target) -> Vec<WrittenFile> {
    let file = |slot: Slot, path: String| {
        let files = &target.manifest.files;
        let file = files.iter().find(|file| file.slot == slot)?;
        Some(WrittenFile {
            slot,
            path,
            size: file.size,
            sha256: file.sha256,
        })
    };
    live.places()
        .filter_map(|(slot, place)| file(slot, place.dir.join(place.name).display().to_string()))
        .collect()
}
