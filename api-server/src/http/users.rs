//! `/users`.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use utoipa::ToSchema;
use uuid::Uuid;

use super::devices::SipAccountBody;
use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{Body, By, Id, InTenant, PatchBody};
use super::fields::{FieldError, Fields, map, number, text};
use super::once::{Answer, Once};
use super::openapi::{
    BodyProblems, ByHeader, IdProblems, MatchHeader, MatchProblems, NoneMatchHeader, NotModified,
    OnceHeader, OnceProblems, PatchProblems, QueryProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed, Takes};
use super::texts::{DialNumberText, EmailText, NameText};
use crate::clock::os_rng;
use crate::domain::calling::VoicemailPin;
use crate::domain::tenant::ServiceStatus;
use crate::domain::user::{NewUser, UserPatch};
use crate::domain::{Metadata, UserId};
use crate::services::bulkhead::Change;
use crate::services::users::{CreatedUser, UserFilter, UserSort};
use crate::services::{Portal, pins, users, work};

mod body;

pub(super) use body::CallForwardPatchBody;
use body::{CallFields, VoicemailPatchBody};
pub use body::{CallForwardBody, UserBody, VoicemailBody};

/// What a user is created from. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `new_user` reads the fields one by one"
)]
struct NewUserBody {
    /// Shown to whoever is called.
    name: NameText,
    /// Unique among the users of a tenant, whatever its case.
    email: EmailText,
    /// A free number of the tenant's range; the lowest free one when absent.
    #[schema(minimum = 10, maximum = 99_999_999)]
    extension: Option<u32>,
    /// What the user may do in the portal: `user` when absent.
    role: Option<RoleBody>,
    /// Shown to whoever is called outside.
    outbound_caller_id: Option<DialNumberText>,
    /// Voicemail; off when absent.
    #[schema(nullable = false)]
    voicemail: Option<VoicemailPatchBody>,
    /// Do not disturb.
    #[schema(nullable = false)]
    dnd: Option<bool>,
    /// Where calls go that are not taken.
    #[schema(nullable = false)]
    call_forward: Option<CallForwardPatchBody>,
    /// Kept as it is: a JSON object of at most 4096 bytes and 128 values, nested at most 8
    /// levels deep.
    #[schema(value_type = Option<Object>, example = json!({ "department": "sales" }))]
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What is changed of a user: only what is named. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `user_patch` reads the fields one by one"
)]
struct UserPatchBody {
    /// As of a new user.
    #[schema(nullable = false)]
    name: Option<NameText>,
    /// As of a new user.
    #[schema(nullable = false)]
    email: Option<EmailText>,
    /// Another number. The SIP usernames of the user's devices are made of it: the phones must be
    /// set up with the new ones.
    #[schema(nullable = false, minimum = 10, maximum = 99_999_999)]
    extension: Option<u32>,
    /// `suspended` keeps the number and ends the service with the next apply.
    #[schema(nullable = false)]
    status: Option<StatusBody>,
    /// What the user may do in the portal.
    #[schema(nullable = false)]
    role: Option<RoleBody>,
    /// As of a new user; null for none.
    outbound_caller_id: Option<DialNumberText>,
    /// Voicemail.
    #[schema(nullable = false)]
    voicemail: Option<VoicemailPatchBody>,
    /// Do not disturb.
    #[schema(nullable = false)]
    dnd: Option<bool>,
    /// Where calls go that are not taken.
    #[schema(nullable = false)]
    call_forward: Option<CallForwardPatchBody>,
    /// Merged into what is there: null removes a member.
    #[schema(nullable = false, value_type = Option<Object>)]
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What a user may do in the portal.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
pub(super) enum RoleBody {
    User,
    Operator,
    TenantAdmin,
}

/// Whether the phones are in service.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
pub(super) enum StatusBody {
    Active,
    Suspended,
}

/// A user that was just created.
#[derive(serde::Serialize, serde::Deserialize, ToSchema)]
pub struct CreatedUserBody {
    #[serde(flatten)]
    pub user: UserBody,
    pub sip: FirstAccountBody,
}

/// The account of the user's first device.
#[derive(serde::Serialize, serde::Deserialize, ToSchema)]
pub struct FirstAccountBody {
    pub device_id: Uuid,
    #[serde(flatten)]
    pub account: SipAccountBody,
}

impl From<CreatedUser> for CreatedUserBody {
    fn from(created: CreatedUser) -> Self {
        Self {
            sip: FirstAccountBody {
                device_id: created.device.device.id.0,
                account: SipAccountBody::from(&created.device),
            },
            user: created.user.into(),
        }
    }
}

/// Create a user
///
/// The user gets the extension that is wanted or the lowest free one of the tenant, and a first
/// device. Its SIP password is shown in this answer only. A `role` other than `user` needs
/// `accounts.write` as well.
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
        (status = 409, description = "`email_taken`, `extension_taken`, `extension_pool_exhausted`, \
            `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        OnceProblems,
    )
)]
pub(super) async fn create(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    By(actor): By,
    once: Once,
    Body(fields): Body,
) -> Result<Response, ApiError> {
    let new = new_user(fields).map_err(ApiError::InvalidFields)?;
    let new = pins::of_new(new).await?;
    let _permit = portal.bulkhead.enter(tenant.id, Change::Numbers).await?;
    once.run(&portal, &actor, async |work| {
        let created = users::create(work, tenant.id, new, &mut os_rng()).await?;
        let location = tenant.path(&format!("/users/{}", created.user.id));
        let tag = Tag::version(created.user.version);
        Answer::created(location, &tag, &CreatedUserBody::from(created))
    })
    .await
}

