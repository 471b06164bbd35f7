//! `/sessions`: signing in and out.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::cookie::{self, Brought};
use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{Body, By, ThisSession};
use super::fields::{FieldError, Fields, text};
use super::openapi::{
    BodyProblems, ByHeader, CsrfHeader, IdProblems, MatchHeader, MatchProblems, NoneMatchHeader,
    NotModified, QueryProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed};
use super::texts::{CodeText, RefreshTokenText, TypedLoginText};
use crate::clock::os_rng;
use crate::domain::Actor;
use crate::domain::session::{
    CookieSecret, CsrfToken, RefreshToken, Session, SessionKind, UserAgent,
};
use crate::services::sessions::{self, Opened, Secrets, SessionSort};
use crate::services::sign_in::{self, SignIn};
use crate::services::{Portal, work};

/// Who signs in, and how. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it; `wanted` reads the fields")]
struct SignInBody {
    /// Whose account it is; capitals do not matter.
    login: TypedLoginText,
    #[schema(
        format = Password,
        example = "correct horse battery staple",
        min_length = 1,
        max_length = 128
    )]
    password: String,
    /// Needed where a second factor is set.
    code: Option<CodeText>,
    /// `bearer`, which is meant when it is absent: tokens, for programs. `cookie`: for browsers.
    kind: Option<KindBody>,
}

/// What continues a session.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
enum KindBody {
    Bearer,
    Cookie,
}

/// How a session goes on. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it; `refresh` reads the field")]
struct RefreshBody {
    /// The one that came last. It is used up by this.
    refresh_token: RefreshTokenText,
}

/// A session: somebody who has signed in.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct SessionBody {
    pub id: Uuid,
    pub account_id: Uuid,
    /// `bearer` or `cookie`.
    #[schema(value_type = String, example = "bearer")]
    pub kind: Cow<'static, str>,
    /// Whether it is the one that this request came by.
    pub current: bool,
    /// Whether a second factor was shown.
    pub second_factor: bool,
    /// Where it was opened from.
    #[schema(example = "192.0.2.7")]
    pub source_address: String,
    /// What it was opened with, as that says itself.
    #[schema(example = "curl/8.5.0")]
    pub user_agent: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// To a minute.
    #[serde(with = "time::serde::rfc3339")]
    pub last_used_at: OffsetDateTime,
    /// When it ends unless it is used before.
    #[serde(with = "time::serde::rfc3339")]
    pub idle_until: OffsetDateTime,
    /// When it ends however much it is used.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// Of the current session of a browser: what changes must send as `X-CSRF-Token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub csrf_token: Option<String>,
}

impl SessionBody {
    fn of(session: Session, current: bool, csrf: Option<&CsrfToken>) -> Self {
        Self {
            id: session.id.0,
            account_id: session.account.0,
            kind: session.kind.name().into(),
            current,
            second_factor: session.second_factor,
            source_address: session.source_address,
            user_agent: session.user_agent.as_str().to_owned(),
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            idle_until: session.idle_until,
            expires_at: session.expires_at,
            csrf_token: csrf.map(|token| token.expose().to_owned()),
        }
    }

    fn seen_by(actor: &Actor, session: Session, csrf: Option<&CsrfToken>) -> Self {
        let current = sessions::is_current(actor, &session);
        Self::of(session, current, csrf.filter(|_| current))
    }
}

/// A session with what continues it: shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct OpenedBody {
    #[serde(flatten)]
    pub session: SessionBody,
    /// What requests send as `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub access_token: Option<String>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>)]
    pub token_type: Option<Cow<'static, str>>,
    /// For how long the access token is good, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, example = 600)]
    pub expires_in: Option<i64>,
    /// What `POST /sessions/refresh` takes, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub refresh_token: Option<String>,
    /// Until when.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    pub refresh_until: Option<OffsetDateTime>,
}

