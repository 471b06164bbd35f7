//! What follows the switch: reload, read back, remove contacts, and what happens when Asterisk does
//! not hold what it should.
//!
//! | what was found | outcome |
//! |---|---|
//! | everything as expected | `applied` |
//! | Asterisk is not running | `reload_failed_files_kept`: it reads the files when it starts |
//! | no answer in time | `reload_unknown`: nothing is renamed under a reload that may still run |
//! | anything else, policy `keep_new_files`, or nothing was ever proven | `reload_failed_files_kept` |
//! | anything else, policy `roll_back` | `rolled_back`, or `rollback_failed` if that fails too |

use shared::bundle::{Revision, Slot};
use shared::record::{Mismatch, OnReloadFailure, Outcome, Phase};

use crate::apply::{ended, switch_files};
use crate::asterisk::{AsteriskError, Command};
use crate::contacts;
use crate::drift;
use crate::durable::{FileError, PRIVATE};
use crate::engine::{Earlier, Engine, Past, Target};
use crate::journal::{Direction, Owed, Proven};
use crate::live::{Live, Stamps};
use crate::reload::{self, Patience, ReloadError};
use crate::steps::{Log, chain};
use crate::verify::{self, Depth, Expected, Found, VerifyError};

/// Why a generation is not proven.
enum Unproven {
    NotRunning(String),
    /// It does not answer, and was not told to reload.
    Hung(String),
    /// A reload may still be carried out.
    Unknown(String),
    Failed(String),
}

/// Notes in the ledger that a generation is live and proven.
pub(crate) fn proven(engine: &mut Engine, target: &Target) {
    engine.ledger.live = Some(target.generation);
    engine.ledger.proven = Some(Proven {
        generation: target.generation,
        at: engine.clock.now(),
    });
    engine.ledger.owed = Owed::default();
    engine.ledger.unsettled = false;
    engine.ledger.doubtful = false;
}

/// Goes on from switched files.
pub(crate) fn run(
    engine: &mut Engine,
    live: &Live,
    target: &Target,
    before: &Past,
    patience: Patience,
    log: &Log,
) -> Outcome {
    match prove(engine, target, before, patience, log) {
        Ok(stamps) => {
            proven(engine, target);
            engine.proven_stamps = Some(stamps);
            Outcome::Applied
        }
        Err(Unproven::NotRunning(why)) => ended(log, Outcome::ReloadFailedFilesKept, why),
        Err(Unproven::Hung(why)) => ended(log, Outcome::ReloadUnknown, why),
        Err(Unproven::Unknown(why)) => {
            engine.ledger.unsettled = true;
            ended(log, Outcome::ReloadUnknown, why)
        }
        Err(Unproven::Failed(why)) => {
            log.record().failure.clone_from(&why);
            let kept = log.step(Phase::Verifying, "keep the evidence under failed/", || {
                keep_evidence(engine, target, log)
            });
            if kept.is_err() {
                log.note("the evidence could not be kept");
            }
            let policy = log.record().on_reload_failure;
            match policy {
                OnReloadFailure::KeepNewFiles => Outcome::ReloadFailedFilesKept,
                OnReloadFailure::RollBack => roll_back(engine, live, target, before, log),
            }
        }
    }
}

