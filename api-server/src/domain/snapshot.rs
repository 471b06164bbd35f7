//! What the database said at one instant: the only input of rendering. It holds what is to be in
//! service and nothing else: no suspended tenant or user, no disabled device.

use std::ops::RangeInclusive;

use super::device::{Codecs, DigestAlgorithm, Nat, TransportSection};
use super::{
    DeviceId, DeviceSlot, DisplayName, Email, ExtensionNumber, SipPassword, SipRealm, TenantId,
    TenantNumber, UserId,
};

/// Everything of one PBX that its configuration depends on.
#[derive(Debug)]
pub struct Snapshot {
    /// The realm that SIP digests are made for.
    pub realm: SipRealm,
    /// Plain numbers that are names of the portal's objects: the range of the default tenant if
    /// this is its PBX. Endpoints of other tenants are never called by a plain number.
    pub reserved_numbers: Vec<RangeInclusive<u32>>,
    /// In any order.
    pub tenants: Vec<SnapshotTenant>,
}

/// An organisation.
#[derive(Debug)]
pub struct SnapshotTenant {
    /// Which tenant.
    pub id: TenantId,
    /// Stands for it in names.
    pub number: TenantNumber,
    /// In any order.
    pub users: Vec<SnapshotUser>,
}

/// A person with an extension.
#[derive(Debug)]
pub struct SnapshotUser {
    /// Which user.
    pub user_id: UserId,
    /// The number.
    pub extension: ExtensionNumber,
    /// Shown to whoever is called.
    pub name: DisplayName,
    /// For voicemail and notices.
    pub email: Email,
    /// All of them ring, in any order.
    pub devices: Vec<SnapshotDevice>,
}

/// A phone or an app.
#[derive(Debug)]
pub struct SnapshotDevice {
    /// Which device.
    pub device_id: DeviceId,
    /// Its place among those of its user.
    pub slot: DeviceSlot,
    /// What it registers with.
    pub sip_password: SipPassword,
    /// What it may register with as well, during a change of the password.
    pub previous_password: Option<SipPassword>,
    /// How it proves that it knows its password.
    pub algorithm: DigestAlgorithm,
    /// `None`: Asterisk takes the transport by which the device registered.
    pub transport: Option<TransportSection>,
    /// Where answers and media go.
    pub nat: Nat,
    /// What it may speak.
    pub codecs: Codecs,
}
