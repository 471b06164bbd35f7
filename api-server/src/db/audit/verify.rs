//! Whether the audit trail is what was written: every lane from its first entry to its last, some
//! entries at a time.

use std::fmt;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::AuditKey;
use super::chain::{Hash, Head, Row};
use crate::db::DbError;

/// How many entries are read at a time.
const BATCH: i64 = 1_000;

/// What is wrong at some place of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which lane.
    pub lane: i32,
    /// Where in it.
    pub position: i64,
    /// The entry, where there is one.
    pub id: Option<Uuid>,
    /// What.
    pub kind: FaultKind,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The entry is not what was written there.
    Changed,
    /// What stands there was never written by a portal.
    Forged,
    /// One of the two: there is no entry behind it that tells which.
    ChangedOrForged,
    /// From there on, so many entries are missing before the next one.
    Missing(i64),
    /// From there on, so many entries were removed, and there is none behind them.
    Removed(i64),
    /// The lane's row says less than there are entries.
    HeadMovedBack,
    /// The lane's row has another hash than its last entry.
    HeadChanged,
    /// The lane's row is gone.
    HeadMissing,
    /// A head that was kept elsewhere has another hash.
    NotAsKept,
    /// A head that was kept elsewhere is beyond the last entry.
    ShorterThanKept,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("changed entry"),
            Self::Forged => f.write_str("forged entry: no portal wrote it there"),
            Self::ChangedOrForged => {
                f.write_str("changed or forged entry: the last one, so that none tells which")
            }
            Self::Missing(count) => write!(f, "missing: {count} before the next entry"),
            Self::Removed(count) => write!(f, "removed from the end: {count}"),
            Self::HeadMovedBack => f.write_str("the head was moved back behind this entry"),
            Self::HeadChanged => f.write_str("the head has another hash than the last entry"),
            Self::HeadMissing => f.write_str("the head is missing"),
            Self::NotAsKept => f.write_str("not the entry of which the head was kept"),
            Self::ShorterThanKept => {
                f.write_str("removed from the end, with the head: one was kept for this position")
            }
        }
    }
}

/// `lane 3, position 17, entry …: changed entry`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {}, position {}", self.lane, self.position)?;
        if let Some(id) = self.id {
            write!(f, ", entry {id}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many entries.
    pub entries: u64,
    /// How many faults were told.
    pub faults: u64,
    /// The last entry of each lane.
    pub heads: Vec<Head>,
}

/// The heads of all lanes, as their rows say.
pub async fn heads(connection: &mut PgConnection) -> Result<Vec<Head>, DbError> {
    sqlx::query!("select lane, position, hash from audit_lane order by lane")
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| Head::read(row.lane, row.position, &row.hash))
        .collect()
}

/// Verifies every lane, and compares with heads that were kept elsewhere. Each fault is told once. To be
/// called in a transaction that sees one instant.
pub async fn verify(
    connection: &mut PgConnection,
    key: &AuditKey,
    kept: &[Head],
    mut tell: impl FnMut(Fault),
) -> Result<Verified, DbError> {
    let mut verified = Verified::default();
    let heads = heads(connection).await?;
    for lane in lanes(connection, kept).await? {
        let mut faults = 0;
        let mut walk = Walk {
            key,
            kept: kept.iter().filter(|head| head.lane == lane).collect(),
            last: Head {
                lane,
                position: 0,
                hash: Hash::NONE,
            },
            doubtful: None,
            entries: 0,
            tell: &mut |fault| {
                faults += 1;
                tell(fault);
            },
        };
        loop {
            let rows = batch(connection, lane, walk.last.position).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                walk.step(row);
            }
        }
        walk.end(heads.iter().find(|head| head.lane == lane));
        verified.entries += walk.entries;
        let last = walk.last;
        verified.faults += faults;
        verified.heads.push(last);
    }
    Ok(verified)
}

/// Every lane that anything is known of.
async fn lanes(connection: &mut PgConnection, kept: &[Head]) -> Result<Vec<i32>, DbError> {
    let kept: Vec<i32> = kept.iter().map(|head| head.lane).collect();
    // One look into the index for each lane, however many entries it has.
    Ok(sqlx::query_scalar!(
        r#"with recursive used as (
            (select lane from audit_entry order by lane limit 1)
            union all
            select (select lane from audit_entry e where e.lane > u.lane order by lane limit 1)
            from used u where u.lane is not null
        )
        select lane as "lane!" from used where lane is not null
        union select lane from audit_lane
        union select unnest($1::integer[])
        order by 1"#,
        &kept,
    )
    .fetch_all(connection)
    .await?)
}

/// A row with its hashes.
struct Sealed {
    row: Row,
    previous: Option<Hash>,
    hash: Option<Hash>,
}

