//! `/devices/{id}/rotate` and `/devices/{id}/reveal`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use utoipa::ToSchema;

use super::devices::{CredentialsBody, reveal};
use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag};
use super::extract::{By, Id, InTenant, OptionalBody};
use super::fields::{FieldError, Fields, number};
use super::once::{Answer, Once};
use super::openapi::{
    BodyProblems, ByHeader, IdProblems, MatchHeader, MatchProblems, OnceHeader, OnceProblems,
    RequiredMatchProblems,
};
use crate::clock::os_rng;
use crate::domain::Invalid;
use crate::domain::device::DeviceId;
use crate::services::bulkhead::Change;
use crate::services::devices::Reveal;
use crate::services::{Error, Portal, devices};

/// Longest overlap of two passwords: 30 days, in seconds.
const OVERLAP_SECONDS_MAX: u32 = 30 * 24 * 3600;

/// How a password is rotated. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `rotation` reads the fields"
)]
struct RotationBody {
    /// How long the old password works as well, 0 to 2592000 (30 days); 0 when absent. It then works
    /// until the next apply.
    #[schema(nullable = false, maximum = 2_592_000)]
    overlap_seconds: Option<u32>,
    /// As of a new device.
    #[schema(nullable = false)]
    reveal: Option<bool>,
}

/// Rotate the SIP password of a device
///
/// The old password is refused after the next apply, or, with `overlap_seconds`, after the first
/// apply that comes later than that. `If-Match` is required: a password that was just given to
/// somebody would be lost.
#[utoipa::path(
    post, path = "/devices/{id}/rotate", tag = "devices", operation_id = "rotate_device_password",
    params(
        ("id" = Uuid, Path, description = "The device"), ByHeader, MatchHeader, OnceHeader,
    ),
    request_body(content = Option<RotationBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "The device with its new password", body = CredentialsBody,
            headers(
                ("ETag" = String, description = "Its state"),
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`device_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        OnceProblems,
        RequiredMatchProblems,
    )
)]
pub(super) async fn rotate(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Id(id): Id,
    By(actor): By,
    condition: IfMatch,
    once: Once,
    OptionalBody(fields): OptionalBody,
) -> Result<Response, ApiError> {
    let expected = condition.required()?;
    let (overlap, show) = rotation(fields).map_err(ApiError::InvalidFields)?;
    let _permit = portal.bulkhead.enter(tenant.id, Change::Other).await?;
    once.run(&portal, &actor, async |work| {
        let locked = devices::locked(work, tenant.within, DeviceId(id)).await?;
        expected.check(locked.device.version).map_err(Error::from)?;
        let rotated = devices::rotate(work, locked, overlap, show, &mut os_rng()).await?;
        let tag = Tag::version(rotated.device.version);
        Answer::done(&tag, &CredentialsBody::from(rotated))
    })
    .await
}

fn rotation(mut fields: Fields) -> Result<(Duration, Reveal), Vec<FieldError>> {
    let overlap = fields.patch("overlap_seconds", number::<OverlapSeconds>);
    let show = reveal(&mut fields);
    let rotation = (|| {
        let OverlapSeconds(seconds) = overlap?.unwrap_or_default();
        Some((Duration::from_secs(seconds.into()), show?))
    })();
    fields.finish(rotation)
}

#[derive(Default)]
struct OverlapSeconds(u32);

impl TryFrom<u32> for OverlapSeconds {
    type Error = Invalid;

    fn try_from(seconds: u32) -> Result<Self, Invalid> {
        if seconds <= OVERLAP_SECONDS_MAX {
            Ok(Self(seconds))
        } else {
            Err(Invalid {
                code: "out_of_range",
                message: "must be 0 to 2592000 seconds (30 days)",
            })
        }
    }
}

/// Show the SIP password of a device, once
///
/// Only one that was not shown when it was made.
#[utoipa::path(
    post, path = "/devices/{id}/reveal", tag = "devices", operation_id = "reveal_device_password",
    params(
        ("id" = Uuid, Path, description = "The device"), ByHeader, MatchHeader, OnceHeader,
    ),
    responses(
        (status = 200, description = "The device with its password", body = CredentialsBody,
            headers(
                ("ETag" = String, description = "Its state"),
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`device_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`password_revealed`, `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        OnceProblems,
        MatchProblems,
    )
)]
pub(super) async fn reveal_password(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Id(id): Id,
    By(actor): By,
    IfMatch(expected): IfMatch,
    once: Once,
) -> Result<Response, ApiError> {
    let _permit = portal.bulkhead.enter(tenant.id, Change::Other).await?;
    once.run(&portal, &actor, async |work| {
        let locked = devices::locked(work, tenant.within, DeviceId(id)).await?;
        expected.check(locked.device.version).map_err(Error::from)?;
        let shown = devices::reveal(work, locked).await?;
        let tag = Tag::version(shown.device.version);
        Answer::done(&tag, &CredentialsBody::from(shown))
    })
    .await
}
