//! An Asterisk host with its agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};
use shared::tls::Identity;
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::told_time;
use super::device::{Transport, TransportSection};
use super::{Invalid, Version, typed_id};

typed_id! {
    /// Which PBX.
    PbxId
}

/// The PBX that the first migration creates. Its agent and its realm come from the environment.
pub const DEFAULT_PBX: PbxId = PbxId(uuid::uuid!("01900000-0000-7000-8000-000000000001"));

/// What the first migration calls it.
pub const DEFAULT_PBX_NAME: &str = "default";

/// What administrators call a PBX, in paths as well: shorter than any id, so that the two cannot be
/// confused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PbxName(String);

impl PbxName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PbxName {
    type Err = Invalid;

    /// `^[a-z0-9][a-z0-9-]{0,31}$`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.as_bytes().first().is_some_and(alphanumeric);
        let rest = text.bytes().all(|byte| alphanumeric(&byte) || byte == b'-');
        if first && rest && text.len() <= 32 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "a name is 1 to 32 of a-z, 0-9 and '-', and begins with a letter or digit",
            ))
        }
    }
}

impl fmt::Display for PbxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How somebody names a PBX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PbxRef {
    /// By its id.
    Id(PbxId),
    /// By its name.
    Name(PbxName),
}

impl FromStr for PbxRef {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // Only the form with hyphens: one PBX, two names and no more.
        if text.len() == 36
            && let Ok(id) = Uuid::try_parse(text)
        {
            return Ok(Self::Id(PbxId(id)));
        }
        text.parse()
            .map(Self::Name)
            .map_err(|_| Invalid::new("malformed", "must be the id or the name of a PBX"))
    }
}

impl From<PbxId> for PbxRef {
    fn from(id: PbxId) -> Self {
        Self::Id(id)
    }
}

/// Where an agent listens: `host:port`, the host a name or an address (IPv6 in brackets).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentAddress(String);

impl AgentAddress {
    /// Longest, in bytes: a host name of 253, and a port.
    const BYTES_MAX: usize = 259;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (host, port) = text.rsplit_once(':').unwrap_or_default();
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        let plain = !host.is_empty()
            && text.len() <= Self::BYTES_MAX
            && (bracketed || !host.contains(':'))
            && !host.contains(odd);
        // What a number may begin with besides is no part of a port.
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        if plain && digits && port.parse::<u16>().is_ok_and(|port| port != 0) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("malformed", "must read host:port"))
        }
    }
}

/// Which section of a PBX's pjsip.conf is which transport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transports(pub BTreeMap<Transport, TransportSection>);

impl Transports {
    /// Those that `other` lacks.
    pub fn missing_in(&self, other: &Self) -> BTreeSet<Transport> {
        let missing = |transport: &&Transport| !other.0.contains_key(*transport);
        self.0.keys().filter(missing).copied().collect()
    }
}

/// A PBX as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pbx {
    /// Which PBX.
    pub id: PbxId,
    /// What administrators call it.
    pub name: PbxName,
    /// Where its agent listens.
    pub agent_address: AgentAddress,
    /// Whom its agent's certificate must name.
    pub agent_identity: Identity,
    /// The realm of its SIP digests.
    pub sip_realm: SipRealm,
    /// Its transports.
    pub transports: Transports,
    /// Raised by each change.
    pub version: Version,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// What a PBX is made from.
#[derive(Clone, Debug)]
pub struct NewPbx {
    /// What administrators will call it.
    pub name: PbxName,
    /// Where its agent listens.
    pub agent_address: AgentAddress,
    /// Whom its agent's certificate must name.
    pub agent_identity: Identity,
    /// The realm of its SIP digests.
    pub sip_realm: SipRealm,
    /// Its transports.
    pub transports: Transports,
}

/// What shall be otherwise about a PBX; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct PbxPatch {
    /// What administrators call it.
    pub name: Option<PbxName>,
    /// Where its agent listens.
    pub agent_address: Option<AgentAddress>,
    /// Whom its agent's certificate must name.
    pub agent_identity: Option<Identity>,
    /// The realm of its SIP digests.
    pub sip_realm: Option<SipRealm>,
    /// Transports by name: a section, or `None` to take it away.
    pub transports: BTreeMap<Transport, Option<TransportSection>>,
}

