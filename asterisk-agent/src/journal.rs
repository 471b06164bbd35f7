//! What makes a kill at any instant harmless: the intent of the running apply, and the ledger of
//! what is in force.
//!
//! `intent` grows by one checksummed line per phase, each synced before the next phase begins, and
//! is emptied afterwards. `active` (the ledger) is replaced as a whole; it is the commit of an
//! apply: an intent whose apply the ledger knows as ended is over, so emptying the intent needs no
//! sync. A line that was cut off by a power cut was never relied upon; a whole line or ledger with
//! a wrong checksum is damage, and the agent then touches nothing (safe mode).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::bundle::{ApplyId, Digest, Revision, Slot};
use shared::record::ApplyRecord;
use time::OffsetDateTime;

use crate::durable::{Dir, FileError};

const INTENT: &str = Journal::INTENT;
const LEDGER: &str = Journal::LEDGER;
/// Both hold a record with at most a thousand mismatches.
const STATE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Writing or reading an open file failed.
    #[error("cannot write the journal")]
    Io(#[from] std::io::Error),
    /// A value has no JSON: a bug.
    #[error("cannot put the journal into words")]
    Json(#[from] serde_json::Error),
    /// Not what was written.
    #[error("{0} in the state directory is damaged: its checksum does not match")]
    Damaged(&'static str),
    /// There is no ledger, although something was applied here.
    #[error("the state directory is damaged: `active` is lost, although {0}")]
    Lost(&'static str),
}

/// A bundle that lies in `gen/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    pub(crate) revision: Revision,
    pub(crate) digest: Digest,
    /// The apply that brought it.
    pub(crate) apply_id: ApplyId,
}

/// A generation that was proven to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proven {
    pub(crate) generation: Generation,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
}

/// AORs whose registered contacts may belong to somebody else by now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owed {
    /// Nothing is known about earlier owners: every AOR that is ours or reserved.
    pub(crate) everything: bool,
    pub(crate) aors: BTreeSet<String>,
}

impl Owed {
    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        !self.everything && self.aors.is_empty()
    }
}

/// What is in force, as far as this agent knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Whose files this agent put in place last.
    pub(crate) live: Option<Generation>,
    /// The last generation that was proven: what a roll-back goes to.
    pub(crate) proven: Option<Proven>,
    pub(crate) owed: Owed,
    /// A reload was given up: it may still be carried out.
    pub(crate) unsettled: bool,
    /// What Asterisk holds was found to be otherwise since it was proven.
    #[serde(default)]
    pub(crate) doubtful: bool,
    /// A switch failed, and taking it back as well: the live files are a mixture. The intent says
    /// of what.
    #[serde(default)]
    pub(crate) torn: bool,
    /// The books were lost, and this revision forced: what is not known of earlier ones is lost.
    #[serde(default)]
    pub(crate) forgotten_before: Option<Revision>,
    /// The last apply that ended. Its file under `applies/` is written only after this.
    pub(crate) last: Option<ApplyRecord>,
}

impl Ledger {
    /// Of an agent that has never applied anything.
    fn first() -> Self {
        let owed = Owed {
            everything: true,
            aors: BTreeSet::new(),
        };
        Self {
            live: None,
            proven: None,
            owed,
            unsettled: false,
            doubtful: false,
            torn: false,
            forgotten_before: None,
            last: None,
        }
    }
}

/// How far an apply has come, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IntentPhase {
    /// Temporary copies lie beside every target: renames may have begun.
    Prepared,
    /// Every rename is done.
    Switched,
}

/// Which way the switch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    /// To the revision of the apply. Interrupted before the switch is done, it is undone.
    Forward,
    /// To the last proven revision. Interrupted, it is completed.
    RollBack,
}

/// Where the bytes are that lay at a target before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Old {
    /// There was no file.
    Absent,
    /// In `gen/<revision>/`.
    Generation(Revision, Digest),
    /// In `drift/<name>/`.
    Drift(String, Digest),
}

