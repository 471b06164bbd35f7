//! `/declaration`: what a tenant is, as a whole, and making it so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use shared::bundle::Digest;

use super::bulk::{InBulk, apart, in_time, in_turn, preview, within, writing};
use super::devices::{DeviceBody, settings};
use super::error::{ApiError, Problem};
use super::extract::{By, InTenant, LargeBody};
use super::fields::{FieldError, Fields, number, text};
use super::once::{Answer, Once};
use super::openapi::{ByHeader, DeclarationProblems, OnceHeader, QueryProblems};
use super::query::Query;
use super::users::{UserBody, user_patch};
use crate::clock::os_rng;
use crate::domain::bulk::ENTRIES_MAX;
use crate::domain::patch::Patch;
use crate::domain::{Invalid, Metadata, Permission, UserId, Within};
use crate::services::bulk::declaration::{
    self, Declaration, DeclaredDevice, DeclaredTenant, DeclaredUser,
};
use crate::services::bulk::{self, export};
use crate::services::work::Work;
use crate::services::{Error, Portal, denied, tenants};

mod body;

pub use body::{
    DeclarationBody, DeclaredDeviceBody, DeclaredTenantBody, DeclaredUserBody, ReconciledBody,
    ReconciledChangeBody, ReconciledCountsBody, RefusalBody,
};

/// Show a declaration
///
/// The tenant with its users and their devices, as `POST /declaration/reconcile` takes it, which then
/// changes nothing. No secrets and no ids: it can be made of another tenant as well.
#[utoipa::path(
    get, path = "/declaration", tag = "imports", operation_id = "export_declaration",
    responses(
        (status = 200, description = "The declaration", body = DeclarationBody),
        QueryProblems,
    )
)]
pub(super) async fn show(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    By(actor): By,
) -> Result<Json<DeclarationBody>, ApiError> {
    for needed in [Permission::UsersRead, Permission::DevicesRead] {
        denied::must(&actor, needed).map_err(Error::from)?;
    }
    let _turn = writing().await?;
    let itself = tenants::get(&portal, tenant.id).await?;
    let (users, devices) = export::everything(&portal, tenant.within).await?;
    let mut of_user: HashMap<UserId, Vec<DeclaredDeviceBody>> = HashMap::new();
    for device in devices {
        let owner = device.user;
        let declared = DeclaredDeviceBody::from(DeviceBody::from(device));
        of_user.entry(owner).or_default().push(declared);
    }
    let users = users.into_iter().map(|user| {
        let devices = of_user.remove(&user.id).unwrap_or_default();
        DeclaredUserBody::of(&UserBody::from(user), devices)
    });
    Ok(Json(DeclarationBody {
        tenant: Some(DeclaredTenantBody::from(itself)),
        users: Some(users.collect()),
        remove_unlisted: None,
        expected_digest: None,
    }))
}

