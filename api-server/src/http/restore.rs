//! `/applies/{id}/restore`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use shared::bundle::ApplyId;

use super::applies::{ApplyBody, RestoreRequestBody, restore_once, wish};
use super::error::{ApiError, Problem};
use super::extract::{By, Id, OptionalBody};
use super::once::Once;
use super::openapi::{ByHeader, OnceHeader, OnceProblems, RestoreProblems};
use super::prefer::Preferred;
use crate::services::{Error, Portal, apply};

/// Bring an earlier revision back
///
/// Puts the stored bundle of an apply, byte for byte, in force as a new revision, by the same steps
/// as any apply. Only a bundle that was proven once. The database stays as it is: until the next
/// apply it says something else than the PBX runs, and the notes say how. Deleted users work again
/// as far as the bundle holds them.
///
/// With `Prefer: respond-async` (RFC 7240) the answer is 202 as soon as the attempt stands in line,
/// as of `POST /apply`.
#[utoipa::path(
    post, path = "/applies/{id}/restore", tag = "applies", operation_id = "restore_apply",
    params(
        ("id" = Uuid, Path, description = "The apply whose bundle is brought back"),
        ByHeader, OnceHeader,
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the end"),
    ),
    request_body(content = Option<RestoreRequestBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "`applied` or `unchanged`", body = ApplyBody),
        (status = 202, description = "Accepted with `Prefer: respond-async`; it waits for its turn",
            body = ApplyBody, headers(
                ("Location" = String, description = "Where the attempt can be looked up"),
                ("Preference-Applied" = String, description = "`respond-async`"),
            )),
        (status = 404, description = "`apply_not_found`; `pbx_not_found`: its PBX is no longer in service",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`nothing_to_restore`: it has no bundle; `apply_not_ended`: it \
            waits or runs; `revision_never_proven`; `restore_failed`: the stored bundle cannot be \
            used; `apply_busy`: waited too long for another apply; `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`preview_outdated`: the bundle's digest is not \
            `expected_digest`; nothing happened",
            body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The PBX did not take it: as of `POST /apply`",
            body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`apply_reload_unknown`: Asterisk did not answer",
            body = Problem, content_type = "application/problem+json"),
        OnceProblems,
        RestoreProblems,
    )
)]
pub(super) async fn run(
    State(portal): State<Arc<Portal>>,
    Id(id): Id,
    By(actor): By,
    preferred: Preferred,
    once: Once,
    OptionalBody(fields): OptionalBody,
) -> Result<Response, ApiError> {
    let (wish, ()) = wish(fields, Some(())).map_err(ApiError::InvalidFields)?;
    apply::permit(&actor, &wish).map_err(Error::from)?;
    restore_once(once, portal, actor, preferred, (ApplyId(id), wish)).await
}
