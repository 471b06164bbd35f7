//! Rendering: a pure function from a snapshot to a bundle. No async, clock, randomness, SQL or
//! files; equal snapshots give equal bytes.
//!
//! Everything that becomes Asterisk text passes through `text::ConfText`. A file of Asterisk's
//! configuration has one module here.

mod endpoints;
mod routing;
mod text;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use shared::bundle::{Bundle, Slot};

use crate::domain::TenantNumber;
use crate::domain::device::{ContextName, context_name};
use crate::domain::snapshot::{Snapshot, SnapshotDevice, SnapshotTenant, SnapshotUser};
use text::Hex;
pub use text::Unsafe;

/// A snapshot that must not become Asterisk text.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A value holds what no rule of escaping can carry.
    #[error("user {user} (device {name}): {fault}")]
    Device {
        /// The user's id.
        user: String,
        /// What Asterisk would know the device by.
        name: String,
        /// What is wrong.
        fault: Unsafe,
    },
    /// Two tenants have the same number.
    #[error("tenant number {0} is taken twice")]
    DuplicateTenant(String),
    /// Two users of a tenant have the same extension.
    #[error("extension {extension} of tenant {tenant} is taken twice")]
    DuplicateExtension {
        /// The tenant's number.
        tenant: String,
        /// The extension.
        extension: String,
    },
    /// Two devices of a user have the same place.
    #[error("extension {extension} of tenant {tenant} has two devices in the place {slot}")]
    DuplicateSlot {
        /// The tenant's number.
        tenant: String,
        /// The extension.
        extension: String,
        /// The place's letter.
        slot: char,
    },
    /// A plain number outside what is reserved for the portal.
    #[error("extension {0} is outside the range reserved for the portal")]
    OutsideRange(String),
}

/// Renders every file of a PBX.
///
/// # Errors
/// What the snapshot holds can be no Asterisk text. It never happens with values that passed the
/// domain's constructors; it is checked again here because the price of a newline in a name would
/// be a section of somebody else's choosing.
pub fn render(snapshot: &Snapshot) -> Result<Bundle, RenderError> {
    let tenants = ordered(snapshot)?;
    let endpoints = endpoints::body(&snapshot.realm, &tenants)?;
    let routing = routing::body(&tenants);
    let files = BTreeMap::from([
        (
            Slot::PjsipEndpoints,
            endpoints::file(endpoints).into_bytes(),
        ),
        (Slot::DialplanRouting, routing::file(routing).into_bytes()),
    ]);
    Ok(Bundle {
        files,
        reserved_numbers: snapshot.reserved_numbers.clone(),
    })
}

/// A tenant with something to render.
struct Tenant<'a> {
    number: TenantNumber,
    context: ContextName,
    /// By falling extension: Asterisk inserts extensions into a sorted list from its head, so that a
    /// rising order costs a quadratic time (50,000 in 53 s instead of 0.15 s, measured).
    users: Vec<User<'a>>,
}

/// A user with a device.
struct User<'a> {
    known: &'a SnapshotUser,
    /// By their places.
    devices: Vec<&'a SnapshotDevice>,
}

/// What there is to render, in an order that does not depend on the snapshot's: rising tenants, of
/// each falling extensions, of each rising places. The default tenant is always there: whatever the
/// administrator's dialplan includes must exist.
fn ordered(snapshot: &Snapshot) -> Result<Vec<Tenant<'_>>, RenderError> {
    let mut known: Vec<&SnapshotTenant> = snapshot.tenants.iter().collect();
    known.sort_unstable_by_key(|tenant| tenant.number);
    if let Some(pair) = twice(&known, |tenant| tenant.number) {
        return Err(RenderError::DuplicateTenant(pair.number.to_string()));
    }
    let mut tenants = Vec::with_capacity(known.len() + 1);
    if known.first().map(|tenant| tenant.number) != Some(TenantNumber::DEFAULT) {
        tenants.push(Tenant {
            number: TenantNumber::DEFAULT,
            context: context_name(TenantNumber::DEFAULT),
            users: Vec::new(),
        });
    }
    for tenant in known {
        let users = ordered_users(snapshot, tenant)?;
        if tenant.number == TenantNumber::DEFAULT || !users.is_empty() {
            tenants.push(Tenant {
                number: tenant.number,
                context: context_name(tenant.number),
                users,
            });
        }
    }
    Ok(tenants)
}

fn ordered_users<'a>(
    snapshot: &Snapshot,
    tenant: &'a SnapshotTenant,
) -> Result<Vec<User<'a>>, RenderError> {
    let number = || tenant.number.to_string();
    let mut known: Vec<&SnapshotUser> = tenant.users.iter().collect();
    known.sort_unstable_by_key(|user| std::cmp::Reverse(user.extension));
    if let Some(user) = twice(&known, |user| user.extension) {
        return Err(RenderError::DuplicateExtension {
            tenant: number(),
            extension: user.extension.to_string(),
        });
    }
    let is_reserved = |user: &SnapshotUser| {
        let mut ranges = snapshot.reserved_numbers.iter();
        ranges.any(|range| range.contains(&user.extension.get()))
    };
    let mut users = Vec::with_capacity(known.len());
    for user in known {
        // Names of the portal's own form need no range to be reserved.
        if tenant.number == TenantNumber::DEFAULT && !is_reserved(user) {
            return Err(RenderError::OutsideRange(user.extension.to_string()));
        }
        let mut devices: Vec<&SnapshotDevice> = user.devices.iter().collect();
        devices.sort_unstable_by_key(|device| device.slot);
        if let Some(device) = twice(&devices, |device| device.slot) {
            return Err(RenderError::DuplicateSlot {
                tenant: number(),
                extension: user.extension.to_string(),
                slot: device.slot.letter(),
            });
        }
        if !devices.is_empty() {
            users.push(User {
                known: user,
                devices,
            });
        }
    }
    Ok(users)
}

/// The first of what is sorted that has the same key as the one before it.
fn twice<'a, T, K: PartialEq>(sorted: &[&'a T], key: fn(&T) -> K) -> Option<&'a T> {
    let pair = sorted
        .windows(2)
        .find(|pair| key(pair[0]) == key(pair[1]))?;
    Some(pair[1])
}

/// What tells one file from another in a running Asterisk: a hash of all else that stands in it, so
/// that equal content has the equal mark, and a file that did not change need not be read again.
struct Generation {
    id: Hex,
    unusable_ha1: Hex,
}

impl Generation {
    fn of(body: &str) -> Self {
        let hash = |label: &str| {
            Sha256::new()
                .chain_update(label)
                .chain_update(body)
                .finalize()
        };
        Self {
            id: Hex::new("g-", &hash("generation:")[..8]),
            // The marker's auth needs some digest. Nobody knows a password for it, and whoever
            // could compute it has read the whole file.
            unusable_ha1: Hex::new("MD5:", &hash("generation auth:")[..16]),
        }
    }
}

#[cfg(test)]
mod tests;
