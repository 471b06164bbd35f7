//! Why a PBX is degraded, in words.

use time::{Duration, OffsetDateTime};

use crate::domain::apply::AttemptOutcome;
use crate::domain::status::{AttemptBrief, FileState, PbxState, Verdict};

/// Why it is degraded; empty when it is not. `unproven`: that what is live was not proven.
pub(super) fn reasons(
    state: &PbxState,
    unproven: Option<String>,
    now: OffsetDateTime,
) -> Vec<String> {
    let mut reasons = Vec::new();
    match &state.agent {
        Err(error) => reasons.push(format!("the agent: {error}")),
        Ok(agent) => {
            if let Some(reason) = &agent.safe_mode {
                reasons.push(format!("the agent is in safe mode: {reason}"));
            }
            if !agent.asterisk_answering {
                reasons.push(format!(
                    "Asterisk does not answer: {}",
                    agent.asterisk_detail
                ));
            }
            reasons.extend(unproven);
        }
    }
    if let Err(reason) = &state.wanted {
        reasons.push(format!(
            "what the database holds cannot be rendered: {reason}"
        ));
    }
    reasons.extend(state.files.iter().filter_map(reason_of_file));
    if let Some(last) = &state.last_attempt
        && let Some(reason) = reason_of_attempt(last)
    {
        reasons.push(reason);
    }
    let ended = state
        .certificates
        .iter()
        .filter(|found| found.status.not_after < now);
    reasons.extend(ended.filter_map(|found| found.status.warning(now, Duration::ZERO)));
    reasons
}

fn reason_of_file((file, verdict): &(FileState, Verdict)) -> Option<String> {
    let name = file
        .path
        .clone()
        .unwrap_or_else(|| file.slot.relative_path().to_owned());
    match (verdict, &file.problem) {
        (_, Some(problem)) => Some(format!("{name} cannot be read: {problem}")),
        (Verdict::Drifted, None) if file.on_disk.is_none() => {
            Some(format!("{name} is gone; the next apply puts it back"))
        }
        (Verdict::Drifted, None) => Some(format!(
            "{name} is not what was applied; the next apply keeps a copy and replaces it"
        )),
        (Verdict::NotLoaded, None) if file.loaded.is_none() => Some(format!(
            "Asterisk shows nothing of what {name} says; apply again"
        )),
        (Verdict::NotLoaded, None) => Some(format!(
            "Asterisk does not hold what {name} says; apply again"
        )),
        (Verdict::InSync | Verdict::PendingChanges | Verdict::Unknown, None) => None,
    }
}

fn reason_of_attempt(last: &AttemptBrief) -> Option<String> {
    let proven_or_harmless = match last.outcome {
        AttemptOutcome::OnPbx(outcome) => outcome.is_proven(),
        AttemptOutcome::Started
        | AttemptOutcome::Queued
        | AttemptOutcome::Busy
        | AttemptOutcome::PreviewOutdated => true,
        AttemptOutcome::RenderFailed
        | AttemptOutcome::AgentUnreachable
        | AttemptOutcome::AgentRefused
        | AttemptOutcome::RestoreFailed
        | AttemptOutcome::NeverStarted => false,
    };
    (!proven_or_harmless).then(|| {
        let reason = last.failure.as_ref().map(|failure| failure.message.trim());
        format!(
            "the last apply ({}) ended as '{}': {}",
            last.id,
            last.outcome.name(),
            reason.unwrap_or("no reason known")
        )
    })
}
