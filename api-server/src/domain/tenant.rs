//! An organisation that uses a PBX.

use std::fmt;

use super::{Invalid, typed_id};

typed_id! {
    /// Which tenant.
    TenantId
}

/// A tenant, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Which tenant.
    pub id: TenantId,
    /// What people call it.
    pub name: String,
}

/// The tenant that the first migration creates (FR-016).
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