/// What the running apply is about to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) phase: IntentPhase,
    pub(crate) direction: Direction,
    /// What the files are switched to.
    pub(crate) new: Generation,
    /// What lay there before.
    pub(crate) old: BTreeMap<Slot, Old>,
    /// Contacts to remove once it is in force: noted before the switch, so that no kill loses it.
    pub(crate) owed: Owed,
    /// The record so far.
    pub(crate) record: ApplyRecord,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: Dir,
    intent: File,
}

impl Journal {
    /// The file of the intent.
    pub(crate) const INTENT: &'static str = "intent";
    /// The file of the ledger.
    pub(crate) const LEDGER: &'static str = "active";

    /// Opens it, made if absent.
    pub(crate) fn open(dir: Dir) -> Result<Self, JournalError> {
        let intent = dir.append(INTENT)?;
        dir.sync()?;
        Ok(Self { dir, intent })
    }

    /// Notes how far the apply has come: durable when this returns.
    pub(crate) fn write(&mut self, intent: &Intent) -> Result<(), JournalError> {
        let before = self.intent.metadata()?.len();
        let line = sealed(intent)?;
        let written = self
            .intent
            .write_all(&line)
            .and_then(|()| self.intent.sync_data());
        if written.is_err() {
            // Half a line would spoil the next one. And a descriptor whose sync has failed once may
            // call the next one done although nothing has reached the disk.
            self.intent.set_len(before)?;
            self.intent = self.dir.append(INTENT)?;
        }
        Ok(written?)
    }

    /// Forgets the intent. Not durable, and need not be: see the module's text.
    pub(crate) fn clear(&mut self) -> Result<(), JournalError> {
        if self.intent.metadata()?.len() > 0 {
            self.intent.set_len(0)?;
        }
        Ok(())
    }

    /// The last intent; `None` when no apply was under way.
    pub(crate) fn read(&mut self) -> Result<Option<Intent>, JournalError> {
        let mut bytes = Vec::new();
        self.dir
            .append(INTENT)?
            .take(STATE_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        // What stands behind the last line end was cut off while it was written.
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        if whole < bytes.len() {
            self.intent.set_len(whole as u64)?;
        }
        let Some(lines) = bytes[..whole].strip_suffix(b"\n") else {
            return Ok(None);
        };
        let mut last = None;
        for line in lines.split(|&byte| byte == b'\n') {
            last = Some(unsealed(line).ok_or(JournalError::Damaged(INTENT))?);
        }
        Ok(last)
    }

    /// What is in force.
    pub(crate) fn ledger(&self) -> Result<Ledger, JournalError> {
        match self.dir.read(LEDGER, STATE_BYTES_MAX)? {
            None => Ok(Ledger::first()),
            Some(bytes) => bytes
                .strip_suffix(b"\n")
                .and_then(unsealed)
                .ok_or(JournalError::Damaged(LEDGER)),
        }
    }

    /// Whether there is a ledger: there is since the first apply ended.
    pub(crate) fn has_ledger(&self) -> Result<bool, JournalError> {
        Ok(self.dir.stat(LEDGER)?.is_some())
    }

    /// Replaces the ledger: durable when this returns.
    pub(crate) fn write_ledger(&self, ledger: &Ledger) -> Result<(), JournalError> {
        Ok(self.dir.replace(LEDGER, &sealed(ledger)?)?)
    }
}

/// `CHECKSUM JSON\n`.
fn sealed(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(value)?;
    let mut line = Digest::of(&json).to_string().into_bytes();
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn unsealed<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (checksum, json) = line.split_at_checked(64)?;
    let json = json.strip_prefix(b" ")?;
    let expected: Digest = std::str::from_utf8(checksum).ok()?.parse().ok()?;
    (Digest::of(json) == expected).then(|| serde_json::from_slice(json).ok())?
}

#[cfg(test)]
mod tests {
    use shared::record::OnReloadFailure;

