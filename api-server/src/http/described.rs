//! What errors of the services are called in HTTP.

mod accounts;
mod denied;

use axum::http::StatusCode;
use shared::bundle::ApplyId;

use super::error::{Description, describe_fields, internal};
use crate::domain::apply::Attempt;
use crate::services::Error;

/// What an error of a service is called in HTTP.
pub(super) fn describe(error: &Error) -> Description {
    match error {
        Error::Denied(denied) => denied::describe(denied),
        Error::Account(refused) => accounts::describe(*refused),
        Error::DatabaseUnavailable(_) => DATABASE_UNAVAILABLE.told(),
        Error::Database(_)
        | Error::Sealing(_)
        | Error::Unsealing(_)
        | Error::Task(_)
        | Error::Hashing
        | Error::Signing => internal(),
        Error::InvalidField { field, .. } => describe_fields(std::iter::once(*field)),
        Error::PreconditionFailed(_) => PRECONDITION_FAILED.told(),
        Error::PreconditionRequired => PRECONDITION_REQUIRED.told(),
        Error::PlanOutdated => PLAN_OUTDATED.told(),
        Error::KeyReused => KEY_REUSED.told(),
        Error::KeyInUse => KEY_IN_USE.told(),
        Error::Overloaded(_) => overloaded(error),
        Error::AgentUnreachable(_) => agent_unreachable(error),
        Error::AgentRefused(reason) if reason.is_too_old() => AGENT_TOO_OLD.told(),
        Error::AgentRefused(_) => agent_refused(error),
        Error::ApplyRuns(running) => apply_runs(*running),
        Error::NothingApplied => NOTHING_APPLIED.told(),
        Error::TenantNotFound => TENANT_NOT_FOUND.told(),
        Error::SlugTaken => SLUG_TAKEN.told(),
        Error::TenantInUse => TENANT_IN_USE.told(),
        Error::RangeInUse => RANGE_IN_USE.told(),
        Error::DefaultTenantFixed => DEFAULT_TENANT_FIXED.told(),
        Error::TransportNotOffered { kind } => transport_not_offered(kind),
        Error::SessionNotFound => SESSION_NOT_FOUND.told(),
        Error::UserNotFound => USER_NOT_FOUND.told(),
        Error::EmailTaken => EMAIL_TAKEN.told(),
        Error::ExtensionTaken => EXTENSION_TAKEN.told(),
        Error::ExtensionPoolExhausted { first, last } => pool_exhausted(*first, *last),
        Error::DeviceNotFound => DEVICE_NOT_FOUND.told(),
        Error::TooManyDevices => TOO_MANY_DEVICES.told(),
        Error::PasswordRevealed => PASSWORD_REVEALED.told(),
        Error::PbxNotFound => PBX_NOT_FOUND.told(),
        Error::PbxNameTaken => PBX_NAME_TAKEN.told(),
        Error::AgentTaken { field } => agent_taken(field),
        Error::SetByEnvironment { fields } => set_by_environment(fields),
        Error::TransportsInUse { transports } => {
            transports_in_use(transports.iter().map(|transport| transport.name()))
        }
        Error::PbxInUse => PBX_IN_USE.told(),
        Error::DefaultPbxStays => DEFAULT_PBX_STAYS.told(),
        Error::AuditEntryNotFound => AUDIT_ENTRY_NOT_FOUND.told(),
        Error::ApplyNotFound => APPLY_NOT_FOUND.told(),
        Error::ApplyNotEnded(id) => apply_not_ended(*id),
        Error::NothingToRestore => NOTHING_TO_RESTORE.told(),
        Error::NeverProven { outcome } => never_proven(outcome),
        Error::ApplyOutcomeUnknown { attempt, reason } => outcome_unknown(attempt, reason),
        Error::ApplyNotRecorded { attempt, .. } => not_recorded(attempt),
    }
}

/// An error that needs no words of its own occasion: status, code, title, detail.
struct Words(StatusCode, &'static str, &'static str, &'static str);

impl Words {
    fn told(&self) -> Description {
        let Self(status, code, title, detail) = *self;
        Description(status, code, title, detail.to_owned())
    }
}

const DATABASE_UNAVAILABLE: Words = Words(
    StatusCode::SERVICE_UNAVAILABLE,
    "database_unavailable",
    "Database unavailable",
    "The portal cannot reach its database now; nothing was changed by this request. \
     Try again; GET /health/ready tells when it is back.",
);

const PRECONDITION_FAILED: Words = Words(
    StatusCode::PRECONDITION_FAILED,
    "precondition_failed",
    "Changed meanwhile",
    "Nothing was changed: If-Match names another state than the one that it is in. Read it \
     again; its ETag is in this answer.",
);

const PRECONDITION_REQUIRED: Words = Words(
    StatusCode::PRECONDITION_REQUIRED,
    "precondition_required",
    "If-Match required",
    "Nothing was changed: what would be lost cannot be got back. Send the ETag of what you \
     have seen as If-Match, or * for whatever it is.",
);

const PLAN_OUTDATED: Words = Words(
    StatusCode::CONFLICT,
    "plan_outdated",
    "The plan is outdated",
    "Nothing was changed: something else would be done now than what expected_digest is of. Ask for \
     a preview again.",
);

const KEY_REUSED: Words = Words(
    StatusCode::UNPROCESSABLE_ENTITY,
    "idempotency_key_reused",
    "Idempotency-Key used before",
    "Nothing was done: another request was sent with this Idempotency-Key within the last \
     24 hours. Take a fresh key for each request.",
);

const KEY_IN_USE: Words = Words(
    StatusCode::CONFLICT,
    "idempotency_key_in_use",
    "The first request still runs",
    "Nothing was done: a request with this Idempotency-Key has no answer yet. Send the same \
     again after the time that Retry-After says.",
);

const AGENT_TOO_OLD: Words = Words(
    StatusCode::BAD_GATEWAY,
    "agent_too_old",
    "PBX agent too old",
    "The agent on the PBX host does not know how to do this yet: upgrade it.",
);

const NOTHING_APPLIED: Words = Words(
    StatusCode::CONFLICT,
    "nothing_applied",
    "Nothing applied",
    "Nothing was ever applied on this PBX, so there is nothing to compare.",
);

const TENANT_NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "tenant_not_found",
    "Tenant not found",
    "There is no tenant of this id or slug, or it was deleted.",
);