impl PbxPatch {
    /// The PBX as it shall be.
    #[must_use]
    pub fn of(&self, pbx: &Pbx) -> Pbx {
        let mut changed = pbx.clone();
        if let Some(name) = &self.name {
            changed.name.clone_from(name);
        }
        if let Some(address) = &self.agent_address {
            changed.agent_address.clone_from(address);
        }
        if let Some(identity) = &self.agent_identity {
            changed.agent_identity.clone_from(identity);
        }
        if let Some(realm) = &self.sip_realm {
            changed.sip_realm.clone_from(realm);
        }
        for (transport, section) in &self.transports {
            match section {
                Some(section) => changed.transports.0.insert(*transport, section.clone()),
                None => changed.transports.0.remove(transport),
            };
        }
        changed
    }
}

impl Pbx {
    /// What the audit trail keeps of it.
    pub fn told(&self) -> Value {
        let transports = self.transports.0.iter();
        let transports: Map<String, Value> = transports
            .map(|(transport, section)| (transport.name().to_owned(), section.as_str().into()))
            .collect();
        json!({
            "id": self.id.0,
            "name": self.name.as_str(),
            "agent_address": self.agent_address.as_str(),
            "agent_identity": self.agent_identity.to_string(),
            "sip_realm": self.sip_realm.as_str(),
            "transports": transports,
            "version": self.version.0,
            "created_at": told_time(self.created_at),
        })
    }

    /// In which of the fields that the environment sets of the default PBX `other` differs.
    pub fn agent_differs(&self, other: &Self) -> Vec<&'static str> {
        let fields = [
            ("agent_address", self.agent_address != other.agent_address),
            (
                "agent_identity",
                self.agent_identity != other.agent_identity,
            ),
            ("sip_realm", self.sip_realm != other.sip_realm),
        ];
        let differing = fields.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(field, _)| field).collect()
    }
}

/// Reads the identity of an agent.
///
/// # Errors
/// It is none, or that of a portal.
pub fn agent_identity(text: &str) -> Result<Identity, Invalid> {
    let of_agent = text.contains("/agent/");
    let identity = text.parse().ok().filter(|_| of_agent);
    identity.ok_or(Invalid::new(
        "malformed",
        "must read spiffe://<domain>/agent/<pbx>, in a-z 0-9 . -",
    ))
}

/// The identity that the agent of a PBX has unless somebody says otherwise.
pub fn identity_of(name: &PbxName) -> Option<Identity> {
    format!("spiffe://pbx.internal/agent/{name}").parse().ok()
}

/// The realm of SIP digests: `H(user:realm:password)` holds for this realm only, so changing it
/// invalidates every digest on the PBX until the next apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipRealm(String);

impl SipRealm {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SipRealm {
    type Err = Invalid;

    /// `^[a-z0-9][a-z0-9.-]{0,62}$`: it is written into Asterisk's files and into SIP headers.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.as_bytes().first().is_some_and(alphanumeric);
        let rest = text
            .bytes()
            .all(|byte| alphanumeric(&byte) || matches!(byte, b'.' | b'-'));
        if first && rest && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "a realm is 1 to 63 of a-z, 0-9, '.' and '-', and begins with a letter or digit",
            ))
        }
    }
}

impl fmt::Display for SipRealm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "default", "pbx-2", "0", &"a".repeat(32)] {
            assert!(good.parse::<PbxName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "A",
            "a_b",
            "a.b",
            "a b",
            "a/",
            "ä",
            "a\n",
            &"a".repeat(33),
        ] {
            assert!(bad.parse::<PbxName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pbx_is_named_by_id_or_by_name() {
        let id = DEFAULT_PBX.to_string();
        assert_eq!(id.parse(), Ok(PbxRef::Id(DEFAULT_PBX)));
        let simple = id.replace('-', "");
        assert_eq!(simple.parse(), Ok(PbxRef::Name(PbxName(simple))));
        assert!(id.to_uppercase().parse::<PbxRef>().is_ok());
        assert!("a b".parse::<PbxRef>().is_err());
    }

    #[test]
    fn addresses() {
        for good in ["a:1", "127.0.0.1:50051", "[::1]:50051", "pbx.example:65535"] {
            assert!(good.parse::<AgentAddress>().is_ok(), "{good}");
        }
        let long = format!("{}:1", "a".repeat(300));
        for bad in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "::1:5",
            "a b:1",
            "http://a:1",
            "a\0:1",
            &long,
        ] {
            assert!(bad.parse::<AgentAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn realms() {
        for good in ["synergycall", "a", "0.b-c", &"a".repeat(63)] {
            assert!(good.parse::<SipRealm>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".a",
            "A",
            "a b",
            "a\"",
            "a;",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<SipRealm>().is_err(), "{bad:?}");
        }
    }
}
