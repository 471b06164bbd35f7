//! `/applies/{id}/restore`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use shared::bundle::ApplyId;

use super::applies::{ApplyBody, ApplyRequestBody, answer, wish};
use super::error::{ApiError, Problem};
use super::extract::{By, Id, OptionalBody};
use super::openapi::RestoreProblems;
use crate::domain::apply::Wish;
use crate::services::{Portal, apply};

/// Bring an earlier revision back
///
/// Puts the stored bundle of an apply, byte for byte, in force as a new revision, by the same steps
/// as any apply. Only a bundle that was proven once. The database stays as it is: until the next
/// apply it says something else than the PBX runs, and the notes say how. Deleted users work again
/// as far as the bundle holds them.
#[utoipa::path(
    post, path = "/applies/{id}/restore", tag = "applies", operation_id = "restore_apply",
    params(
        ("id" = Uuid, Path, description = "The apply whose bundle is brought back"),
        ("X-Admin-User" = Option<String>, Header, description = "Who asks; `anonymous` when absent"),
    ),
    request_body(content = Option<ApplyRequestBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "`applied` or `unchanged`", body = ApplyBody),
        (status = 404, description = "`apply_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`nothing_to_restore`: it has no bundle; \
            `revision_never_proven`; `restore_failed`: the stored bundle cannot be used; \
            `apply_busy`: waited too long for another apply",
            body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`preview_outdated`: the bundle's digest is not \
            `expected_digest`; nothing happened",
            body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The PBX did not take it: as of `POST /apply`",
            body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`apply_reload_unknown`: Asterisk did not answer",
            body = Problem, content_type = "application/problem+json"),
        RestoreProblems,
    )
)]
pub(super) async fn run(
    State(portal): State<Arc<Portal>>,
    Id(id): Id,
    By(actor): By,
    OptionalBody(fields): OptionalBody,
) -> Result<Json<ApplyBody>, ApiError> {
    let wish = Wish {
        restore: Some(ApplyId(id)),
        ..wish(fields).map_err(ApiError::InvalidFields)?
    };
    answer(apply::run_to_the_end(portal, actor, wish).await?)
}
