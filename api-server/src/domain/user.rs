//! A person with an extension.

use std::fmt;
use std::str::FromStr;

use rand::{CryptoRng, RngExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::audit::{mark_changed, told_time};
use super::calling::{CallSettings, CallSettingsPatch, PinHash};
use super::patch::{Patch, set};
use super::tenant::ServiceStatus;
use super::{Invalid, Metadata, Permission, Role, TenantId, Version, name, redacted, typed_id};

typed_id! {
    /// Which user.
    UserId
}

/// A living user.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Which user.
    pub id: UserId,
    /// Whose user.
    pub tenant: TenantId,
    /// Shown to whoever is called.
    pub name: DisplayName,
    /// Unique among the living users of a tenant.
    pub email: Email,
    /// The number.
    pub extension: ExtensionNumber,
    /// Whether the user's phones are in service.
    pub status: ServiceStatus,
    /// What the user may do in the portal, if there is an account to it.
    pub role: UserRole,
    /// How calls go.
    pub calls: CallSettings,
    /// What the administrator keeps with the user; the portal does not read it.
    pub metadata: Metadata,
    /// Raised by each change.
    pub version: Version,
    /// When the user was created.
    pub created_at: OffsetDateTime,
    /// When the user was changed last.
    pub updated_at: OffsetDateTime,
}

impl User {
    /// What it becomes by a change, but for the version.
    ///
    /// # Errors
    /// Its metadata would be larger or deeper than metadata may be.
    pub fn patched(&self, patch: UserPatch) -> Result<Self, Invalid> {
        let mut user = self.clone();
        set(&mut user.name, patch.name);
        set(&mut user.email, patch.email);
        set(&mut user.extension, patch.extension);
        set(&mut user.status, patch.status);
        set(&mut user.role, patch.role);
        user.calls.apply(patch.calls);
        if let Some(metadata) = patch.metadata {
            user.metadata = user.metadata.merged(metadata)?;
        }
        Ok(user)
    }

    /// What the audit trail keeps of it.
    pub fn told(&self) -> Value {
        let mut told = json!({
            "id": self.id.0,
            "tenant_id": self.tenant.0,
            "name": self.name.as_str(),
            "email": self.email.as_str(),
            "extension": self.extension.get(),
            "status": self.status.name(),
            "role": self.role.name(),
            "metadata": self.metadata.as_object(),
            "version": self.version.0,
            "created_at": told_time(self.created_at),
            "updated_at": told_time(self.updated_at),
        });
        for (name, value) in self.calls.told() {
            told[name] = value;
        }
        told
    }

    /// Likewise once it has become what it is from `before`.
    pub fn told_after(&self, before: &Self) -> Value {
        let mut told = self.told();
        if self.calls.voicemail_pin != before.calls.voicemail_pin {
            mark_changed(&mut told, "/voicemail/pin");
        }
        told
    }
}

/// What is left of a user: no number, no device.
#[derive(Clone, Debug)]
pub struct DeletedUser {
    /// Which user.
    pub id: UserId,
    /// Whose user.
    pub tenant: TenantId,
    /// As it was.
    pub name: DisplayName,
    /// As it was.
    pub email: Email,
    /// Raised by each change.
    pub version: Version,
    /// When the user was created.
    pub created_at: OffsetDateTime,
    /// When the user was deleted.
    pub deleted_at: OffsetDateTime,
    /// By whom.
    pub deleted_by: String,
}

impl DeletedUser {
    /// What the audit trail keeps of it.
    pub fn told(&self) -> Value {
        json!({
            "id": self.id.0,
            "tenant_id": self.tenant.0,
            "name": self.name.as_str(),
            "email": self.email.as_str(),
            "version": self.version.0,
            "created_at": told_time(self.created_at),
            "deleted_at": told_time(self.deleted_at),
            "deleted_by": self.deleted_by,
        })
    }
}

/// What a user is created from, with a PIN that is hashed already.
#[derive(Clone, Debug)]
pub struct NewUser<P = PinHash> {
    /// As of [`User`].
    pub name: DisplayName,
    /// As of [`User`].
    pub email: Email,
    /// The number that is wanted; the lowest free one when `None`.
    pub extension: Option<ExtensionNumber>,
    /// As of [`User`].
    pub status: ServiceStatus,
    /// As of [`User`].
    pub role: UserRole,
    /// As of [`User`].
    pub calls: CallSettingsPatch<P>,
    /// Kept as given.
    pub metadata: Metadata,
}

impl<P> NewUser<P> {
    /// What whoever asks for it must hold, beside what every new user needs: a role that does more for
    /// others than its own is an administrator's to give.
    pub fn needs(&self) -> Option<Permission> {
        (self.role != UserRole::default()).then_some(Permission::AccountsWrite)
    }
}

