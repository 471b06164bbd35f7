//! Errors as RFC 9457 problem details: one match from each error to its status, code and words.

use std::borrow::Cow;

use axum::http::header::{ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::applies::{ApplyBody, PbxApplyBody};
use super::bulk::body::ImportBody;
use super::declaration::RefusalBody;
use super::described;
use super::etag::Tag;
use super::fields::FieldError;
use super::outcome;
use crate::causes::causes;
use crate::domain::apply::Attempt;
use crate::services::Error;

/// The media type of problem details.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// The media type of changes (RFC 7396).
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";

/// Which changes a resource takes (RFC 5789).
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// When to try again what was too much.
const RETRY_SECONDS: &str = "2";

/// An error as RFC 9457 says it. `code` is stable; the texts are not.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI for the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:synergycall:problem:validation_failed")]
    pub kind: String,
    /// The kind of problem in words.
    #[schema(value_type = String)]
    pub title: Cow<'static, str>,
    /// The HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// This problem in words: what happened and what to do.
    pub detail: String,
    /// The path of the request.
    #[schema(example = "/users")]
    pub instance: String,
    /// The kind of problem for programs.
    #[schema(value_type = String, example = "validation_failed")]
    pub code: Cow<'static, str>,
    /// To be named in a question to the operator; it stands in the log as well.
    pub request_id: String,
    /// Each invalid field, with `validation_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub errors: Option<Vec<FieldError>>,
    /// The attempt, with problems of `POST /apply` and of a restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub apply: Option<Box<ApplyBody>>,
    /// What became of each PBX, with problems of `POST /apply`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub applies: Option<Vec<PbxApplyBody>>,
    /// What would have become of each line, with `import_refused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub import: Option<Box<ImportBody>>,
    /// What was refused, with `declaration_refused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub refusals: Option<Vec<RefusalBody>>,
}

/// Why a request has no good answer.
#[derive(Debug)]
pub(super) enum ApiError {
    /// A service could not do it.
    Service(Error),
    /// An apply ended otherwise than hoped for.
    NotApplied(Box<Attempt>),
    /// Of what was asked for on each PBX, this failed first.
    OfSeveral(Box<ApiError>, Vec<PbxApplyBody>),
    /// Fields of the body or of the query.
    InvalidFields(Vec<FieldError>),
    /// The body is no JSON.
    MalformedJson(String),
    /// The body is JSON, but no object.
    NotAnObject,
    /// The id in the path is no UUID.
    MalformedId,
    /// A header that the portal reads.
    InvalidHeader(&'static str, &'static str),
    /// The body is of another type.
    UnsupportedMediaType,
    /// The body of a PATCH is of another type.
    UnsupportedPatch,
    /// The body of an import is of another type.
    UnsupportedTable,
    /// Lines of an import that must count as a whole were refused.
    ImportRefused(Box<ImportBody>),
    /// A tenant cannot be made what a declaration says.
    DeclarationRefused(Vec<RefusalBody>),
    /// The body is too large.
    BodyTooLarge,
    /// The body broke off.
    BodyIncomplete,
    /// No such path.
    UnknownPath,
    /// The path has other methods, which the `Allow` header names.
    MethodNotAllowed,
    /// The request took too long.
    RequestTimeout,
    /// A handler died.
    Panicked,
    /// Another layer refused the request with this status and no words.
    Bare(StatusCode),
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

/// Status, code, title and detail of an error.
pub(super) struct Description(
    pub(super) StatusCode,
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) String,
);

/// A problem that awaits what only the request knows; the envelope completes it.
#[derive(Clone)]
pub(super) struct Pending(std::sync::Arc<std::sync::Mutex<Option<Problem>>>);

impl Pending {
    /// The problem, once.
    pub(super) fn take(&self) -> Option<Problem> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (this, applies) = match self {
            Self::OfSeveral(first, applies) => (*first, Some(applies)),
            other => (other, None),
        };
        let Description(status, code, title, detail) = describe(&this);
        if let Self::Service(error) = &this
            && status.is_server_error()
        {
            if matches!(error, Error::Overloaded(_)) {
                // Its own bounds at work, and no fault.
                tracing::warn!(code, %error, "request turned away");
            } else {
                tracing::error!(code, error = causes(error), "request failed");
            }
        }
        let headers = headers(&this, status, code);
        let Members {
            errors,
            apply,
            import,
            refusals,
        } = members(this);
        let problem = Problem {
            kind: format!("urn:synergycall:problem:{code}"),
            title: title.into(),
            status: status.as_u16(),
            detail,
            instance: String::new(),
            code: code.into(),
            request_id: String::new(),
            errors,
            apply,
            applies,
            import,
            refusals,
        };
        let pending = Pending(std::sync::Arc::new(std::sync::Mutex::new(Some(problem))));
        let mut response = status.into_response();
        response.headers_mut().extend(headers);
        response.extensions_mut().insert(pending);
        response
    }
}

/// What a problem says beside its body.
fn headers(error: &ApiError, status: StatusCode, code: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if ["overloaded", "idempotency_key_in_use"].contains(&code) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    match error {
        ApiError::Service(Error::Denied(denied)) => {
            if let Some(wait) = denied.wait() {
                // Whole seconds, and never too early.
                headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            }
        }
        ApiError::UnsupportedPatch => {
            headers.insert(ACCEPT_PATCH, HeaderValue::from_static(MERGE_PATCH));
        }
        ApiError::Service(Error::PreconditionFailed(moved)) => {
            if let Ok(tag) = HeaderValue::from_str(Tag::version(moved.current).as_str()) {
                headers.insert(ETAG, tag);
            }
        }
        _ => {}
    }
    headers
}

