//! What `GetStatus` tells: what is in force, whether Asterisk answers, and whatever an
//! administrator should look at.

use std::time::Duration;

use shared::wire::{self, pb};

use crate::agent::{Agent, Standing};
use crate::answers;
use crate::asterisk::Command;
use crate::drift;
use crate::durable::{Dir, FileError};
use crate::foreign;
use crate::generations::Generations;
use crate::journal::Ledger;
use crate::live::Live;
use crate::steps::chain;

/// Longest wait for Asterisk's version: whoever asks for the status wants it now.
const PROBE_DEADLINE_MAX: Duration = Duration::from_secs(2);

/// Reads it all. Blocks.
pub(crate) fn read(agent: &Agent) -> pb::AgentStatus {
    let standing = agent.standing();
    let (foreign_files, warnings) = look_at_files(agent, &standing);
    let proven = standing.ledger.as_ref().and_then(|ledger| ledger.proven);
    pb::AgentStatus {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        active: proven.map(|proven| pb::ActiveRevision {
            revision: proven.generation.revision.0,
            digest: proven.generation.digest.0.to_vec(),
            apply_id: proven.generation.apply_id.to_string(),
            proven_at_ms: wire::to_ms(proven.at),
        }),
        highest_revision: standing.highest.0,
        running_apply_id: standing.running.map(|id| id.to_string()),
        asterisk: Some(probe(agent)),
        foreign_files,
        warnings,
    }
}

fn probe(agent: &Agent) -> pb::AsteriskStatus {
    let deadline = agent.config.asterisk.query_deadline.min(PROBE_DEADLINE_MAX);
    match agent.asterisk.run(&Command::Version, deadline) {
        Ok(answer) => match answers::version(&answer) {
            Ok(version) => pb::AsteriskStatus {
                answering: true,
                detail: version,
            },
            Err(error) => pb::AsteriskStatus {
                answering: true,
                detail: chain(&error),
            },
        },
        Err(error) => pb::AsteriskStatus {
            answering: false,
            detail: chain(&error),
        },
    }
}

fn look_at_files(agent: &Agent, standing: &Standing) -> (Vec<String>, Vec<String>) {
    let mut warnings: Vec<String> = standing.safe_mode.iter().cloned().collect();
    if let Some(ledger) = &standing.ledger {
        warnings.extend(ledger_warnings(ledger));
    }
    let live = match Live::open(&agent.config.asterisk_config_dir) {
        Ok(live) => live,
        Err(error) => {
            warnings.push(format!("files cannot be written: {}", chain(&error)));
            return (Vec::new(), warnings);
        }
    };
    warnings.extend(write_warnings(agent, &live));
    if standing.running.is_none() {
        match drift_warning(agent, standing, &live) {
            Ok(warning) => warnings.extend(warning),
            Err(error) => {
                warnings.push(format!("the live files cannot be read: {}", chain(&error)));
            }
        }
    }
    let foreign = foreign::list(&live).unwrap_or_else(|error| {
        warnings.push(chain(&error));
        Vec::new()
    });
    (foreign, warnings)
}

fn ledger_warnings(ledger: &Ledger) -> Vec<String> {
    let mut warnings = Vec::new();
    let proven = ledger.proven.map(|proven| proven.generation);
    if let Some(live) = ledger.live
        && proven != Some(live)
    {
        let revision = live.revision;
        warnings.push(format!(
            "revision {revision} is live but was not proven to be in force"
        ));
    }
    if ledger.unsettled {
        warnings.push("a reload was given up and may still take effect: apply again".to_owned());
    }
    if ledger.live.is_some() && !ledger.owed.is_empty() {
        warnings.push(
            "phones of former owners may still be registered: the next proven apply removes them"
                .to_owned(),
        );
    }
    warnings
}

/// The next apply could not be written, and why: told before somebody needs it.
fn write_warnings(agent: &Agent, live: &Live) -> Vec<String> {
    let state = Dir::open(&agent.config.state_dir).and_then(|state| state.writable());
    let places = live.places().map(|(_, place)| place.dir.writable());
    let faults = std::iter::once(state).chain(places).filter_map(Result::err);
    faults
        .map(|error| format!("files cannot be written: {}", chain(&error)))
        .collect()
}

fn drift_warning(
    agent: &Agent,
    standing: &Standing,
    live: &Live,
) -> Result<Option<String>, FileError> {
    let Some(generation) = standing.ledger.as_ref().and_then(|ledger| ledger.live) else {
        return Ok(None);
    };
    let generations = Dir::open(&agent.config.state_dir)?.existing_subdir("gen")?;
    let Ok(manifest) = Generations::looking(generations).manifest(generation.revision) else {
        let revision = generation.revision;
        return Ok(Some(format!(
            "revision {revision}, which is live, is not in the state directory"
        )));
    };
    let drifted = drift::drifted(&live.read()?, Some(&manifest));
    let paths: Vec<_> = drifted.iter().map(|slot| slot.relative_path()).collect();
    Ok((!paths.is_empty()).then(|| {
        format!(
            "changed since revision {} was applied: {}",
            generation.revision,
            paths.join(", ")
        )
    }))
}
