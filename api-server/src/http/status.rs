//! `/apply/status`.

mod body;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

pub use self::body::{
    ActiveBody, AsteriskBody, AttemptBriefBody, CertificateBody, ContentBody, DriftBody,
    FileStatusBody, LastAppliedBody, LoadedBody, PbxStatusBody, RunningBody, WantedBody,
};
use super::error::{ApiError, Problem};
use super::extract::AsSeen;
use super::openapi::QueryProblems;
use super::query::{Query, pbx};
use crate::services::{Portal, status};

/// Show what is wanted, applied, on disk and loaded
///
/// For each PBX and each of its files: what the database would have, what was applied last, what
/// lies on the disk of the PBX host, what Asterisk has read, and what that comes to. An agent that
/// cannot be reached is no error: what the database knows is told. Whoever is confined to a tenant
/// sees the PBX of that one.
#[utoipa::path(
    get, path = "/apply/status", tag = "status", operation_id = "status",
    params(
        ("pbx" = Option<String>, Query, description = "Only the PBX of this id or name"),
    ),
    responses(
        (status = 200, description = "Every PBX, by name", body = [PbxStatusBody]),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn show(
    State(portal): State<Arc<Portal>>,
    AsSeen(viewer): AsSeen,
    Query(mut fields): Query,
) -> Result<Json<Vec<PbxStatusBody>>, ApiError> {
    let pbx = fields.or_default("pbx", pbx);
    let pbx = fields.finish(pbx).map_err(ApiError::InvalidFields)?;
    let states = Box::pin(status::read(&portal, viewer, pbx)).await?;
    Ok(Json(states.into_iter().map(PbxStatusBody::from).collect()))
}
