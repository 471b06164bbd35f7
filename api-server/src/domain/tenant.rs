//! An organisation that uses a PBX.

use super::typed_id;

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

/// The tenant that the first migration creates, and the only one so far (FR-016).
pub const DEFAULT_TENANT: TenantId = TenantId(uuid::uuid!("01900000-0000-7000-8000-000000000002"));