/// What a problem tells beside its words.
#[derive(Default)]
struct Members {
    errors: Option<Vec<FieldError>>,
    apply: Option<Box<ApplyBody>>,
    import: Option<Box<ImportBody>>,
    refusals: Option<Vec<RefusalBody>>,
}

fn members(error: ApiError) -> Members {
    let none = Members::default();
    match error {
        ApiError::InvalidFields(errors) => Members {
            errors: Some(errors),
            ..none
        },
        ApiError::ImportRefused(import) => Members {
            import: Some(import),
            ..none
        },
        ApiError::DeclarationRefused(refusals) => Members {
            refusals: Some(refusals),
            ..none
        },
        ApiError::OfSeveral(first, _) => members(*first),
        ApiError::Service(Error::InvalidField { field, reason }) => Members {
            errors: Some(vec![FieldError::new(field, reason)]),
            ..none
        },
        ApiError::NotApplied(attempt)
        | ApiError::Service(
            Error::ApplyOutcomeUnknown { attempt, .. } | Error::ApplyNotRecorded { attempt, .. },
        ) => Members {
            apply: Some(Box::new(ApplyBody::from(*attempt))),
            ..none
        },
        // Whatever else there is, its words tell all of it.
        _ => none,
    }
}

/// What an error is called in HTTP.
pub(super) fn describe(error: &ApiError) -> Description {
    match error {
        ApiError::Service(error) => described::describe(error),
        ApiError::NotApplied(attempt) => outcome::describe(attempt),
        ApiError::OfSeveral(first, _) => describe(first),
        ApiError::InvalidFields(errors) => {
            describe_fields(errors.iter().map(|error| error.field.as_str()))
        }
        ApiError::MalformedJson(reason) => malformed_json(reason),
        ApiError::NotAnObject => not_an_object(),
        ApiError::MalformedId => malformed_id(),
        ApiError::InvalidHeader(name, reason) => Description(
            StatusCode::BAD_REQUEST,
            "invalid_header",
            "Invalid header",
            format!("Header {name}: {reason}."),
        ),
        ApiError::UnsupportedMediaType => {
            unsupported("Send the body as Content-Type: application/json.")
        }
        ApiError::UnsupportedTable => unsupported(
            "Send the table as Content-Type: text/csv, with its charset if it is not UTF-8.",
        ),
        ApiError::ImportRefused(import) => import_refused(import),
        ApiError::DeclarationRefused(_) => plain(
            StatusCode::UNPROCESSABLE_ENTITY,
            "declaration_refused",
            "Declaration refused",
            "Nothing was done: the tenant cannot be made what the declaration says; `refusals` say why.",
        ),
        ApiError::UnsupportedPatch => {
            unsupported("Send the changes as Content-Type: application/merge-patch+json.")
        }
        ApiError::BodyTooLarge => plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "Body too large",
            "The body must be at most 64 KiB, that of an import or a declaration at most 16 MiB.",
        ),
        ApiError::BodyIncomplete => plain(
            StatusCode::BAD_REQUEST,
            "body_incomplete",
            "Incomplete body",
            "The body ended before its announced length, or could not be read.",
        ),
        ApiError::UnknownPath => unknown_path(),
        ApiError::MethodNotAllowed => plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method not allowed",
            "This path takes the methods that the Allow header names.",
        ),
        ApiError::RequestTimeout => plain(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "Request timeout",
            "The request was not complete and answered in time.",
        ),
        ApiError::Panicked => internal(),
        ApiError::Bare(status) => Description(
            *status,
            "refused",
            status.canonical_reason().unwrap_or("Refused"),
            "The request cannot be served.".to_owned(),
        ),
    }
}

fn malformed_json(reason: &str) -> Description {
    Description(
        StatusCode::BAD_REQUEST,
        "malformed_json",
        "Malformed JSON",
        format!("The body cannot be read as JSON: {reason}."),
    )
}

fn import_refused(import: &ImportBody) -> Description {
    Description(
        StatusCode::UNPROCESSABLE_ENTITY,
        "import_refused",
        "Lines refused",
        format!(
            "Nothing was done: {} of {} lines were refused; `import` says why. Mend them, or send the \
             table with mode=per_line, which does the others.",
            import.counts.refused,
            import.lines.len()
        ),
    )
}

fn not_an_object() -> Description {
    plain(
        StatusCode::BAD_REQUEST,
        "not_an_object",
        "Not a JSON object",
        "The body must be a JSON object.",
    )
}

fn malformed_id() -> Description {
    plain(
        StatusCode::BAD_REQUEST,
        "malformed_id",
        "Malformed id",
        "The id in the path must be a UUID.",
    )
}

fn unsupported(detail: &'static str) -> Description {
    plain(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "Unsupported media type",
        detail,
    )
}

pub(super) fn describe_fields<'a>(names: impl Iterator<Item = &'a str>) -> Description {
    let names: Vec<&str> = names.collect();
    let detail = format!("Correct these fields: {}.", names.join(", "));
    Description(
        StatusCode::BAD_REQUEST,
        "validation_failed",
        "Invalid fields",
        detail,
    )
}

fn unknown_path() -> Description {
    plain(
        StatusCode::NOT_FOUND,
        "unknown_path",
        "Unknown path",
        "There is nothing at this path; /docs shows what there is.",
    )
}

pub(super) fn plain(
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
) -> Description {
    Description(status, code, title, detail.to_owned())
}

pub(super) fn internal() -> Description {
    plain(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal_error",
        "Internal error",
        "The portal failed. Its log tells why, under the request id.",
    )
}

#[cfg(test)]
mod tests;
