//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that is sent twice under
//! one key is carried out once and answered twice.
//!
//! [`fingerprint`] reads key and body before any handler does; [`Once`] hands them to the handler,
//! whose work it runs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::Instrument as _;

use super::envelope;
use super::error::{ApiError, PROBLEM_JSON};
use super::etag::Tag;
use super::extract::read;
use super::prefer::{PREFERENCE_APPLIED, RESPOND_ASYNC};
use crate::domain::Actor;
use crate::domain::apply::Attempt;
use crate::domain::idempotency::{
    AttemptRoot, Fingerprint, IdempotencyKey, KeyedRequest, StoredAnswer,
};
use crate::services::idempotency::{self, Answered, Claimed};
use crate::services::work::{self, Work};
use crate::services::{Error, Portal};

/// What a client calls its request.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Says that an answer was given before.
pub(super) static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Headers that change what a request means.
static MEANINGFUL: [HeaderName; 3] = [CONTENT_TYPE, IF_MATCH, HeaderName::from_static("prefer")];

/// Reads the key and the body of a POST that has a key, so that its handler knows what it says.
pub(super) async fn fingerprint(request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    match keyed(request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn keyed(request: Request) -> Result<Request, ApiError> {
    let key = key(request.headers())?;
    let (mut parts, body) = request.into_parts();
    let mut unread = Request::new(body);
    // The limit of the body stands there.
    unread.extensions_mut().clone_from(&parts.extensions);
    let bytes = read(unread, &()).await?;
    let headers = MEANINGFUL.iter().flat_map(|name| {
        let values = parts
            .headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes);
        std::iter::once(name.as_str().as_bytes()).chain(values)
    });
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let first = [parts.method.as_str().as_bytes(), target.as_bytes(), &bytes];
    let fingerprint = Fingerprint::of(first.into_iter().chain(headers));
    parts.extensions.insert(KeyedRequest { key, fingerprint });
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

fn key(headers: &HeaderMap) -> Result<IdempotencyKey, ApiError> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        let reason = "must be given only once";
        return Err(ApiError::InvalidHeader(IDEMPOTENCY_KEY, reason));
    };
    let key = value.to_str().ok().and_then(|text| text.parse().ok());
    key.ok_or(ApiError::InvalidHeader(
        IDEMPOTENCY_KEY,
        "must be 1 to 255 visible ASCII characters",
    ))
}

/// What a POST may be repeated under, if it has a key. Every POST takes it.
pub(super) struct Once(Option<KeyedRequest>, String);

impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let path = parts.uri.path().to_owned();
        Ok(Self(parts.extensions.get().cloned(), path))
    }
}

impl Once {
    /// Carries out `task` in a unit of work that counts unless it fails, or answers as before.
    pub(super) async fn run(
        self,
        portal: &Portal,
        actor: &Actor,
        task: impl AsyncFnOnce(&mut Work<'_>) -> Result<Answer, ApiError>,
    ) -> Result<Response, ApiError> {
        let task = async move |work: &mut Work<'_>| task(work).await.map(|answer| answer.0);
        let answered = idempotency::once(portal, actor, self.0.as_ref(), task).await?;
        Ok(response(answered))
    }
}

impl Once {
    /// The answer, if this was answered before: so that nobody waits, or works, for what was done.
    pub(super) async fn before(
        &self,
        portal: &Portal,
        actor: &Actor,
    ) -> Result<Option<Response>, ApiError> {
        let Some(request) = &self.0 else {
            return Ok(None);
        };
        let answered = idempotency::answered(portal, actor, request).await?;
        Ok(answered.map(response))
    }

