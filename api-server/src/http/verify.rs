//! `/apply/verify`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use shared::status::VerifyReport;
use utoipa::ToSchema;
use uuid::Uuid;

use super::applies::{MismatchBody, milliseconds};
use super::error::{ApiError, Problem};
use super::extract::{AsSeen, By, OptionalBody};
use super::once::Once;
use super::openapi::{BodyProblems, ByHeader, OnceHeader, OnceProblems};
use super::query::pbx;
use super::texts::PbxRefText;
use crate::services::pbxes::{self, Pbx};
use crate::services::{Error, Portal, verify, viewer};

/// What to compare. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; the handler reads the field"
)]
struct VerifyRequestBody {
    /// When absent, the default one, or that of the tenant that whoever
    /// asks is confined to.
    pbx: Option<PbxRefText>,
}

/// What is in force against what should be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerifyBody {
    pbx_id: Uuid,
    #[schema(example = "default")]
    pbx: String,
    /// Whether Asterisk and the live files hold exactly what the live revision says.
    in_force: bool,
    /// The live revision.
    #[schema(example = 7)]
    revision: u64,
    /// Its digest.
    digest: String,
    /// How many objects and extensions were compared in every part.
    compared: u64,
    /// Each that differs; of its own, for whoever is confined to a tenant.
    mismatches: Vec<MismatchBody>,
    /// Why it could not be compared to the end; null when it was. Withheld from whoever is confined
    /// to a tenant.
    failure: Option<String>,
    /// How long it took, to a tenth.
    duration_ms: f64,
}

impl VerifyBody {
    fn read(pbx: &Pbx, report: VerifyReport) -> Self {
        Self {
            pbx_id: pbx.id.0,
            pbx: pbx.name().to_string(),
            in_force: report.in_force,
            revision: report.revision.0,
            digest: report.digest.to_string(),
            compared: report.compared,
            mismatches: report
                .mismatches
                .into_iter()
                .map(MismatchBody::from)
                .collect(),
            failure: Some(report.failure).filter(|failure| !failure.is_empty()),
            duration_ms: milliseconds(report.duration),
        }
    }
}

/// Compare what is in force in full
///
/// Everything that the live revision says of every endpoint, auth, AOR and dialplan entry with what
/// Asterisk holds now. Changes nothing. That it was asked for is an event.
#[utoipa::path(
    post, path = "/apply/verify", tag = "status", operation_id = "verify",
    params(ByHeader, OnceHeader),
    request_body(content = Option<VerifyRequestBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "The comparison, whatever it found", body = VerifyBody),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`apply_busy`: an apply runs; `nothing_applied`; \
            `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "`agent_refused`, `agent_too_old`",
            body = Problem, content_type = "application/problem+json"),
        OnceProblems,
        BodyProblems,
        (status = 503, description = "`agent_unreachable`, `database_unavailable`, `overloaded`",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn run(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    AsSeen(viewer): AsSeen,
    once: Once,
    OptionalBody(mut fields): OptionalBody,
) -> Result<Response, ApiError> {
    let pbx = fields.or_default("pbx", pbx);
    let pbx = fields.finish(pbx).map_err(ApiError::InvalidFields)?;
    let pbx = viewer::meant(&portal, viewer, pbx).await?;
    let pbx = pbxes::named_or_default(&portal, pbx.as_ref()).await?;
    let (own, by) = (Arc::clone(&portal), actor.clone());
    let task = move |_| async move {
        let report = verify::run_to_the_end(own, viewer, Arc::clone(&pbx), by).await?;
        Ok(Json(VerifyBody::read(&pbx, report)).into_response())
    };
    // It begins no attempts.
    let remake = |_| Err(Error::KeyInUse.into());
    once.run_slowly(portal, actor, task, remake).await
}