/// A walk along a lane.
struct Walk<'a> {
    key: &'a AuditKey,
    /// Heads that were kept.
    kept: Vec<&'a Head>,
    /// The entry before.
    last: Head,
    /// That entry, when it does not agree with its hash: the next one tells whether the hash is
    /// what was written there.
    doubtful: Option<Uuid>,
    entries: u64,
    tell: &'a mut dyn FnMut(Fault),
}

impl Walk<'_> {
    fn step(&mut self, sealed: Sealed) {
        let Sealed {
            row,
            previous,
            hash,
        } = sealed;
        self.entries += 1;
        let hash = hash.unwrap_or(Hash::NONE);
        let agrees = previous.is_some_and(|previous| self.key.hash(previous, &row) == hash);
        let missing = row.position - self.last.position - 1;
        let follows = missing == 0 && previous == Some(self.last.hash);
        if let Some(id) = self.doubtful.take() {
            // An entry that agrees with its own hash knows what stood before it.
            let kind = if agrees && follows {
                FaultKind::Changed
            } else {
                FaultKind::Forged
            };
            self.fault(self.last.position, Some(id), kind);
        } else if missing == 0 && agrees && !follows {
            // Both agree with themselves, and not with each other: one of them stood elsewhere.
            self.fault(row.position, Some(row.id), FaultKind::Forged);
        }
        if missing > 0 {
            let kind = FaultKind::Missing(missing);
            self.fault(self.last.position + 1, None, kind);
        }
        self.last = Head {
            lane: self.last.lane,
            position: row.position,
            hash,
        };
        if !agrees {
            self.doubtful = Some(row.id);
        }
        let at = self.last.position;
        let other = |head: &&&Head| head.position == at && head.hash != hash;
        if self.kept.iter().any(|head| other(&head)) {
            self.fault(at, Some(row.id), FaultKind::NotAsKept);
        }
    }

    /// Compares the last entry with the lane's row, and with what was kept of later ones.
    fn end(&mut self, head: Option<&Head>) {
        let Head { position, hash, .. } = self.last;
        if let Some(id) = self.doubtful.take() {
            let written = head.is_some_and(|head| *head == self.last);
            let kind = if written {
                FaultKind::ChangedOrForged
            } else {
                FaultKind::Forged
            };
            self.fault(position, Some(id), kind);
            if !written {
                // What the head says is true of the entry before it.
                return self.compare_kept();
            }
        }
        match head {
            None if position > 0 => self.fault(position, None, FaultKind::HeadMissing),
            Some(head) if head.position > position => {
                let kind = FaultKind::Removed(head.position - position);
                self.fault(position + 1, None, kind);
            }
            Some(head) if head.position < position => {
                self.fault(head.position + 1, None, FaultKind::HeadMovedBack);
            }
            Some(head) if head.hash != hash => self.fault(position, None, FaultKind::HeadChanged),
            None | Some(_) => {}
        }
        self.compare_kept();
    }

    /// Looks for heads that were kept of entries behind the last one.
    fn compare_kept(&mut self) {
        let position = self.last.position;
        let mut beyond: Vec<i64> = self.kept.iter().map(|head| head.position).collect();
        beyond.retain(|kept| *kept > position);
        if let Some(kept) = beyond.into_iter().max() {
            self.fault(kept, None, FaultKind::ShorterThanKept);
        }
    }

    fn fault(&mut self, position: i64, id: Option<Uuid>, kind: FaultKind) {
        let lane = self.last.lane;
        (self.tell)(Fault {
            lane,
            position,
            id,
            kind,
        });
    }
}

/// The next entries of a lane.
async fn batch(
    connection: &mut PgConnection,
    lane: i32,
    after: i64,
) -> Result<Vec<Sealed>, DbError> {
    let rows = sqlx::query!(
        "select position, audit_entry_id, previous_hash, hash, at, actor_kind, actor_id, actor_name,
            credential_id, action, entity_type, entity_id, entity_name, tenant_id, pbx_ids,
            before::text, after::text, source_address, request_id
         from audit_entry
         where lane = $1 and position > $2
         order by position limit $3",
        lane,
        after,
        BATCH,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Sealed {
            previous: Hash::read(&row.previous_hash),
            hash: Hash::read(&row.hash),
            row: Row {
                lane,
                position: row.position,
                id: row.audit_entry_id,
                at_us: microseconds(row.at),
                actor_kind: row.actor_kind,
                actor_id: row.actor_id,
                actor_name: row.actor_name,
                credential_id: row.credential_id,
                action: row.action,
                entity_type: row.entity_type,
                entity_id: row.entity_id,
                entity_name: row.entity_name,
                tenant_id: row.tenant_id,
                pbx_ids: row.pbx_ids,
                before: row.before,
                after: row.after,
                source_address: row.source_address,
                request_id: row.request_id,
            },
        })
        .collect())
}

fn microseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}
