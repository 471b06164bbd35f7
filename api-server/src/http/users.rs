//! `/users`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{Body, By, Id};
use super::fields::{FieldError, Fields};
use super::once::{Answer, Once};
use super::openapi::{
    BodyProblems, ByHeader, IdProblems, MatchHeader, MatchProblems, NoneMatchHeader, NotModified,
    OnceHeader, OnceProblems, QueryProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed};
use crate::clock::os_rng;
use crate::domain::user::{NewUser, User, UserSort};
use crate::domain::{Metadata, UserId, Version};
use crate::services::users::CreatedUser;
use crate::services::{Portal, users, work};

/// What a user is created from. Fields of other names are refused.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document shows it; `new_user` reads the fields one by one"
)]
struct NewUserBody {
    /// Shown to whoever is called: 1 to 100 characters, at most 200 bytes, one line.
    #[schema(example = "Ann Example", min_length = 1, max_length = 100)]
    name: String,
    /// Unique among the users of a tenant, whatever its case.
    #[schema(example = "ann@example.com", max_length = 254)]
    email: String,
    /// Kept as it is: a JSON object of at most 4096 bytes, nested at most 8 levels deep.
    #[schema(value_type = Option<Object>, example = json!({ "department": "sales" }))]
    metadata: Option<Map<String, Value>>,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserBody {
    id: Uuid,
    #[schema(example = "Ann Example")]
    name: String,
    #[schema(example = "ann@example.com")]
    email: String,
    /// The number, which is also the SIP username.
    #[schema(example = 1000)]
    extension: u32,
    #[schema(value_type = Object, example = json!({ "department": "sales" }))]
    metadata: Map<String, Value>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// What a phone registers with. It works once the user is applied.
#[derive(Serialize, ToSchema)]
struct SipAccountBody {
    #[schema(example = "1000")]
    username: String,
    /// Shown this once.
    password: String,
    #[schema(example = "synergycall")]
    realm: String,
}

/// A user that was just created.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedUserBody {
    #[serde(flatten)]
    user: UserBody,
    sip: SipAccountBody,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        Self {
            id: user.id.0,
            name: user.name.as_str().to_owned(),
            email: user.email.as_str().to_owned(),
            extension: user.extension.get(),
            metadata: user.metadata.as_object().clone(),
            created_at: user.created_at,
        }
    }
}

impl From<CreatedUser> for CreatedUserBody {
    fn from(created: CreatedUser) -> Self {
        Self {
            user: created.user.into(),
            sip: SipAccountBody {
                username: created.sip_username,
                password: created.sip_password.expose().to_owned(),
                realm: created.sip_realm.as_str().to_owned(),
            },
        }
    }
}

/// Create a user
///
/// The user gets the lowest free extension of the tenant and a SIP account. The SIP password is
/// shown in this answer only.
#[utoipa::path(
    post, path = "/users", tag = "users", operation_id = "create_user",
    params(ByHeader, OnceHeader),
    request_body = NewUserBody,
    responses(
        (status = 201, description = "Created", body = CreatedUserBody,
            headers(
                ("Location" = String, description = "The path of the user"),
                ("ETag" = String, description = "Its state"),
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 409, description = "`email_taken`, `extension_pool_exhausted`, \
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
    let new = new_user(fields).map_err(ApiError::InvalidFields)?;
    once.run(&portal, &actor, async |work| {
        let created = users::create(work, new, &mut os_rng()).await?;
        let location = format!("/users/{}", created.user.id);
        let body = CreatedUserBody::from(created);
        Answer::created(location, &Tag::version(Version(1)), &body)
    })
    .await
}

fn new_user(mut fields: Fields) -> Result<NewUser, Vec<FieldError>> {
    let name = fields.required_text("name");
    let email = fields.required_text("email");
    let metadata = fields.or_default("metadata", Metadata::try_from);
    let new = name
        .zip(email)
        .zip(metadata)
        .map(|((name, email), metadata)| NewUser {
            name,
            email,
            metadata,
        });
    fields.finish(new)
}

/// List the users
///
/// By extension unless told otherwise; all of them when nothing at all is said.
#[utoipa::path(
    get, path = "/users", tag = "users", operation_id = "list_users",
    params(ListParams<Users>),
    responses(
        (status = 200, description = "The users", body = [UserBody],
            headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Users>()?;
    let users = users::list(&portal, wanted.search.as_deref(), &wanted.page).await?;
    Ok(wanted.answer(users.map(UserBody::from)))
}

/// What `/users` can be asked for.
struct Users;

impl Listed for Users {
    type Sort = UserSort;
    const FILTERS: &'static [Filter] = &[];
    const SEARCH: Option<&'static str> = Some("`name` and `email`");
    const LIMIT: Option<u16> = None;
}

/// Show a user
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", operation_id = "get_user",
    params(("id" = Uuid, Path, description = "The user"), NoneMatchHeader),
    responses(
        (status = 200, description = "The user", body = UserBody,
            headers(("ETag" = String, description = "Its state"))),
        NotModified,
        (status = 404, description = "`user_not_found`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    Id(id): Id,
) -> Result<Tagged<UserBody>, ApiError> {
    let user = users::get(&portal, UserId(id)).await?;
    Ok(Tagged(Tag::version(Version(1)), user.into()))
}

/// Delete a user
///
/// The extension is free at once. The phone keeps working until the next apply.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users", operation_id = "delete_user",
    params(
        ("id" = Uuid, Path, description = "The user"),
        ByHeader, MatchHeader,
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "`user_not_found`: unknown, or deleted before",
            body = Problem, content_type = "application/problem+json"),
        MatchProblems,
        IdProblems,
    )
)]
pub(super) async fn delete(
    State(portal): State<Arc<Portal>>,
    Id(id): Id,
    By(actor): By,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, ApiError> {
    work::run(&portal, &actor, async |work| {
        users::delete(work, UserId(id), &expected).await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
