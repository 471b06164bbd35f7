//! The OpenAPI document: made from the handlers, plus the problems that many of them share.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Content, Ref, RefOr, Required};
use utoipa::{IntoParams, IntoResponses, OpenApi};

use super::error::{PROBLEM_JSON, Problem};
use super::twins::operations;

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
        (name = "sessions", description = "Signing in and out"),
        (name = "accounts", description = "Who may sign in, their passwords and second factors"),
        (name = "api-tokens", description = "What programs come with in place of a session"),
        (name = "tenants", description = "Organisations, each with users and numbers of its own"),
        (name = "users", description = "People and their extensions"),
        (name = "devices", description = "Phones and apps of users"),
        (name = "imports", description = "Many users and devices at once"),
        (name = "pbxes", description = "Asterisk hosts and their agents"),
        (name = "applies", description = "Bringing them into force, and the audit trail of that"),
        (name = "audit", description = "Who changed what, and who was refused what"),
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

/// A body that may be missing is an object where there is one, and not null: `Option` in a handler's
/// description says both.
pub(super) fn describe_bodies(document: &mut utoipa::openapi::OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let Some(RefOr::T(body)) = &mut operation.request_body else {
            continue;
        };
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content
                && let Some(RefOr::T(Schema::OneOf(choices))) = &content.schema
            {
                let mut choices = choices.items.iter();
                let given = choices.find(|choice| matches!(choice, RefOr::Ref(_)));
                content.schema = given.cloned();
            }
        }
    }
}

pub(super) type Responses = BTreeMap<String, RefOr<Response>>;

pub(super) fn problems(described: &[(&str, &str)]) -> Responses {
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

/// Adds what else an operation may end as: to what is said of the same status, if anything is.
pub(super) fn also(known: &mut Responses, more: Responses) {
    for (status, response) in more {
        match (known.get_mut(&status), response) {
            (Some(RefOr::T(known)), RefOr::T(added)) => {
                if known.description.contains(&added.description) {
                    continue;
                }
                known.description = format!("{}, {}", added.description, known.description);
            }
            (Some(_), _) => {}
            (None, response) => {
                known.insert(status, response);
            }
        }
    }
}

const TIMEOUT: (&str, &str) = ("408", "`request_timeout`");
const INTERNAL: (&str, &str) = ("500", "`internal_error`");
const DATABASE: (&str, &str) = (
    "503",
    "`database_unavailable`, `overloaded` with `Retry-After`",
);
const TOO_LARGE: (&str, &str) = ("413", "`body_too_large`: over 64 KiB");
const MEDIA_TYPE: (&str, &str) = ("415", "`unsupported_media_type`: not JSON");
const MOVED: (&str, &str) = (
    "412",
    "`precondition_failed`: it is not in the state that If-Match names; its ETag is in the answer",
);
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

/// Likewise, with a body.
pub(super) struct BodyProblems;

impl IntoResponses for BodyProblems {
    fn responses() -> Responses {
        problems(&[BODY, TIMEOUT, TOO_LARGE, MEDIA_TYPE, INTERNAL, DATABASE])
    }
}

const BULKY: (&str, &str) = ("413", "`body_too_large`: over 16 MiB");

/// What an import may end as.
pub(super) struct ImportProblems;

impl IntoResponses for ImportProblems {
    fn responses() -> Responses {
        let body = (
            "400",
            "`validation_failed` with everything that is wrong with the query, the head, or the file \
             as a whole; `body_incomplete`, `invalid_header`",
        );
        let media_type = ("415", "`unsupported_media_type`: not text/csv");
        let refused = (
            "422",
            "`import_refused`: nothing was done, `import` says of each line why; \
             `idempotency_key_reused`",
        );
        problems(&[
            body, TIMEOUT, BULKY, media_type, refused, INTERNAL, DATABASE,
        ])
    }
}

/// What a declaration may end as.
pub(super) struct DeclarationProblems;

impl IntoResponses for DeclarationProblems {
    fn responses() -> Responses {
        let refused = (
            "422",
            "`declaration_refused`: nothing was done, `refusals` say why; `idempotency_key_reused`",
        );
        problems(&[
            BODY, TIMEOUT, BULKY, MEDIA_TYPE, refused, INTERNAL, DATABASE,
        ])
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

/// What a request with `Idempotency-Key` may end as, beside 409 `idempotency_key_in_use`.
pub(super) struct OnceProblems;

impl IntoResponses for OnceProblems {
    fn responses() -> Responses {
        problems(&[(
            "422",
            "`idempotency_key_reused`: the key came with another request before",
        )])
    }
}

/// What a request with `If-Match` may end as.
pub(super) struct MatchProblems;

impl IntoResponses for MatchProblems {
    fn responses() -> Responses {
        problems(&[MOVED])
    }
}

/// Likewise, where it is required.
pub(super) struct RequiredMatchProblems;

impl IntoResponses for RequiredMatchProblems {
    fn responses() -> Responses {
        let required = ("428", "`precondition_required`: there is no If-Match");
        problems(&[MOVED, required])
    }
}

/// What a change (PATCH) may end as, beside what its resource adds.
pub(super) struct PatchProblems;

impl IntoResponses for PatchProblems {
    fn responses() -> Responses {
        let media_type = (
            "415",
            "`unsupported_media_type`: not `application/merge-patch+json`, as `Accept-Patch` says",
        );
        let body = (
            "400",
            "`malformed_id`, `validation_failed` with every invalid field, `malformed_json`, \
             `not_an_object`, `body_incomplete`, `invalid_header`",
        );
        problems(&[
            body, TIMEOUT, MOVED, TOO_LARGE, media_type, INTERNAL, DATABASE,
        ])
    }
}

/// What a single resource may answer beside itself.
pub(super) struct NotModified;

impl IntoResponses for NotModified {
    fn responses() -> Responses {
        let response = ResponseBuilder::new()
            .description("The client has it: If-None-Match names its ETag")
            .build();
        BTreeMap::from([("304".to_owned(), RefOr::T(response))])
    }
}

fn header(name: &str, description: &str) -> Vec<Parameter> {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(RefOr::T(Schema::Object(schema.build()))))
        .build();
    vec![parameter]
}

/// Declares a request header that several operations read.
macro_rules! headers {
    ($($(#[$doc:meta])* $type:ident = $name:literal $description:literal;)+) => {
        $(
            $(#[$doc])*
            pub(super) struct $type;

            impl IntoParams for $type {
                fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                    header($name, $description)
                }
            }
        )+
    };
}

headers! {
    /// Who asks.
    ByHeader = "X-Admin-User" "Who asks; `trusted-network` when absent; read in trusted-network mode only";
    /// Under which a POST may be repeated.
    OnceHeader = "Idempotency-Key"
        "1 to 255 visible ASCII characters: the same request under the same key within 24 hours is \
         carried out once and answered as the first time";
    /// Which state is meant.
    MatchHeader = "If-Match"
        "The ETag of the state that is meant, or several, or `*`: in another one, nothing is changed";
    /// What shows that a page of the portal itself asks.
    CsrfHeader = "X-CSRF-Token"
        "With a cookie only: the token of its session, as sign-in and `GET /sessions/current` tell it";
    /// Which state the client has.
    NoneMatchHeader = "If-None-Match" "The ETag that the client has: 304 when it is that still";
}
