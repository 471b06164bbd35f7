//! What a declaration looks like, and what became of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::ExtensionNumber;
use crate::domain::bulk::Outcome;
use crate::domain::tenant::Tenant;
use crate::http::bulk::body::{ChangedFieldBody, CreatedAccountBody, LineErrorBody, changes};
use crate::http::devices::{CodecBody, DeviceBody, DigestBody, NatPatchBody, TransportBody};
use crate::http::texts::{DialNumberText, EmailText, LabelText, NameText};
use crate::http::users::{CallForwardPatchBody, RoleBody, StatusBody, UserBody};
use crate::services::bulk::declaration::{Refusal, Step};

/// What a tenant is, or should be.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclarationBody {
    /// The tenant itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub tenant: Option<DeclaredTenantBody>,
    /// Its users.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Vec<DeclaredUserFields>>)]
    pub users: Option<Vec<DeclaredUserBody>>,
    /// What goes that is not listed: `users`, `devices`, both, or nothing when absent. Devices only of
    /// users whose devices are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["devices"]), value_type = Option<Vec<ListedBody>>)]
    pub remove_unlisted: Option<Vec<String>>,
    /// The digest of a preview: anything else than what that told of is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 64, max_length = 64, pattern = "^[0-9a-fA-F]{64}$")]
    pub expected_digest: Option<String>,
}

/// What is listed in a declaration.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
enum ListedBody {
    Users,
    Devices,
}

/// A tenant in a declaration.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredTenantBody {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<NameText>)]
    pub name: Option<String>,
    /// Its lowest extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 10, maximum = 99_999_999)]
    pub ext_min: Option<u32>,
    /// Its highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 10, maximum = 99_999_999)]
    pub ext_max: Option<u32>,
    /// The whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub metadata: Option<Map<String, Value>>,
}

/// A user in a declaration: as of `PATCH /users/{id}`, known by its address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeclaredUserBody {
    /// Who is meant.
    pub email: String,
    /// What is said of the user.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
    /// Its devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DeclaredDeviceBody>>,
}

/// A user in a declaration: what is named of it, known by its address.
#[derive(ToSchema)]
#[schema(as = DeclaredUserBody)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it")]
struct DeclaredUserFields {
    /// Who is meant.
    email: EmailText,
    /// Needed to create a user.
    #[schema(nullable = false)]
    name: Option<NameText>,
    /// A number of the tenant's range; for somebody new the lowest free one when absent.
    #[schema(nullable = false, minimum = 10, maximum = 99_999_999)]
    extension: Option<u32>,
    /// Whether the phones are in service.
    #[schema(nullable = false)]
    status: Option<StatusBody>,
    /// What the user may do in the portal.
    #[schema(nullable = false)]
    role: Option<RoleBody>,
    /// Null for none.
    outbound_caller_id: Option<DialNumberText>,
    /// Voicemail.
    #[schema(nullable = false)]
    voicemail: Option<DeclaredVoicemailFields>,
    /// Do not disturb.
    #[schema(nullable = false)]
    dnd: Option<bool>,
    /// Where calls go that are not taken.
    #[schema(nullable = false)]
    call_forward: Option<CallForwardPatchBody>,
    /// The whole.
    #[schema(nullable = false, value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Its devices.
    #[schema(nullable = false)]
    devices: Option<Vec<DeclaredDeviceFields>>,
}

/// Voicemail in a declaration. A PIN is hashed and cannot be compared, so none is declared.
#[derive(ToSchema)]
#[schema(as = DeclaredVoicemailBody)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it")]
struct DeclaredVoicemailFields {
    #[schema(nullable = false)]
    enabled: Option<bool>,
}

/// A device in a declaration: as of `PATCH /devices/{id}`, known by its label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeclaredDeviceBody {
    /// Which one is meant.
    pub label: String,
    /// What is said of the device.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// A device in a declaration: what is named of it, known by its label. Of several with one label, the first
/// is the one that is the oldest in place.
#[derive(ToSchema)]
#[schema(as = DeclaredDeviceBody)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it")]
struct DeclaredDeviceFields {
    /// Which one is meant.
    label: LabelText,
    /// Whether it is in service.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// By which transport the PBX reaches it; null: by the one that it came by.
    transport: Option<TransportBody>,
    /// Where answers and media go.
    #[schema(nullable = false)]
    nat: Option<NatPatchBody>,
    /// What it may speak, the preferred one first.
    #[schema(nullable = false, min_items = 1, value_type = Option<BTreeSet<CodecBody>>)]
    codecs: Option<Vec<CodecBody>>,
    /// How it proves that it knows its password.
    #[schema(nullable = false)]
    digest_algorithm: Option<DigestBody>,
}

/// Fields of a body by name.
fn picked(body: &impl Serialize, names: &[&str]) -> Map<String, Value> {
    let body = serde_json::to_value(body).unwrap_or_default();
    let picked = names
        .iter()
        .map(|name| ((*name).to_owned(), body[*name].clone()));
    picked.collect()
}

