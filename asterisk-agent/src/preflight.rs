//! Pre-flight: a throw-away Asterisk of the installed version reads a bundle before the live one
//! does.
//!
//! The static check knows what the portal renders; the real grammar is Asterisk's own, and another
//! version may have another. So it is started with the bundle in a directory of its own, without
//! network, looked through like the live one, option by option, and killed. Whatever it complains
//! about, or does not hold, would have been wrong in the live one as well.
//!
//! It runs on the engine's thread, so that there is one at a time and none outlives the agent: see
//! [`process`].

mod files;
mod findings;
mod process;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shared::bundle::{Bundle, Manifest};
use shared::model::Model;
use shared::record::{Mismatch, Phase};
use shared::status::{CheckFinding, FindingSource};

use crate::answers;
use crate::asterisk::{Asterisk as _, Command, LocalAsterisk};
use crate::config::{AsteriskConfig, Config, Preflight};
use crate::durable::{Dir, FileError};
use crate::engine::Target;
use crate::steps::{Log, chain};
use crate::validate::{self, Rejected};
use crate::verify::{self, Depth, Expected, Found, Questions, VerifyError};
use process::ThrowAway;

/// Pause between two looks at whether it has booted: it says so to nobody.
const BOOT_PAUSE: Duration = Duration::from_millis(10);

/// How often its directory is removed, and the pause before the next try.
const REMOVALS_TRIED: u32 = 10;
const REMOVAL_PAUSE: Duration = Duration::from_millis(100);