impl OpenedBody {
    /// The body, and the cookie beside it.
    fn of(opened: Opened) -> (Self, Option<CookieSecret>) {
        let Opened { session, secrets } = opened;
        match secrets {
            Secrets::Bearer {
                access,
                refresh,
                refresh_until,
            } => {
                let body = Self {
                    session: SessionBody::of(session, true, None),
                    access_token: Some(access.expose().to_owned()),
                    token_type: Some("Bearer".into()),
                    expires_in: Some(access.lasts.whole_seconds()),
                    refresh_token: Some(refresh.expose().to_owned()),
                    refresh_until: Some(refresh_until),
                };
                (body, None)
            }
            Secrets::Cookie(cookie) => {
                let body = Self {
                    session: SessionBody::of(session, true, Some(&cookie.csrf_token())),
                    access_token: None,
                    token_type: None,
                    expires_in: None,
                    refresh_token: None,
                    refresh_until: None,
                };
                (body, Some(cookie))
            }
        }
    }
}

/// Sign in
///
/// With `kind` `bearer` the answer holds an access token, which is good for ten minutes, and a refresh
/// token, which `POST /sessions/refresh` exchanges for the next of both. With `kind` `cookie` it sets
/// a cookie and holds the token that changes must send as `X-CSRF-Token`. A session ends after 30
/// days without use and 90 days in all; of a browser, after 12 hours and 7 days.
///
/// After five failures a login is locked for 30 seconds, with each further one for twice as long, for
/// a quarter of an hour at most. An address from which the account was signed in to before is counted
/// by itself, so that nobody is locked out by strangers. There is no `Idempotency-Key`, because the
/// answer is kept nowhere.
#[utoipa::path(
    post, path = "/sessions", tag = "sessions", operation_id = "sign_in",
    params(ByHeader),
    request_body = SignInBody,
    responses(
        (status = 201, description = "Signed in", body = OpenedBody,
            headers(
                ("Location" = String, description = "The path of the session"),
                ("ETag" = String, description = "Its state"),
                ("Set-Cookie" = Option<String>, description = "`__Host-session`, of a browser"),
            )),
        (status = 401, description = "`wrong_credentials`, `second_factor_required`, `wrong_code`",
            body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`account_suspended`, `cross_site`",
            body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`sign_in_locked`, `too_many_attempts`, with `Retry-After`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn create(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    Brought(brought): Brought,
    headers: HeaderMap,
    Body(fields): Body,
) -> Result<Response, ApiError> {
    let user_agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    let user_agent = UserAgent::of(user_agent.unwrap_or_default());
    let wanted = wanted(fields, user_agent, brought).map_err(ApiError::InvalidFields)?;
    let opened = sign_in::sign_in(&portal, &actor, wanted, &mut os_rng()).await?;
    let mut headers = HeaderMap::new();
    let location = format!("/sessions/{}", opened.session.id);
    headers.extend(HeaderValue::try_from(location).map(|value| (LOCATION, value)));
    answer(StatusCode::CREATED, headers, opened)
}

fn wanted(
    mut fields: Fields,
    user_agent: UserAgent,
    brought: Option<CookieSecret>,
) -> Result<SignIn, Vec<FieldError>> {
    let login = fields.required_text("login");
    let password = fields.required_text("password");
    let code = fields.optional("code", text);
    let kind = fields.optional("kind", text);
    let wanted = (|| {
        Some(SignIn {
            login: login?,
            password: password?,
            code: code?,
            kind: kind?.unwrap_or(SessionKind::Bearer),
            user_agent,
            brought,
        })
    })();
    fields.finish(wanted)
}

/// A session with what continues it. It is kept nowhere, unlike the answers of other requests.
fn answer(
    status: StatusCode,
    mut headers: HeaderMap,
    opened: Opened,
) -> Result<Response, ApiError> {
    let tag = Tag::version(opened.session.version);
    let (body, cookie) = OpenedBody::of(opened);
    let body = serde_json::to_vec(&body).map_err(|_| ApiError::Panicked)?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.extend(HeaderValue::try_from(tag.as_str()).map(|value| (ETAG, value)));
    if let Some(cookie) = cookie {
        let cookie = cookie::set(Some(&cookie)).ok_or(ApiError::Panicked)?;
        headers.insert(SET_COOKIE, cookie);
    }
    Ok((status, headers, body).into_response())
}

/// Go on with a session
///
/// Exchanges a refresh token for an access token and the next refresh token. Each is taken once: one
/// that comes a second time was stolen, or its successor was, and ends the session. There is no
/// `Idempotency-Key`, because the answer is kept nowhere: whoever loses it signs in again.
#[utoipa::path(
    post, path = "/sessions/refresh", tag = "sessions", operation_id = "refresh_session",
    params(ByHeader),
    request_body = RefreshBody,
    responses(
        (status = 200, description = "The session, with what continues it", body = OpenedBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 401, description = "`refresh_refused`, `refresh_reused`",
            body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`cross_site`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn refresh(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    Body(mut fields): Body,
) -> Result<Response, ApiError> {
    let token = fields.required_text::<RefreshToken>("refresh_token");
    let token = fields.finish(token).map_err(ApiError::InvalidFields)?;
    let opened = sessions::refresh(&portal, &actor, &token, &mut os_rng()).await?;
    answer(StatusCode::OK, HeaderMap::new(), opened)
}

/// What sessions are listed by.
pub(super) struct Sessions;

impl Listed for Sessions {
    type Sort = SessionSort;
    const FILTERS: &'static [Filter] = &[];
}

/// List your sessions
///
/// Those that have not ended, wherever they were opened.
#[utoipa::path(
    get, path = "/sessions", tag = "sessions", operation_id = "list_sessions",
    params(ListParams<Sessions>),
    responses(
        (status = 200, description = "The sessions", body = [SessionBody],
            headers(("Link" = Option<String>, description = "`rel=\"next\"`: the next page"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    csrf: Option<Extension<CsrfToken>>,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Sessions>()?;
    let listed = sessions::list(&portal, &actor, &wanted.page).await?;
    let csrf = csrf.map(|Extension(token)| token);
    let body = |session| SessionBody::seen_by(&actor, session, csrf.as_ref());
    Ok(wanted.answer(listed.map(body)))
}

/// Show one of your sessions
#[utoipa::path(
    get, path = "/sessions/{session}", tag = "sessions", operation_id = "get_session",
    params(
        ("session" = String, Path, description = "Its id, or `current`"),
        NoneMatchHeader,
    ),
    responses(
        (status = 200, description = "The session", body = SessionBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`session_not_found`",
            body = Problem, content_type = "application/problem+json"),
        NotModified,
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    ThisSession(session): ThisSession,
    By(actor): By,
    csrf: Option<Extension<CsrfToken>>,
) -> Result<Tagged<SessionBody>, ApiError> {
    let session = sessions::get(&portal, &actor, session).await?;
    let (tag, csrf) = (Tag::version(session.version), csrf.map(|csrf| csrf.0));
    Ok(Tagged(
        tag,
        SessionBody::seen_by(&actor, session, csrf.as_ref()),
    ))
}

/// End one of your sessions
///
/// `current` signs out. What continued the session is refused from then on.
#[utoipa::path(
    delete, path = "/sessions/{session}", tag = "sessions", operation_id = "end_session",
    params(
        ("session" = String, Path, description = "Its id, or `current`"),
        ByHeader,
        MatchHeader,
        CsrfHeader,
    ),
    responses(
        (status = 204, description = "Ended",
            headers(("Set-Cookie" = Option<String>,
                description = "Removes the cookie of the current session"))),
        (status = 404, description = "`session_not_found`: unknown, or ended before",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        MatchProblems,
    )
)]
pub(super) async fn delete(
    State(portal): State<Arc<Portal>>,
    ThisSession(session): ThisSession,
    By(actor): By,
    IfMatch(expected): IfMatch,
) -> Result<Response, ApiError> {
    let ended = work::run(&portal, &actor, async |work| {
        let locked = sessions::locked(work, session).await?;
        expected.check(locked.version)?;
        sessions::end(work, &locked).await?;
        Ok::<_, crate::services::Error>(locked)
    })
    .await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if ended.kind == SessionKind::Cookie && sessions::is_current(&actor, &ended) {
        let gone = cookie::set(None).ok_or(ApiError::Panicked)?;
        response.headers_mut().insert(SET_COOKIE, gone);
    }
    Ok(response)
}
