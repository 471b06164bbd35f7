//! `/accounts`.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{Body, By, PatchBody, hyphenated, path_parameter, tenant_ref};
use super::once::{Answer, Once};
use super::openapi::{
    BodyProblems, ByHeader, IdProblems, MatchHeader, MatchProblems, NoneMatchHeader, NotModified,
    OnceHeader, OnceProblems, PatchProblems, QueryProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed, Takes};
use crate::clock::os_rng;
use crate::domain::account::{NewAccount, Seat};
use crate::domain::{AccountId, Actor, Role, TenantId};
use crate::services::accounts::{self, AccountFilter, AccountSort, Refused};
use crate::services::{Error, Portal, tenants, work};

mod body;

pub use body::AccountBody;
use body::{AccountPatchBody, NewAccountBody, TenantName, Wanted, Whose};

/// The `{account}` of a path: an id, or `me` for that of whoever asks.
pub(super) struct OfAccount(pub(super) AccountId);

impl FromRequestParts<Arc<Portal>> for OfAccount {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, ApiError> {
        let By(actor) = By::from_request_parts(parts, portal).await?;
        let text = path_parameter(parts, portal, "account").await;
        match text.as_deref() {
            Some("me") => own(&actor).map(Self),
            Some(text) => {
                let id = hyphenated(text).ok_or(ApiError::MalformedId)?;
                Ok(Self(AccountId(id)))
            }
            None => Err(ApiError::MalformedId),
        }
    }
}

/// The account of whoever asks; in trusted-network mode nobody has one.
pub(super) fn own(actor: &Actor) -> Result<AccountId, ApiError> {
    let known = actor.account().map(|known| known.account);
    known.ok_or_else(|| Error::from(Refused::NotFound).into())
}