/// Reloads Asterisk and reads back whether it holds the target: every option of what is new or
/// differs from any generation of `before`. Returns how the live files lay there.
fn prove(
    engine: &Engine,
    target: &Target,
    before: &Past,
    patience: Patience,
    log: &Log,
) -> Result<Stamps, Unproven> {
    let deadline = engine.config.asterisk.reload_deadline;
    let asterisk = engine.asterisk.as_ref();
    let questions = engine.questions();
    reload::wait_until_booted(asterisk, deadline, patience, log)?;
    let laid = lie(engine).map_err(|error| Unproven::Failed(chain(&error)))?;
    let pjsip = if before.has_pjsip && holds_pjsip(engine, target, log) {
        Ok(())
    } else {
        reload::pjsip(asterisk, deadline, log)
    };
    if let Err(error) = &pjsip
        && error.ends_the_attempt()
    {
        return Err(error.clone().into());
    }
    // Asterisk's own configuration may have been changed since the apply began to look.
    let own = engine.proven_stamps.as_ref().map(|proven| &proven.own);
    let depth = if before.more || before.suspect || own != Some(&laid.own) {
        Depth::Everything
    } else {
        Depth::Changed
    };
    let expected = Expected {
        model: &target.model,
        manifest: &target.manifest,
        before: &before.known,
        depth,
    };
    // Both take their time in Asterisk, on different locks: side by side they take that of one.
    let span = tracing::Span::current();
    let phase = Phase::Verifying;
    let (pjsip_held, dialplan, dialplan_held) = std::thread::scope(|scope| {
        let reading =
            scope.spawn(|| span.in_scope(|| verify::pjsip(questions, &expected, phase, log)));
        let dialplan = reload::dialplan(asterisk, deadline, log);
        let held = dialplan
            .is_ok()
            .then(|| verify::dialplan(questions, &expected, phase, log));
        (reading.join(), dialplan, held)
    });
    let mut mismatches = Vec::new();
    let pjsip_held = pjsip_held
        .unwrap_or_else(|_| Err(AsteriskError::Broken("reading it failed".to_owned()).into()));
    let pjsip_said = collect(pjsip, Some(pjsip_held), &mut mismatches)?;
    let dialplan_said = collect(dialplan, dialplan_held, &mut mismatches)?;
    let (model, manifest) = (&target.model, &target.manifest);
    if pjsip_said.is_none() && !engine.ledger.owed.is_empty() {
        let left = contacts::sweep(questions, &engine.ledger.owed, model, manifest, log)?;
        mismatches.extend(left);
    }
    let revision = target.generation.revision;
    if revision != log.record().revision {
        for mismatch in &mut mismatches {
            let detail = &mismatch.detail;
            mismatch.detail = format!("{detail}; after revision {revision} was brought back");
        }
    }
    log.mismatches(&mismatches);
    if pjsip_said.is_none() && dialplan_said.is_none() && mismatches.is_empty() {
        let untouched = log.step(Phase::Verifying, "read the live files again", || {
            untouched(engine, target, &laid)
        });
        return untouched.map_err(|error| Unproven::Failed(chain(&error)));
    }
    Err(Unproven::Failed(failure(
        revision,
        pjsip_said,
        dialplan_said,
        &mismatches,
    )))
}

/// Whether Asterisk says by the markers of all three types that it holds the target's PJSIP file,
/// so that it need not read it once more.
fn holds_pjsip(engine: &Engine, target: &Target, log: &Log) -> bool {
    let action = format!("{} not needed", Command::PjsipReload);
    let generation = target.model.generation(Slot::PjsipEndpoints);
    match verify::holds_pjsip_markers(engine.questions(), &target.model) {
        Ok(true) => {
            let said = format!(
                "the file is byte for byte what was proven last, nobody has touched it since, and \
                 the markers of endpoints, auths and AORs say that Asterisk holds {generation}"
            );
            log.step_saying(Phase::Reloading, action, || {
                (Ok::<_, VerifyError>(true), said)
            })
            .unwrap_or_default()
        }
        // Whatever is wrong, the reload and what follows it will tell.
        Ok(false) | Err(_) => false,
    }
}

/// The live files are not what Asterisk was to read.
#[derive(Debug, thiserror::Error)]
enum Interference {
    /// They cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody else has written to them.
    #[error(
        "somebody changed {0} while Asterisk read it, so that what it holds is not known: see who \
         else writes there"
    )]
    Changed(String),
}

/// How the live files lie there.
fn lie(engine: &Engine) -> Result<Stamps, FileError> {
    Live::open(&engine.config.asterisk_config_dir)?.stamps()
}

/// Not every option of every object was asked for: what Asterisk holds is known only if it read
/// what was written, and nothing else.
fn untouched(engine: &Engine, target: &Target, laid: &Stamps) -> Result<Stamps, Interference> {
    let live = Live::open(&engine.config.asterisk_config_dir)?;
    // Before the bytes, so that whoever writes afterwards changes them.
    let stamps = live.stamps()?;
    match &drift::drifted(&live.read()?, Some(&target.manifest))[..] {
        // Also what was put back in the meantime was something else in between.
        [] if stamps.managed != laid.managed => Err(Interference::Changed(
            "the managed files or their directories".to_owned(),
        )),
        // As they were before Asterisk read them: what changed meanwhile is looked at next time.
        [] => Ok(laid.clone()),
        changed => {
            let paths: Vec<_> = changed.iter().map(|slot| slot.relative_path()).collect();
            Err(Interference::Changed(paths.join(" and ")))
        }
    }
}

/// What is wrong with a reload, apart from the mismatches that it led to.
fn collect(
    reload: Result<(), ReloadError>,
    held: Option<Result<Found, VerifyError>>,
    mismatches: &mut Vec<Mismatch>,
) -> Result<Option<String>, Unproven> {
    let said = match reload {
        Ok(()) => None,
        Err(error) if error.ends_the_attempt() => {
            return Err(error.into());
        }
        Err(error) => Some(chain(&error)),
    };
    match held {
        None => {}
        Some(Ok(found)) => mismatches.extend(found.mismatches),
        Some(Err(error)) => return Err(error.into()),
    }
    Ok(said)
}

