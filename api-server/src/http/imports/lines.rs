//! What a line wants: read by those who read the bodies of single users and devices.

use serde_json::Value;

use crate::domain::calling::VoicemailPin;
use crate::domain::user::UserPatch;
use crate::domain::{DeviceId, Invalid, UserId};
use crate::http::devices::settings;
use crate::http::extract::hyphenated;
use crate::http::fields::{FieldError, Fields, text};
use crate::http::users::user_patch;
use crate::services::bulk;
use crate::services::bulk::devices::Which;

/// Which user, if an id says it, and what is to be of it.
pub(in crate::http) type SaidOfUser = (Option<UserId>, UserPatch<VoicemailPin>);

/// What a line of users says.
pub(in crate::http) fn user(mut fields: Fields) -> Result<SaidOfUser, Vec<FieldError>> {
    let id = fields.patch("id", id);
    // What is wrong with the id is among what is wrong with the rest.
    let patch = user_patch(fields)?;
    let id = id.flatten().map(UserId);
    if id.is_none() && patch.email.is_none() {
        return Err(vec![unnamed("email")]);
    }
    Ok((id, patch))
}

/// What a line of devices says.
pub(in crate::http) fn device(
    mut fields: Fields,
) -> Result<bulk::devices::Wanted, Vec<FieldError>> {
    let id = fields.patch("id", id);
    let owner = fields.patch("user_email", text);
    let label = fields.patch("label", text);
    let username = fields.patch("sip_username", |value| {
        Ok(value.as_str().unwrap_or_default().to_owned())
    });
    let settings = settings(&mut fields);
    let nobody = matches!((&id, &owner), (Some(None), Some(None)));
    let wanted = (|| {
        let id = id?;
        Some(bulk::devices::Wanted {
            which: id.map_or(Which::Labelled, |id| Which::Id(DeviceId(id))),
            owner: owner?,
            label: label?,
            settings: settings?,
            sip_username: username?,
        })
    })();
    let wanted = fields.finish(wanted)?;
    if nobody {
        Err(vec![unnamed("user_email")])
    } else {
        Ok(wanted)
    }
}

const MALFORMED_ID: Invalid = Invalid {
    code: "malformed",
    message: "must be an id as an export writes it, or empty",
};

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn id(value: Value) -> Result<uuid::Uuid, Invalid> {
    value.as_str().and_then(hyphenated).ok_or(MALFORMED_ID)
}

fn unnamed(field: &str) -> FieldError {
    let reason = Invalid {
        code: "missing",
        message: "is needed where there is no id: nobody is meant otherwise",
    };
    FieldError::new(field, reason)
}
