//! `pjsip.d/synergycall/generated_endpoints.conf` (FR-007): endpoint, auth and AOR of each
//! extension.

use md5::{Digest as _, Md5};
use shared::bundle::GENERATION_MARKER;

use super::text::{ConfText, Hex, Unsafe, caller_id};
use super::{Generation, INTERNAL_CONTEXT, RenderError};
use crate::domain::SipRealm;
use crate::domain::snapshot::SnapshotUser;

/// Longest registration, in seconds. A phone that is switched off or taken away stops being rung
/// after ten minutes instead of Asterisk's two hours.
const REGISTRATION_SECONDS_MAX: &str = "600";

/// Everything but the marker.
pub(super) fn body(realm: &SipRealm, users: &[&SnapshotUser]) -> Result<String, RenderError> {
    let mut text = ConfText::new();
    for user in users {
        objects(&mut text, realm, user).map_err(|fault| RenderError::User {
            user: user.user_id.to_string(),
            extension: user.extension.to_string(),
            fault,
        })?;
    }
    Ok(text.finish())
}

fn objects(text: &mut ConfText, realm: &SipRealm, user: &SnapshotUser) -> Result<(), Unsafe> {
    text.extension_section(user.extension);
    text.fixed("type", "endpoint");
    text.fixed("context", INTERNAL_CONTEXT);
    text.fixed("disallow", "all");
    text.fixed("allow", "ulaw,alaw");
    text.number("auth", user.extension);
    text.number("aors", user.extension);
    text.set("callerid", &caller_id(user.name.as_str(), user.extension))?;
    // Phones behind NAT: answer where the packet came from, keep the media on the PBX.
    text.fixed("direct_media", "no");
    text.fixed("rtp_symmetric", "yes");
    text.fixed("force_rport", "yes");
    text.fixed("rewrite_contact", "yes");

    text.extension_section(user.extension);
    text.fixed("type", "auth");
    text.fixed("auth_type", "digest");
    text.number("username", user.extension);
    text.set("realm", realm.as_str())?;
    // MD5 alone: several phones fail when a stronger algorithm is offered beside it.
    text.hash("password_digest", &ha1(realm, user));

    text.extension_section(user.extension);
    text.fixed("type", "aor");
    text.fixed("max_contacts", "1");
    text.fixed("remove_existing", "yes");
    text.fixed("maximum_expiration", REGISTRATION_SECONDS_MAX);
    text.fixed("qualify_frequency", "60");
    Ok(())
}

/// The hash that a registrar needs instead of the password (RFC 2617, A1). It opens this realm to
/// whoever has it, so it is as secret as the password within it.
fn ha1(realm: &SipRealm, user: &SnapshotUser) -> Hex {
    let username = user.extension.to_string();
    let mut hasher = Md5::new();
    for part in [
        &username,
        ":",
        realm.as_str(),
        ":",
        user.sip_password.expose(),
    ] {
        hasher.update(part);
    }
    Hex::new("MD5:", &hasher.finalize())
}

/// The whole file: the marker's objects come last, so that whatever cuts the file short takes them
/// with it. The endpoint is no door: its auth has a digest without a password, its context one
/// extension that does nothing.
pub(super) fn file(body: String) -> String {
    let generation = Generation::of(&body);
    let mut text = ConfText::resume(body);
    text.section(GENERATION_MARKER);
    text.fixed("type", "aor");
    text.fixed("max_contacts", "0");
    text.hash("voicemail_extension", &generation.id);

    text.section(GENERATION_MARKER);
    text.fixed("type", "auth");
    text.fixed("auth_type", "digest");
    text.hash("username", &generation.id);
    text.hash("password_digest", &generation.unusable_ha1);

    text.section(GENERATION_MARKER);
    text.fixed("type", "endpoint");
    text.fixed("context", GENERATION_MARKER);
    text.fixed("disallow", "all");
    text.fixed("auth", GENERATION_MARKER);
    text.hash("accountcode", &generation.id);
    text.finish()
}
