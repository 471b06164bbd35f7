//! What goes around every request: its id, its line in the log, panics and deadlines turned into
//! problem documents, and the completion of every problem.

use std::any::Any;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use shared::telemetry::{TRACEPARENT, TraceContext};
use tokio::time::Instant;
use tracing::Instrument as _;
use tracing::field::Empty;
use uuid::Uuid;

use super::browsers;
use super::error::{ApiError, PROBLEM_JSON, Pending, Problem};
use super::unread;
use crate::clock::{Clock as _, SystemClock, os_rng, unix_ms};
use crate::domain::{RequestId, uuid_v7};

/// Longest time for a request, in seconds; applies have their own, but not for reading their body.
pub(super) const REQUEST_SECONDS: u64 = 30;

/// Given by the caller if sane, made here otherwise, and always returned.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer.
pub(super) async fn envelope(mut request: Request, next: Next) -> Response {
    let caller = trace_parent(request.headers());
    let trace = TraceContext::below(caller, fresh_uuid());
    let id = request_id(request.headers()).in_trace(trace);
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!(
        "request",
        request_id = id.as_str(),
        trace_id = trace.trace_id(),
        span_id = trace.span_id(),
        parent_id = Empty,
        %method,
        path
    );
    if let Some(caller) = caller {
        span.record("parent_id", caller.span_id());
    }
    let started = Instant::now();
    let response = async {
        let (request, unread) = unread::share(request);
        let response = unread.settle(next.run(request).await).await;
        let status = response.status().as_u16();
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(status, duration_ms, "answered");
        response
    };
    let response = response.instrument(span).await;
    finish(response, &id, &path)
}

fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    if let Some(id) = given.and_then(|text| text.parse().ok()) {
        return id;
    }
    RequestId::from(fresh_uuid())
}

fn fresh_uuid() -> Uuid {
    uuid_v7(unix_ms(SystemClock.now()), &mut os_rng())
}

/// The span of the caller; one that is given twice is none.
fn trace_parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    match (given.next(), given.next()) {
        (Some(value), None) => TraceContext::parse(value.to_str().ok()?),
        _ => None,
    }
}

fn finish(response: Response, id: &RequestId, path: &str) -> Response {
    let mut response = complete(worded(response), id, path.to_owned());
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    browsers::instruct(headers, path);
    // Answers tell of people and of the state of this moment: caches keep out.
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(CACHE_CONTROL).or_insert(no_store);
    response
}

/// Gives words to a refusal that has none, as the router's own have.
fn worded(response: Response) -> Response {
    let status = response.status();
    let has_words = response.extensions().get::<Pending>().is_some()
        || response.headers().contains_key(CONTENT_TYPE);
    if has_words || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let error = match status {
        StatusCode::NOT_FOUND => ApiError::UnknownPath,
        StatusCode::METHOD_NOT_ALLOWED => ApiError::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge,
        other => ApiError::Bare(other),
    };
    let mut worded = error.into_response();
    for (name, value) in response.headers() {
        worded.headers_mut().insert(name.clone(), value.clone());
    }
    worded
}

/// Writes the body of a problem.
pub(super) fn complete(response: Response, id: &RequestId, path: String) -> Response {
    let pending = response.extensions().get::<Pending>().cloned();
    let Some(problem) = pending.and_then(|pending| pending.take()) else {
        return response;
    };
    let problem = Problem {
        instance: path,
        request_id: id.as_str().to_owned(),
        ..problem
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let (mut parts, _) = response.into_parts();
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

/// Ends a request that takes too long.
pub(super) async fn deadline(request: Request, next: Next) -> Response {
    let limit = Duration::from_secs(REQUEST_SECONDS);
    tokio::time::timeout(limit, next.run(request))
        .await
        .unwrap_or_else(|_| ApiError::RequestTimeout.into_response())
}

/// The answer of a handler that died. The panic hook has logged where.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::Panicked.into_response()
}
