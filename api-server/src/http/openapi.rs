//! The OpenAPI document: made from the handlers, plus the problems that many of them share.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{Content, Ref, RefOr};
use utoipa::{IntoResponses, OpenApi};

use super::error::{PROBLEM_JSON, Problem};

/// What stands above the operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "PBX control portal",
        description = "Users, extensions and applies of an Asterisk PBX. Errors are RFC 9457 \
            problem details with a stable `code`; every answer carries `X-Request-Id`, which a \
            request may also set."
    ),
    components(schemas(Problem, super::follow::StateBody)),
    tags(
        (name = "users", description = "People and their extensions"),
        (name = "pbxes", description = "Asterisk hosts and their agents"),
        (name = "applies", description = "Bringing them into force, and the audit trail of that"),
        (name = "status", description = "What is in force, on disk and loaded, and what happened"),
        (name = "health", description = "Is it alive, can it work"),
        (name = "documentation", description = "This document"),
    )
)]
pub(super) struct Document;

/// Show this document
#[utoipa::path(
    get, path = "/openapi.json", tag = "documentation", operation_id = "get_openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object), PanicProblem)
)]
pub(super) async fn show(
    State(document): State<std::sync::Arc<utoipa::openapi::OpenApi>>,
) -> Json<utoipa::openapi::OpenApi> {
    Json(utoipa::openapi::OpenApi::clone(&document))
}

type Responses = BTreeMap<String, RefOr<Response>>;

fn problems(described: &[(&str, &str)]) -> Responses {
    let problem = |(status, description): &(&str, &str)| {
        let schema = Ref::from_schema_name("Problem");
        let response = ResponseBuilder::new()
            .description(*description)
            .content(PROBLEM_JSON, Content::new(Some(schema)))
            .build();
        ((*status).to_owned(), RefOr::T(response))
    };
    described.iter().map(problem).collect()
}

const TIMEOUT: (&str, &str) = ("408", "`request_timeout`");
const INTERNAL: (&str, &str) = ("500", "`internal_error`");
const DATABASE: (&str, &str) = (
    "503",
    "`database_unavailable`, `overloaded` with `Retry-After`",
);
const TOO_LARGE: (&str, &str) = ("413", "`body_too_large`: over 64 KiB");
const MEDIA_TYPE: (&str, &str) = ("415", "`unsupported_media_type`: not JSON");
const AGENT: (&str, &str) = (
    "503",
    "`agent_unreachable`, `apply_outcome_unknown`, `apply_not_recorded`, \
     `database_unavailable`, `overloaded` with `Retry-After`",
);
const BODY: (&str, &str) = (
    "400",
    "`validation_failed` with every invalid field, `malformed_json`, `not_an_object`, \
     `body_incomplete`, `invalid_header`",
);

/// What any request may end as.
pub(super) struct PanicProblem;

impl IntoResponses for PanicProblem {
    fn responses() -> Responses {
        problems(&[TIMEOUT, INTERNAL])
    }
}

/// What a question to the database may end as.
pub(super) struct ReadProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> Responses {
        problems(&[TIMEOUT, INTERNAL, DATABASE])
    }
}

/// Likewise, with a query.
pub(super) struct QueryProblems;

impl IntoResponses for QueryProblems {
    fn responses() -> Responses {
        let query = ("400", "`validation_failed` with every invalid parameter");
        problems(&[query, TIMEOUT, INTERNAL, DATABASE])
    }
}

/// Likewise, with an id in the path.
pub(super) struct IdProblems;

impl IntoResponses for IdProblems {
    fn responses() -> Responses {
        let malformed = ("400", "`malformed_id`, `invalid_header`");
        problems(&[malformed, TIMEOUT, INTERNAL, DATABASE])
    }
}

/// Likewise, with headers that are read.
pub(super) struct HeaderProblems;

impl IntoResponses for HeaderProblems {
    fn responses() -> Responses {
        let header = ("400", "`invalid_header`");
        problems(&[header, TIMEOUT, INTERNAL, DATABASE])
    }
}

/// Likewise, with a body.
pub(super) struct BodyProblems;

impl IntoResponses for BodyProblems {
    fn responses() -> Responses {
        problems(&[BODY, TIMEOUT, TOO_LARGE, MEDIA_TYPE, INTERNAL, DATABASE])
    }
}

/// What an apply may end as beside its own outcomes.
pub(super) struct ApplyProblems;

impl IntoResponses for ApplyProblems {
    fn responses() -> Responses {
        let internal = ("500", "`internal_error`, `render_failed`");
        problems(&[BODY, TIMEOUT, TOO_LARGE, MEDIA_TYPE, internal, AGENT])
    }
}

/// What a restore may end as, likewise.
pub(super) struct RestoreProblems;

impl IntoResponses for RestoreProblems {
    fn responses() -> Responses {
        let body = (
            "400",
            "`malformed_id`, `validation_failed` with every invalid field, `malformed_json`, \
             `not_an_object`, `body_incomplete`, `invalid_header`",
        );
        problems(&[body, TIMEOUT, TOO_LARGE, MEDIA_TYPE, INTERNAL, AGENT])
    }
}