impl From<Tenant> for DeclaredTenantBody {
    fn from(tenant: Tenant) -> Self {
        Self {
            name: Some(tenant.name.as_str().to_owned()),
            ext_min: Some(tenant.extensions.min.get()),
            ext_max: Some(tenant.extensions.max.get()),
            metadata: Some(tenant.metadata.as_object().clone()),
        }
    }
}

impl DeclaredUserBody {
    /// A user with its devices.
    pub(super) fn of(user: &UserBody, devices: Vec<DeclaredDeviceBody>) -> Self {
        let mut fields = picked(
            user,
            &[
                "email",
                "name",
                "extension",
                "status",
                "role",
                "outbound_caller_id",
                "voicemail",
                "dnd",
                "call_forward",
                "metadata",
            ],
        );
        // A PIN is no state that can be compared.
        if let Some(Value::Object(voicemail)) = fields.get_mut("voicemail") {
            voicemail.remove("pin_set");
        }
        let email = fields.remove("email").unwrap_or_default();
        Self {
            email: email.as_str().unwrap_or_default().to_owned(),
            fields,
            devices: Some(devices),
        }
    }
}

impl From<DeviceBody> for DeclaredDeviceBody {
    fn from(device: DeviceBody) -> Self {
        let mut fields = picked(
            &device,
            &[
                "label",
                "enabled",
                "transport",
                "nat",
                "codecs",
                "digest_algorithm",
            ],
        );
        let label = fields.remove("label").unwrap_or_default();
        Self {
            label: label.as_str().unwrap_or_default().to_owned(),
            fields,
        }
    }
}

/// What was done to make a tenant what it should be, or would be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReconciledBody {
    /// `true`: nothing was done.
    pub preview: bool,
    /// The hash of what is done.
    pub digest: String,
    /// How many became what.
    pub counts: ReconciledCountsBody,
    /// What is done, in its order. What is so already is only counted.
    pub changes: Vec<ReconciledChangeBody>,
}

/// How many became what.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ReconciledCountsBody {
    /// Something new.
    pub created: u64,
    /// What was otherwise before.
    pub changed: u64,
    /// What was so already.
    pub unchanged: u64,
    /// What is not there any more.
    pub deleted: u64,
}

/// Something that is done.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReconciledChangeBody {
    /// `tenant`, `user` or `device`.
    #[schema(example = "user")]
    pub entity: String,
    /// `created`, `changed` or `deleted`.
    #[schema(example = "created")]
    pub action: String,
    /// The slug of a tenant, the address of a user, the address of the owner and the label of a device.
    #[schema(example = "ann@example.com")]
    pub key: String,
    /// Which one; null when there is none, as of what a preview would create.
    pub id: Option<Uuid>,
    /// The user's number.
    pub extension: Option<u32>,
    /// What was changed, or what something new is.
    pub changes: Vec<ChangedFieldBody>,
    /// What a phone registers with that was created. The password is shown this once.
    pub sip: Option<CreatedAccountBody>,
}

impl ReconciledBody {
    /// Of what was done.
    pub(super) fn of(digest: String, steps: Vec<Step>, preview: bool) -> Self {
        let mut counts = ReconciledCountsBody::default();
        let mut told = Vec::new();
        for Step { entity, done } in steps {
            let outcome = done.outcome;
            *match outcome {
                Outcome::Created => &mut counts.created,
                Outcome::Changed => &mut counts.changed,
                Outcome::Unchanged => &mut counts.unchanged,
                Outcome::Deleted => &mut counts.deleted,
            } += 1;
            if outcome == Outcome::Unchanged {
                continue;
            }
            let made = done.credentials.as_ref();
            told.push(ReconciledChangeBody {
                entity: entity.name().to_owned(),
                action: outcome.name().to_owned(),
                sip: made.and_then(|made| CreatedAccountBody::of(made, preview)),
                key: done.key,
                id: Some(done.id).filter(|_| !(preview && outcome == Outcome::Created)),
                extension: done.extension.map(ExtensionNumber::get),
                changes: changes(done.changes, &[]),
            });
        }
        Self {
            preview,
            digest,
            counts,
            changes: told,
        }
    }
}

/// Something that cannot be made what it should be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusalBody {
    /// `tenant`, `user` or `device`.
    #[schema(example = "user")]
    pub entity: String,
    /// As of what is done.
    #[schema(example = "ann@example.com")]
    pub key: String,
    /// Why.
    pub errors: Vec<LineErrorBody>,
}

impl From<Refusal> for RefusalBody {
    fn from(refusal: Refusal) -> Self {
        Self {
            entity: refusal.entity.name().to_owned(),
            key: refusal.key,
            errors: vec![LineErrorBody::of(refusal.error, &[])],
        }
    }
}