/// It could not be run, or not to its end: that says nothing about the bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotRun {
    /// Its directory cannot be made.
    #[error("its files cannot be written")]
    Files(#[from] FileError),
    /// There is no way to keep it off the network, or no program.
    #[error("{0}")]
    Start(String),
    /// It ended by itself, or was not ready in time.
    #[error("the throw-away Asterisk {0}")]
    Ended(String),
    /// It does not answer as it should.
    #[error("the throw-away Asterisk cannot be asked")]
    Questions(#[from] VerifyError),
}

/// The step of a record that tells of it.
const ACTION: &str = "let a throw-away Asterisk read the bundle";

/// As the setting says: refuses a bundle that a throw-away Asterisk does not take, or that none
/// could be shown although it is required.
pub(crate) fn check(config: &Config, target: &Target, log: &Log) -> Result<(), Rejected> {
    if config.preflight == Preflight::Off {
        return Ok(());
    }
    let required = config.preflight == Preflight::Required;
    log.step_saying(Phase::Preflight, ACTION, || {
        match run(config, &target.bundle, &target.manifest, &target.model) {
            Ok(report) if report.findings.is_empty() => (Ok(()), report.said),
            Ok(report) => {
                log.mismatches(&report.mismatches);
                let said = validate::summary(&report.findings);
                (Err(Rejected(report.findings)), said)
            }
            Err(error) => {
                let said = chain(&error);
                let text = format!("the pre-flight could not run: {said}");
                if !required {
                    log.note(text);
                    return (Ok(()), format!("not run: {said}"));
                }
                let finding = CheckFinding {
                    source: FindingSource::Preflight,
                    slot: None,
                    line: 0,
                    message: text,
                };
                (Err(Rejected(vec![finding])), said)
            }
        }
    })
}

/// What came of it.
pub(crate) struct Report {
    /// What it complained about, and what it did not hold.
    pub(crate) findings: Vec<CheckFinding>,
    /// What it did not hold, as a record lists it.
    pub(crate) mismatches: Vec<Mismatch>,
    /// What was done, in a few words.
    pub(crate) said: String,
}

/// Lets a throw-away Asterisk read `bundle`, whose objects are `model`.
pub(crate) fn run(
    config: &Config,
    bundle: &Bundle,
    manifest: &Manifest,
    model: &Model,
) -> Result<Report, CannotRun> {
    clean(&config.state_dir);
    let read = read(config, bundle, manifest, model);
    clean(&config.state_dir);
    read
}

fn read(
    config: &Config,
    bundle: &Bundle,
    manifest: &Manifest,
    model: &Model,
) -> Result<Report, CannotRun> {
    let path = directory(&config.state_dir);
    let dir = Dir::open(&config.state_dir)?.make_dir(NAME)?;
    files::write(&dir, &path, config.asterisk.conf.as_deref(), bundle)?;
    let conf = path.join(files::ASTERISK_CONF);
    let own = AsteriskConfig {
        control_socket: path.join("asterisk.ctl"),
        conf: Some(conf.clone()),
        ..config.asterisk.clone()
    };
    let began = Instant::now();
    let mut asterisk = ThrowAway::start(&own.binary, &conf, &path)?;
    let isolation = asterisk.isolation;
    let held = wait_until_booted(&mut asterisk, &own)
        .and_then(|()| Ok((began.elapsed(), held(&own, manifest, model)?)));
    asterisk.kill();
    let complaints = dir.read(files::LOG, files::LOG_BYTES_MAX)?;
    let log = String::from_utf8_lossy(complaints.as_deref().unwrap_or_default()).into_owned();
    let mut findings = findings::read(&log, &path);
    let (mismatches, said) = match held {
        Ok((booted, found)) => {
            let (ms, compared) = (booted.as_millis(), found.compared);
            let said = format!(
                "booted within {ms} ms, {isolation}; {compared} objects and extensions compared"
            );
            (found.mismatches, said)
        }
        // What it complained about is the reason.
        Err(error) if !findings.is_empty() => (Vec::new(), chain(&error)),
        Err(error) => return Err(error),
    };
    findings.extend(mismatches.iter().map(finding));
    Ok(Report {
        findings,
        mismatches,
        said,
    })
}

fn finding(mismatch: &Mismatch) -> CheckFinding {
    CheckFinding {
        source: FindingSource::Preflight,
        slot: verify::slot(mismatch.object, &mismatch.name),
        line: 0,
        message: verify::summary(std::slice::from_ref(mismatch)),
    }
}

fn wait_until_booted(asterisk: &mut ThrowAway, config: &AsteriskConfig) -> Result<(), CannotRun> {
    let local = LocalAsterisk::new(config.clone());
    let ends = Instant::now() + config.reload_deadline;
    loop {
        if let Some(how) = asterisk.ended() {
            return Err(CannotRun::Ended(format!("ended by itself: {how}")));
        }
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let ms = config.reload_deadline.as_millis();
            return Err(CannotRun::Ended(format!("did not boot within {ms} ms")));
        }
        let answer = local.run(&Command::WaitFullyBooted, left.min(config.query_deadline));
        if answer.is_ok_and(|answer| answers::has_booted(&answer)) {
            return Ok(());
        }
        std::thread::sleep(BOOT_PAUSE);
    }
}

/// Every object and extension in it, in full depth.
fn held(config: &AsteriskConfig, manifest: &Manifest, model: &Model) -> Result<Found, VerifyError> {
    let asterisk = LocalAsterisk::new(config.clone());
    let questions = Questions {
        asterisk: &asterisk,
        deadline: config.query_deadline,
    };
    let expected = Expected {
        model,
        manifest,
        before: &[],
        depth: Depth::Everything,
    };
    verify::both(questions, &expected, Phase::Preflight, &Log::nowhere())
}

/// The name of its directory in the state directory.
const NAME: &str = "preflight";

fn directory(state: &Path) -> PathBuf {
    state.join(NAME)
}

/// Removes what an earlier one left, should the agent have been killed beside it. Its processes were
/// killed as well, and may be writing their last.
pub(crate) fn clean(state: &Path) {
    let path = directory(state);
    process::end_leftover(&path);
    let removed = (1..=REMOVALS_TRIED).find_map(|tried| {
        let gone = match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if gone.is_err() && tried < REMOVALS_TRIED {
            std::thread::sleep(REMOVAL_PAUSE);
            return None;
        }
        Some(gone)
    });
    if let Some(Err(error)) = removed {
        let path = path.display();
        tracing::warn!(%error, %path, "cannot remove what a pre-flight left");
    }
}
