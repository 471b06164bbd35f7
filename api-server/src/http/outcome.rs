//! What an apply that did not end well is called in HTTP.

use std::fmt::Write as _;

use axum::http::StatusCode;
use shared::record::Outcome;

use super::error::Description;
use crate::domain::apply::{Attempt, AttemptOutcome};

/// What an administrator must know of an apply that did not end well: what runs now, what to do.
pub(super) fn describe(attempt: &Attempt) -> Description {
    let (status, code, title, advice) = match attempt.outcome {
        AttemptOutcome::OnPbx(outcome) => describe_outcome(outcome),
        AttemptOutcome::Busy => (
            StatusCode::CONFLICT,
            "apply_busy",
            "Another apply runs",
            "Nothing was changed by this one. Try again when the other one has ended.",
        ),
        AttemptOutcome::RenderFailed => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "render_failed",
            "Configuration could not be rendered",
            "Nothing was sent; the PBX runs what it ran before. Correct or delete the user that \
             is named, and apply again.",
        ),
        AttemptOutcome::PreviewOutdated if attempt.restored_from.is_some() => (
            StatusCode::PRECONDITION_FAILED,
            "preview_outdated",
            "Not the digest of that revision",
            "Nothing was sent; the PBX runs what it ran before. GET /revisions shows the digest of \
             each revision; without expected_digest it is brought back whatever it is.",
        ),
        AttemptOutcome::PreviewOutdated => (
            StatusCode::PRECONDITION_FAILED,
            "preview_outdated",
            "Not what the preview showed",
            "Nothing was sent; the PBX runs what it ran before. See GET /apply/preview again.",
        ),
        AttemptOutcome::RestoreFailed => (
            StatusCode::CONFLICT,
            "restore_failed",
            "Stored bundle cannot be used",
            "Nothing was sent; the PBX runs what it ran before. Restore another revision, or apply \
             what the database says.",
        ),
        AttemptOutcome::AgentUnreachable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "agent_unreachable",
            "PBX agent unreachable",
            "Nothing was changed; the PBX runs what it ran before. See that the agent on the PBX \
             host runs and can be reached, and apply again.",
        ),
        AttemptOutcome::AgentRefused => (
            StatusCode::BAD_GATEWAY,
            "agent_refused",
            "PBX agent refused",
            "Nothing was changed; the PBX runs what it ran before. An agent in safe mode, whose \
             state directory is damaged, touches nothing until an apply with {\"force\": true} lets \
             it set aside what is damaged; GET /apply/status says whether it is.",
        ),
        AttemptOutcome::NeverStarted => (
            StatusCode::SERVICE_UNAVAILABLE,
            "apply_never_started",
            "Never started",
            "Nothing was changed; the PBX runs what it ran before. Apply again.",
        ),
        AttemptOutcome::Queued | AttemptOutcome::Started => (
            StatusCode::SERVICE_UNAVAILABLE,
            "apply_outcome_unknown",
            "Outcome unknown",
            "The apply may be in force or not; GET /applies shows the outcome once it is known.",
        ),
    };
    Description(status, code, title, detail(attempt, advice))
}

/// Why it ended so, what to do, and what is live now.
fn detail(attempt: &Attempt, advice: &str) -> String {
    let reason = attempt
        .failure
        .as_ref()
        .map(|failure| failure.message.trim());
    let reason = reason.filter(|reason| !reason.is_empty());
    let live = attempt
        .record
        .as_ref()
        .and_then(|record| record.live_revision);
    let mut detail = String::new();
    if let Some(reason) = reason {
        detail = format!("Reason: {}. ", reason.trim_end_matches('.'));
    }
    detail.push_str(advice);
    if let Some(revision) = live {
        write!(detail, " The files of revision {revision} are live now.").ok();
    }
    detail
}

const fn describe_outcome(
    outcome: Outcome,
) -> (StatusCode, &'static str, &'static str, &'static str) {
    match outcome {
        // Not errors; named so that no outcome can be forgotten here.
        Outcome::Applied | Outcome::Unchanged => (
            StatusCode::OK,
            "applied",
            "Applied",
            "Proven to be in force.",
        ),
        Outcome::Rejected => (
            StatusCode::BAD_GATEWAY,
            "apply_rejected",
            "Refused by the agent",
            "No file was touched; the PBX runs what it ran before.",
        ),
        Outcome::WriteFailed => (
            StatusCode::BAD_GATEWAY,
            "apply_write_failed",
            "Files could not be written",
            "The old files are intact and Asterisk was not reloaded. Correct permissions or space \
             on the PBX host, and apply again.",
        ),
        Outcome::ReloadFailedFilesKept => (
            StatusCode::BAD_GATEWAY,
            "apply_reload_failed_files_kept",
            "Asterisk did not take the configuration",
            "The new files stay in place for investigation, and Asterisk holds what the steps and \
             mismatches show. Correct the cause and apply again.",
        ),
        Outcome::RolledBack => (
            StatusCode::BAD_GATEWAY,
            "apply_rolled_back",
            "Rolled back",
            "Asterisk did not take the new configuration; the last proven one is in force again. \
             The failed files are kept on the PBX host.",
        ),
        Outcome::RollbackFailed => (
            StatusCode::BAD_GATEWAY,
            "apply_rollback_failed",
            "Rollback failed",
            "Asterisk did not take the new configuration, and the last proven one could not be \
             proven again. Look at the PBX host now.",
        ),
        Outcome::ReloadUnknown => (
            StatusCode::GATEWAY_TIMEOUT,
            "apply_reload_unknown",
            "Asterisk did not answer",
            "The new files are in place, and the reload may still take effect. See whether \
             Asterisk hangs; once it answers, apply again.",
        ),
        Outcome::Interrupted => (
            StatusCode::BAD_GATEWAY,
            "apply_interrupted",
            "Interrupted",
            "The agent was stopped in the middle; the steps show what its recovery did. Apply \
             again.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_status() {
        let expected = [
            (Outcome::Applied, 200),
            (Outcome::Unchanged, 200),
            (Outcome::Rejected, 502),
            (Outcome::WriteFailed, 502),
            (Outcome::ReloadFailedFilesKept, 502),
            (Outcome::RolledBack, 502),
            (Outcome::RollbackFailed, 502),
            (Outcome::ReloadUnknown, 504),
            (Outcome::Interrupted, 502),
        ];
        for (outcome, status) in expected {
            assert_eq!(describe_outcome(outcome).0.as_u16(), status, "{outcome:?}");
        }
    }
}
