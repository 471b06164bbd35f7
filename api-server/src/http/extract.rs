//! What handlers take out of a request; each refusal is a problem document.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use super::budget::Refused;
use super::envelope::REQUEST_SECONDS;
use super::error::{ApiError, MERGE_PATCH};
use super::fields::{Fields, parse_json};
use crate::domain::account::SessionId;
use crate::domain::tenant::DEFAULT_TENANT;
use crate::domain::viewer::Viewer;
use crate::domain::{Actor, TenantId, Within};
use crate::services::denied::Denied;
use crate::services::sessions::SessionRef;
use crate::services::tenants::{self, TenantRef};
use crate::services::{Error, Portal, viewer};

/// The media type of JSON.
const JSON: &str = "application/json";

/// Who asks, from where, under which request: as the guard found.
pub(super) struct By(pub(super) Actor);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let actor = parts.extensions.get::<Actor>().cloned();
        actor.map(Self).ok_or(ApiError::Panicked)
    }
}

/// As whom somebody looks at what is kept of a whole PBX.
pub(super) struct AsSeen(pub(super) Viewer);

impl FromRequestParts<Arc<Portal>> for AsSeen {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, ApiError> {
        let By(actor) = By::from_request_parts(parts, portal).await?;
        Ok(Self(viewer::of(portal, &actor).await?))
    }
}

/// The `{id}` of a path.
pub(super) struct Id(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = path_parameter(parts, state, "id").await;
        let id = text.as_deref().and_then(hyphenated);
        id.map(Self).ok_or(ApiError::MalformedId)
    }
}

/// The `{session}` of a path: an id, or `current`.
pub(super) struct ThisSession(pub(super) SessionRef);

impl<S: Send + Sync> FromRequestParts<S> for ThisSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = path_parameter(parts, state, "session").await;
        let text = text.ok_or(ApiError::MalformedId)?;
        if text == "current" {
            return Ok(Self(SessionRef::Current));
        }
        let id = hyphenated(&text).ok_or(ApiError::MalformedId)?;
        Ok(Self(SessionRef::Id(SessionId(id))))
    }
}

/// A parameter of the path, decoded.
pub(super) async fn path_parameter<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Option<String> {
    let parameters = RawPathParams::from_request_parts(parts, state).await.ok()?;
    let (_, text) = parameters.iter().find(|(given, _)| *given == name)?;
    Some(text.to_owned())
}

/// Only the form with hyphens: one user, one URL.
pub(super) fn hyphenated(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok())?
}

/// The tenant of a path: the `{tenant}` in it, an id or a slug, or the default one where the path
/// has none.
pub(super) struct InTenant {
    /// Which.
    pub(super) id: TenantId,
    /// The part of it that whoever asks reaches.
    pub(super) within: Within,
    base: String,
}

impl InTenant {
    /// The path of something of the tenant, under the prefix that the request had.
    pub(super) fn path(&self, below: &str) -> String {
        format!("{}{below}", self.base)
    }
}

impl FromRequestParts<Arc<Portal>> for InTenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, ApiError> {
        let By(actor) = By::from_request_parts(parts, portal).await?;
        let (id, base) = match path_parameter(parts, portal, "tenant").await {
            None => (DEFAULT_TENANT, String::new()),
            Some(text) => (
                tenants::resolve(portal, &tenant_ref(&text)?).await?,
                format!("/tenants/{text}"),
            ),
        };
        // Another tenant is nobody's business, not even whether there is one.
        let within = actor.reach().within(id).ok_or(Error::TenantNotFound)?;
        Ok(Self { id, within, base })
    }
}

pub(super) fn tenant_ref(text: &str) -> Result<TenantRef, ApiError> {
    if let Some(id) = hyphenated(text) {
        return Ok(TenantRef::Id(TenantId(id)));
    }
    // What can be no slug is the name of no tenant.
    let slug = text.parse().map_err(|_| Error::TenantNotFound)?;
    Ok(TenantRef::Slug(slug))
}

/// A body that must be a JSON object.
pub(super) struct Body(pub(super) Fields);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        if is_json != Some(true) {
            return Err(ApiError::UnsupportedMediaType);
        }
        object(&read(request, state).await?).map(Self)
    }
}

/// A large body that must be a JSON object, as it came.
#[derive(Clone)]
pub(super) struct LargeBody(Bytes);

impl<S: Send + Sync> FromRequest<S> for LargeBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if is_json(request.headers()) != Some(true) {
            return Err(ApiError::UnsupportedMediaType);
        }
        read(request, state).await.map(Self)
    }
}

impl LargeBody {
    /// Its fields.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(super) fn fields(&self) -> Result<Fields, ApiError> {
        object(&self.0)
    }
}

/// A body that may be missing, and otherwise is a JSON object.
pub(super) struct OptionalBody(pub(super) Fields);

impl<S: Send + Sync> FromRequest<S> for OptionalBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            Ok(Self(Fields::default()))
        } else if is_json == Some(true) {
            object(&bytes).map(Self)
        } else {
            Err(ApiError::UnsupportedMediaType)
        }
    }
}

/// The changes of a PATCH: a JSON Merge Patch (RFC 7396), which must be an object here.
pub(super) struct PatchBody(pub(super) Fields);

impl<S: Send + Sync> FromRequest<S> for PatchBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let essence = essence(request.headers());
        if !essence.is_some_and(|essence| [MERGE_PATCH, JSON].contains(&essence.as_str())) {
            return Err(ApiError::UnsupportedPatch);
        }
        object(&read(request, state).await?).map(Self)
    }
}

/// The announced media type of the body without its parameters.
fn essence(headers: &HeaderMap) -> Option<String> {
    let announced = headers.get(CONTENT_TYPE)?;
    let essence = announced.to_str().unwrap_or_default().split(';').next();
    Some(essence.unwrap_or_default().trim().to_ascii_lowercase())
}

/// Whether the body is announced as JSON; `None` when it is not announced.
fn is_json(headers: &HeaderMap) -> Option<bool> {
    let essence = essence(headers)?;
    let suffixed = essence.starts_with("application/") && essence.ends_with("+json");
    Some(essence == JSON || suffixed)
}

/// The whole body. It has its own deadline, because an apply, which lasts as long as it lasts, has
/// no other: a caller that never ends its body would keep the connection for ever.
pub(super) async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    read_within(Duration::from_secs(REQUEST_SECONDS), request, state).await
}

async fn read_within<S: Send + Sync>(
    limit: Duration,
    request: Request,
    state: &S,
) -> Result<Bytes, ApiError> {
    tokio::time::timeout(limit, Bytes::from_request(request, state))
        .await
        .map_err(|_| ApiError::RequestTimeout)?
        .map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return ApiError::BodyTooLarge;
            }
            match Refused::of(&rejection) {
                Some(Refused::NoRoom) => Error::Overloaded("too many bodies are being read").into(),
                Some(Refused::TooLarge) => Error::from(Denied::UnknownBodyTooLarge).into(),
                None => ApiError::BodyIncomplete,
            }
        })
}

fn object(bytes: &[u8]) -> Result<Fields, ApiError> {
    match parse_json(bytes) {
        Ok(Value::Object(object)) => Ok(Fields::new(object)),
        Ok(_) => Err(ApiError::NotAnObject),
        Err(error) => Err(ApiError::MalformedJson(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body as HttpBody;

    use super::*;

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let endless = tokio_stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::new(HttpBody::from_stream(endless));
        let refused = read_within(Duration::from_millis(1), request, &()).await;
        assert!(
            matches!(refused, Err(ApiError::RequestTimeout)),
            "{refused:?}"
        );
    }
}
