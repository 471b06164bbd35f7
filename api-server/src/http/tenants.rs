//! `/tenants`.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{AsSeen, Body, By, InTenant, PatchBody};
use super::fields::{FieldError, Fields, map, number, text};
use super::once::{Answer, Once};
use super::openapi::{
    BodyProblems, ByHeader, IdProblems, MatchHeader, NoneMatchHeader, NotModified, OnceHeader,
    OnceProblems, PatchProblems, QueryProblems, RequiredMatchProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed, Takes};
use super::texts::{NameText, PbxRefText, SlugText};
use super::users::StatusBody;
use crate::clock::os_rng;
use crate::domain::pbx::{PbxId, PbxRef};
use crate::domain::tenant::{ExtensionRange, NewTenant, Slug, Tenant, TenantPatch};
use crate::domain::{DisplayName, Metadata};
use crate::services::bulkhead::Change;
use crate::services::tenants::{TenantFilter, TenantSort};
use crate::services::{Portal, pbxes, tenants, work};

/// What a tenant is created from. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `new_tenant` reads the fields"
)]
struct NewTenantBody {
    /// What URLs call it.
    slug: SlugText,
    /// What people call it.
    name: NameText,
    /// The PBX that serves it; the default one when absent.
    pbx: Option<PbxRefText>,
    /// Its lowest extension, 2 to 8 digits. Tenants may use the same numbers.
    #[schema(example = 1000, minimum = 10, maximum = 99_999_999)]
    ext_min: u32,
    /// Its highest, not below the lowest.
    #[schema(example = 1999, minimum = 10, maximum = 99_999_999)]
    ext_max: u32,
    /// Kept as it is: a JSON object of at most 4096 bytes and 128 values, nested at most 8
    /// levels deep.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// What is changed of a tenant: only what is named. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `tenant_patch` reads the fields"
)]
struct TenantPatchBody {
    /// As of a new tenant.
    #[schema(nullable = false)]
    slug: Option<SlugText>,
    /// As of a new tenant.
    #[schema(nullable = false)]
    name: Option<NameText>,
    /// Another PBX: its phones must be told where to register.
    #[schema(nullable = false)]
    pbx: Option<PbxRefText>,
    /// As of a new tenant; no number in use may be left out.
    #[schema(nullable = false, minimum = 10, maximum = 99_999_999)]
    ext_min: Option<u32>,
    /// As of a new tenant; no number in use may be left out.
    #[schema(nullable = false, minimum = 10, maximum = 99_999_999)]
    ext_max: Option<u32>,
    /// `suspended`: its phones are refused after the next apply.
    #[schema(nullable = false)]
    status: Option<StatusBody>,
    /// Merged into what is there: null removes a member.
    #[schema(nullable = false, value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A tenant.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TenantBody {
    pub id: Uuid,
    /// What stands for it in SIP usernames: `t2-1000-a` is of tenant 2. Never given twice.
    #[schema(example = 2)]
    pub number: u32,
    #[schema(example = "acme")]
    pub slug: String,
    #[schema(example = "Acme Ltd.")]
    pub name: String,
    /// Which PBX serves it.
    pub pbx_id: Uuid,
    #[schema(example = 1000)]
    pub ext_min: u32,
    #[schema(example = 1999)]
    pub ext_max: u32,
    /// `active` or `suspended`.
    #[schema(value_type = String, example = "active")]
    pub status: Cow<'static, str>,
    /// Where calls from outside go; null as long as there are no such things.
    #[schema(value_type = Option<Object>)]
    pub default_inbound_destination: Option<Value>,
    /// Who may call outside; null as long as there are no such things.
    pub outbound_policy_id: Option<Uuid>,
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

impl From<Tenant> for TenantBody {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.0,
            number: tenant.number.get(),
            slug: tenant.slug.as_str().to_owned(),
            name: tenant.name.as_str().to_owned(),
            pbx_id: tenant.pbx.0,
            ext_min: tenant.extensions.min.get(),
            ext_max: tenant.extensions.max.get(),
            status: tenant.status.name().into(),
            default_inbound_destination: None,
            outbound_policy_id: None,
            metadata: tenant.metadata.as_object().clone(),
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

/// Create a tenant
#[utoipa::path(
    post, path = "/tenants", tag = "tenants", operation_id = "create_tenant",
    params(ByHeader, OnceHeader),
    request_body = NewTenantBody,
    responses(
        (status = 201, description = "Created", body = TenantBody,
            headers(
                ("Location" = String, description = "The path of the tenant"),
                ("ETag" = String, description = "Its state"),
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`slug_taken`, `idempotency_key_in_use`",
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
    let wanted = new_tenant(fields).map_err(ApiError::InvalidFields)?;
    let pbx = pbxes::named_or_default(&portal, wanted.pbx.as_ref()).await?;
    let new = NewTenant {
        slug: wanted.slug,
        name: wanted.name,
        pbx: pbx.id,
        extensions: wanted.extensions,
        metadata: wanted.metadata,
    };
    once.run(&portal, &actor, async |work| {
        let tenant = tenants::create(work, new, &mut os_rng()).await?;
        let location = format!("/tenants/{}", tenant.id);
        let tag = Tag::version(tenant.version);
        Answer::created(location, &tag, &TenantBody::from(tenant))
    })
    .await
}

struct WantedTenant {
    slug: Slug,
    name: DisplayName,
    pbx: Option<PbxRef>,
    extensions: ExtensionRange,
    metadata: Metadata,
}

fn new_tenant(mut fields: Fields) -> Result<WantedTenant, Vec<FieldError>> {
    let slug = fields.required_text("slug");
    let name = fields.required_text("name");
    let pbx = fields.optional("pbx", text);
    let min = fields.required("ext_min", number);
    let max = fields.required("ext_max", number);
    let metadata = fields.or_default("metadata", Metadata::try_from);
    let range = min.zip(max).map(|(min, max)| ExtensionRange::new(min, max));
    if let Some(Err(reason)) = range {
        fields.refuse("ext_max", reason.code, reason.message);
    }
    let wanted = (|| {
        Some(WantedTenant {
            slug: slug?,
            name: name?,
            pbx: pbx?,
            extensions: range?.ok()?,
            metadata: metadata?,
        })
    })();
    fields.finish(wanted)
}

/// What tenants are listed by.
pub(super) struct Tenants;

impl Listed for Tenants {
    type Sort = TenantSort;
    const FILTERS: &'static [Filter] = &[
        Filter {
            name: "status",
            takes: Takes::OneOf(|| vec!["active", "suspended"]),
            description: "Only those with this status",
        },
        Filter {
            name: "pbx_id",
            takes: Takes::Id,
            description: "Only those that this PBX serves",
        },
    ];
    const SEARCH: Option<&'static str> = Some("the name");
}

/// List tenants
///
/// Whoever is confined to a tenant finds that one.
#[utoipa::path(
    get, path = "/tenants", tag = "tenants", operation_id = "list_tenants",
    params(ListParams<Tenants>),
    responses(
        (status = 200, description = "The tenants", body = [TenantBody],
            headers(("Link" = Option<String>, description = "`rel=\"next\"`: the next page"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    AsSeen(viewer): AsSeen,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Tenants>()?;
    let filter = TenantFilter {
        only: viewer.tenant(),
        status: wanted.text("status").map(str::to_owned),
        pbx: wanted.id("pbx_id").map(PbxId),
        search: wanted.search.clone(),
    };
    let tenants = tenants::list(&portal, &wanted.page, filter).await?;
    Ok(wanted.answer(tenants.map(TenantBody::from)))
}

/// Show a tenant
#[utoipa::path(
    get, path = "/tenants/{tenant}", tag = "tenants", operation_id = "get_tenant",
    params(("tenant" = String, Path, description = "Id or slug"), NoneMatchHeader),
    responses(
        (status = 200, description = "The tenant", body = TenantBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`tenant_not_found`",
            body = Problem, content_type = "application/problem+json"),
        NotModified,
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
) -> Result<Tagged<TenantBody>, ApiError> {
    let tenant = tenants::get(&portal, tenant.id).await?;
    Ok(Tagged(Tag::version(tenant.version), tenant.into()))
}

/// Change a tenant
///
/// Changes what the body names and nothing else (JSON Merge Patch, RFC 7396).
#[utoipa::path(
    patch, path = "/tenants/{tenant}", tag = "tenants", operation_id = "update_tenant",
    params(("tenant" = String, Path, description = "Id or slug"), ByHeader, MatchHeader),
    request_body(content = TenantPatchBody, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The tenant as it is now", body = TenantBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`tenant_not_found`, `pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`slug_taken`, `range_in_use`, `default_tenant_fixed`, \
            `transport_not_offered`",
            body = Problem, content_type = "application/problem+json"),
        PatchProblems,
    )
)]
pub(super) async fn change(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    By(actor): By,
    IfMatch(expected): IfMatch,
    PatchBody(fields): PatchBody,
) -> Result<Response, ApiError> {
    let (mut patch, pbx) = tenant_patch(fields).map_err(ApiError::InvalidFields)?;
    if let Some(named) = pbx {
        patch.pbx = Some(pbxes::find(&portal, &named).await?.id);
    }
    let _permit = portal.bulkhead.enter(tenant.id, Change::Numbers).await?;
    let tenant = work::run(&portal, &actor, async |work| {
        let locked = tenants::locked(work, tenant.id).await?;
        expected.check(locked.version)?;
        tenants::change(work, locked, patch).await
    })
    .await?;
    Ok(Tagged(Tag::version(tenant.version), TenantBody::from(tenant)).into_response())
}

fn tenant_patch(mut fields: Fields) -> Result<(TenantPatch, Option<PbxRef>), Vec<FieldError>> {
    fields.read_only(&[
        "id",
        "number",
        "pbx_id",
        "default_inbound_destination",
        "outbound_policy_id",
        "created_at",
        "updated_at",
    ]);
    let slug = fields.patch("slug", text);
    let name = fields.patch("name", text);
    let pbx = fields.patch("pbx", text);
    let ext_min = fields.patch("ext_min", number);
    let ext_max = fields.patch("ext_max", number);
    let status = fields.patch("status", text);
    let metadata = fields.patch("metadata", map);
    let patch = (|| {
        let patch = TenantPatch {
            slug: slug?,
            name: name?,
            pbx: None,
            ext_min: ext_min?,
            ext_max: ext_max?,
            status: status?,
            metadata: metadata?,
        };
        Some((patch, pbx?))
    })();
    fields.finish(patch)
}

/// Delete a tenant
///
/// Only one without users. The accounts of its staff end with it. `If-Match` is required.
#[utoipa::path(
    delete, path = "/tenants/{tenant}", tag = "tenants", operation_id = "delete_tenant",
    params(("tenant" = String, Path, description = "Id or slug"), ByHeader, MatchHeader),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "`tenant_not_found`: unknown, or deleted before",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`tenant_in_use`, `default_tenant_fixed`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        RequiredMatchProblems,
    )
)]
pub(super) async fn delete(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    By(actor): By,
    condition: IfMatch,
) -> Result<StatusCode, ApiError> {
    let expected = condition.required()?;
    let _permit = portal.bulkhead.enter(tenant.id, Change::Numbers).await?;
    work::run(&portal, &actor, async |work| {
        let locked = tenants::locked(work, tenant.id).await?;
        expected.check(locked.version)?;
        tenants::delete(work, &locked).await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
