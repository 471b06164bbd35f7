//! `/revisions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::bundle::Revision;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::changes::{RestoredFromBody, SummaryBody};
use super::error::{ApiError, Problem};
use super::fields::{FieldError, Fields};
use super::openapi::QueryProblems;
use super::query::{Query, limit, pbx};
use crate::domain::Invalid;
use crate::domain::apply::Attempt;
use crate::domain::pbx::{DEFAULT_PBX, PbxRef};
use crate::services::revisions::{self, History};
use crate::services::{Portal, pbxes};

/// A bundle that was given a number on its PBX.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevisionBody {
    pbx_id: Uuid,
    /// What the PBX is called now.
    #[schema(example = "default")]
    pbx: String,
    #[schema(example = 7)]
    revision: u64,
    /// The apply that made it: `GET /applies/{id}` tells each step.
    apply_id: Uuid,
    /// SHA-256 of the bundle; equal bundles have equal digests.
    digest: String,
    /// Who asked for it.
    requested_by: String,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
    /// As of the apply.
    #[schema(value_type = String, example = "applied")]
    outcome: &'static str,
    /// Whether it was proven to be in force.
    proven: bool,
    /// Whether it is in force now; null when a later apply leaves that open: by how it ended, or
    /// because it has not ended yet.
    in_force: Option<bool>,
    /// What it changed against the revision that was proven before it.
    changes: Option<SummaryBody>,
    /// Whose bundle it brought back; null when it rendered what the database said.
    restored_from: Option<RestoredFromBody>,
    /// Whether `POST /applies/{apply_id}/restore` can bring it back.
    restorable: bool,
    /// How many users it holds.
    user_count: usize,
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
            outcome: attempt.outcome.name(),
            proven: attempt.outcome.is_proven(),
            in_force,
            restorable: attempt.is_restorable(),
            requested_by: attempt.requested_by,
            changes: attempt.changes.map(SummaryBody::from),
            restored_from: attempt.restored_from.map(RestoredFromBody::from),
            user_count: attempt.user_count,
        })
    }
}

/// List the revisions of a PBX
///
/// Its history, the highest number first: every bundle that was sent or about to be sent, by whom,
/// when, with which outcome, and what it changed.
#[utoipa::path(
    get, path = "/revisions", tag = "applies", operation_id = "list_revisions",
    params(
        ("limit" = Option<u16>, Query, description = "1 to 200; 50 when absent",
            minimum = 1, maximum = 200),
        ("before" = Option<u64>, Query, description = "Only revisions below this number"),
        ("pbx" = Option<String>, Query, description = "Of the PBX of this id or name; the default one when absent"),
    ),
    responses(
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 200, description = "The revisions", body = [RevisionBody]),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    Query(fields): Query,
) -> Result<Json<Vec<RevisionBody>>, ApiError> {
    let ((before, limit), pbx) = page(fields).map_err(ApiError::InvalidFields)?;
    let pbx = match &pbx {
        Some(pbx) => pbxes::id_of(&portal, pbx).await?,
        None => DEFAULT_PBX,
    };
    let History {
        revisions,
        proven_last,
    } = revisions::list(&portal, pbx, before, limit).await?;
    let revisions = revisions.into_iter();
    let bodies = revisions.filter_map(|attempt| RevisionBody::read(attempt, proven_last));
    Ok(Json(bodies.collect()))
}

type Page = ((Option<Revision>, u16), Option<PbxRef>);

fn page(mut fields: Fields) -> Result<Page, Vec<FieldError>> {
    let before = fields.or_default("before", |value| {
        let number = value.as_str().and_then(|text| text.parse().ok());
        number.map(|number| Some(Revision(number))).ok_or(Invalid {
            code: "malformed",
            message: "must be the number of a revision",
        })
    });
    let limit = limit(&mut fields);
    let pbx = fields.or_default("pbx", pbx);
    fields.finish(before.zip(limit).zip(pbx))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::read;

    #[test]
    fn pages() {
        assert_eq!(page(read("")).unwrap(), ((None, 50), None));
        let ((before, _), _) = page(read("before=7")).unwrap();
        assert_eq!(before, Some(Revision(7)));
        for (name, value) in [
            ("before", "x"),
            ("before", "-1"),
            ("limit", "0"),
            ("x", "1"),
        ] {
            let query = format!("{name}={value}");
            assert_eq!(page(read(&query)).unwrap_err()[0].field, name);
        }
    }
}
