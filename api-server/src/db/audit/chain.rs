//! What the hash of an entry is made of, and how it is made.

use std::fmt;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::bundle::Digest;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::AuditKey;
use crate::db::DbError;

/// What the hashed bytes begin with: nothing else that is made with this key has the same bytes.
const LABEL: &[u8] = b"pbx-portal audit entry 1";

/// What seals an entry and all before it in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Before the first entry of a lane.
    pub const NONE: Self = Self([0; 32]);

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How far a lane is: its last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which lane.
    pub lane: i32,
    /// The number of the entry; 0: there is none.
    pub position: i64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    pub(super) fn read(lane: i32, position: i64, hash: &[u8]) -> Result<Self, DbError> {
        let hash = Hash::read(hash)
            .ok_or_else(|| DbError::inconsistent("audit_lane", "hash", &lane, &"not 32 octets"))?;
        Ok(Self {
            lane,
            position,
            hash,
        })
    }
}

impl Head {
    /// Every head that a text tells of, whatever else it says: the output of `audit verify`, or lines of
    /// a log. `None`: it tells of none.
    pub fn all_in(text: &str) -> Option<Vec<Self>> {
        let heads: Vec<Self> = text
            .split("head ")
            .skip(1)
            .filter_map(|rest| {
                let mut words = rest.split(|c: char| !c.is_ascii_alphanumeric());
                let lane = words.next()?.parse().ok()?;
                let position = words.next()?.parse().ok()?;
                let hash: Digest = words.next()?.parse().ok()?;
                Some(Self {
                    lane,
                    position,
                    hash: Hash(hash.0),
                })
            })
            .collect();
        (!heads.is_empty()).then_some(heads)
    }
}

/// `head LANE POSITION HASH`, as `audit verify` prints and reads it.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "head {} {} {}", self.lane, self.position, self.hash)
    }
}

/// An entry, but for its hashes.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) lane: i32,
    pub(super) position: i64,
    pub(super) id: Uuid,
    /// Microseconds since 1970.
    pub(super) at_us: i64,
    pub(super) actor_kind: String,
    pub(super) actor_id: Option<Uuid>,
    pub(super) actor_name: String,
    pub(super) credential_id: Option<Uuid>,
    pub(super) action: String,
    pub(super) entity_type: String,
    pub(super) entity_id: String,
    pub(super) entity_name: Option<String>,
    pub(super) tenant_id: Option<Uuid>,
    pub(super) pbx_ids: Vec<Uuid>,
    /// As PostgreSQL writes them.
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    pub(super) source_address: Option<String>,
    pub(super) request_id: Option<String>,
}

impl AuditKey {
    fn mac(&self) -> Hmac<Sha256> {
        // As HMAC itself does: filled up with zeros to the length of a block.
        let mut block = SecretBox::new(Box::new([0; 64]));
        block.expose_secret_mut()[..32].copy_from_slice(self.expose());
        Hmac::new(&(*block.expose_secret()).into())
    }

    /// The head of a lane once `row` is written after `before`.
    pub(super) fn seal(&self, before: &Head, row: &Row) -> Head {
        Head {
            lane: row.lane,
            position: row.position,
            hash: self.hash(before.hash, row),
        }
    }

    /// The hash of a row that follows an entry with the hash `previous`.
    pub(super) fn hash(&self, previous: Hash, row: &Row) -> Hash {
        let mut mac = self.mac();
        mac.update(LABEL);
        mac.update(&previous.0);
        row.each_field(&mut |field| match field {
            // Told apart from whatever is there, and where one field ends and the next one begins.
            None => mac.update(&[0]),
            Some(bytes) => {
                mac.update(&[1]);
                mac.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
                mac.update(bytes);
            }
        });
        Hash(mac.finalize().into_bytes().into())
    }
}

impl Row {
    /// Every column, in an order that never changes.
    fn each_field(&self, take: &mut impl FnMut(Option<&[u8]>)) {
        let Self {
            lane,
            position,
            id,
            at_us,
            actor_kind,
            actor_id,
            actor_name,
            credential_id,
            action,
            entity_type,
            entity_id,
            entity_name,
            tenant_id,
            pbx_ids,
            before,
            after,
            source_address,
            request_id,
        } = self;
        let pbxes: Vec<u8> = pbx_ids.iter().flat_map(|id| *id.as_bytes()).collect();
        for field in [
            Some(lane.to_be_bytes().as_slice()),
            Some(&position.to_be_bytes()),
            Some(id.as_bytes()),
            Some(&at_us.to_be_bytes()),
            Some(actor_kind.as_bytes()),
            actor_id.as_ref().map(|id| id.as_bytes().as_slice()),
            Some(actor_name.as_bytes()),
            credential_id.as_ref().map(|id| id.as_bytes().as_slice()),
            Some(action.as_bytes()),
            Some(entity_type.as_bytes()),
            Some(entity_id.as_bytes()),
            entity_name.as_deref().map(str::as_bytes),
            tenant_id.as_ref().map(|id| id.as_bytes().as_slice()),
            Some(&pbxes),
            before.as_deref().map(str::as_bytes),
            after.as_deref().map(str::as_bytes),
            source_address.as_deref().map(str::as_bytes),
            request_id.as_deref().map(str::as_bytes),
        ] {
            take(field);
        }
    }

