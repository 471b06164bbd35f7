//! The words of errors that concern the agent or an apply.

use axum::http::StatusCode;
use shared::bundle::ApplyId;

use super::error::{Description, plain};
use crate::domain::apply::Attempt;
use crate::services::Error;

pub(super) fn overloaded(error: &Error) -> Description {
    Description(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        "Too much to do",
        format!("Nothing was changed: {error}. Try again after the time that Retry-After says."),
    )
}

pub(super) fn agent_unreachable(error: &Error) -> Description {
    Description(
        StatusCode::SERVICE_UNAVAILABLE,
        "agent_unreachable",
        "PBX agent unreachable",
        format!(
            "Nothing was asked or changed on the PBX: {error}. See that the agent on the PBX host \
             runs and can be reached."
        ),
    )
}

pub(super) fn agent_too_old() -> Description {
    plain(
        StatusCode::BAD_GATEWAY,
        "agent_too_old",
        "PBX agent too old",
        "The agent on the PBX host does not know how to do this yet: upgrade it.",
    )
}

pub(super) fn agent_refused(error: &Error) -> Description {
    Description(
        StatusCode::BAD_GATEWAY,
        "agent_refused",
        "PBX agent refused",
        format!("Nothing was changed: {error}."),
    )
}

pub(super) fn apply_runs(running: Option<ApplyId>) -> Description {
    let detail = match running {
        None => "Nothing was compared: the PBX is busy with an apply. Try again later.".to_owned(),
        Some(id) => format!(
            "Nothing was compared: apply {id} runs. GET /applies/{id}/events tells when it has \
             ended."
        ),
    };
    Description(StatusCode::CONFLICT, "apply_busy", "An apply runs", detail)
}

pub(super) fn apply_not_ended(id: ApplyId) -> Description {
    Description(
        StatusCode::CONFLICT,
        "apply_not_ended",
        "Apply not ended",
        format!(
            "Apply {id} waits or runs, so its bundle is not proven yet and cannot be brought back. \
             GET /applies/{id}/events tells when it has ended."
        ),
    )
}

pub(super) fn nothing_applied() -> Description {
    plain(
        StatusCode::CONFLICT,
        "nothing_applied",
        "Nothing applied",
        "Nothing was ever applied on this PBX, so there is nothing to compare.",
    )
}

pub(super) fn outcome_unknown(attempt: &Attempt, reason: &str) -> Description {
    Description(
        StatusCode::SERVICE_UNAVAILABLE,
        "apply_outcome_unknown",
        "Outcome unknown",
        format!(
            "The agent's answer was lost: {reason}. The apply may be in force or not. The portal \
             goes on asking; GET /applies/{} shows the outcome once it is known.",
            attempt.id
        ),
    )
}

pub(super) fn not_recorded(attempt: &Attempt) -> Description {
    Description(
        StatusCode::SERVICE_UNAVAILABLE,
        "apply_not_recorded",
        "Outcome not recorded",
        format!(
            "On the PBX this apply ended as '{}', but the database was lost meanwhile. The portal \
             records it as soon as the database is back: GET /applies/{}.",
            attempt.outcome.name(),
            attempt.id
        ),
    )
}
