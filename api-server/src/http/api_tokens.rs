//! `/api-tokens`.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::accounts::own;
use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{Body, By, Id};
use super::fields::{FieldError, Fields};
use super::instant::instant;
use super::once::{Answer, Once};
use super::openapi::{
    BodyProblems, ByHeader, IdProblems, MatchHeader, MatchProblems, NoneMatchHeader, NotModified,
    OnceHeader, OnceProblems, QueryProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed};
use super::texts::{self, LabelText};
use crate::clock::os_rng;
use crate::domain::Invalid;
use crate::domain::api_token::{ApiToken, ApiTokenId, NewApiToken, Scopes};
use crate::services::api_tokens::ApiTokenSort;
use crate::services::{Portal, accounts, api_tokens, work};

/// What an API token is created from. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `new_token` reads the fields"
)]
struct NewApiTokenBody {
    /// What people call it, unique among your tokens.
    name: LabelText,
    #[schema(schema_with = texts::scopes)]
    scopes: Vec<String>,
    /// Until when it counts: at most 366 days from now.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// An API token.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ApiTokenBody {
    pub id: Uuid,
    #[schema(example = "Provisioning")]
    pub name: String,
    #[schema(value_type = Vec<String>, example = json!(["users.read", "users.write"]))]
    pub scopes: Vec<Cow<'static, str>>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// To a minute. Null: it was never used.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// From where it was used last.
    #[schema(example = "192.0.2.7")]
    pub last_used_address: Option<String>,
}

impl From<ApiToken> for ApiTokenBody {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id.0,
            name: token.name.as_str().to_owned(),
            scopes: token.scopes.names().map(Cow::from).collect(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            last_used_address: token.last_used_address,
        }
    }
}

/// An API token with what is presented.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CreatedTokenBody {
    #[serde(flatten)]
    pub about: ApiTokenBody,
    /// What requests send as `Authorization: Bearer …`. Shown this once.
    #[schema(example = "pbxt_Yn2u0yJ3n8w1b5kqv4T7mZc6xR9sD2fGhJkLpQaWeErTyUi")]
    pub token: String,
}

/// Create an API token
///
/// For a program that does something in your name. Only by a session: a token makes no tokens.
#[utoipa::path(
    post, path = "/api-tokens", tag = "api-tokens", operation_id = "create_api_token",
    params(ByHeader, OnceHeader),
    request_body = NewApiTokenBody,
    responses(
        (status = 201, description = "Created", body = CreatedTokenBody,
            headers(
                ("Location" = String, description = "The path of the token"),
                ("ETag" = String, description = "Its state"),
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`account_not_found`: nobody has signed in",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`api_token_name_taken`, `too_many_api_tokens`, \
            `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        OnceProblems,
    )
)]
pub(super) async fn create(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    once: Once,
    Body(fields): Body,
) -> Result<Response, ApiError> {
    let new = new_token(fields).map_err(ApiError::InvalidFields)?;
    let account = own(&actor)?;
    once.run(&portal, &actor, async |work| {
        let account = accounts::own_locked(work, account).await?;
        let (made, token) = api_tokens::create(work, &account, new, &mut os_rng()).await?;
        let location = format!("/api-tokens/{}", made.id);
        let tag = Tag::version(made.version);
        let body = CreatedTokenBody {
            about: made.into(),
            token: token.expose().to_owned(),
        };
        Answer::created(location, &tag, &body)
    })
    .await
}

fn new_token(mut fields: Fields) -> Result<NewApiToken, Vec<FieldError>> {
    let name = fields.required_text("name");
    let scopes = fields.required("scopes", scopes);
    let expires_at = fields.required("expires_at", end);
    let new = (|| {
        Some(NewApiToken {
            name: name?,
            scopes: scopes?,
            expires_at: expires_at?,
        })
    })();
    fields.finish(new)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn scopes(value: Value) -> Result<Scopes, Invalid> {
    let wrong_type = Invalid {
        code: "wrong_type",
        message: "must be a list of permissions",
    };
    let names = value.as_array().ok_or(wrong_type)?;
    let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
    Scopes::from_names(names.ok_or(wrong_type)?)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn end(value: Value) -> Result<OffsetDateTime, Invalid> {
    let text = value.as_str().ok_or(Invalid {
        code: "wrong_type",
        message: "must be a string",
    })?;
    instant(text).ok_or(Invalid {
        code: "malformed",
        message: "must be a time such as 2030-12-31T23:59:59Z",
    })
}

/// What API tokens are listed by.
pub(super) struct ApiTokens;

impl Listed for ApiTokens {
    type Sort = ApiTokenSort;
    const FILTERS: &'static [Filter] = &[];
}

/// List your API tokens
///
/// Those that were not revoked, also when their time is over.
#[utoipa::path(
    get, path = "/api-tokens", tag = "api-tokens", operation_id = "list_api_tokens",
    params(ListParams<ApiTokens>),
    responses(
        (status = 200, description = "The tokens", body = [ApiTokenBody],
            headers(("Link" = Option<String>, description = "`rel=\"next\"`: the next page"))),
        (status = 404, description = "`account_not_found`: nobody has signed in",
            body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<ApiTokens>()?;
    let tokens = api_tokens::list(&portal, own(&actor)?, &wanted.page).await?;
    Ok(wanted.answer(tokens.map(ApiTokenBody::from)))
}

/// Show an API token
#[utoipa::path(
    get, path = "/api-tokens/{id}", tag = "api-tokens", operation_id = "get_api_token",
    params(("id" = Uuid, Path, description = "The token"), NoneMatchHeader),
    responses(
        (status = 200, description = "The token", body = ApiTokenBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`api_token_not_found`, `account_not_found`: nobody has signed in",
            body = Problem, content_type = "application/problem+json"),
        NotModified,
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    Id(id): Id,
) -> Result<Tagged<ApiTokenBody>, ApiError> {
    let token = api_tokens::get(&portal, own(&actor)?, ApiTokenId(id)).await?;
    Ok(Tagged(Tag::version(token.version), token.into()))
}

/// Revoke an API token
///
/// It is refused from the next request on.
#[utoipa::path(
    delete, path = "/api-tokens/{id}", tag = "api-tokens", operation_id = "revoke_api_token",
    params(("id" = Uuid, Path, description = "The token"), ByHeader, MatchHeader),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "`api_token_not_found`: unknown, or revoked before; \
            `account_not_found`: nobody has signed in",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        MatchProblems,
    )
)]
pub(super) async fn revoke(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    Id(id): Id,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, ApiError> {
    let account = own(&actor)?;
    work::run(&portal, &actor, async |work| {
        let token = api_tokens::locked(work, account, ApiTokenId(id)).await?;
        expected.check(token.version)?;
        api_tokens::revoke(work, &token).await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
