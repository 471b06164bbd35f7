//! A person with an extension and a SIP account.

use std::fmt;
use std::str::FromStr;

use rand::{CryptoRng, RngExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::page::sort_keys;
use super::{Invalid, breaks_a_line, redacted, typed_id};

typed_id! {
    /// Which user.
    UserId
}

/// A living user.
#[derive(Clone, Debug)]
pub struct User {
    /// Which user.
    pub id: UserId,
    /// Shown to whoever is called.
    pub name: DisplayName,
    /// Unique among the living users of a tenant.
    pub email: Email,
    /// The number.
    pub extension: ExtensionNumber,
    /// What the administrator keeps with the user; the portal does not read it.
    pub metadata: Metadata,
    /// When the user was created.
    pub created_at: OffsetDateTime,
}

sort_keys! {
    /// What users are listed by.
    pub enum UserSort of Id, default Extension ascending {
        Extension = "extension" Number,
        Name = "name" Text,
        CreatedAt = "created_at" Time,
    }
}

/// What a user is created from.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Shown to whoever is called.
    pub name: DisplayName,
    /// Unique among the living users of a tenant.
    pub email: Email,
    /// Kept as given.
    pub metadata: Metadata,
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

/// The name that phones show: one line, 1 to 100 characters, at most 200 bytes, trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DisplayName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Invalid::new("empty", "must not be empty"));
        }
        if text.chars().count() > 100 || text.len() > 200 {
            return Err(Invalid::new(
                "too_long",
                "must be at most 100 characters and 200 bytes long",
            ));
        }
        if text.chars().any(breaks_a_line) {
            return Err(Invalid::new(
                "control_character",
                "must not hold control characters or line breaks",
            ));
        }
        Ok(Self(text.to_owned()))
    }
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

/// Largest metadata, written as JSON without blanks: 4 KiB.
const METADATA_BYTES_MAX: usize = 4096;

/// Deepest metadata; the object itself is level 1.
const METADATA_DEPTH_MAX: usize = 8;

/// What an administrator keeps with a user: a JSON object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// The object.
    pub const fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The object as a JSON value.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// With a change by RFC 7396: null removes a member, an object is merged, anything else
    /// replaces.
    ///
    /// # Errors
    /// The result is no metadata, e.g. too large.
    pub fn merged(self, change: Map<String, Value>) -> Result<Self, Invalid> {
        let mut object = self.0;
        merge(&mut object, change);
        Self::try_from(Value::Object(object))
    }

    /// What the database holds. Only its type is looked at: PostgreSQL writes numbers in a way of
    /// its own (`1e16` in 17 digits), and a limit for what comes in must not make whoever is stored
    /// unreadable.
    pub fn from_stored(value: Value) -> Result<Self, Invalid> {
        match value {
            Value::Object(object) => Ok(Self(object)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Err(Invalid::new("wrong_type", "must be a JSON object")),
        }
    }
}

impl TryFrom<Value> for Metadata {
    type Error = Invalid;

    fn try_from(value: Value) -> Result<Self, Invalid> {
        let Value::Object(object) = value else {
            return Err(Invalid::new("wrong_type", "must be a JSON object"));
        };
        if object
            .values()
            .any(|inner| deeper_than(inner, METADATA_DEPTH_MAX - 1))
        {
            return Err(Invalid::new(
                "too_deep",
                "must be nested at most 8 levels deep",
            ));
        }
        if object
            .iter()
            .any(|(key, inner)| key.contains('\0') || holds_nul(inner))
        {
            // PostgreSQL's jsonb refuses U+0000.
            return Err(Invalid::new(
                "control_character",
                "must not hold the character U+0000",
            ));
        }
        let metadata = Self(object);
        let written = serde_json::to_vec(&metadata.0).map_or(usize::MAX, |bytes| bytes.len());
        if written > METADATA_BYTES_MAX {
            return Err(Invalid::new(
                "too_long",
                "must be at most 4096 bytes of JSON",
            ));
        }
        Ok(metadata)
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Map<String, Value>, change: Map<String, Value>) {
    for (key, value) in change {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(inner) => {
                let mut object = match target.remove(&key) {
                    Some(Value::Object(object)) => object,
                    Some(_) | None => Map::new(),
                };
                merge(&mut object, inner);
                target.insert(key, Value::Object(object));
            }
            other => {
                target.insert(key, other);
            }
        }
    }
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|v| deeper_than(v, levels - 1)),
        Value::Object(map) => levels == 0 || map.values().any(|v| deeper_than(v, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, inner)| key.contains('\0') || holds_nul(inner)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(target: Value, change: Value) -> Result<Value, Invalid> {
        let Value::Object(change) = change else {
            panic!("no object")
        };
        let metadata = Metadata::from_stored(target)?;
        metadata.merged(change).map(Metadata::into_value)
    }

    #[test]
    fn metadata_is_changed_as_rfc_7396_says() {
        // Its appendix A, as far as it is about objects.
        for (target, change, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            assert_eq!(merged(target, change).unwrap(), result);
        }
    }

    #[test]
    fn the_limits_are_those_of_the_result() {
        let half = json!({ "a": "x".repeat(3000) });
        assert!(merged(json!({}), half.clone()).is_ok());
        let other = json!({ "b": "x".repeat(3000) });
        assert_eq!(merged(half.clone(), other).unwrap_err().code, "too_long");
        assert!(merged(half, json!({ "a": null, "b": "x".repeat(3000) })).is_ok());
        let nul = json!({ "a": { "b": "\u{0}" } });
        assert_eq!(
            merged(json!({}), nul).unwrap_err().code,
            "control_character"
        );
    }
}
