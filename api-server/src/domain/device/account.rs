//! A device as the portal keeps it.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Codecs, DeviceId, DeviceLabel, DeviceSlot, DigestAlgorithm, EndpointName, Nat, Transport,
    endpoint_name,
};
use crate::domain::audit::{SECRET, mark_changed, told_time};
use crate::domain::patch::{Patch, set};
use crate::domain::{ExtensionNumber, TenantId, TenantNumber, UserId, Version};

/// A device of a living user. Its passwords are not part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Which device.
    pub id: DeviceId,
    /// Whose tenant's.
    pub tenant: TenantId,
    /// What stands for the tenant in names.
    pub tenant_number: TenantNumber,
    /// Whose.
    pub user: UserId,
    /// The user's number.
    pub extension: ExtensionNumber,
    /// Its place among those of the user.
    pub slot: DeviceSlot,
    /// What people call it.
    pub label: DeviceLabel,
    /// How it is served.
    pub settings: DeviceSettings,
    /// When the password was made.
    pub password_set_at: OffsetDateTime,
    /// When the password was shown; `None`: not yet.
    pub password_revealed_at: Option<OffsetDateTime>,
    /// Until when the password before this one works as well.
    pub overlap_until: Option<OffsetDateTime>,
    /// Raised by each change.
    pub version: Version,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub updated_at: OffsetDateTime,
}

impl Device {
    /// What its endpoint, auth and AOR are called, and what it registers as.
    pub fn endpoint_name(&self) -> EndpointName {
        endpoint_name(self.tenant_number, self.extension, self.slot)
    }
}

impl Device {
    /// What a change makes of it by itself: another owner gives it other names and another password as
    /// well.
    #[must_use]
    pub fn patched(&self, patch: DevicePatch) -> Self {
        let mut device = self.clone();
        set(&mut device.user, patch.user);
        set(&mut device.label, patch.label);
        device.settings.apply(patch.settings);
        device
    }
}

impl Device {
    /// What the audit trail keeps of it.
    pub fn told(&self) -> Value {
        let DeviceSettings {
            enabled,
            algorithm,
            transport,
            nat,
            codecs,
        } = &self.settings;
        json!({
            "id": self.id.0,
            "tenant_id": self.tenant.0,
            "user_id": self.user.0,
            "label": self.label.as_str(),
            "sip_username": self.endpoint_name().as_str(),
            "sip_password": SECRET,
            "previous_sip_password": self.overlap_until.map(|_| SECRET),
            "enabled": enabled,
            "transport": transport.map(Transport::name),
            "nat": {
                "rtp_symmetric": nat.rtp_symmetric,
                "force_rport": nat.force_rport,
                "rewrite_contact": nat.rewrite_contact,
                "direct_media": nat.direct_media,
            },
            "codecs": codecs.names().collect::<Vec<_>>(),
            "digest_algorithm": algorithm.name(),
            "password_set_at": told_time(self.password_set_at),
            "password_revealed_at": self.password_revealed_at.map(told_time),
            "overlap_until": self.overlap_until.map(told_time),
            "version": self.version.0,
            "created_at": told_time(self.created_at),
            "updated_at": told_time(self.updated_at),
        })
    }

    /// Likewise once it has become what it is from `before`.
    pub fn told_after(&self, before: &Self) -> Value {
        let mut told = self.told();
        if self.password_set_at != before.password_set_at {
            mark_changed(&mut told, "/sip_password");
            mark_changed(&mut told, "/previous_sip_password");
        }
        told
    }
}

/// How a device is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Whether it is in service.
    pub enabled: bool,
    /// How it proves that it knows its password.
    pub algorithm: DigestAlgorithm,
    /// By which transport it is reached; `None`: by the one that it came by.
    pub transport: Option<Transport>,
    /// Where answers and media go.
    pub nat: Nat,
    /// What it may speak.
    pub codecs: Codecs,
}

impl Default for DeviceSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            algorithm: DigestAlgorithm::default(),
            transport: None,
            nat: Nat::default(),
            codecs: Codecs::default(),
        }
    }
}

/// What a device is created from.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// Whose.
    pub user: UserId,
    /// What people call it.
    pub label: DeviceLabel,
    /// How it is served.
    pub settings: DeviceSettings,
}

/// A partial change of a device.
#[derive(Clone, Debug, Default)]
pub struct DevicePatch {
    /// Another owner, who gets a password of its own.
    pub user: Option<UserId>,
    /// As of [`Device`].
    pub label: Option<DeviceLabel>,
    /// Ends the overlap: the password before this one works no longer.
    pub ends_overlap: bool,
    /// As of [`DeviceSettings`].
    pub settings: DeviceSettingsPatch,
}

/// A partial change of [`DeviceSettings`].
#[derive(Clone, Debug, Default)]
pub struct DeviceSettingsPatch {
    /// As of [`DeviceSettings`].
    pub enabled: Option<bool>,
    /// As of [`DeviceSettings`].
    pub algorithm: Option<DigestAlgorithm>,
    /// As of [`DeviceSettings`].
    pub transport: Patch<Transport>,
    /// As of [`Nat`].
    pub rtp_symmetric: Option<bool>,
    /// As of [`Nat`].
    pub force_rport: Option<bool>,
    /// As of [`Nat`].
    pub rewrite_contact: Option<bool>,
    /// As of [`Nat`].
    pub direct_media: Option<bool>,
    /// As of [`DeviceSettings`].
    pub codecs: Option<Codecs>,
}

impl DeviceSettings {
    /// Changes what `patch` names.
    pub fn apply(&mut self, patch: DeviceSettingsPatch) {
        set(&mut self.enabled, patch.enabled);
        set(&mut self.algorithm, patch.algorithm);
        patch.transport.apply(&mut self.transport);
        set(&mut self.nat.rtp_symmetric, patch.rtp_symmetric);
        set(&mut self.nat.force_rport, patch.force_rport);
        set(&mut self.nat.rewrite_contact, patch.rewrite_contact);
        set(&mut self.nat.direct_media, patch.direct_media);
        set(&mut self.codecs, patch.codecs);
    }
}
