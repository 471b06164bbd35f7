//! `/events`: what happened to the PBXes apart from applies.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::openapi::QueryProblems;
use super::page::{Filter, ListParams, ListQuery, Listed, Takes};
use crate::domain::event::{EventFilter, EventSort, PbxEvent, PbxEventKind};
use crate::services::{Portal, events};

/// Something that happened to a PBX apart from an apply.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody {
    /// Rises in the order of recording.
    #[schema(example = 42)]
    id: i64,
    pbx_id: Uuid,
    /// What the PBX is called now.
    #[schema(example = "default")]
    pbx: String,
    #[schema(value_type = EventKindBody)]
    kind: &'static str,
    /// In words.
    detail: String,
    /// When it was noticed.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// When a portal wrote it down.
    #[serde(with = "time::serde::rfc3339")]
    recorded_at: OffsetDateTime,
    /// Who asked for it; null when it happened by itself.
    requested_by: Option<String>,
    /// The request that asked for it.
    request_id: Option<String>,
}

/// What happened.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it; the domain has the names")]
enum EventKindBody {
    DriftFound,
    DriftEnded,
    DriftOverwritten,
    ForeignFileFound,
    ForeignFileGone,
    SafeModeEntered,
    SafeModeLeft,
    CertificateExpiring,
    PeerRefused,
    AgentUnreachable,
    AgentBack,
    VerifyRequested,
}

impl From<PbxEvent> for EventBody {
    fn from(event: PbxEvent) -> Self {
        Self {
            id: event.id,
            pbx_id: event.pbx_id.0,
            pbx: event.pbx_name.to_string(),
            kind: event.kind.name(),
            detail: event.detail,
            at: event.at,
            recorded_at: event.recorded_at,
            requested_by: event.requested_by,
            request_id: event.request_id,
        }
    }
}

/// List what happened to the PBXes apart from applies
///
/// The newest first: hand edits, foreign files, safe mode, certificates that end, refused peers, an
/// agent that went away and came back, and comparisons that somebody asked for. Each stands here
/// once, however many portals watch. The newest 10,000 of each kind are kept.
#[utoipa::path(
    get, path = "/events", tag = "status", operation_id = "list_events",
    params(ListParams<Events>),
    responses(
        (status = 200, description = "The events", body = [EventBody],
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
    let wanted = query.read::<Events>()?;
    let filter = EventFilter {
        pbx: wanted.pbx(&portal).await?,
        kind: wanted.text("kind").and_then(PbxEventKind::from_name),
        requested_by: wanted.text("requested_by").map(str::to_owned),
        search: wanted.search.clone(),
    };
    let events = events::list(&portal, &filter, &wanted.page).await?;
    Ok(wanted.answer(events.map(EventBody::from)))
}

/// What `/events` can be asked for.
struct Events;

impl Listed for Events {
    type Sort = EventSort;
    const FILTERS: &'static [Filter] = &[
        Filter {
            name: "pbx",
            takes: Takes::Pbx,
            description: "Only those of the PBX of this id or name",
        },
        Filter {
            name: "kind",
            takes: Takes::OneOf(|| PbxEventKind::ALL.iter().map(|kind| kind.name()).collect()),
            description: "Only events of this kind",
        },
        Filter {
            name: "requested_by",
            takes: Takes::Text,
            description: "Only what this administrator asked for",
        },
    ];
    const SEARCH: Option<&'static str> = Some("`detail`");
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;

    #[test]
    fn the_document_names_every_kind() {
        let schema = serde_json::to_value(EventKindBody::schema()).unwrap();
        let names: Vec<&str> = PbxEventKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(schema["enum"], serde_json::json!(names));
    }
}
