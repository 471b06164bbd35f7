//! What an administrator should look at, for readiness and status alike.

use shared::status::AgentStatus;

use super::Portal;
use crate::domain::access::AuthMode;
use crate::domain::revision::{Doubt, InForce};
use crate::domain::status::Warning;

/// What the certificates of this end of the links give reason for: all have the same.
pub(super) fn of_link(portal: &Portal) -> Vec<Warning> {
    let (now, early) = (portal.clock.now(), portal.settings.cert_warning);
    let (_, warnings) = portal.pbxes.default().agent().certificates(now, early);
    let warning = |message| Warning::new("link_certificate", message);
    warnings.into_iter().map(warning).collect()
}

/// What the way in gives reason for: the certificate that clients see, and that nobody signs in.
pub(super) fn of_entrance(portal: &Portal) -> Vec<Warning> {
    let (now, early) = (portal.clock.now(), portal.settings.cert_warning);
    let https = portal.https.as_ref();
    let found = https.map_or_else(Vec::new, |https| https.warnings(now, early));
    let warning = |message| Warning::new("https_certificate", message);
    let mut warnings: Vec<_> = found.into_iter().map(warning).collect();
    if portal.settings.auth == AuthMode::TrustedNetwork {
        let message = "AUTH_MODE=trusted_network: there is no sign-in; whoever reaches the portal \
                       administers the PBX";
        warnings.push(Warning::new("trusted_network", message));
    }
    warnings
}

/// What the agent tells. Its own words have no codes: they get one where what it tells besides
/// says the same.
pub(super) fn of_agent(status: &AgentStatus) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    if let Some(reason) = &status.safe_mode {
        warnings.push(Warning::new("safe_mode", reason.clone()));
    }
    warnings.extend(unproven(status).map(|message| Warning::new("not_proven", message)));
    let foreign = status.foreign_files.iter().map(|file| {
        let message = format!("{file} is not managed, but Asterisk includes it");
        Warning::new("foreign_file", message)
    });
    warnings.extend(foreign);
    for message in &status.warnings {
        if warnings.iter().any(|told| told.message == *message) {
            continue;
        }
        let code = if is_of_drift(status, message) {
            "drift"
        } else {
            "agent"
        };
        warnings.push(Warning::new(code, message.clone()));
    }
    warnings
}

/// That what is live was not proven.
pub(super) fn unproven(status: &AgentStatus) -> Option<String> {
    let live = status.files.first()?.applied_revision?;
    let proven = status.active.map(|active| active.revision);
    (proven != Some(live) && status.running.is_none())
        .then(|| format!("revision {live} is live but was not proven to be in force"))
}

/// The managed files that are not what was applied.
pub(super) fn drifted(status: &AgentStatus) -> Vec<&shared::status::FileStatus> {
    let differs = |file: &&shared::status::FileStatus| {
        file.applied.is_some() && file.problem.is_empty() && file.applied != file.on_disk
    };
    status.files.iter().filter(differs).collect()
}

fn is_of_drift(status: &AgentStatus, message: &str) -> bool {
    let drifted = drifted(status);
    !drifted.is_empty()
        && drifted
            .iter()
            .all(|file| message.contains(file.slot.relative_path()))
}

/// That nobody knows what Asterisk holds since an apply ended. One that runs is no reason to warn.
pub(super) fn of_doubt(doubt: Option<&Doubt>) -> Option<Warning> {
    let doubt = doubt.filter(|doubt| doubt.is_of_the_end())?;
    let message = format!(
        "What is in force is uncertain: {doubt}, and nothing was proven since. GET /applies/{} \
         tells why; look at it, then apply again.",
        doubt.apply_id
    );
    Some(Warning::new("pbx_in_doubt", message))
}

/// That an earlier bundle is in force and the database says something else.
pub(super) fn of_restore(in_force: Option<&InForce>) -> Vec<Warning> {
    // Without notes it was what the database said as well.
    let restored = in_force
        .filter(|in_force| !in_force.notes.is_empty())
        .and_then(|in_force| Some((in_force.restored_from?, in_force)));
    let Some((source, in_force)) = restored else {
        return Vec::new();
    };
    let note = super::preview::restored_note(in_force, source);
    let message = format!(
        "Database and PBX differ since revision {} was restored. {note} GET /apply/preview shows how \
         they differ; the next POST /apply puts what the database says in force.",
        source.revision
    );
    // The first note counts what differed then; the others name users.
    let others = in_force.notes.iter().skip(1).cloned();
    std::iter::once(message)
        .chain(others)
        .map(|message| Warning::new("database_differs", message))
        .collect()
}
