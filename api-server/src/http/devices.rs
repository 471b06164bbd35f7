//! `/devices`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{Body, By, Id, InTenant, PatchBody};
use super::fields::{FieldError, Fields, boolean, text};
use super::once::{Answer, Once};
use super::openapi::{
    BodyProblems, ByHeader, IdProblems, MatchHeader, MatchProblems, NoneMatchHeader, NotModified,
    OnceHeader, OnceProblems, PatchProblems, QueryProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed, Takes};
use super::texts::{LabelText, end_of_overlap};
use crate::clock::os_rng;
use crate::domain::device::{DeviceId, DevicePatch, NewDevice};
use crate::domain::{Invalid, UserId};
use crate::services::bulkhead::Change;
use crate::services::devices::{DeviceFilter, DeviceSort, Reveal};
use crate::services::{Portal, devices, work};

mod body;

pub(super) use body::{CodecBody, DigestBody, NatPatchBody, TransportBody, settings};
pub use body::{CredentialsBody, DeviceBody, NatBody, SipAccountBody};

/// What a device is created from. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `new_device` reads the fields"
)]
struct NewDeviceBody {
    /// Whose.
    user_id: Uuid,
    /// What people call it.
    label: LabelText,
    /// Whether it is in service; `true` when absent.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// By which transport the PBX reaches it: one that the PBX offers. Null: by the one that it came
    /// by.
    transport: Option<TransportBody>,
    /// Where answers and media go.
    #[schema(nullable = false)]
    nat: Option<NatPatchBody>,
    /// What it may speak, the preferred one first; `ulaw` and `alaw` when absent.
    #[schema(nullable = false, min_items = 1, value_type = Option<BTreeSet<CodecBody>>)]
    codecs: Option<Vec<CodecBody>>,
    /// How it proves that it knows its password; `md5` when absent, which every phone knows.
    #[schema(nullable = false)]
    digest_algorithm: Option<DigestBody>,
    /// Whether the answer shows the password; otherwise `POST /devices/{id}/reveal` shows it, once.
    /// `true` when absent.
    #[schema(nullable = false)]
    reveal: Option<bool>,
}

/// What is changed of a device: only what is named. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `device_patch` reads the fields"
)]
struct DevicePatchBody {
    /// Another owner within the tenant. The device then has another SIP username, and a new password
    /// that `POST /devices/{id}/reveal` shows.
    #[schema(nullable = false)]
    user_id: Option<Uuid>,
    /// As of a new device.
    #[schema(nullable = false)]
    label: Option<LabelText>,
    /// Whether it is in service.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// As of a new device.
    transport: Option<TransportBody>,
    /// Where answers and media go.
    #[schema(nullable = false)]
    nat: Option<NatPatchBody>,
    /// As of a new device.
    #[schema(nullable = false, min_items = 1, value_type = Option<BTreeSet<CodecBody>>)]
    codecs: Option<Vec<CodecBody>>,
    /// As of a new device.
    #[schema(nullable = false)]
    digest_algorithm: Option<DigestBody>,
    #[schema(schema_with = end_of_overlap)]
    overlap_until: Option<()>,
}

