//! What the engine is asked beside applies: would this bundle come into force, and does Asterisk
//! hold what was applied? Nothing is changed by either.

use std::time::{Duration, Instant};

use shared::bundle::Bundle;
use shared::model::Model;
use shared::record::{Mismatch, MismatchKind, ObjectKind, Phase};
use shared::status::{CheckReport, VerifyReport};

use crate::config::Preflight;
use crate::drift;
use crate::durable::FileError;
use crate::engine::{Engine, Target};
use crate::journal::Generation;
use crate::live::Live;
use crate::preflight;
use crate::steps::{Log, chain};
use crate::validate::{self, Rejected};
use crate::verify::{self, Depth, Expected, mismatch};

/// Everything that would keep `bundle` from coming into force: the same checks that an apply makes
/// before it touches anything.
pub(crate) fn check(engine: &Engine, bundle: &Bundle) -> CheckReport {
    let mut report = CheckReport {
        findings: Vec::new(),
        preflight: "not run: the text of the bundle has faults".to_owned(),
        preflight_ran: false,
    };
    let model = match validate::text(bundle) {
        Ok(model) => model,
        Err(Rejected(findings)) => {
            report.findings = findings;
            return report;
        }
    };
    for Rejected(findings) in beside(engine, &model) {
        report.findings.extend(findings);
    }
    if engine.config.preflight == Preflight::Off {
        "off".clone_into(&mut report.preflight);
        return report;
    }
    match preflight::run(&engine.config, bundle, &bundle.manifest(), &model) {
        Ok(ran) => {
            report.preflight_ran = true;
            report.preflight = ran.said;
            report.findings.extend(ran.findings);
        }
        Err(error) => report.preflight = format!("not run: {}", chain(&error)),
    }
    report
}

/// What is wrong with what the bundle would find on this host.
fn beside(engine: &Engine, model: &Model) -> impl Iterator<Item = Rejected> {
    let log = Log::nowhere();
    let directories = match Live::open(&engine.config.asterisk_config_dir) {
        Ok(live) => validate::surroundings(&live, model, &log),
        Err(error) => Err(validate::unusable_directories(&error)),
    };
    let checks = [
        validate::program(engine.asterisk.as_ref()),
        directories,
        validate::transports(engine.questions(), model, &log),
    ];
    checks.into_iter().filter_map(Result::err)
}

/// Compares everything that the live revision says with what lies on disk and with what Asterisk
/// holds. `None` when nothing was ever applied.
pub(crate) fn verify(engine: &mut Engine) -> Option<VerifyReport> {
    let generation = engine.ledger.live?;
    let began = Instant::now();
    let mut report = VerifyReport {
        revision: generation.revision,
        digest: generation.digest,
        in_force: false,
        compared: 0,
        mismatches: Vec::new(),
        failure: String::new(),
        duration: Duration::ZERO,
    };
    if let Err(failure) = compare(engine, generation, &mut report) {
        report.failure = failure;
    }
    report.in_force = report.failure.is_empty() && report.mismatches.is_empty();
    if report.failure.is_empty() {
        engine.ledger.doubtful = !report.in_force;
    }
    if engine.ledger.doubtful {
        // The next apply must not go by what was proven before.
        engine.proven_stamps = None;
    }
    report.duration = began.elapsed();
    Some(report)
}

fn compare(
    engine: &mut Engine,
    generation: Generation,
    report: &mut VerifyReport,
) -> Result<(), String> {
    let past = engine.past();
    let target = engine.target(generation).map_err(|error| chain(&error))?;
    let on_disk = files(engine, &target).map_err(|error| chain(&error))?;
    report.mismatches.extend(on_disk);
    let expected = Expected {
        model: &target.model,
        manifest: &target.manifest,
        before: &past.known,
        depth: Depth::Everything,
    };
    let log = Log::nowhere();
    let found = verify::both(engine.questions(), &expected, Phase::Verifying, &log);
    let found = found.map_err(|error| chain(&error))?;
    report.compared = found.compared as u64;
    report.mismatches.extend(found.mismatches);
    Ok(())
}

/// The live files that are not those of the revision.
fn files(engine: &Engine, target: &Target) -> Result<Vec<Mismatch>, FileError> {
    let live = Live::open(&engine.config.asterisk_config_dir)?.read()?;
    let drifted = drift::drifted(&live, Some(&target.manifest));
    let differs = |slot: shared::bundle::Slot| {
        let (kind, detail) = if live.contains_key(&slot) {
            (MismatchKind::Different, "the live file has other bytes")
        } else {
            (MismatchKind::Missing, "there is no live file")
        };
        mismatch(ObjectKind::File, slot.relative_path(), kind, detail)
    };
    Ok(drifted.into_iter().map(differs).collect())
}
