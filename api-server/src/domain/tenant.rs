//! An organisation that uses a PBX.

use super::typed_id;

typed_id! {
    /// Which tenant.
    TenantId
}

/// The tenant that the first migration creates, and the only one so far (FR-016).
pub const DEFAULT_TENANT: TenantId = TenantId(uuid::uuid!("01900000-0000-7000-8000-000000000002"));