    /// Carries out what takes longer than a transaction may: an apply. `task` is told what the ids
    /// of its attempts are made from; `remake` answers from the attempts of a portal that died.
    ///
    /// It goes on when its client does not, so that the answer is there when the client is back.
    pub(super) async fn run_slowly<T>(
        self,
        portal: Arc<Portal>,
        actor: Actor,
        task: impl FnOnce(Option<AttemptRoot>) -> T,
        remake: impl FnOnce(Vec<Attempt>) -> Result<Response, ApiError>,
    ) -> Result<Response, ApiError>
    where
        T: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        work::stands(&portal, &actor).await?;
        let Some(request) = self.0 else {
            return task(None).await;
        };
        let claim = match idempotency::claim(&portal, &actor, &request).await? {
            Claimed::Before(answer) => {
                let replayed = true;
                return Ok(response(Answered { answer, replayed }));
            }
            Claimed::Begun(attempts) => {
                let mut response = remake(attempts)?;
                replay(&mut response);
                return Ok(response);
            }
            Claimed::Mine(claim) => claim,
        };
        let (task, target) = (task(Some(claim.root())), self.1);
        let to_the_end = async move {
            let response = task.await.unwrap_or_else(IntoResponse::into_response);
            let good = response.status().is_success();
            let complete = envelope::complete(response, &actor.request_id, target);
            let (response, answer) = copied(complete).await?;
            claim.settle(&portal, &answer, good).await;
            Ok(response)
        };
        let spawned = tokio::spawn(to_the_end.in_current_span());
        spawned.await.map_err(Error::from)?
    }
}

/// A response, and what is kept of it.
async fn copied(response: Response) -> Result<(Response, StoredAnswer), ApiError> {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let body = body.map_err(|_| ApiError::Panicked)?;
    let header = |name| {
        let value = parts.headers.get(name).map(HeaderValue::to_str);
        value.and_then(Result::ok).map(str::to_owned)
    };
    let answer = StoredAnswer {
        status: parts.status.as_u16(),
        location: header(LOCATION),
        etag: header(ETAG),
        body: body.to_vec(),
    };
    Ok((Response::from_parts(parts, Body::from(body)), answer))
}

fn replay(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(REPLAYED.clone(), HeaderValue::from_static("true"));
}

/// What a POST answers.
pub(super) struct Answer(StoredAnswer);

impl Answer {
    /// 201 with the path of what was created, its entity tag and its body.
    pub(super) fn created(
        location: String,
        etag: &Tag,
        body: &impl Serialize,
    ) -> Result<Self, ApiError> {
        let mut answer = Self::new(StatusCode::CREATED, body)?;
        answer.0.location = Some(location);
        answer.0.etag = Some(etag.as_str().to_owned());
        Ok(answer)
    }

    /// 200 with a body, for an action that leaves its resource with this entity tag.
    pub(super) fn done(etag: &Tag, body: &impl Serialize) -> Result<Self, ApiError> {
        let mut answer = Self::new(StatusCode::OK, body)?;
        answer.0.etag = Some(etag.as_str().to_owned());
        Ok(answer)
    }

    /// A status and a body.
    pub(super) fn new(status: StatusCode, body: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(body).map_err(|_| ApiError::Panicked)?;
        Ok(Self(StoredAnswer {
            status: status.as_u16(),
            location: None,
            etag: None,
            body,
        }))
    }
}

fn response(answered: Answered) -> Response {
    let Answered { answer, replayed } = answered;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = status.into_response();
    let headers = response.headers_mut();
    for (name, value) in [(LOCATION, answer.location), (ETAG, answer.etag)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    if status == StatusCode::ACCEPTED {
        // Nothing else is accepted.
        let followed = HeaderValue::from_static(RESPOND_ASYNC);
        headers.insert(PREFERENCE_APPLIED, followed);
    }
    if !answer.body.is_empty() {
        let problem = status.is_client_error() || status.is_server_error();
        let media_type = if problem {
            PROBLEM_JSON
        } else {
            "application/json"
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        *response.body_mut() = Body::from(answer.body);
    }
    if replayed {
        replay(&mut response);
    }
    response
}
