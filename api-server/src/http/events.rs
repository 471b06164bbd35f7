//! `/events`: what happened to the PBXes apart from applies.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::fields::{FieldError, Fields};
use super::openapi::QueryProblems;
use super::query::{Query, limit, pbx};
use crate::domain::Invalid;
use crate::domain::event::{PbxEvent, PbxEventKind};
use crate::domain::pbx::PbxRef;
use crate::services::{Portal, events, pbxes};

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
    params(
        ("kind" = Option<EventKindBody>, Query, description = "Only events of this kind"),
        ("limit" = Option<u16>, Query, description = "1 to 200; 50 when absent",
            minimum = 1, maximum = 200),
        ("before" = Option<i64>, Query, description = "Only events recorded before this one"),
        ("pbx" = Option<String>, Query, description = "Only those of the PBX of this id or name"),
    ),
    responses(
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 200, description = "The events", body = [EventBody]),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    Query(fields): Query,
) -> Result<Json<Vec<EventBody>>, ApiError> {
    let page = page(fields).map_err(ApiError::InvalidFields)?;
    let pbx = match &page.pbx {
        Some(pbx) => Some(pbxes::id_of(&portal, pbx).await?),
        None => None,
    };
    let events = events::list(&portal, pbx, page.kind, page.before, page.limit).await?;
    Ok(Json(events.into_iter().map(EventBody::from).collect()))
}

#[derive(Debug, PartialEq, Eq)]
struct Page {
    kind: Option<PbxEventKind>,
    before: Option<i64>,
    limit: u16,
    pbx: Option<PbxRef>,
}

fn page(mut fields: Fields) -> Result<Page, Vec<FieldError>> {
    let kind = fields.or_default("kind", |value| {
        let kind = value.as_str().and_then(PbxEventKind::from_name);
        kind.map(Some).ok_or(Invalid {
            code: "malformed",
            message: "must be a kind of event",
        })
    });
    let before = fields.or_default("before", |value| {
        let id = value.as_str().and_then(|text| text.parse::<i64>().ok());
        id.map(Some).ok_or(Invalid {
            code: "malformed",
            message: "must be the id of an event",
        })
    });
    let limit = limit(&mut fields);
    let pbx = fields.or_default("pbx", pbx);
    let page = kind
        .zip(before)
        .zip(limit)
        .zip(pbx)
        .map(|(((kind, before), limit), pbx)| Page {
            kind,
            before,
            limit,
            pbx,
        });
    fields.finish(page)
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;
    use crate::http::query::read;

    #[test]
    fn pages() {
        let all = page(read("kind=agent_back&before=7&limit=3&pbx=b"));
        let expected = Page {
            kind: Some(PbxEventKind::AgentBack),
            before: Some(7),
            limit: 3,
            pbx: Some("b".parse().unwrap()),
        };
        assert_eq!(all.unwrap(), expected);
        assert_eq!(page(read("")).unwrap().limit, 50);
        for bad in [("kind", "x"), ("before", "x"), ("limit", "0"), ("y", "1")] {
            let query = format!("{}={}", bad.0, bad.1);
            assert_eq!(page(read(&query)).unwrap_err()[0].field, bad.0);
        }
    }

    #[test]
    fn the_document_names_every_kind() {
        let schema = serde_json::to_value(EventKindBody::schema()).unwrap();
        let names: Vec<&str> = PbxEventKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(schema["enum"], serde_json::json!(names));
    }
}