    use super::*;

    fn journal(dir: &tempfile::TempDir) -> Journal {
        Journal::open(Dir::open(dir.path()).unwrap()).unwrap()
    }

    fn intent(phase: IntentPhase) -> Intent {
        let generation = Generation {
            revision: Revision(7),
            digest: Digest([7; 32]),
            apply_id: ApplyId(uuid::Uuid::nil()),
        };
        let record = ApplyRecord {
            apply_id: generation.apply_id,
            revision: generation.revision,
            digest: generation.digest,
            on_reload_failure: OnReloadFailure::RollBack,
            outcome: None,
            steps: Vec::new(),
            files: Vec::new(),
            failure: String::new(),
            mismatches: Vec::new(),
            live_revision: None,
            notes: vec!["ž\n".to_owned()],
        };
        let old = BTreeMap::from([
            (Slot::PjsipEndpoints, Old::Absent),
            (
                Slot::DialplanRouting,
                Old::Generation(Revision(6), Digest([6; 32])),
            ),
        ]);
        let owed = Owed {
            everything: false,
            aors: BTreeSet::from(["1000".to_owned()]),
        };
        let direction = Direction::Forward;
        Intent {
            phase,
            direction,
            new: generation,
            old,
            owed,
            record,
        }
    }

    #[test]
    fn the_last_phase_counts_and_nothing_is_left_after_clearing() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal(&dir);
        assert_eq!(journal.read().unwrap(), None);
        journal.write(&intent(IntentPhase::Prepared)).unwrap();
        journal.write(&intent(IntentPhase::Switched)).unwrap();
        assert_eq!(journal.read().unwrap(), Some(intent(IntentPhase::Switched)));
        journal.clear().unwrap();
        assert_eq!(journal.read().unwrap(), None);
        journal.write(&intent(IntentPhase::Prepared)).unwrap();
        assert_eq!(journal.read().unwrap(), Some(intent(IntentPhase::Prepared)));
    }

    /// Cut at every byte, the journal says either what it said before or what was written.
    #[test]
    fn a_line_that_was_cut_off_was_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let first = sealed(&intent(IntentPhase::Prepared)).unwrap();
        let second = sealed(&intent(IntentPhase::Switched)).unwrap();
        for length in 0..=second.len() {
            let bytes = [&first[..], &second[..length]].concat();
            let state = Dir::open(dir.path()).unwrap();
            state.replace(INTENT, &bytes).unwrap();
            let phase = journal(&dir).read().unwrap().unwrap().phase;
            let whole = length == second.len();
            let expected = if whole {
                IntentPhase::Switched
            } else {
                IntentPhase::Prepared
            };
            assert_eq!(phase, expected, "cut at {length}");
        }
    }

    /// Whatever bit flips in a whole line, it is noticed.
    #[test]
    fn damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let state = Dir::open(dir.path()).unwrap();
        let sound = sealed(&intent(IntentPhase::Switched)).unwrap();
        for index in 0..sound.len() - 1 {
            let mut bytes = sound.clone();
            bytes[index] ^= 1;
            state.replace(INTENT, &bytes).unwrap();
            assert!(journal(&dir).read().is_err(), "flipped at {index}");
        }
        state.replace(LEDGER, b"{}\n").unwrap();
        assert!(matches!(
            journal(&dir).ledger(),
            Err(JournalError::Damaged(LEDGER))
        ));
    }

    #[test]
    fn the_first_ledger_trusts_no_contact() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(&dir);
        let mut ledger = journal.ledger().unwrap();
        assert!(ledger.owed.everything && ledger.proven.is_none());
        ledger.owed = Owed::default();
        journal.write_ledger(&ledger).unwrap();
        assert_eq!(journal.ledger().unwrap(), ledger);
    }
}
