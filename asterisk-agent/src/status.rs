//! What `GetStatus` tells: what is in force, what lies on disk, what Asterisk has loaded, and
//! whatever an administrator should look at.
//!
//! It is quick also when Asterisk hangs, and it tells also in safe mode.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shared::bundle::Revision;
use shared::status::{ActiveRevision, AgentStatus, FileStatus};
use shared::tls::validity::End;

use crate::agent::{Agent, Standing};
use crate::answers;
use crate::asterisk::Command;
use crate::durable::Dir;
use crate::journal::Ledger;
use crate::live::Live;
use crate::loaded::{self, Loaded};
use crate::steps::chain;
use crate::watch::View;

/// Longest wait for Asterisk: whoever asks for the status wants it now.
const PROBE_DEADLINE_MAX: Duration = Duration::from_secs(2);

/// Reads it all. Blocks.
pub(crate) fn read(agent: &Agent) -> AgentStatus {
    let began = Instant::now();
    let deadline = agent.config.asterisk.query_deadline.min(PROBE_DEADLINE_MAX);
    let (asterisk_answering, asterisk_detail) = probe(agent, deadline);
    let left = deadline.saturating_sub(began.elapsed());
    let loaded = if asterisk_answering {
        loaded::ask(agent.asterisk.as_ref(), left)
    } else {
        Loaded::default()
    };
    let view = agent.watch.look(agent, false);
    let standing = agent.standing();
    let proven = standing.ledger.as_ref().and_then(|ledger| ledger.proven);
    let warnings = warnings(agent, &standing, &view, &loaded);
    AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        active: proven.map(|proven| ActiveRevision {
            revision: proven.generation.revision,
            digest: proven.generation.digest,
            apply_id: proven.generation.apply_id,
            proven_at: proven.at,
        }),
        highest_revision: standing.highest,
        forgotten_before: standing
            .ledger
            .as_ref()
            .and_then(|ledger| ledger.forgotten_before),
        running: standing.running,
        asterisk_answering,
        asterisk_detail,
        files: files(agent, &standing, &view, &loaded),
        drift: view.drift,
        foreign_files: view.foreign,
        warnings,
        certificates: agent.config.tls.ends(End::Agent).0,
        counters: agent.events.counters(),
        safe_mode: standing.safe_mode,
        instance: agent.events.instance(),
        events: agent.events.recent(),
    }
}

/// Whether Asterisk answers, and what or why not.
fn probe(agent: &Agent, deadline: Duration) -> (bool, String) {
    match agent.asterisk.run(&Command::Version, deadline) {
        Ok(answer) => {
            let version = answers::version(&answer);
            (true, version.unwrap_or_else(|error| chain(&error)))
        }
        Err(error) => (false, chain(&error)),
    }
}

fn warnings(agent: &Agent, standing: &Standing, view: &View, loaded: &Loaded) -> Vec<String> {
    let mut warnings: Vec<String> = standing.safe_mode.iter().cloned().collect();
    if let Some(ledger) = &standing.ledger
        && standing.safe_mode.is_none()
    {
        warnings.extend(ledger_warnings(ledger));
    }
    warnings.extend(view.warnings.iter().cloned());
    warnings.extend(write_warnings(agent));
    // Between two reloads they differ by right.
    if standing.running.is_none() {
        warnings.extend(loaded.warnings.iter().cloned());
    }
    let (now, early) = (agent.now(), agent.config.cert_warning);
    warnings.extend(agent.config.tls.warnings(End::Agent, now, early));
    warnings
}

fn files(agent: &Agent, standing: &Standing, view: &View, loaded: &Loaded) -> Vec<FileStatus> {
    let revisions: BTreeMap<String, Revision> = loaded::revisions(agent, standing, loaded)
        .into_iter()
        .rev()
        .collect();
    let file = |on_disk: &crate::watch::OnDisk| {
        let slot = on_disk.slot;
        let applied = view.applied.as_ref();
        let manifest = applied.and_then(|(_, manifest)| {
            let mut files = manifest.files.iter();
            files.find(|file| file.slot == slot).copied()
        });
        let id = loaded.ids.get(&slot);
        FileStatus {
            slot,
            path: on_disk.path.clone(),
            applied_revision: applied.map(|(generation, _)| generation.revision),
            applied: manifest,
            on_disk: on_disk.found,
            problem: on_disk.problem.clone(),
            loaded_generation: id.cloned(),
            loaded_revision: id.and_then(|id| revisions.get(id).copied()),
        }
    };
    view.files.iter().map(file).collect()
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
    if ledger.doubtful {
        warnings.push(
            "Asterisk was found to hold something else than what was proven: apply again; if that \
             does not help, see that its own configuration still includes the managed files"
                .to_owned(),
        );
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
fn write_warnings(agent: &Agent) -> Vec<String> {
    let state = Dir::open(&agent.config.state_dir).and_then(|state| state.writable());
    let mut written = vec![state];
    // That they cannot be opened is said by whoever looks at the files.
    if let Ok(live) = Live::open(&agent.config.asterisk_config_dir) {
        written.extend(live.places().map(|(_, place)| place.dir.writable()));
    }
    let faults = written.into_iter().filter_map(Result::err);
    faults
        .map(|error| format!("files cannot be written: {}", chain(&error)))
        .collect()
}