const SLUG_TAKEN: Words = Words(
    StatusCode::CONFLICT,
    "slug_taken",
    "Slug taken",
    "Another tenant is called so.",
);

const TENANT_IN_USE: Words = Words(
    StatusCode::CONFLICT,
    "tenant_in_use",
    "Tenant in use",
    "The tenant has users. Delete them first, or suspend the tenant.",
);

const RANGE_IN_USE: Words = Words(
    StatusCode::CONFLICT,
    "range_in_use",
    "Range in use",
    "A user has a number that this range leaves out.",
);

const DEFAULT_TENANT_FIXED: Words = Words(
    StatusCode::CONFLICT,
    "default_tenant_fixed",
    "Default tenant",
    "The default tenant keeps its slug, its numbers and its PBX, and cannot be deleted.",
);

const SESSION_NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "session_not_found",
    "Session not found",
    "You have no session with this id, or it has ended.",
);

const USER_NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "user_not_found",
    "User not found",
    "There is no user with this id, or it was deleted.",
);

const EMAIL_TAKEN: Words = Words(
    StatusCode::CONFLICT,
    "email_taken",
    "E-mail address taken",
    "Another user has this e-mail address.",
);

const EXTENSION_TAKEN: Words = Words(
    StatusCode::CONFLICT,
    "extension_taken",
    "Extension taken",
    "Another user of the tenant has this number. Leave it out to get the lowest free one.",
);

const DEVICE_NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "device_not_found",
    "Device not found",
    "There is no device with this id, or it was deleted.",
);

const TOO_MANY_DEVICES: Words = Words(
    StatusCode::CONFLICT,
    "too_many_devices",
    "Too many devices",
    "A user has at most 26 devices. Delete one first.",
);

const PASSWORD_REVEALED: Words = Words(
    StatusCode::CONFLICT,
    "password_revealed",
    "Password shown already",
    "A SIP password is shown once. Rotate it to get a new one.",
);

const PBX_NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "pbx_not_found",
    "PBX not found",
    "There is no PBX with this id or name, or it was deleted. GET /pbxes names them.",
);

const PBX_NAME_TAKEN: Words = Words(
    StatusCode::CONFLICT,
    "pbx_name_taken",
    "PBX name taken",
    "Another PBX has this name.",
);

const PBX_IN_USE: Words = Words(
    StatusCode::CONFLICT,
    "pbx_in_use",
    "PBX in use",
    "A tenant is on this PBX. Delete it, or put it elsewhere first.",
);

const DEFAULT_PBX_STAYS: Words = Words(
    StatusCode::CONFLICT,
    "default_pbx",
    "The default PBX",
    "The default PBX is the portal's own and cannot be deleted.",
);

const AUDIT_ENTRY_NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "audit_entry_not_found",
    "Entry not found",
    "There is no entry of the audit trail with this id.",
);

const APPLY_NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "apply_not_found",
    "Apply not found",
    "There is no apply with this id.",
);

const NOTHING_TO_RESTORE: Words = Words(
    StatusCode::CONFLICT,
    "nothing_to_restore",
    "Nothing to restore",
    "This apply has no bundle: it ended before there was one, or it is so old that its \
     bundle is no longer kept. GET /revisions shows which revisions can be restored.",
);

fn pool_exhausted(first: i32, last: i32) -> Description {
    Description(
        StatusCode::CONFLICT,
        "extension_pool_exhausted",
        "No free extension",
        format!("Every extension from {first} to {last} is taken. Delete a user to free one."),
    )
}

fn never_proven(outcome: &str) -> Description {
    Description(
        StatusCode::CONFLICT,
        "revision_never_proven",
        "Never proven",
        format!(
            "This apply ended as '{outcome}': its bundle was never proven to work, so it is not \
             brought back. GET /revisions shows which revisions can be restored."
        ),
    )
}

fn transport_not_offered(kind: &str) -> Description {
    Description(
        StatusCode::CONFLICT,
        "transport_not_offered",
        "Transport not offered",
        format!(
            "Devices of the tenant use the transport {kind}, which that PBX does not offer. Name its \
             section in the PBX's `transports` first."
        ),
    )
}

fn agent_taken(field: &str) -> Description {
    Description(
        StatusCode::CONFLICT,
        "agent_taken",
        "Agent taken",
        format!("Another PBX has this {field}: two for one agent would fight over its revisions."),
    )
}

fn set_by_environment(fields: &[&str]) -> Description {
    Description(
        StatusCode::CONFLICT,
        "set_by_environment",
        "Set by the environment",
        format!(
            "The portal's environment says these of the default PBX: {}. Change them there.",
            fields.join(", ")
        ),
    )
}

fn transports_in_use<'a>(transports: impl Iterator<Item = &'a str>) -> Description {
    let names: Vec<&str> = transports.collect();
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
