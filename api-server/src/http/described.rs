//! What errors of the services are called in HTTP.

use axum::http::StatusCode;
use shared::bundle::ApplyId;

use super::error::{Description, internal, plain};
use crate::domain::apply::Attempt;
use crate::services::Error;

/// What an error of a service is called in HTTP.
pub(super) fn describe(error: &Error) -> Description {
    match error {
        Error::DatabaseUnavailable(_) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "Database unavailable",
            "The portal cannot reach its database now; nothing was changed by this request. \
             Try again; GET /health/ready tells when it is back.",
        ),
        Error::Database(_) | Error::Sealing(_) | Error::Task(_) => internal(),
        Error::Overloaded(_) => overloaded(error),
        Error::AgentUnreachable(_) => agent_unreachable(error),
        Error::AgentRefused(reason) if reason.is_too_old() => agent_too_old(),
        Error::AgentRefused(_) => agent_refused(error),
        Error::ApplyRuns(running) => apply_runs(*running),
        Error::NothingApplied => nothing_applied(),
        Error::UserNotFound => plain(
            StatusCode::NOT_FOUND,
            "user_not_found",
            "User not found",
            "There is no user with this id, or it was deleted.",
        ),
        Error::EmailTaken => plain(
            StatusCode::CONFLICT,
            "email_taken",
            "E-mail address taken",
            "Another user has this e-mail address.",
        ),
        Error::ExtensionPoolExhausted { first, last } => Description(
            StatusCode::CONFLICT,
            "extension_pool_exhausted",
            "No free extension",
            format!("Every extension from {first} to {last} is taken. Delete a user to free one."),
        ),
        Error::PbxNotFound
        | Error::PbxNotNamed
        | Error::PbxNameTaken
        | Error::AgentTaken { .. }
        | Error::SetByEnvironment { .. }
        | Error::TransportsInUse { .. }
        | Error::PbxInUse
        | Error::DefaultPbxStays => of_pbx(error),
        Error::Outdated => outdated(),
        Error::VersionNotNamed => version_not_named(),
        Error::ApplyNotFound => plain(
            StatusCode::NOT_FOUND,
            "apply_not_found",
            "Apply not found",
            "There is no apply with this id.",
        ),
        Error::ApplyNotEnded(id) => apply_not_ended(*id),
        Error::NothingToRestore => plain(
            StatusCode::CONFLICT,
            "nothing_to_restore",
            "Nothing to restore",
            "This apply has no bundle: it ended before there was one, or it is so old that its \
             bundle is no longer kept. GET /revisions shows which revisions can be restored.",
        ),
        Error::NeverProven { outcome } => Description(
            StatusCode::CONFLICT,
            "revision_never_proven",
            "Never proven",
            format!(
                "This apply ended as '{outcome}': its bundle was never proven to work, so it is not \
                 brought back. GET /revisions shows which revisions can be restored."
            ),
        ),
        Error::ApplyOutcomeUnknown { attempt, reason } => outcome_unknown(attempt, reason),
        Error::ApplyNotRecorded { attempt, .. } => not_recorded(attempt),
    }
}

fn outdated() -> Description {
    plain(
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "Changed meanwhile",
        "It is not in the state that If-Match names. See it again, then decide again.",
    )
}

fn version_not_named() -> Description {
    plain(
        StatusCode::PRECONDITION_REQUIRED,
        "precondition_required",
        "If-Match required",
        "What this removes cannot be got back: name the ETag that you have seen in If-Match.",
    )
}

fn of_pbx(error: &Error) -> Description {
    match error {
        Error::PbxNameTaken => plain(
            StatusCode::CONFLICT,
            "pbx_name_taken",
            "PBX name taken",
            "Another PBX has this name.",
        ),
        Error::AgentTaken { field } => Description(
            StatusCode::CONFLICT,
            "agent_taken",
            "Agent taken",
            format!(
                "Another PBX has this {field}: two for one agent would fight over its revisions."
            ),
        ),
        Error::SetByEnvironment { fields } => Description(
            StatusCode::CONFLICT,
            "set_by_environment",
            "Set by the environment",
            format!(
                "The portal's environment says these of the default PBX: {}. Change them there.",
                fields.join(", ")
            ),
        ),
        Error::TransportsInUse { transports } => {
            let names: Vec<&str> = transports.iter().map(|t| t.name()).collect();
            Description(
                StatusCode::CONFLICT,
                "transport_in_use",
                "Transport in use",
                format!(
                    "Devices are reached by these transports: {}. Give those devices others first.",
                    names.join(", ")
                ),
            )
        }
        Error::PbxInUse => plain(
            StatusCode::CONFLICT,
            "pbx_in_use",
            "PBX in use",
            "A tenant is on this PBX. Delete it, or put it elsewhere first.",
        ),
        Error::DefaultPbxStays => plain(
            StatusCode::CONFLICT,
            "default_pbx",
            "The default PBX",
            "The default PBX is the portal's own and cannot be deleted.",
        ),
        _ => plain(
            StatusCode::NOT_FOUND,
            "pbx_not_found",
            "PBX not found",
            "There is no PBX with this id or name, or it was deleted. GET /pbxes names them.",
        ),
    }
}

fn overloaded(error: &Error) -> Description {
    Description(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        "Too much to do",
        format!("Nothing was changed: {error}. Try again after the time that Retry-After says."),
    )
}

fn agent_unreachable(error: &Error) -> Description {
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

fn agent_too_old() -> Description {
    plain(
        StatusCode::BAD_GATEWAY,
        "agent_too_old",
        "PBX agent too old",
        "The agent on the PBX host does not know how to do this yet: upgrade it.",
    )
}

fn agent_refused(error: &Error) -> Description {
    Description(
        StatusCode::BAD_GATEWAY,
        "agent_refused",
        "PBX agent refused",
        format!("Nothing was changed: {error}."),
    )
}

fn apply_runs(running: Option<ApplyId>) -> Description {
    let detail = match running {
        None => "Nothing was done: the PBX is busy with an apply. Try again later.".to_owned(),
        Some(id) => format!(
            "Nothing was compared: apply {id} runs. GET /applies/{id}/events tells when it has \
             ended."
        ),
    };
    Description(StatusCode::CONFLICT, "apply_busy", "An apply runs", detail)
}

fn apply_not_ended(id: ApplyId) -> Description {
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

fn nothing_applied() -> Description {
    plain(
        StatusCode::CONFLICT,
        "nothing_applied",
        "Nothing applied",
        "Nothing was ever applied on this PBX, so there is nothing to compare.",
    )
}

fn outcome_unknown(attempt: &Attempt, reason: &str) -> Description {
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

fn not_recorded(attempt: &Attempt) -> Description {
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