/// Create a device
///
/// One more phone of a user: the extension rings all of them. The SIP password is shown once.
#[utoipa::path(
    post, path = "/devices", tag = "devices", operation_id = "create_device",
    params(ByHeader, OnceHeader),
    request_body = NewDeviceBody,
    responses(
        (status = 201, description = "Created", body = CredentialsBody,
            headers(
                ("Location" = String, description = "The path of the device"),
                ("ETag" = String, description = "Its state"),
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`user_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`too_many_devices`, `idempotency_key_in_use`",
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
    let (new, show) = new_device(fields).map_err(ApiError::InvalidFields)?;
    let _permit = portal.bulkhead.enter(tenant.id, Change::Other).await?;
    once.run(&portal, &actor, async |work| {
        let created = devices::create(work, tenant.id, new, show, &mut os_rng()).await?;
        let location = tenant.path(&format!("/devices/{}", created.device.id));
        let tag = Tag::version(created.device.version);
        Answer::created(location, &tag, &CredentialsBody::from(created))
    })
    .await
}

fn new_device(mut fields: Fields) -> Result<(NewDevice, Reveal), Vec<FieldError>> {
    let user = fields.required("user_id", user_id);
    let label = fields.required_text("label");
    let patch = settings(&mut fields);
    let show = reveal(&mut fields);
    let new = (|| {
        let mut settings = crate::domain::device::DeviceSettings::default();
        settings.apply(patch?);
        let new = NewDevice {
            user: user?,
            label: label?,
            settings,
        };
        Some((new, show?))
    })();
    fields.finish(new)
}

/// Whether a fresh password is shown at once; `None` means that an error was noted.
pub(super) fn reveal(fields: &mut Fields) -> Option<Reveal> {
    let now = fields.patch("reveal", boolean)?.unwrap_or(true);
    Some(if now { Reveal::Now } else { Reveal::Later })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn user_id(value: serde_json::Value) -> Result<UserId, Invalid> {
    let id = value.as_str().filter(|text| text.len() == 36);
    let id = id.and_then(|text| Uuid::try_parse(text).ok());
    id.map(UserId).ok_or(Invalid {
        code: "malformed",
        message: "must be the id of a user",
    })
}

/// What devices are listed by.
pub(super) struct Devices;

impl Listed for Devices {
    type Sort = DeviceSort;
    const FILTERS: &'static [Filter] = &[
        Filter {
            name: "user_id",
            takes: Takes::Id,
            description: "Only those of this user",
        },
        Filter {
            name: "enabled",
            takes: Takes::Bool,
            description: "Only those that are in service, or are not",
        },
    ];
    const SEARCH: Option<&'static str> = Some("the label");
}

/// List devices
#[utoipa::path(
    get, path = "/devices", tag = "devices", operation_id = "list_devices",
    params(ListParams<Devices>),
    responses(
        (status = 200, description = "The devices", body = [DeviceBody],
            headers(("Link" = Option<String>, description = "`rel=\"next\"`: the next page"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Devices>()?;
    let filter = DeviceFilter {
        user: wanted.id("user_id").map(UserId),
        enabled: wanted.bool("enabled"),
        search: wanted.search.clone(),
    };
    let devices = devices::list(&portal, tenant.within, &wanted.page, filter).await?;
    Ok(wanted.answer(devices.map(DeviceBody::from)))
}

/// Show a device
#[utoipa::path(
    get, path = "/devices/{id}", tag = "devices", operation_id = "get_device",
    params(("id" = Uuid, Path, description = "The device"), NoneMatchHeader),
    responses(
        (status = 200, description = "The device", body = DeviceBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`device_not_found`",
            body = Problem, content_type = "application/problem+json"),
        NotModified,
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Id(id): Id,
) -> Result<Tagged<DeviceBody>, ApiError> {
    let device = devices::get(&portal, tenant.within, DeviceId(id)).await?;
    Ok(Tagged(Tag::version(device.version), device.into()))
}

/// Change a device
///
/// Changes what the body names and nothing else (JSON Merge Patch, RFC 7396).
#[utoipa::path(
    patch, path = "/devices/{id}", tag = "devices", operation_id = "update_device",
    params(("id" = Uuid, Path, description = "The device"), ByHeader, MatchHeader),
    request_body(content = DevicePatchBody, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The device as it is now", body = DeviceBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`device_not_found`, `user_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`too_many_devices`",
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
    let patch = device_patch(fields).map_err(ApiError::InvalidFields)?;
    let _permit = portal.bulkhead.enter(tenant.id, Change::Other).await?;
    let device = work::run(&portal, &actor, async |work| {
        let locked = devices::locked(work, tenant.within, DeviceId(id)).await?;
        expected.check(locked.device.version)?;
        devices::change(work, locked, patch, &mut os_rng()).await
    })
    .await?;
    Ok(Tagged(Tag::version(device.version), DeviceBody::from(device)).into_response())
}

fn device_patch(mut fields: Fields) -> Result<DevicePatch, Vec<FieldError>> {
    fields.read_only(&body::READ_ONLY);
    let user = fields.patch("user_id", user_id);
    let label = fields.patch("label", text);
    let settings = settings(&mut fields);
    let overlap = fields.patch_nullable::<()>("overlap_until", |_| {
        Err(Invalid {
            code: "read_only",
            message: "can only be ended, with null; rotating begins one",
        })
    });
    let patch = (|| {
        Some(DevicePatch {
            user: user?,
            label: label?,
            ends_overlap: overlap? == crate::domain::patch::Patch::Clear,
            settings: settings?,
        })
    })();
    fields.finish(patch)
}

/// Delete a device
///
/// Its phone keeps working until the next apply.
#[utoipa::path(
    delete, path = "/devices/{id}", tag = "devices", operation_id = "delete_device",
    params(("id" = Uuid, Path, description = "The device"), ByHeader, MatchHeader),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "`device_not_found`: unknown, or deleted before",
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
    let _permit = portal.bulkhead.enter(tenant.id, Change::Other).await?;
    work::run(&portal, &actor, async |work| {
        let locked = devices::locked(work, tenant.within, DeviceId(id)).await?;
        expected.check(locked.device.version)?;
        devices::delete(work, &locked).await
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
