//! What a user looks like, and how its call settings are read.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::calling::{
    CallForward, CallForwardPatch, CallSettingsPatch, DialNumber, VoicemailPin,
};
use crate::domain::patch::Patch;
use crate::domain::user::User;
use crate::http::fields::{Fields, boolean, number, text};
use crate::http::texts::{DialNumberText, PinText};

/// A user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserBody {
    pub id: Uuid,
    pub tenant_id: Uuid,
    #[schema(example = "Ann Example")]
    pub name: String,
    #[schema(example = "ann@example.com")]
    pub email: String,
    /// The number.
    #[schema(example = 1000)]
    pub extension: u32,
    /// `active` or `suspended`.
    #[schema(value_type = String, example = "active")]
    pub status: Cow<'static, str>,
    /// `user`, `operator` or `tenant_admin`.
    #[schema(value_type = String, example = "user")]
    pub role: Cow<'static, str>,
    #[schema(example = "+420123456789")]
    pub outbound_caller_id: Option<String>,
    pub voicemail: VoicemailBody,
    /// Do not disturb.
    pub dnd: bool,
    pub call_forward: CallForwardBody,
    #[schema(value_type = Object, example = json!({ "department": "sales" }))]
    pub metadata: Map<String, Value>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Voicemail of a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct VoicemailBody {
    pub enabled: bool,
    /// Whether there is a PIN. The PIN itself is never shown.
    pub pin_set: bool,
}

/// Where calls go that are not taken; null: nowhere else.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CallForwardBody {
    /// Every call.
    pub always: Option<String>,
    /// While the user speaks.
    pub busy: Option<String>,
    /// After `delay_seconds`.
    pub no_answer: Option<String>,
    /// While no phone is registered.
    pub unregistered: Option<String>,
    /// How long to ring before `no_answer`.
    #[schema(example = 25)]
    pub delay_seconds: u8,
}

/// Voicemail, as it is set.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it")]
pub(super) struct VoicemailPatchBody {
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Null for none. Stored hashed, never shown.
    pin: Option<PinText>,
}

/// Where calls go that are not taken, as it is set; null: nowhere else.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it")]
pub(in crate::http) struct CallForwardPatchBody {
    always: Option<DialNumberText>,
    busy: Option<DialNumberText>,
    no_answer: Option<DialNumberText>,
    unregistered: Option<DialNumberText>,
    #[schema(nullable = false, minimum = 5, maximum = 120)]
    delay_seconds: Option<u8>,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        let calls = user.calls;
        Self {
            id: user.id.0,
            tenant_id: user.tenant.0,
            name: user.name.as_str().to_owned(),
            email: user.email.as_str().to_owned(),
            extension: user.extension.get(),
            status: user.status.name().into(),
            role: user.role.name().into(),
            outbound_caller_id: written(calls.outbound_caller_id),
            voicemail: VoicemailBody {
                enabled: calls.voicemail_enabled,
                pin_set: calls.voicemail_pin.is_some(),
            },
            dnd: calls.dnd,
            call_forward: calls.forward.into(),
            metadata: user.metadata.as_object().clone(),
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

impl From<CallForward> for CallForwardBody {
    fn from(forward: CallForward) -> Self {
        Self {
            always: written(forward.always),
            busy: written(forward.busy),
            no_answer: written(forward.no_answer),
            unregistered: written(forward.unregistered),
            delay_seconds: forward.delay.seconds(),
        }
    }
}

fn written(number: Option<DialNumber>) -> Option<String> {
    number.map(|number| number.as_str().to_owned())
}

/// Reads the fields of a body that say how calls go.
pub(super) struct CallFields;

impl CallFields {
    /// `None` means that an error was noted.
    pub(super) fn read(fields: &mut Fields) -> Option<CallSettingsPatch<VoicemailPin>> {
        let outbound_caller_id = fields.patch_nullable("outbound_caller_id", text);
        let voicemail = fields.object("voicemail", |fields| {
            let enabled = fields.patch("enabled", boolean);
            let pin = fields.patch_nullable("pin", text);
            fields.read_only(&["pin_set"]);
            enabled.zip(pin)
        });
        let dnd = fields.patch("dnd", boolean);
        let forward = fields.object("call_forward", |fields| {
            let always = fields.patch_nullable("always", text);
            let busy = fields.patch_nullable("busy", text);
            let no_answer = fields.patch_nullable("no_answer", text);
            let unregistered = fields.patch_nullable("unregistered", text);
            let delay = fields.patch("delay_seconds", number);
            Some(CallForwardPatch {
                always: always?,
                busy: busy?,
                no_answer: no_answer?,
                unregistered: unregistered?,
                delay: delay?,
            })
        });
        let (voicemail_enabled, voicemail_pin) = voicemail?.unwrap_or((None, Patch::Keep));
        Some(CallSettingsPatch {
            outbound_caller_id: outbound_caller_id?,
            voicemail_enabled,
            voicemail_pin,
            dnd: dnd?,
            forward: forward?.unwrap_or_default(),
        })
    }
}
