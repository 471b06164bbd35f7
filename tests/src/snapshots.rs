//! Snapshots without a database: what a portal would render, said in a few words.

use anyhow::Context as _;
use api_server::domain::device::{Codecs, DigestAlgorithm, Nat};
use api_server::domain::snapshot::{Snapshot, SnapshotDevice, SnapshotTenant, SnapshotUser};
use api_server::domain::{DeviceId, SipPassword, TenantId, UserId};
use secrecy::SecretString;
use uuid::Uuid;

/// The realm of every snapshot.
pub const REALM: &str = "synergycall";

/// A device in the place `slot` with what a device has unless somebody says otherwise.
pub fn device(slot: u32, sip_password: &str) -> anyhow::Result<SnapshotDevice> {
    Ok(SnapshotDevice {
        device_id: DeviceId(Uuid::from_u128(slot.into())),
        slot: slot.try_into()?,
        sip_password: password(sip_password)?,
        previous_password: None,
        algorithm: DigestAlgorithm::Md5,
        transport: None,
        nat: Nat::default(),
        codecs: Codecs::default(),
    })
}

/// A SIP password of 12 to 64 letters and digits.
pub fn password(text: &str) -> anyhow::Result<SipPassword> {
    Ok(SipPassword::try_from(SecretString::from(text))?)
}

/// A user with these devices.
pub fn user(
    extension: u32,
    name: &str,
    devices: Vec<SnapshotDevice>,
) -> anyhow::Result<SnapshotUser> {
    Ok(SnapshotUser {
        user_id: UserId(Uuid::from_u128(extension.into())),
        extension: extension.try_into()?,
        name: name.parse()?,
        email: format!("user{extension}@example.org").parse()?,
        devices,
    })
}

/// A tenant of these users.
pub fn tenant(number: u32, users: Vec<SnapshotUser>) -> anyhow::Result<SnapshotTenant> {
    Ok(SnapshotTenant {
        id: TenantId(Uuid::from_u128(number.into())),
        number: number.try_into()?,
        users,
    })
}

/// A PBX with these tenants, of which the default one may have the numbers 1000 to 1999.
pub fn snapshot(tenants: Vec<SnapshotTenant>) -> anyhow::Result<Snapshot> {
    Ok(Snapshot {
        realm: REALM.parse().context("a realm")?,
        reserved_numbers: vec![1000..=1999],
        tenants,
    })
}