/// Make a tenant what a declaration says
///
/// What the body does not name stays as it is: a field, the tenant itself, all users, the devices of a
/// user. Users are known by `email`, devices by `label` among those of their user. Users and devices that
/// are not listed go only when `remove_unlisted` says so. `metadata` are the whole. All of it is done or
/// nothing; the same once more changes nothing.
///
/// With `preview` nothing is done, and the answer is what would be. Its `digest`, sent as
/// `expected_digest`, makes sure that it is still that which is done.
///
/// The answer tells what was there before: it needs `users.read` as well, and `devices.read` and
/// `devices.write` where devices are named.
#[utoipa::path(
    post, path = "/declaration/reconcile", tag = "imports", operation_id = "reconcile_declaration",
    params(
        ("preview" = Option<bool>, Query, description = "`true`: only tell what would be done"),
        ByHeader, OnceHeader,
    ),
    request_body = DeclarationBody,
    responses(
        (status = 200, description = "What was done", body = ReconciledBody,
            headers(("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"))),
        (status = 409, description = "`plan_outdated`: something else would be done now than what \
            `expected_digest` is of; `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        DeclarationProblems,
    )
)]
pub(super) async fn reconcile(
    State(portal): State<Arc<Portal>>,
    InBulk {
        tenant,
        permit: _permit,
    }: InBulk,
    By(actor): By,
    Query(query): Query,
    once: Once,
    body: LargeBody,
) -> Result<Response, ApiError> {
    let preview = preview(query)?;
    // The answer tells what was there.
    denied::must(&actor, Permission::UsersRead).map_err(Error::from)?;
    in_time(Box::pin(async {
        if !preview && let Some(before) = once.before(&portal, &actor).await? {
            return Ok(before);
        }
        let begun = Instant::now();
        let read = {
            let body = body.clone();
            apart(move || of_devices(&body))
        };
        if read.await? {
            for needed in [Permission::DevicesRead, Permission::DevicesWrite] {
                denied::must(&actor, needed).map_err(Error::from)?;
            }
        }
        let carried_out = Box::pin(async {
            let said = apart(move || Said::of(&body)).await?;
            let task =
                async |work: &mut Work<'_>| reconciled(work, tenant.within, said, preview).await;
            if preview {
                let told = bulk::preview(&portal, &actor, task).await?;
                return Ok(Json(told).into_response());
            }
            let task = async |work: &mut Work<'_>| Answer::new(StatusCode::OK, &task(work).await?);
            once.run(&portal, &actor, task).await
        });
        in_turn(&portal, begun.elapsed(), carried_out).await
    }))
    .await
}

/// What a body says.
struct Said {
    /// The hash of all of it but `expected_digest`.
    digest: Digest,
    declaration: Declaration,
    expected: Option<String>,
}

impl Said {
    fn of(body: &LargeBody) -> Result<Self, ApiError> {
        let fields = body.fields()?;
        let digest = fields.digest_but("expected_digest");
        let (declaration, expected) = declared(fields).map_err(ApiError::InvalidFields)?;
        Ok(Self {
            digest,
            declaration,
            expected,
        })
    }
}

/// Whether a body says anything of devices.
fn of_devices(body: &LargeBody) -> Result<bool, ApiError> {
    let (declaration, _) = declared(body.fields()?).map_err(ApiError::InvalidFields)?;
    let users = declaration.users.unwrap_or_default();
    Ok(users.iter().any(|user| user.devices.is_some()))
}

async fn reconciled(
    work: &mut Work<'_>,
    within: Within,
    said: Said,
    preview: bool,
) -> Result<ReconciledBody, ApiError> {
    let run = declaration::reconcile(work, within, said.declaration, &mut os_rng()).await?;
    let steps = run.map_err(|refusals| {
        let refusals = refusals.into_iter().map(RefusalBody::from);
        ApiError::DeclarationRefused(refusals.collect())
    })?;
    let digest = declaration::digest(said.digest, &steps);
    if said.expected.is_some_and(|expected| expected != digest) {
        return Err(ApiError::from(Error::PlanOutdated));
    }
    Ok(ReconciledBody::of(digest, steps, preview))
}

/// Reads a declaration and the digest that is expected.
fn declared(mut fields: Fields) -> Result<(Declaration, Option<String>), Vec<FieldError>> {
    let tenant = fields.object("tenant", |fields| {
        let name = fields.patch("name", text);
        let ext_min = fields.patch("ext_min", number);
        let ext_max = fields.patch("ext_max", number);
        let metadata = fields.patch("metadata", Metadata::try_from);
        Some(DeclaredTenant {
            name: name?,
            ext_min: ext_min?,
            ext_max: ext_max?,
            metadata: metadata?,
        })
    });
    let users = fields.patch("users", list);
    let removes = fields.or_default("remove_unlisted", removes);
    let expected = fields.optional("expected_digest", digest);
    let mut errors = Vec::new();
    let users = users.map(|users| users.map(|users| each("users", users, user, &mut errors)));
    let declaration = (|| {
        let (removes_users, removes_devices) = removes?;
        Some(Declaration {
            tenant: tenant?,
            users: users?,
            removes_users,
            removes_devices,
        })
    })();
    let read = fields.finish(declaration.zip(expected));
    match read {
        Ok(read) if errors.is_empty() => Ok(read),
        Ok(_) => Err(errors),
        Err(mut others) => {
            others.extend(errors);
            Err(others)
        }
    }
}

