//! What the database said at one instant: the only input of rendering.

use std::ops::RangeInclusive;

use super::{DisplayName, Email, ExtensionNumber, SipPassword, SipRealm, UserId};

/// Everything of one PBX that its configuration depends on.
#[derive(Debug)]
pub struct Snapshot {
    /// The realm that SIP digests are made for.
    pub realm: SipRealm,
    /// Numbers that belong to the portal alone: the ranges of every tenant on the PBX.
    pub reserved_numbers: Vec<RangeInclusive<u32>>,
    /// Ascending by extension.
    pub users: Vec<SnapshotUser>,
}

/// A person with a phone.
#[derive(Debug)]
pub struct SnapshotUser {
    /// Which user.
    pub user_id: UserId,
    /// The number, which is also the SIP username.
    pub extension: ExtensionNumber,
    /// Shown to whoever is called.
    pub name: DisplayName,
    /// For voicemail and notices.
    pub email: Email,
    /// What the phone registers with.
    pub sip_password: SipPassword,
}
