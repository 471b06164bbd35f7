//! `/apply/status`.

mod body;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use self::body::PbxStatusBody;
use super::error::ApiError;
use super::openapi::ReadProblems;
use crate::services::{Portal, status};

/// Show what is wanted, applied, on disk and loaded
///
/// For each PBX and each of its files: what the database would have, what was applied last, what
/// lies on the disk of the PBX host, what Asterisk has read, and what that comes to. An agent that
/// cannot be reached is no error: what the database knows is told.
#[utoipa::path(
    get, path = "/apply/status", tag = "status", operation_id = "status",
    responses(
        (status = 200, description = "Every PBX", body = [PbxStatusBody]),
        ReadProblems,
    )
)]
pub(super) async fn show(
    State(portal): State<Arc<Portal>>,
) -> Result<Json<Vec<PbxStatusBody>>, ApiError> {
    let states = Box::pin(status::read(&portal, None)).await?;
    Ok(Json(states.into_iter().map(PbxStatusBody::from).collect()))
}