fn new_user(mut fields: Fields) -> Result<NewUser<VoicemailPin>, Vec<FieldError>> {
    let name = fields.required_text("name");
    let email = fields.required_text("email");
    let extension = fields.optional("extension", number);
    let role = fields.or_default("role", text);
    let calls = CallFields::read(&mut fields);
    let metadata = fields.or_default("metadata", Metadata::try_from);
    let new = (|| {
        Some(NewUser {
            name: name?,
            email: email?,
            extension: extension?,
            status: ServiceStatus::Active,
            role: role?,
            calls: calls?,
            metadata: metadata?,
        })
    })();
    fields.finish(new)
}

/// What users are listed by.
pub(super) struct Users;

impl Listed for Users {
    type Sort = UserSort;
    const FILTERS: &'static [Filter] = &[
        Filter {
            name: "status",
            takes: Takes::OneOf(|| vec!["active", "suspended"]),
            description: "Only those with this status",
        },
        Filter {
            name: "role",
            takes: Takes::OneOf(|| vec!["user", "operator", "tenant_admin"]),
            description: "Only those with this role",
        },
        Filter {
            name: "extension",
            takes: Takes::Number,
            description: "Only the one with this number",
        },
        Filter {
            name: "email",
            takes: Takes::Text,
            description: "Only the one with this address, whatever its case",
        },
    ];
    const SEARCH: Option<&'static str> =
        Some("name and e-mail address; digits alone are the beginning of the extension");
    // FR-005: whoever asks for nothing in particular gets every user.
    const LIMIT: Option<u16> = None;
}