    /// The columns by name, for the statement that writes them.
    pub(super) fn to_json(&self, previous: Hash, hash: Hash) -> Value {
        json!({
            "lane": self.lane,
            "position": self.position,
            "audit_entry_id": self.id,
            "previous_hash": bytea(previous),
            "hash": bytea(hash),
            "at": timestamp(self.at_us),
            "actor_kind": self.actor_kind,
            "actor_id": self.actor_id,
            "actor_name": self.actor_name,
            "credential_id": self.credential_id,
            "action": self.action,
            "entity_type": self.entity_type,
            "entity_id": self.entity_id,
            "entity_name": self.entity_name,
            "tenant_id": self.tenant_id,
            "pbx_ids": self.pbx_ids,
            "before": self.before,
            "after": self.after,
            "source_address": self.source_address,
            "request_id": self.request_id,
        })
    }
}

fn bytea(hash: Hash) -> String {
    let mut text = "\\x".to_owned();
    write!(text, "{hash}").ok();
    text
}

fn timestamp(microseconds: i64) -> Option<String> {
    let nanoseconds = i128::from(microseconds) * 1_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    at.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            lane: 1,
            position: 2,
            id: Uuid::from_u128(3),
            at_us: 4,
            actor_kind: "account".to_owned(),
            actor_id: Some(Uuid::from_u128(5)),
            actor_name: "ann".to_owned(),
            credential_id: None,
            action: "user.created".to_owned(),
            entity_type: "user".to_owned(),
            entity_id: "6".to_owned(),
            entity_name: None,
            tenant_id: None,
            pbx_ids: vec![],
            before: None,
            after: Some("{}".to_owned()),
            source_address: Some("::1".to_owned()),
            request_id: Some("7".to_owned()),
        }
    }

    /// Pinned: entries that were written once must verify for ever.
    #[test]
    fn the_hash_of_an_entry_never_changes() {
        let hash = AuditKey::new([7; 32]).hash(Hash::NONE, &row());
        assert_eq!(
            hash.to_string(),
            "becd58fdb7d65f493dd0b4c34ac63f1f82474e3875deda167f543fefba974239"
        );
    }

    #[test]
    fn heads_are_found_in_what_was_printed_and_in_a_log() {
        let hash = Hash([0xab; 32]);
        let head = |lane, position| Head {
            lane,
            position,
            hash,
        };
        let printed = format!("fault: x\n{}\n{}\nall well", head(1, 2), head(30, 4));
        assert_eq!(Head::all_in(&printed), Some(vec![head(1, 2), head(30, 4)]));
        let logged = format!(r#"{{"message":"audit {}","level":"INFO"}}"#, head(5, 6));
        assert_eq!(Head::all_in(&logged), Some(vec![head(5, 6)]));
        assert_eq!(Head::all_in("head of the table\nhead 1 2 abc"), None);
    }

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        let key = AuditKey::new([7; 32]);
        let whole = key.hash(Hash::NONE, &row());
        let changes: [fn(&mut Row); 21] = [
            |row| row.lane = 2,
            |row| row.position = 3,
            |row| row.id = Uuid::from_u128(4),
            |row| row.at_us = 5,
            |row| row.actor_kind.push('s'),
            |row| row.actor_id = None,
            |row| row.actor_name.clear(),
            |row| row.credential_id = Some(Uuid::nil()),
            |row| row.action.push('!'),
            |row| row.entity_type.push('s'),
            |row| row.entity_id.push('0'),
            |row| row.entity_name = Some(String::new()),
            |row| row.tenant_id = Some(Uuid::nil()),
            |row| row.pbx_ids.push(Uuid::nil()),
            |row| row.before = Some("null".to_owned()),
            |row| row.after = None,
            |row| row.source_address = None,
            |row| row.request_id = None,
            |row| row.after = Some("{ }".to_owned()),
            |row| (row.before, row.after) = (row.after.take(), None),
            |row| {
                row.actor_name = "an".to_owned();
                row.action = "nuser.created".to_owned();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = row();
            change(&mut other);
            assert_ne!(key.hash(Hash::NONE, &other), whole, "change {number}");
        }
        assert_ne!(key.hash(whole, &row()), whole);
        assert_ne!(AuditKey::new([8; 32]).hash(Hash::NONE, &row()), whole);
    }
}