/// A partial change of a user.
#[derive(Clone, Debug, Default)]
pub struct UserPatch<P = PinHash> {
    /// As of [`User`].
    pub name: Option<DisplayName>,
    /// As of [`User`].
    pub email: Option<Email>,
    /// Another number: the names of the user's endpoints are made of it.
    pub extension: Option<ExtensionNumber>,
    /// As of [`User`].
    pub status: Option<ServiceStatus>,
    /// As of [`User`].
    pub role: Option<UserRole>,
    /// As of [`User`].
    pub calls: CallSettingsPatch<P>,
    /// To be merged into what is there.
    pub metadata: Option<Map<String, Value>>,
}

impl<P> UserPatch<P> {
    /// The same with another PIN.
    pub fn with_pin<Q>(self, voicemail_pin: Patch<Q>) -> UserPatch<Q> {
        UserPatch {
            name: self.name,
            email: self.email,
            extension: self.extension,
            status: self.status,
            role: self.role,
            calls: self.calls.with_pin(voicemail_pin),
            metadata: self.metadata,
        }
    }

    /// What whoever asks for it must hold, beside what every change of a user needs. A role is more
    /// than a word about a person: it says what the person's account may do.
    pub fn needs(&self) -> impl Iterator<Item = Permission> + use<P> {
        let Self {
            name,
            email,
            extension,
            status,
            role,
            calls,
            metadata,
        } = self;
        let more_than_calls = name.is_some()
            || email.is_some()
            || extension.is_some()
            || status.is_some()
            || role.is_some()
            || metadata.is_some()
            || !matches!(calls.outbound_caller_id, Patch::Keep);
        let user = more_than_calls.then_some(Permission::UsersWrite);
        let account = role.is_some().then_some(Permission::AccountsWrite);
        let calls = calls.is_of_calls().then_some(Permission::UsersCalls);
        user.into_iter().chain(account).chain(calls)
    }
}

/// A role that a user of a tenant may have: any but that of a platform administrator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserRole(Role);

impl UserRole {
    /// The role.
    pub const fn get(self) -> Role {
        self.0
    }

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        self.0.name()
    }
}

impl FromStr for UserRole {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(role @ (Role::User | Role::Operator | Role::TenantAdmin)) => Ok(Self(role)),
            Ok(Role::PlatformAdmin) | Err(_) => Err(Invalid::new(
                "unknown_value",
                "must be \"user\", \"operator\" or \"tenant_admin\"",
            )),
        }
    }
}

/// An extension number: 2 to 8 digits, no leading zero. Which of them a tenant may use is the
/// tenant's range (FR-002: 1000 to 1999 for the default tenant).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtensionNumber(u32);

impl ExtensionNumber {
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ExtensionNumber {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Invalid> {
        if (10..=99_999_999).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Invalid::new(
                "out_of_range",
                "an extension has 2 to 8 digits",
            ))
        }
    }
}

impl fmt::Display for ExtensionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

name! {
    /// The name that phones show: one line, 1 to 100 characters, at most 200 bytes, trimmed.
    DisplayName, 100, 200, "must be at most 100 characters and 200 bytes long"
}

/// An e-mail address that SMTP takes as it stands: ASCII, at most 254 bytes (RFC 5321 §4.5.3.1.3),
/// unquoted local part, a domain name. It keeps the case it was given; comparison ignores it.
#[derive(Clone, Debug)]
pub struct Email(String);

impl Email {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Email {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Email {}

impl FromStr for Email {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("empty", "must not be empty"));
        }
        if text.len() > 254 {
            return Err(Invalid::new("too_long", "must be at most 254 bytes long"));
        }
        // Stricter than garde: `|` divides fields in voicemail.conf, an address literal is no
        // address of a person, and SMTP knows no empty atom in an unquoted local part.
        let local = text.split('@').next().unwrap_or_default();
        let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
        let hostile = text.contains(['|', '[', ']']);
        if dots || hostile || garde::rules::email::parse_email(text).is_err() {
            return Err(Invalid::new(
                "malformed",
                "must be an e-mail address such as ann@example.com",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Characters of a generated SIP password: 24 of 62 are 142 bits.
const SIP_PASSWORD_CHARS: usize = 24;

/// What a SIP password consists of: nothing that a phone's form or a configuration file treats
/// specially.
const SIP_PASSWORD_ALPHABET: &[u8; 62] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// What a phone registers with. Shown once, stored encrypted, never logged.
#[derive(Clone)]
pub struct SipPassword(SecretString);

impl SipPassword {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let text: String = (0..SIP_PASSWORD_CHARS)
            .map(|_| char::from(SIP_PASSWORD_ALPHABET[rng.random_range(0..62)]))
            .collect();
        Self(text.into())
    }

    /// The clear text, for the reply to whoever created it and for making digests.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl TryFrom<SecretString> for SipPassword {
    type Error = Invalid;

    fn try_from(text: SecretString) -> Result<Self, Invalid> {
        let exposed = text.expose_secret();
        let plain = exposed.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if plain && (12..=64).contains(&exposed.len()) {
            Ok(Self(text))
        } else {
            Err(Invalid::new(
                "malformed",
                "a SIP password is 12 to 64 of A-Z, a-z and 0-9",
            ))
        }
    }
}

impl fmt::Debug for SipPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "SipPassword")
    }
}
