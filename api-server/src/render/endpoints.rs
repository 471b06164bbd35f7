//! `pjsip.d/synergycall/generated_endpoints.conf` (FR-007): endpoint, auth and AOR of each device.

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use shared::bundle::GENERATION_MARKER;

use super::text::{ConfText, Hex, Unsafe, caller_id};
use super::{Generation, RenderError, Tenant, User};
use crate::domain::device::{ContextName, DigestAlgorithm, EndpointName, endpoint_name};
use crate::domain::snapshot::SnapshotDevice;
use crate::domain::{SipPassword, SipRealm};

/// Longest registration, in seconds. A phone that is switched off or taken away stops being rung
/// after ten minutes instead of Asterisk's two hours.
const REGISTRATION_SECONDS_MAX: &str = "600";

/// Everything but the marker.
pub(super) fn body(realm: &SipRealm, tenants: &[Tenant<'_>]) -> Result<String, RenderError> {
    let mut text = ConfText::new();
    for tenant in tenants {
        for user in &tenant.users {
            for &device in &user.devices {
                let account = Account {
                    realm,
                    context: &tenant.context,
                    user,
                    device,
                    name: endpoint_name(tenant.number, user.known.extension, device.slot),
                };
                account
                    .write(&mut text)
                    .map_err(|fault| RenderError::Device {
                        user: user.known.user_id.to_string(),
                        name: account.name.to_string(),
                        fault,
                    })?;
            }
        }
    }
    Ok(text.finish())
}

/// What Asterisk knows of a device.
struct Account<'a> {
    realm: &'a SipRealm,
    context: &'a ContextName,
    user: &'a User<'a>,
    device: &'a SnapshotDevice,
    name: EndpointName,
}

impl Account<'_> {
    fn write(&self, text: &mut ConfText) -> Result<(), Unsafe> {
        self.endpoint(text)?;
        text.device_section(&self.name);
        self.auth(text, &self.device.sip_password)?;
        if let Some(previous) = &self.device.previous_password {
            text.old_section(&self.name);
            self.auth(text, previous)?;
        }
        text.device_section(&self.name);
        text.fixed("type", "aor");
        text.fixed("max_contacts", "1");
        text.fixed("remove_existing", "yes");
        text.fixed("maximum_expiration", REGISTRATION_SECONDS_MAX);
        text.fixed("qualify_frequency", "60");
        Ok(())
    }

    fn endpoint(&self, text: &mut ConfText) -> Result<(), Unsafe> {
        let (user, device) = (self.user.known, self.device);
        text.device_section(&self.name);
        text.fixed("type", "endpoint");
        text.context("context", self.context);
        if let Some(transport) = &device.transport {
            text.set("transport", transport.as_str())?;
        }
        text.fixed("disallow", "all");
        text.words("allow", device.codecs.names());
        // With two auths of one realm, name and algorithm, Asterisk 22 sends one challenge and takes
        // an answer by either password, for registrations and calls (tried with SIPp). Of several
        // `password_digest` of one algorithm in an auth it takes the last alone.
        if device.previous_password.is_some() {
            text.device_and_old("auth", &self.name);
        } else {
            text.device("auth", &self.name);
        }
        text.device("aors", &self.name);
        text.set("callerid", &caller_id(user.name.as_str(), user.extension))?;
        text.yes_no("direct_media", device.nat.direct_media);
        text.yes_no("rtp_symmetric", device.nat.rtp_symmetric);
        text.yes_no("force_rport", device.nat.force_rport);
        text.yes_no("rewrite_contact", device.nat.rewrite_contact);
        Ok(())
    }

    /// An auth object behind its section's line.
    fn auth(&self, text: &mut ConfText, password: &SipPassword) -> Result<(), Unsafe> {
        text.fixed("type", "auth");
        text.fixed("auth_type", "digest");
        text.device("username", &self.name);
        text.set("realm", self.realm.as_str())?;
        // One algorithm and no other: several phones fail when a stronger one is offered beside
        // MD5. Asterisk takes MD5 alone for granted, and wants to be told of any other twice, or
        // it refuses the object for lack of an MD5 digest.
        if let Some(algorithm) = uncommon(self.device.algorithm) {
            text.fixed("supported_algorithms_uas", algorithm);
            text.fixed("supported_algorithms_uac", algorithm);
        }
        text.hash("password_digest", &self.ha1(password));
        Ok(())
    }

    /// The hash that a registrar needs instead of the password (RFC 7616, A1). It opens this realm
    /// to whoever has it, so it is as secret as the password within it.
    fn ha1(&self, password: &SipPassword) -> Hex {
        let parts = [
            self.name.as_str(),
            ":",
            self.realm.as_str(),
            ":",
            password.expose(),
        ];
        match self.device.algorithm {
            DigestAlgorithm::Md5 => Hex::new("MD5:", &hash::<Md5>(&parts)),
            DigestAlgorithm::Sha256 => Hex::new("SHA-256:", &hash::<Sha256>(&parts)),
            DigestAlgorithm::Sha512_256 => Hex::new("SHA-512-256:", &hash::<Sha512_256>(&parts)),
        }
    }
}

/// What Asterisk calls an algorithm that it does not take for granted.
const fn uncommon(algorithm: DigestAlgorithm) -> Option<&'static str> {
    match algorithm {
        DigestAlgorithm::Md5 => None,
        DigestAlgorithm::Sha256 => Some("SHA-256"),
        DigestAlgorithm::Sha512_256 => Some("SHA-512-256"),
    }
}

fn hash<D: Digest>(parts: &[&str]) -> Vec<u8> {
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_vec()
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
