//! What a device looks like, and how its settings are read.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::Invalid;
use crate::domain::device::{Codecs, Device, DeviceSettingsPatch, DigestAlgorithm, Nat, Transport};
use crate::http::fields::{Fields, boolean};
use crate::services::devices::Credentials;

/// What is shown and cannot be set.
pub(super) const READ_ONLY: [&str; 8] = [
    "id",
    "tenant_id",
    "sip_username",
    "password_set_at",
    "password_revealed",
    "created_at",
    "updated_at",
    "sip",
];

/// A device.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceBody {
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub user_id: Uuid,
    #[schema(example = "Desk phone")]
    pub label: String,
    /// What it registers as: the number for the first device of a user of the default tenant.
    #[schema(example = "1000")]
    pub sip_username: String,
    pub enabled: bool,
    /// `udp`, `tcp`, `tls`, `ws` or `wss`; null: whichever it came by.
    #[schema(value_type = Option<String>)]
    pub transport: Option<Cow<'static, str>>,
    pub nat: NatBody,
    /// The preferred one first.
    #[schema(value_type = Vec<String>, example = json!(["ulaw", "alaw"]))]
    pub codecs: Vec<Cow<'static, str>>,
    /// `md5`, `sha256` or `sha512_256`.
    #[schema(value_type = String, example = "md5")]
    pub digest_algorithm: Cow<'static, str>,
    #[serde(with = "time::serde::rfc3339")]
    pub password_set_at: OffsetDateTime,
    /// Whether the password was shown, which happens once.
    pub password_revealed: bool,
    /// Until when the password before this one works as well; null: it does not.
    #[serde(with = "time::serde::rfc3339::option")]
    pub overlap_until: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// How Asterisk treats a device that may be behind NAT.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "Asterisk has these four options"
)]
pub struct NatBody {
    /// Media goes to where media comes from.
    pub rtp_symmetric: bool,
    /// Answers go to where requests come from.
    pub force_rport: bool,
    /// Calls go to where the registration came from.
    pub rewrite_contact: bool,
    /// Media may pass by the PBX.
    pub direct_media: bool,
}

impl From<Nat> for NatBody {
    fn from(nat: Nat) -> Self {
        let Nat {
            rtp_symmetric,
            force_rport,
            rewrite_contact,
            direct_media,
        } = nat;
        Self {
            rtp_symmetric,
            force_rport,
            rewrite_contact,
            direct_media,
        }
    }
}

impl From<Device> for DeviceBody {
    fn from(device: Device) -> Self {
        let settings = &device.settings;
        Self {
            id: device.id.0,
            tenant_id: device.tenant.0,
            user_id: device.user.0,
            sip_username: device.endpoint_name().to_string(),
            enabled: settings.enabled,
            transport: settings.transport.map(|transport| transport.name().into()),
            nat: settings.nat.into(),
            codecs: settings.codecs.names().map(Cow::from).collect(),
            digest_algorithm: settings.algorithm.name().into(),
            password_set_at: device.password_set_at,
            password_revealed: device.password_revealed_at.is_some(),
            overlap_until: device.overlap_until,
            created_at: device.created_at,
            updated_at: device.updated_at,
            label: device.label.as_str().to_owned(),
        }
    }
}

/// What a phone registers with. It works once it is applied.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct SipAccountBody {
    #[schema(example = "1000")]
    pub username: String,
    /// Shown this once; null when it is to be shown later.
    pub password: Option<String>,
    #[schema(example = "synergycall")]
    pub realm: String,
}

impl From<&Credentials> for SipAccountBody {
    fn from(credentials: &Credentials) -> Self {
        let password = credentials.password.as_ref();
        Self {
            username: credentials.device.endpoint_name().to_string(),
            password: password.map(|password| password.expose().to_owned()),
            realm: credentials.realm.as_str().to_owned(),
        }
    }
}

/// A device with what it registers with.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CredentialsBody {
    #[serde(flatten)]
    pub device: DeviceBody,
    pub sip: SipAccountBody,
}

impl From<Credentials> for CredentialsBody {
    fn from(credentials: Credentials) -> Self {
        Self {
            sip: SipAccountBody::from(&credentials),
            device: credentials.device.into(),
        }
    }
}

/// How Asterisk treats a device that may be behind NAT, as it is set.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it")]
pub(in crate::http) struct NatPatchBody {
    /// `true` unless said otherwise.
    #[schema(nullable = false)]
    rtp_symmetric: Option<bool>,
    /// `true` unless said otherwise.
    #[schema(nullable = false)]
    force_rport: Option<bool>,
    /// `true` unless said otherwise.
    #[schema(nullable = false)]
    rewrite_contact: Option<bool>,
    /// `false` unless said otherwise.
    #[schema(nullable = false)]
    direct_media: Option<bool>,
}

/// A transport.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
pub(in crate::http) enum TransportBody {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// A codec.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
pub(in crate::http) enum CodecBody {
    Ulaw,
    Alaw,
    G722,
    Opus,
}

/// How a device proves that it knows its password.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
pub(in crate::http) enum DigestBody {
    Md5,
    Sha256,
    #[schema(rename = "sha512_256")]
    Sha512,
}

/// Reads the fields of a body that say how a device is served; `None` means that an error was noted.
pub(in crate::http) fn settings(fields: &mut Fields) -> Option<DeviceSettingsPatch> {
    let enabled = fields.patch("enabled", boolean);
    let algorithm = fields.patch("digest_algorithm", |value| {
        DigestAlgorithm::from_name(string(&value)?)
    });
    let transport =
        fields.patch_nullable("transport", |value| Transport::from_name(string(&value)?));
    let codecs = fields.patch("codecs", codecs);
    let nat = fields.object("nat", |fields| {
        let rtp_symmetric = fields.patch("rtp_symmetric", boolean);
        let force_rport = fields.patch("force_rport", boolean);
        let rewrite_contact = fields.patch("rewrite_contact", boolean);
        let direct_media = fields.patch("direct_media", boolean);
        Some([
            rtp_symmetric?,
            force_rport?,
            rewrite_contact?,
            direct_media?,
        ])
    });
    let [rtp_symmetric, force_rport, rewrite_contact, direct_media] = nat?.unwrap_or_default();
    Some(DeviceSettingsPatch {
        enabled: enabled?,
        algorithm: algorithm?,
        transport: transport?,
        rtp_symmetric,
        force_rport,
        rewrite_contact,
        direct_media,
        codecs: codecs?,
    })
}

fn string(value: &Value) -> Result<&str, Invalid> {
    value.as_str().ok_or(Invalid {
        code: "wrong_type",
        message: "must be a string",
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn codecs(value: Value) -> Result<Codecs, Invalid> {
    let wrong_type = Invalid {
        code: "wrong_type",
        message: "must be a list of codecs",
    };
    let names = value.as_array().ok_or(wrong_type)?;
    let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
    Codecs::from_names(names.ok_or(wrong_type)?)
}