/// List users
///
/// By extension; all of them unless the query says otherwise.
#[utoipa::path(
    get, path = "/users", tag = "users", operation_id = "list_users",
    params(ListParams<Users>),
    responses(
        (status = 200, description = "The users", body = [UserBody],
            headers(("Link" = Option<String>, description = "`rel=\"next\"`: the next page"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Users>()?;
    let filter = UserFilter {
        status: wanted.text("status").map(str::to_owned),
        role: wanted.text("role").map(str::to_owned),
        // A number that is no extension is nobody's.
        extension: wanted
            .number("extension")
            .map(|n| i32::try_from(n).unwrap_or(-1)),
        email: wanted.text("email").map(str::to_owned),
        search: wanted.search.clone(),
    };
    let users = users::list(&portal, tenant.within, &wanted.page, filter).await?;
    Ok(wanted.answer(users.map(UserBody::from)))
}

/// Show a user
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", operation_id = "get_user",
    params(("id" = Uuid, Path, description = "The user"), NoneMatchHeader),
    responses(
        (status = 200, description = "The user", body = UserBody,
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
) -> Result<Tagged<UserBody>, ApiError> {
    let user = users::get(&portal, tenant.within, UserId(id)).await?;
    Ok(Tagged(Tag::version(user.version), user.into()))
}

/// Change a user
///
/// Changes what the body names and nothing else (JSON Merge Patch, RFC 7396). `"status":
/// "suspended"` keeps the number and ends the service with the next apply.
///
/// `voicemail`, `dnd` and `call_forward` may be changed by the user itself. Every other field needs
/// `users.write`, and `role` `accounts.write` as well.
#[utoipa::path(
    patch, path = "/users/{id}", tag = "users", operation_id = "update_user",
    params(("id" = Uuid, Path, description = "The user"), ByHeader, MatchHeader),
    request_body(content = UserPatchBody, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The user as it is now", body = UserBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`user_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`email_taken`, `extension_taken`, `own_account`",
            body = Problem, content_type = "application/problem+json"),
        PatchProblems,
    )
)]
pub(super) async fn change(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Id(id): Id,
    By(actor): By,
    IfMatch(expected): IfMatch,
    PatchBody(fields): PatchBody,
) -> Result<Response, ApiError> {
    let patch = user_patch(fields).map_err(ApiError::InvalidFields)?;
    let patch = pins::of_patch(patch).await?;
    let numbers = patch.extension.is_some();
    let kind = if numbers {
        Change::Numbers
    } else {
        Change::Other
    };
    let _permit = portal.bulkhead.enter(tenant.id, kind).await?;
    let user = work::run(&portal, &actor, async |work| {
        let id = UserId(id);
        let user = if numbers {
            users::locked_with_numbers(work, tenant.within, id).await?
        } else {
            users::locked(work, tenant.within, id).await?
        };
        expected.check(user.version)?;
        users::change(work, user, patch).await
    })
    .await?;
    Ok(Tagged(Tag::version(user.version), UserBody::from(user)).into_response())
}

pub(super) fn user_patch(mut fields: Fields) -> Result<UserPatch<VoicemailPin>, Vec<FieldError>> {
    fields.read_only(&["id", "tenant_id", "created_at", "updated_at"]);
    let name = fields.patch("name", text);
    let email = fields.patch("email", text);
    let extension = fields.patch("extension", number);
    let status = fields.patch("status", text);
    let role = fields.patch("role", text);
    let calls = CallFields::read(&mut fields);
    let metadata = fields.patch("metadata", map);
    let patch = (|| {
        Some(UserPatch {
            name: name?,
            email: email?,
            extension: extension?,
            status: status?,
            role: role?,
            calls: calls?,
            metadata: metadata?,
        })
    })();
    fields.finish(patch)
}

/// Delete a user
///
/// The extension is free at once, devices and account are gone; the phones keep working until the
/// next apply. What is left stands in `/deleted-users`.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users", operation_id = "delete_user",
    params(("id" = Uuid, Path, description = "The user"), ByHeader, MatchHeader),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "`user_not_found`: unknown, or deleted before",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`own_account`: that of whoever asks",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        MatchProblems,
    )
)]
pub(super) async fn delete(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Id(id): Id,
    By(actor): By,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, ApiError> {
    let _permit = portal.bulkhead.enter(tenant.id, Change::Numbers).await?;
    work::run(&portal, &actor, async |work| {
        let user = users::locked_with_numbers(work, tenant.within, UserId(id)).await?;
        expected.check(user.version)?;
        users::delete(work, &user).await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
