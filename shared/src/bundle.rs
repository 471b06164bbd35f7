//! The rendered files of one snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::names;

/// Largest bundle that the link carries: 64 MiB, some 100,000 endpoints.
pub const BUNDLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Largest piece of a file in one message: 256 KiB.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Name of the last AOR, auth, endpoint and dialplan context of every bundle. They carry the
/// generation id of their file, a hash of its content, so that reading them back tells which file
/// Asterisk holds: one per type, because Asterisk loads each type in a pass of its own.
pub const GENERATION_MARKER: &str = "synergy-generation";

/// The extension of the marker's dialplan context.
pub const GENERATION_EXTENSION: &str = "generation";

/// A managed file. Slots travel over the wire, paths never do: path, mode and owner are the
/// agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// `pjsip.d/synergycall/generated_endpoints.conf` (FR-007).
    PjsipEndpoints,
    /// `extensions.d/synergycall/generated_routing.conf` (FR-008).
    DialplanRouting,
}

impl Slot {
    /// Every slot, in the order in which files are switched.
    pub const ALL: [Self; 2] = [Self::PjsipEndpoints, Self::DialplanRouting];

    /// The name that digests, records and the agent's state directory use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PjsipEndpoints => "pjsip_endpoints",
            Self::DialplanRouting => "dialplan_routing",
        }
    }

    /// Where the file lies below Asterisk's configuration directory.
    pub const fn relative_path(self) -> &'static str {
        match self {
            Self::PjsipEndpoints => "pjsip.d/synergycall/generated_endpoints.conf",
            Self::DialplanRouting => "extensions.d/synergycall/generated_routing.conf",
        }
    }
}

/// The number of a bundle on its PBX, ever rising: the fencing token of the link.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One attempt to bring a revision into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApplyId(pub Uuid);

impl fmt::Display for ApplyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of everything that `reader` gives, and how many bytes that is, without holding it
    /// all in memory.
    pub fn of_reader(mut reader: impl std::io::Read) -> std::io::Result<(Self, u64)> {
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                return Ok((Self(hasher.finalize().into()), size));
            }
            hasher.update(&buffer[..read]);
            size += read as u64;
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text or bytes are no SHA-256.
#[derive(Debug, thiserror::Error)]
#[error("a digest is 32 bytes, written as 64 hexadecimal digits")]
pub struct NotADigest;

impl TryFrom<&[u8]> for Digest {
    type Error = NotADigest;

    fn try_from(bytes: &[u8]) -> Result<Self, NotADigest> {
        bytes.try_into().map(Self).map_err(|_| NotADigest)
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        // What a number may begin with besides is no digit.
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotADigest);
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = &text[2 * index..2 * index + 2];
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotADigest)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Size and hash of one file of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileManifest {
    /// Which file.
    pub slot: Slot,
    /// Length in bytes.
    pub size: u64,
    /// Hash of its bytes.
    pub sha256: Digest,
}

/// What a bundle consists of, without the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Sorted by slot.
    pub files: Vec<FileManifest>,
    /// Numbers that belong to the portal alone: Asterisk must hold no endpoint, auth or AOR of such
    /// a name that the bundle does not have.
    pub reserved_numbers: Vec<RangeInclusive<u32>>,
}

impl Manifest {
    /// SHA-256 over the sorted (slot name, size, hash) of the files.
    pub fn digest(&self) -> Digest {
        let mut files = self.files.clone();
        files.sort_unstable();
        let mut hasher = Sha256::new();
        for file in files {
            hasher.update(file.slot.name());
            hasher.update([0]);
            hasher.update(file.size.to_be_bytes());
            hasher.update(file.sha256.0);
        }
        Digest(hasher.finalize().into())
    }

    /// Whether `name` belongs to the portal alone: a number of a reserved range, with `-old` behind
    /// it as well, or a name of the portal's own form.
    pub fn reserves(&self, name: &str) -> bool {
        if names::owner(name).is_some() {
            return true;
        }
        let number = names::number(names::device(name));
        let mut ranges = self.reserved_numbers.iter();
        number.is_some_and(|number| ranges.any(|range| range.contains(&number)))
    }
}

/// The rendered files of one snapshot: complete desired state, no deltas. They hold SIP digests,
/// so there is no `Debug` that shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The bytes of each slot.
    pub files: BTreeMap<Slot, Vec<u8>>,
    /// See [`Manifest::reserved_numbers`].
    pub reserved_numbers: Vec<RangeInclusive<u32>>,
}

impl Bundle {
    /// Sizes and hashes of the files.
    pub fn manifest(&self) -> Manifest {
        let files = self
            .files
            .iter()
            .map(|(&slot, bytes)| FileManifest {
                slot,
                size: bytes.len() as u64,
                sha256: Digest::of(bytes),
            })
            .collect();
        Manifest {
            files,
            reserved_numbers: self.reserved_numbers.clone(),
        }
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bundle").field(&self.manifest()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_from_64_hexadecimal_digits() {
        let digest = Digest::of(b"test");
        assert_eq!(digest.to_string().parse().ok(), Some(digest));
        let capitals = digest.to_string().to_uppercase();
        assert_eq!(capitals.parse().ok(), Some(digest));
        for bad in ["+f", "-0", " f", "é"].map(|part| part.repeat(32)) {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!("0".repeat(63).parse::<Digest>().is_err());
    }

    #[test]
    fn names_of_the_portals_form_and_numbers_of_its_ranges_are_reserved() {
        let manifest = Manifest {
            files: Vec::new(),
            reserved_numbers: vec![1000..=1999],
        };
        for name in ["1000", "1999", "1000-old", "t1-1000-b", "t2-20500-a-old"] {
            assert!(manifest.reserves(name), "{name}");
        }
        for name in [
            "", "999", "2000", "01000", "+1000", "2000-old", "-old", "t2-1000", "trunk", "t2",
        ] {
            assert!(!manifest.reserves(name), "{name}");
        }
    }
}
