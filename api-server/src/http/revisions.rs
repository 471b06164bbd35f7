//! `/revisions`.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::applies::{APPLY_FILTERS, APPLY_SEARCH, apply_filter};
use super::changes::{RestoredFromBody, SummaryBody};
use super::error::{ApiError, Problem};
use super::openapi::QueryProblems;
use super::page::{Filter, ListParams, ListQuery, Listed};
use crate::domain::apply::{Attempt, RevisionSort};
use crate::domain::page::Slice;
use crate::domain::pbx::DEFAULT_PBX;
use crate::services::Portal;
use crate::services::revisions::{self, History};

/// A bundle that was given a number on its PBX.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevisionBody {
    pub pbx_id: Uuid,
    /// What the PBX is called now.
    #[schema(example = "default")]
    pub pbx: String,
    #[schema(example = 7)]
    pub revision: u64,
    /// The apply that made it: `GET /applies/{id}` tells each step.
    pub apply_id: Uuid,
    /// SHA-256 of the bundle; equal bundles have equal digests.
    pub digest: String,
    /// Who asked for it.
    pub requested_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// As of the apply.
    #[schema(value_type = String, example = "applied")]
    pub outcome: Cow<'static, str>,
    /// Whether it was proven to be in force.
    pub proven: bool,
    /// Whether it is in force now; null when a later apply leaves that open: by how it ended, or
    /// because it has not ended yet.
    pub in_force: Option<bool>,
    /// What it changed against the revision that was proven before it.
    pub changes: Option<SummaryBody>,
    /// Whose bundle it brought back; null when it rendered what the database said.
    pub restored_from: Option<RestoredFromBody>,
    /// Whether `POST /applies/{apply_id}/restore` can bring it back.
    pub restorable: bool,
    /// How many users it holds.
    pub user_count: usize,
}

impl RevisionBody {
    fn read(attempt: Attempt, history: Option<(shared::bundle::ApplyId, bool)>) -> Option<Self> {
        let in_force = match history {
            Some((id, certain)) if id == attempt.id => certain.then_some(true),
            // Whatever came after the one that was proven last may be in force as well.
            Some((_, false)) => None,
            Some((_, true)) | None => Some(false),
        };
        Some(Self {
            pbx_id: attempt.pbx_id.0,
            pbx: attempt.pbx_name.to_string(),
            revision: attempt.revision?.0,
            apply_id: attempt.id.0,
            digest: attempt.digest?.to_string(),
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            outcome: attempt.outcome.name().into(),
            proven: attempt.outcome.is_proven(),
            in_force,
            restorable: attempt.is_restorable(),
            requested_by: attempt.requested_by,
            changes: attempt.changes.map(SummaryBody::from),
            restored_from: attempt.restored_from.map(RestoredFromBody::from),
            user_count: attempt.user_counts.total(),
        })
    }
}

/// List the revisions of a PBX
///
/// Its history, the highest number first: every bundle that was sent or about to be sent, by whom,
/// when, with which outcome, and what it changed.
#[utoipa::path(
    get, path = "/revisions", tag = "applies", operation_id = "list_revisions",
    params(ListParams<Revisions>),
    responses(
        (status = 200, description = "The revisions", body = [RevisionBody],
            headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`"))),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Revisions>()?;
    let filter = apply_filter(&portal, &wanted).await?;
    // Numbers count within a PBX.
    let pbx = filter.pbx.unwrap_or(DEFAULT_PBX);
    let History {
        revisions,
        proven_last,
    } = revisions::list(&portal, pbx, &filter, &wanted.page).await?;
    let Slice { items, next } = revisions;
    let items = items.into_iter();
    let items = items.filter_map(|attempt| RevisionBody::read(attempt, proven_last));
    let items = items.collect();
    Ok(wanted.answer(Slice { items, next }))
}

/// What `/revisions` can be asked for.
struct Revisions;

impl Listed for Revisions {
    type Sort = RevisionSort;
    const FILTERS: &'static [Filter] = APPLY_FILTERS;
    const SEARCH: Option<&'static str> = Some(APPLY_SEARCH);
}
