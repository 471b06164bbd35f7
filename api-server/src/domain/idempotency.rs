//! Requests that may be sent twice and are carried out once.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use shared::bundle::ApplyId;
use uuid::{Builder, Uuid};

use super::{ActorKey, Invalid, PbxId};

/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// What a client calls a request, so that its repetition is known as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=KEY_CHARS_MAX).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "must be 1 to 255 visible ASCII characters",
            ))
        }
    }
}

/// What a request says, as a hash: two requests of one key must have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The hash of parts. Each goes in with its length, so that their borders count as well.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

/// A request that is carried out once: what it is called and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRequest {
    /// What the client calls it.
    pub key: IdempotencyKey,
    /// What it says.
    pub fingerprint: Fingerprint,
}

/// What the ids of the attempts of one request are made from, so that they are known before there
/// is any, and a second beginning of the same request cannot become a second attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRoot(pub Uuid);

impl AttemptRoot {
    /// The id of the request's attempt on a PBX: of the root's time, and always the same.
    pub fn attempt(self, pbx: PbxId) -> ApplyId {
        let root = self.0.as_bytes();
        let Fingerprint(hash) = Fingerprint::of([&root[..], pbx.0.as_bytes()]);
        let mut bytes = *root;
        bytes[6..].copy_from_slice(&hash[..10]);
        ApplyId(
            Builder::from_random_bytes(bytes)
                .with_version(uuid::Version::SortRand)
                .into_uuid(),
        )
    }
}

/// Which stored answer: a hash of whose key it is and of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerId([u8; 32]);

impl AnswerId {
    /// The answer to `key` of `actor`.
    pub fn of(actor: &ActorKey, key: &IdempotencyKey) -> Self {
        Self::of_row(actor.as_str(), key.as_str())
    }

    /// The answer in a row of `idempotency_key`.
    pub fn of_row(actor: &str, key: &str) -> Self {
        Self(Fingerprint::of([actor.as_bytes(), key.as_bytes()]).0)
    }
}

impl fmt::Display for AnswerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An answer that is sent again word for word. No `Debug` shows its body.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Where the new resource is.
    pub location: Option<String>,
    /// Its entity tag.
    pub etag: Option<String>,
    /// The body; empty when there is none.
    pub body: Vec<u8>,
}

impl fmt::Debug for StoredAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredAnswer({}, …)", self.status)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn keys() {
        for good in ["a", "\"8e03978e-40d5\"", "~!", &"k".repeat(255)] {
            assert_eq!(good.parse::<IdempotencyKey>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\t", "é", "\u{7f}", &"k".repeat(256)] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_borders_of_parts_count() {
        let one = Fingerprint::of([&b"ab"[..], b"c"]);
        assert_eq!(one, Fingerprint::of([&b"ab"[..], b"c"]));
        for other in [
            Fingerprint::of([&b"a"[..], b"bc"]),
            Fingerprint::of([&b"abc"[..]]),
            Fingerprint::of([&b"ab"[..], b"c", b""]),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(AnswerId::of_row("a", "bc"), AnswerId::of_row("ab", "c"));
    }

    #[test]
    fn attempts_of_one_root_differ_by_their_pbx_and_sort_by_its_time() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let mut root = |ms| AttemptRoot(super::super::uuid_v7(ms, &mut rng));
        let pbx = |number| PbxId(Uuid::from_u128(number));
        let (earlier, later) = (root(1), root(2));
        assert_eq!(earlier.attempt(pbx(1)), earlier.attempt(pbx(1)));
        assert_ne!(earlier.attempt(pbx(1)), earlier.attempt(pbx(2)));
        assert!(earlier.attempt(pbx(2)) < later.attempt(pbx(1)));
        assert_eq!(earlier.attempt(pbx(1)).0.get_version_num(), 7);
    }

    #[test]
    fn no_body_is_shown() {
        let answer = StoredAnswer {
            status: 201,
            location: None,
            etag: None,
            body: b"hunter2".to_vec(),
        };
        assert_eq!(format!("{answer:?}"), "StoredAnswer(201, …)");
    }
}
