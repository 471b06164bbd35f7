//! An organisation that uses a PBX.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::audit::told_time;
use super::{DisplayName, ExtensionNumber, Invalid, Metadata, PbxId, Version, typed_id};

typed_id! {
    /// Which tenant.
    TenantId
}

/// The tenant that the first migration creates, whose users are found without naming a tenant
/// (FR-016).
pub const DEFAULT_TENANT: TenantId = TenantId(uuid::uuid!("01900000-0000-7000-8000-000000000002"));

/// What stands for a tenant in Asterisk's names: short, unique, and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantNumber(u32);

impl TenantNumber {
    /// The number of [`DEFAULT_TENANT`].
    pub const DEFAULT: Self = Self(shared::names::DEFAULT_TENANT);

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for TenantNumber {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Invalid> {
        if (1..=i32::MAX.unsigned_abs()).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Invalid::new(
                "out_of_range",
                "a tenant's number is 1 to 2147483647",
            ))
        }
    }
}

impl fmt::Display for TenantNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A tenant, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantBrief {
    /// Which tenant.
    pub id: TenantId,
    /// What people call it.
    pub name: String,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// Which tenant.
    pub id: TenantId,
    /// What stands for it in Asterisk's names.
    pub number: TenantNumber,
    /// What a URL calls it.
    pub slug: Slug,
    /// What people call it.
    pub name: DisplayName,
    /// Which PBX serves it.
    pub pbx: PbxId,
    /// Its numbers.
    pub extensions: ExtensionRange,
    /// Whether its phones are in service.
    pub status: ServiceStatus,
    /// What the administrator keeps with it; the portal does not read it.
    pub metadata: Metadata,
    /// Raised by each change.
    pub version: Version,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub updated_at: OffsetDateTime,
}

impl Tenant {
    /// What the audit trail keeps of it.
    pub fn told(&self) -> Value {
        json!({
            "id": self.id.0,
            "number": self.number.get(),
            "slug": self.slug.as_str(),
            "name": self.name.as_str(),
            "pbx_id": self.pbx.0,
            "ext_min": self.extensions.min.get(),
            "ext_max": self.extensions.max.get(),
            "status": self.status.name(),
            "metadata": self.metadata.as_object(),
            "version": self.version.0,
            "created_at": told_time(self.created_at),
            "updated_at": told_time(self.updated_at),
        })
    }
}

/// What a tenant is created from.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// As of [`Tenant`].
    pub slug: Slug,
    /// As of [`Tenant`].
    pub name: DisplayName,
    /// As of [`Tenant`].
    pub pbx: PbxId,
    /// As of [`Tenant`].
    pub extensions: ExtensionRange,
    /// As of [`Tenant`].
    pub metadata: Metadata,
}

/// A partial change of a tenant.
#[derive(Clone, Debug, Default)]
pub struct TenantPatch {
    /// As of [`Tenant`].
    pub slug: Option<Slug>,
    /// As of [`Tenant`].
    pub name: Option<DisplayName>,
    /// As of [`Tenant`].
    pub pbx: Option<PbxId>,
    /// As of [`ExtensionRange`].
    pub ext_min: Option<ExtensionNumber>,
    /// As of [`ExtensionRange`].
    pub ext_max: Option<ExtensionNumber>,
    /// As of [`Tenant`].
    pub status: Option<ServiceStatus>,
    /// To be merged into what is there.
    pub metadata: Option<Map<String, Value>>,
}

/// Whether phones are in service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceStatus {
    /// They are.
    #[default]
    Active,
    /// They are refused after the next apply; the numbers are kept.
    Suspended,
}

impl ServiceStatus {
    const ALL: [Self; 2] = [Self::Active, Self::Suspended];

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

impl FromStr for ServiceStatus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|status| status.name() == text);
        known.ok_or(Invalid::new(
            "unknown_value",
            "must be \"active\" or \"suspended\"",
        ))
    }
}

/// The numbers that a tenant may give to its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionRange {
    /// The lowest.
    pub min: ExtensionNumber,
    /// The highest; not below the lowest.
    pub max: ExtensionNumber,
}

impl ExtensionRange {
    /// From the lowest to the highest.
    ///
    /// # Errors
    /// The highest is below the lowest.
    pub fn new(min: ExtensionNumber, max: ExtensionNumber) -> Result<Self, Invalid> {
        if min <= max {
            Ok(Self { min, max })
        } else {
            Err(Invalid::new("out_of_range", "must not be below ext_min"))
        }
    }

    /// Whether a number lies in it.
    pub fn contains(&self, number: ExtensionNumber) -> bool {
        (self.min..=self.max).contains(&number)
    }
}

/// What a URL calls a tenant: 1 to 32 of `a-z`, `0-9` and, within, `-`. Shorter than a UUID, so
/// that it cannot be taken for an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slug(String);

impl Slug {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let framed = !text.starts_with('-') && !text.ends_with('-');
        if (1..=32).contains(&text.len()) && framed && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "must be 1 to 32 of a-z, 0-9 and '-', and begin and end with a letter or digit",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        for good in ["a", "0", "acme", "acme-2", &"a".repeat(32)] {
            assert!(good.parse::<Slug>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a b",
            "a/b",
            "..",
            "ä",
            "a\n",
            &"a".repeat(33),
        ] {
            assert!(bad.parse::<Slug>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_range_does_not_end_before_it_begins() {
        let number = |n: u32| ExtensionNumber::try_from(n).unwrap();
        let range = ExtensionRange::new(number(100), number(199)).unwrap();
        assert!(range.contains(number(100)) && range.contains(number(199)));
        assert!(!range.contains(number(99)) && !range.contains(number(200)));
        assert!(ExtensionRange::new(number(100), number(99)).is_err());
    }
}