/// Both reloads are told, also when one of them went well (spec: partial reload failure).
fn failure(
    revision: Revision,
    pjsip: Option<String>,
    dialplan: Option<String>,
    mismatches: &[Mismatch],
) -> String {
    let mut parts = Vec::new();
    if pjsip.is_some() || dialplan.is_some() {
        let told = |said: Option<String>| said.unwrap_or_else(|| "was reloaded".to_owned());
        parts.push(format!(
            "PJSIP: {}. Dialplan: {}",
            told(pjsip),
            told(dialplan)
        ));
    }
    if !mismatches.is_empty() {
        let summary = verify::summary(mismatches);
        parts.push(format!(
            "Asterisk does not hold revision {revision}: {summary}"
        ));
    }
    parts.join(". ")
}

impl From<ReloadError> for Unproven {
    fn from(error: ReloadError) -> Self {
        let text = chain(&error);
        match error {
            ReloadError::NotRunning(_) => Self::NotRunning(text),
            ReloadError::Hung(_) => Self::Hung(text),
            ReloadError::Unknown { .. } => Self::Unknown(text),
            ReloadError::NoSuchCommand { .. } | ReloadError::Failed { .. } => Self::Failed(text),
        }
    }
}

impl From<VerifyError> for Unproven {
    fn from(error: VerifyError) -> Self {
        let text = format!("the reload could not be verified: {}", chain(&error));
        match error {
            VerifyError::Asterisk(AsteriskError::NotRunning(_)) => Self::NotRunning(text),
            VerifyError::Asterisk(AsteriskError::TimedOut(_) | AsteriskError::Broken(_)) => {
                Self::Unknown(text)
            }
            VerifyError::Asterisk(AsteriskError::Unusable(_)) | VerifyError::Answer { .. } => {
                Self::Failed(text)
            }
        }
    }
}

/// The failed files and the record so far, with all that Asterisk said.
fn keep_evidence(engine: &Engine, target: &Target, log: &Log) -> Result<(), FileError> {
    let record = log.snapshot();
    let name = format!("{}-{}", record.revision, record.apply_id);
    engine.failed.remove_dir(&name)?;
    let dir = engine.failed.make_dir(&name)?;
    for (slot, bytes) in &target.bundle.files {
        dir.write_new(slot.name(), PRIVATE, bytes)?;
    }
    let json = dir.json("record.json", &record)?;
    dir.write_new("record.json", PRIVATE, &json)?;
    dir.sync()?;
    engine.failed.sync()
}

/// Brings the last proven generation back.
fn roll_back(
    engine: &mut Engine,
    live: &Live,
    failed: &Target,
    before: &Past,
    log: &Log,
) -> Outcome {
    let Some(last) = engine.ledger.proven else {
        log.note("there is no proven revision to go back to: the new files stay");
        return Outcome::ReloadFailedFilesKept;
    };
    let revision = last.generation.revision;
    let action = format!("load revision {revision}, the last proven one");
    let restored = match log.step(Phase::RollingBack, action, || {
        engine.target(last.generation)
    }) {
        Ok(target) => target,
        Err(error) => return rollback_failed(engine, log, &chain(&error)),
    };
    // What was written there is known: a file that cannot be read keeps nobody from replacing it.
    let (old, unreadable) = live.read_or(&failed.bundle.files);
    for why in unreadable {
        log.note(format!("replaced without a copy: {why}"));
    }
    // Whoever registered with what is taken back has to go as well.
    let changed = contacts::changed_hands(&failed.model, &restored.model);
    engine.ledger.owed.aors.extend(changed);
    if let Err(error) = switch_files(engine, live, &old, &restored, Direction::RollBack, log) {
        return rollback_failed(engine, log, &chain(&error));
    }
    let mut before = before.clone();
    before.has_pjsip = false;
    before.known.insert(
        0,
        Earlier {
            revision: failed.generation.revision,
            model: failed.model.clone(),
        },
    );
    rolled_back(engine, &restored, &before, Patience::Running, log)
}

/// Goes on from the restored files.
pub(crate) fn rolled_back(
    engine: &mut Engine,
    restored: &Target,
    before: &Past,
    patience: Patience,
    log: &Log,
) -> Outcome {
    match prove(engine, restored, before, patience, log) {
        Ok(stamps) => {
            proven(engine, restored);
            engine.proven_stamps = Some(stamps);
            Outcome::RolledBack
        }
        Err(Unproven::NotRunning(why) | Unproven::Hung(why) | Unproven::Failed(why)) => {
            rollback_failed(engine, log, &why)
        }
        Err(Unproven::Unknown(why)) => {
            engine.ledger.unsettled = true;
            rollback_failed(engine, log, &why)
        }
    }
}

fn rollback_failed(engine: &mut Engine, log: &Log, why: &str) -> Outcome {
    engine.ledger.doubtful = true;
    engine.proven_stamps = None;
    let mut record = log.record();
    let failure = format!("{}. Rolling back failed: {why}", record.failure);
    record.failure = failure;
    Outcome::RollbackFailed
}
