//! `/applies/{id}/events`: an apply while it runs, as server-sent events.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use shared::bundle::ApplyId;
use time::OffsetDateTime;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

use super::applies::{ApplyBody, StepBody};
use super::error::{ApiError, Problem};
use super::extract::{AsSeen, Id};
use super::openapi::IdProblems;
use crate::services::Portal;
use crate::services::follow::{Heard, follow};
use crate::services::live::Told;

/// How often a comment keeps a silent stream open, in seconds: proxies give up after 30 to 60.
const HEARTBEAT_SECONDS: u64 = 10;

/// When a client should come back after a stream that ended early, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// The number of the last step that the client has.
const LAST_EVENT_ID: &str = "last-event-id";

/// Asks proxies (nginx) not to hold events back.
static NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The data of an event `state`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StateBody {
    /// `waiting` (for its turn), `rendering`, `sending` (the attempt is committed and goes to the
    /// agent), `running` (the agent was told to bring it into force), `agent_lost` (its answer was
    /// lost, the portal asks again), `outcome_unknown` (it did not answer for long; the portal goes
    /// on asking), `started` (another portal sends it or has sent it), `database_lost` (the database
    /// does not say how it stands; the portal goes on asking).
    #[schema(value_type = String, example = "running")]
    pub state: Cow<'static, str>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// How many steps the client knows, from `Last-Event-ID`.
pub(super) struct Known(u32);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let invalid = ApiError::InvalidHeader("Last-Event-ID", "must be the id of a step");
        match parts.headers.get(LAST_EVENT_ID) {
            // A browser that has no id yet sends an empty one.
            None => Ok(Self(0)),
            Some(value) if value.is_empty() => Ok(Self(0)),
            Some(value) => {
                let text = value.to_str().unwrap_or_default();
                let last = text
                    .parse::<u32>()
                    .ok()
                    .and_then(|last| last.checked_add(1));
                last.map(Self).ok_or(invalid)
            }
        }
    }
}

/// Follow one attempt to apply
///
/// Server-sent events: `step` for each step as it ends, its id the position of the step, so that
/// `Last-Event-ID` goes on after it; `state` for what the portal itself does meanwhile, without id;
/// at last `ended` with the whole attempt, after which the stream ends and a client should not come
/// back. An attempt that ended long ago is told again. A stream that ends without `ended` was cut:
/// come back with `Last-Event-ID`. The steps in `ended` are the record; what came before may lack
/// steps, or name some that a restart of the agent replaced.
#[utoipa::path(
    get, path = "/applies/{id}/events", tag = "applies", operation_id = "follow_apply",
    params(
        ("id" = uuid::Uuid, Path, description = "The attempt"),
        ("Last-Event-ID" = Option<u32>, Header, description = "The last step that is known"),
    ),
    responses(
        (status = 200, description = "Events `state` (StateBody), `step` (StepBody) and `ended` \
            (ApplyBody), each with JSON as its data", body = String,
            content_type = "text/event-stream"),
        (status = 404, description = "`apply_not_found`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
    )
)]
pub(super) async fn events(
    State(portal): State<Arc<Portal>>,
    AsSeen(viewer): AsSeen,
    Id(id): Id,
    Known(known): Known,
) -> Result<Response, ApiError> {
    let heard = follow(portal, viewer, ApplyId(id), known).await?;
    let first = Event::default().retry(Duration::from_millis(RETRY_MS));
    let events = tokio_stream::once(Ok(first)).chain(ReceiverStream::new(heard).map(event));
    let heartbeat = KeepAlive::new().interval(Duration::from_secs(HEARTBEAT_SECONDS));
    let mut response = Sse::new(events).keep_alive(heartbeat).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NO_BUFFERING.clone(), HeaderValue::from_static("no"));
    Ok(response)
}

fn event(heard: Heard) -> Result<Event, axum::Error> {
    match heard {
        Heard::State(Told { state, at }) => {
            let state = state.name().into();
            Event::default()
                .event("state")
                .json_data(StateBody { state, at })
        }
        Heard::Step(index, step) => Event::default()
            .event("step")
            .id(index.to_string())
            .json_data(StepBody::from(step)),
        Heard::Ended(attempt) => {
            let attempt = Arc::unwrap_or_clone(attempt);
            Event::default()
                .event("ended")
                .json_data(ApplyBody::from(attempt))
        }
    }
}
