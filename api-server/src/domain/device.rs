//! A phone or an app of a user: a SIP account of its own.

use std::fmt;
use std::str::FromStr;

use super::{ExtensionNumber, Invalid, TenantNumber, name, typed_id};

mod account;

pub use account::{Device, DevicePatch, DeviceSettings, DeviceSettingsPatch, NewDevice};

typed_id! {
    /// Which device.
    DeviceId
}

/// The place of a device among those of its user: 1 to 26. A user's first device is the extension
/// itself, and each place has a letter, `a` for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceSlot(u8);

impl DeviceSlot {
    /// The first place.
    pub const FIRST: Self = Self(1);

    /// The last place.
    pub const LAST: Self = Self(26);

    /// Every place, rising.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::FIRST.0..=Self::LAST.0).map(Self)
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The letter that stands in names.
    pub const fn letter(self) -> char {
        (b'a' + self.0 - 1) as char
    }
}

impl TryFrom<u32> for DeviceSlot {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Invalid> {
        let out_of_range = Invalid::new("out_of_range", "a user has at most 26 devices");
        let number = u8::try_from(number).map_err(|_| out_of_range)?;
        Some(Self(number))
            .filter(|slot| (Self::FIRST..=Self::LAST).contains(slot))
            .ok_or(out_of_range)
    }
}

name! {
    /// What people call a device: one line, 1 to 60 characters, trimmed. Asterisk never sees it.
    DeviceLabel, 60, 240, "must be at most 60 characters long"
}

impl DeviceLabel {
    /// Of the device that a user begins with.
    pub fn first() -> Self {
        Self("Phone".to_owned())
    }
}

/// The hash by which a device proves that it knows its password (RFC 8760).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// What every client knows; several fail when anything else is offered as well.
    #[default]
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

impl DigestAlgorithm {
    const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512_256];

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512_256 => "sha512_256",
        }
    }

    /// The algorithm of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        named(&Self::ALL, Self::name, name).ok_or(Invalid::new(
            "unknown_value",
            "must be md5, sha256 or sha512_256",
        ))
    }
}

/// A way to encode speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 µ-law.
    Ulaw,
    /// G.711 A-law.
    Alaw,
    /// G.722, wideband.
    G722,
    /// Opus.
    Opus,
}

impl Codec {
    const ALL: [Self; 4] = [Self::Ulaw, Self::Alaw, Self::G722, Self::Opus];

    /// The word that Asterisk, the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ulaw => "ulaw",
            Self::Alaw => "alaw",
            Self::G722 => "g722",
            Self::Opus => "opus",
        }
    }

    /// The codec of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        named(&Self::ALL, Self::name, name).ok_or(Invalid::new(
            "unknown_value",
            "must be ulaw, alaw, g722 or opus",
        ))
    }
}

/// What a device may speak, the preferred one first: at least one, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codecs(Vec<Codec>);

impl Codecs {
    /// In the order of preference.
    pub fn as_slice(&self) -> &[Codec] {
        &self.0
    }

    /// Their names in that order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|codec| codec.name())
    }

    /// The codecs of those names.
    ///
    /// # Errors
    /// One is unknown or stands twice, or there is none.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let codecs: Result<Vec<Codec>, Invalid> = names.into_iter().map(Codec::from_name).collect();
        Self::try_from(codecs?)
    }
}

impl Default for Codecs {
    fn default() -> Self {
        Self(vec![Codec::Ulaw, Codec::Alaw])
    }
}

impl TryFrom<Vec<Codec>> for Codecs {
    type Error = Invalid;

    fn try_from(codecs: Vec<Codec>) -> Result<Self, Invalid> {
        if codecs.is_empty() {
            return Err(Invalid::new("empty", "must name at least one codec"));
        }
        let twice = |(at, codec): (usize, &Codec)| codecs[..at].contains(codec);
        if codecs.iter().enumerate().any(twice) {
            return Err(Invalid::new("duplicate", "must name no codec twice"));
        }
        Ok(Self(codecs))
    }
}

/// How Asterisk treats a device that may be behind NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are four options of Asterisk, each of which is yes or no"
)]
pub struct Nat {
    /// Media goes to where media comes from.
    pub rtp_symmetric: bool,
    /// Answers go to where requests come from.
    pub force_rport: bool,
    /// Calls go to where the registration came from.
    pub rewrite_contact: bool,
    /// Media may pass by the PBX.
    pub direct_media: bool,
}

impl Default for Nat {
    /// What works from everywhere: answer where the packet came from, keep the media on the PBX.
    fn default() -> Self {
        Self {
            rtp_symmetric: true,
            force_rport: true,
            rewrite_contact: true,
            direct_media: false,
        }
    }
}

/// How SIP travels to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// The word that Asterisk, the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The transport of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        named(&Self::ALL, Self::name, name).ok_or(Invalid::new(
            "unknown_value",
            "must be udp, tcp, tls, ws or wss",
        ))
    }
}

/// The name of a transport section in the administrator's `pjsip.conf`: 1 to 63 of a-z, A-Z, 0-9,
/// `-` and `_`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TransportSection(String);

impl TransportSection {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TransportSection {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if shared::names::is_transport(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "a transport section is 1 to 63 of a-z, A-Z, 0-9, '-' and '_', and begins with a \
                 letter or digit",
            ))
        }
    }
}

/// What a device's endpoint, auth and AOR are called, and the SIP username: unique on its PBX.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointName(String);

impl EndpointName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a device's endpoint: the number for the first device of a user of the default
/// tenant (FR-007), `t<tenant>-<extension>-<letter>` for every other.
pub fn endpoint_name(
    tenant: TenantNumber,
    extension: ExtensionNumber,
    slot: DeviceSlot,
) -> EndpointName {
    EndpointName(
        if tenant == TenantNumber::DEFAULT && slot == DeviceSlot::FIRST {
            extension.to_string()
        } else {
            format!("t{tenant}-{extension}-{}", slot.letter())
        },
    )
}

/// The name of a tenant's dialplan context.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContextName(String);

impl ContextName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The context in which a tenant's devices dial: `synergy-internal` for the default tenant
/// (FR-008), `t<tenant>-internal` for every other.
pub fn context_name(tenant: TenantNumber) -> ContextName {
    ContextName(if tenant == TenantNumber::DEFAULT {
        shared::names::DEFAULT_CONTEXT.to_owned()
    } else {
        format!("t{tenant}-internal")
    })
}

fn named<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Option<T> {
    all.iter().copied().find(|one| name_of(*one) == name)
}

#[cfg(test)]
mod tests;
