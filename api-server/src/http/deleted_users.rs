//! `/deleted-users`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{By, Id, InTenant};
use super::openapi::{
    ByHeader, IdProblems, MatchHeader, NoneMatchHeader, NotModified, QueryProblems,
    RequiredMatchProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed};
use crate::domain::UserId;
use crate::domain::user::DeletedUser;
use crate::services::bulkhead::Change;
use crate::services::deleted_users::DeletedUserSort;
use crate::services::{Portal, deleted_users, work};

/// What is left of a deleted user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedUserBody {
    id: Uuid,
    tenant_id: Uuid,
    #[schema(example = "Ann Example")]
    name: String,
    #[schema(example = "ann@example.com")]
    email: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    deleted_at: OffsetDateTime,
    #[schema(example = "trusted-network")]
    deleted_by: String,
}

impl From<DeletedUser> for DeletedUserBody {
    fn from(user: DeletedUser) -> Self {
        Self {
            id: user.id.0,
            tenant_id: user.tenant.0,
            name: user.name.as_str().to_owned(),
            email: user.email.as_str().to_owned(),
            created_at: user.created_at,
            deleted_at: user.deleted_at,
            deleted_by: user.deleted_by,
        }
    }
}

/// What deleted users are listed by.
pub(super) struct DeletedUsers;

impl Listed for DeletedUsers {
    type Sort = DeletedUserSort;
    const FILTERS: &'static [Filter] = &[];
    const SEARCH: Option<&'static str> = Some("name and e-mail address");
}

/// List deleted users
///
/// The last one to be deleted first.
#[utoipa::path(
    get, path = "/deleted-users", tag = "users", operation_id = "list_deleted_users",
    params(ListParams<DeletedUsers>),
    responses(
        (status = 200, description = "The deleted users", body = [DeletedUserBody],
            headers(("Link" = Option<String>, description = "`rel=\"next\"`: the next page"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<DeletedUsers>()?;
    let search = wanted.search.as_deref();
    let users = deleted_users::list(&portal, tenant.within, &wanted.page, search).await?;
    Ok(wanted.answer(users.map(DeletedUserBody::from)))
}

/// Show a deleted user
#[utoipa::path(
    get, path = "/deleted-users/{id}", tag = "users", operation_id = "get_deleted_user",
    params(("id" = Uuid, Path, description = "The user"), NoneMatchHeader),
    responses(
        (status = 200, description = "What is left of the user", body = DeletedUserBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`user_not_found`",
            body = Problem, content_type = "application/problem+json"),
        NotModified,
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Id(id): Id,
) -> Result<Tagged<DeletedUserBody>, ApiError> {
    let user = deleted_users::get(&portal, tenant.within, UserId(id)).await?;
    Ok(Tagged(Tag::version(user.version), user.into()))
}

/// Purge a deleted user
///
/// Removes what is left of it for good; the history of applies keeps its name. `If-Match` is
/// required.
#[utoipa::path(
    delete, path = "/deleted-users/{id}", tag = "users", operation_id = "purge_user",
    params(("id" = Uuid, Path, description = "The user"), ByHeader, MatchHeader),
    responses(
        (status = 204, description = "Purged"),
        (status = 404, description = "`user_not_found`: unknown, not deleted, or purged before",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        RequiredMatchProblems,
    )
)]
pub(super) async fn purge(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Id(id): Id,
    By(actor): By,
    condition: IfMatch,
) -> Result<StatusCode, ApiError> {
    let expected = condition.required()?;
    let _permit = portal.bulkhead.enter(tenant.id, Change::Other).await?;
    work::run(&portal, &actor, async |work| {
        deleted_users::purge(work, tenant.id, UserId(id), &expected).await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