/// Create an account
///
/// It has no password yet: `POST /accounts/{account}/reset` makes a token that sets one, once.
#[utoipa::path(
    post, path = "/accounts", tag = "accounts", operation_id = "create_account",
    params(ByHeader, OnceHeader),
    request_body = NewAccountBody,
    responses(
        (status = 201, description = "Created", body = AccountBody,
            headers(
                ("Location" = String, description = "The path of the account"),
                ("ETag" = String, description = "Its state"),
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 403, description = "`role_above_own`",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`tenant_not_found`, `user_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`login_taken`, `user_has_account`, `idempotency_key_in_use`",
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
    let wanted = body::wanted(fields).map_err(ApiError::InvalidFields)?;
    let new = new_account(&portal, &actor, wanted).await?;
    once.run(&portal, &actor, async |work| {
        let account = accounts::create(work, new, &mut os_rng()).await?;
        let location = format!("/accounts/{}", account.id);
        let tag = Tag::version(account.version);
        Answer::created(location, &tag, &AccountBody::from(account))
    })
    .await
}

/// What is meant; somebody who is confined to a tenant means that one unless told otherwise.
async fn new_account(
    portal: &Portal,
    actor: &Actor,
    wanted: Wanted,
) -> Result<NewAccount, ApiError> {
    let named = named(portal, wanted.tenant).await?;
    let own = actor.reach().tenant();
    let seat = match wanted.whose {
        Whose::User(user) => {
            let tenant = named.or(own).ok_or(Seat::without_tenant());
            tenant.map(|tenant| Seat::User(tenant, user))
        }
        Whose::Staff(Role::PlatformAdmin) => Seat::new(Role::PlatformAdmin, named),
        Whose::Staff(role) => Seat::new(role, named.or(own)),
    };
    Ok(NewAccount {
        login: wanted.login,
        name: wanted.name,
        seat: seat.map_err(accounts::of_seat)?,
    })
}

async fn named(portal: &Portal, name: Option<TenantName>) -> Result<Option<TenantId>, ApiError> {
    match name {
        Some(TenantName(name)) => Ok(Some(tenants::resolve(portal, &tenant_ref(&name)?).await?)),
        None => Ok(None),
    }
}

/// What accounts are listed by.
pub(super) struct Accounts;

impl Listed for Accounts {
    type Sort = AccountSort;
    const FILTERS: &'static [Filter] = &[
        Filter {
            name: "tenant_id",
            takes: Takes::Id,
            description: "Only those of this tenant",
        },
        Filter {
            name: "role",
            takes: Takes::OneOf(|| Role::ALL.map(Role::name).to_vec()),
            description: "Only those with this role",
        },
        Filter {
            name: "status",
            takes: Takes::OneOf(|| vec!["active", "suspended"]),
            description: "Only those with this status",
        },
    ];
    const SEARCH: Option<&'static str> = Some("login and name");
}

/// List accounts
///
/// Those within reach: all, or those of one's own tenant.
#[utoipa::path(
    get, path = "/accounts", tag = "accounts", operation_id = "list_accounts",
    params(ListParams<Accounts>),
    responses(
        (status = 200, description = "The accounts", body = [AccountBody],
            headers(("Link" = Option<String>, description = "`rel=\"next\"`: the next page"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Accounts>()?;
    let filter = AccountFilter {
        tenant: wanted.id("tenant_id").map(TenantId),
        role: wanted.text("role").map(str::to_owned),
        status: wanted.text("status").map(str::to_owned),
        search: wanted.search.clone(),
    };
    let accounts = accounts::list(&portal, &actor, &wanted.page, filter).await?;
    Ok(wanted.answer(accounts.map(AccountBody::from)))
}

/// Show an account
///
/// One's own by session; those of others with the permission.
#[utoipa::path(
    get, path = "/accounts/{account}", tag = "accounts", operation_id = "get_account",
    params(("account" = String, Path, description = "Id, or `me`"), NoneMatchHeader),
    responses(
        (status = 200, description = "The account", body = AccountBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`account_not_found`",
            body = Problem, content_type = "application/problem+json"),
        NotModified,
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
) -> Result<Tagged<AccountBody>, ApiError> {
    let account = accounts::get(&portal, &actor, id).await?;
    Ok(Tagged(Tag::version(account.version), account.into()))
}

/// Change an account
///
/// Changes what the body names and nothing else (JSON Merge Patch, RFC 7396). Of one's own the name;
/// more with the permission. Nobody suspends, demotes or moves itself, gives a role above its own, or
/// takes the platform its last active administrator.
#[utoipa::path(
    patch, path = "/accounts/{account}", tag = "accounts", operation_id = "update_account",
    params(("account" = String, Path, description = "Id, or `me`"), ByHeader, MatchHeader),
    request_body(content = AccountPatchBody, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The account as it is now", body = AccountBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 403, description = "`role_above_own`",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`account_not_found`, `tenant_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`login_taken`, `own_account`, `last_platform_admin`",
            body = Problem, content_type = "application/problem+json"),
        PatchProblems,
    )
)]
pub(super) async fn change(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    IfMatch(expected): IfMatch,
    PatchBody(fields): PatchBody,
) -> Result<Response, ApiError> {
    let (mut patch, tenant) = body::changes(fields).map_err(ApiError::InvalidFields)?;
    patch.tenant = named(&portal, tenant).await?;
    let account = work::run(&portal, &actor, async |work| {
        let locked = accounts::locked(work, id).await?;
        expected.check(locked.version)?;
        accounts::change(work, locked, patch).await
    })
    .await?;
    Ok(Tagged(Tag::version(account.version), AccountBody::from(account)).into_response())
}

/// Delete an account
///
/// Its sessions and API tokens end at once. The audit trail keeps what it did.
#[utoipa::path(
    delete, path = "/accounts/{account}", tag = "accounts", operation_id = "delete_account",
    params(("account" = String, Path, description = "Id, or `me`"), ByHeader, MatchHeader),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "`account_not_found`: unknown, or deleted before",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`own_account`, `last_platform_admin`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        MatchProblems,
    )
)]
pub(super) async fn delete(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, ApiError> {
    work::run(&portal, &actor, async |work| {
        let locked = accounts::locked(work, id).await?;
        expected.check(locked.version)?;
        accounts::delete(work, &locked).await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End the lock-out of an account
///
/// It can be signed in to again at once, from everywhere, after too many failures.
#[utoipa::path(
    post, path = "/accounts/{account}/unlock", tag = "accounts", operation_id = "unlock_account",
    params(("account" = String, Path, description = "Id, or `me`"), ByHeader, OnceHeader),
    responses(
        (status = 200, description = "The account", body = AccountBody,
            headers(
                ("ETag" = String, description = "Its state"),
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`account_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        OnceProblems,
    )
)]
pub(super) async fn unlock(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    once: Once,
) -> Result<Response, ApiError> {
    once.run(&portal, &actor, async |work| {
        let account = accounts::unlock(work, id).await?;
        Answer::done(&Tag::version(account.version), &AccountBody::from(account))
    })
    .await
}
