use super::*;
use crate::db::DbError;
use crate::domain::Version;
use crate::domain::version::Moved;

fn table(error: impl Into<ApiError>) -> (u16, &'static str) {
    let Description(status, code, _, detail) = describe(&error.into());
    assert!(detail.ends_with('.'), "{detail}");
    (status.as_u16(), code)
}

#[test]
fn each_failure_of_a_service_has_its_status_and_code() {
    let unavailable = Error::from(DbError::Unavailable(None));
    assert_eq!(table(unavailable), (503, "database_unavailable"));
    let broken = Error::from(DbError::Query(sqlx::Error::RowNotFound));
    assert_eq!(table(broken), (500, "internal_error"));
    assert_eq!(table(Error::UserNotFound), (404, "user_not_found"));
    assert_eq!(table(Error::EmailTaken), (409, "email_taken"));
    let exhausted = Error::ExtensionPoolExhausted {
        first: 1000,
        last: 1999,
    };
    assert_eq!(table(exhausted), (409, "extension_pool_exhausted"));
    assert_eq!(table(Error::ApplyNotFound), (404, "apply_not_found"));
    assert_eq!(table(Error::PbxNotFound), (404, "pbx_not_found"));
    assert_eq!(table(Error::from(DbError::Busy)), (503, "overloaded"));
    assert_eq!(table(Error::ApplyRuns(None)), (409, "apply_busy"));
    assert_eq!(table(Error::NothingApplied), (409, "nothing_applied"));
    let silent = Error::AgentUnreachable(crate::agent::LinkFault::Silent);
    assert_eq!(table(silent), (503, "agent_unreachable"));
    assert_eq!(table(Error::NothingToRestore), (409, "nothing_to_restore"));
    let running = Error::ApplyNotEnded(shared::bundle::ApplyId(uuid::Uuid::nil()));
    assert_eq!(table(running), (409, "apply_not_ended"));
    let moved = Error::PreconditionFailed(Moved {
        current: Version(2),
    });
    assert_eq!(table(moved), (412, "precondition_failed"));
    assert_eq!(
        table(Error::PreconditionRequired),
        (428, "precondition_required")
    );
    assert_eq!(table(Error::KeyReused), (422, "idempotency_key_reused"));
    assert_eq!(table(Error::KeyInUse), (409, "idempotency_key_in_use"));
    let never = Error::NeverProven { outcome: "busy" };
    assert_eq!(table(never), (409, "revision_never_proven"));
}

#[test]
fn each_refused_request_has_its_status_and_code() {
    let refused = [
        (
            ApiError::InvalidFields(Vec::new()),
            400,
            "validation_failed",
        ),
        (
            ApiError::MalformedJson(String::new()),
            400,
            "malformed_json",
        ),
        (ApiError::NotAnObject, 400, "not_an_object"),
        (ApiError::MalformedId, 400, "malformed_id"),
        (ApiError::InvalidHeader("A", "b"), 400, "invalid_header"),
        (ApiError::BodyIncomplete, 400, "body_incomplete"),
        (ApiError::UnknownPath, 404, "unknown_path"),
        (ApiError::MethodNotAllowed, 405, "method_not_allowed"),
        (ApiError::RequestTimeout, 408, "request_timeout"),
        (ApiError::BodyTooLarge, 413, "body_too_large"),
        (
            ApiError::UnsupportedMediaType,
            415,
            "unsupported_media_type",
        ),
        (ApiError::Panicked, 500, "internal_error"),
    ];
    for (error, status, code) in refused {
        assert_eq!(table(error), (status, code));
    }
}

#[test]
fn internals_do_not_leak() {
    let secret = sqlx::Error::Protocol("hunter2".into());
    let Description(_, _, _, detail) = describe(&Error::from(DbError::Query(secret)).into());
    assert!(!detail.contains("hunter2"));
}