/// Reads each object of a list; what is wrong is named like `users[3].name`.
fn each<T>(
    name: &str,
    values: Vec<Value>,
    one: fn(Fields) -> Result<T, Vec<FieldError>>,
    errors: &mut Vec<FieldError>,
) -> Vec<T> {
    let mut read = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        if errors.len() >= ERRORS_MAX {
            break;
        }
        let prefix = format!("{name}[{index}]");
        match value {
            Value::Object(object) => match one(Fields::new(object)) {
                Ok(one) => read.push(one),
                Err(others) => errors.extend(within(&prefix, others)),
            },
            _ => errors.push(FieldError::new(&prefix, NO_OBJECT)),
        }
    }
    read
}

/// So many mistakes are told; whoever has mended them hears of the next ones.
const ERRORS_MAX: usize = 100;

const NO_OBJECT: Invalid = Invalid {
    code: "wrong_type",
    message: "must be a JSON object",
};

fn user(mut fields: Fields) -> Result<DeclaredUser, Vec<FieldError>> {
    let devices = fields.patch("devices", list);
    let mut errors = Vec::new();
    let devices = devices
        .flatten()
        .map(|devices| each("devices", devices, device, &mut errors));
    let patch = user_patch(fields).and_then(|patch| {
        if patch.email.is_none() {
            let reason = Invalid {
                code: "missing",
                message: "is required: users are known by it",
            };
            return Err(vec![FieldError::new("email", reason)]);
        }
        if !matches!(patch.calls.voicemail_pin, Patch::Keep) {
            let reason = Invalid {
                code: "read_only",
                message: "is hashed and cannot be compared: set it with PATCH /users/{id}",
            };
            return Err(vec![FieldError::new("voicemail.pin", reason)]);
        }
        Ok(patch)
    });
    match patch {
        Ok(patch) if errors.is_empty() => Ok(DeclaredUser {
            user: bulk::users::Wanted {
                id: None,
                patch: patch.with_pin(Patch::Keep),
            },
            devices,
        }),
        Ok(_) => Err(errors),
        Err(mut others) => {
            others.extend(errors);
            Err(others)
        }
    }
}

fn device(mut fields: Fields) -> Result<DeclaredDevice, Vec<FieldError>> {
    let label = fields.required_text("label");
    let settings = settings(&mut fields);
    let device = label
        .zip(settings)
        .map(|(label, settings)| DeclaredDevice { label, settings });
    fields.finish(device)
}

fn list(value: Value) -> Result<Vec<Value>, Invalid> {
    match value {
        Value::Array(values) if values.len() <= ENTRIES_MAX => Ok(values),
        Value::Array(_) => Err(Invalid {
            code: "too_many",
            message: "may have at most 20000 entries: divide it",
        }),
        _ => Err(Invalid {
            code: "wrong_type",
            message: "must be a list",
        }),
    }
}

/// Whether users, and devices, go that are not listed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn removes(value: Value) -> Result<(bool, bool), Invalid> {
    let words = value.as_array().map_or(&[][..], Vec::as_slice);
    let known = |word: &Value| word == "users" || word == "devices";
    if !value.is_array() || !words.iter().all(known) {
        return Err(Invalid {
            code: "unknown_value",
            message: "must be a list of \"users\", \"devices\" or both",
        });
    }
    let has = |name: &str| words.iter().any(|word| word == name);
    Ok((has("users"), has("devices")))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn digest(value: Value) -> Result<String, Invalid> {
    let hexadecimal =
        |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let text = value.as_str().filter(hexadecimal);
    text.map(str::to_ascii_lowercase).ok_or(Invalid {
        code: "malformed",
        message: "must be the digest of a preview",
    })
}
