//! What an apply did, as the agent reports it and the portal keeps it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::bundle::{ApplyId, Digest, Revision, Slot};

/// Most bytes of what Asterisk said that one step keeps: 4 KiB.
pub const SAID_BYTES_MAX: usize = 4 * 1024;

/// What happens when the files are in place but Asterisk does not hold what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReloadFailure {
    /// The last proven revision is restored, reloaded and verified.
    RollBack,
    /// The new files stay for investigation (MVP story 2.4).
    KeepNewFiles,
}

impl OnReloadFailure {
    /// The word that records and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RollBack => "roll_back",
            Self::KeepNewFiles => "keep_new_files",
        }
    }
}

/// How an apply ended on the PBX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Proven to be in force.
    Applied,
    /// Was in force already and was proven again; no file was touched.
    Unchanged,
    /// The bundle was refused; nothing was touched.
    Rejected,
    /// A file could not be written; the old files are intact and nothing was reloaded.
    WriteFailed,
    /// Asterisk does not hold the new configuration; the new files stay.
    ReloadFailedFilesKept,
    /// Asterisk did not take the new configuration; the last proven revision is in force again.
    RolledBack,
    /// As [`Outcome::RolledBack`], but the restored revision could not be proven either.
    RollbackFailed,
    /// A reload did not answer in time and may still take effect.
    ReloadUnknown,
    /// The agent was stopped in the middle; the steps say what its recovery did.
    Interrupted,
}

impl Outcome {
    /// Whether the revision is proven to be in force.
    pub const fn is_proven(self) -> bool {
        matches!(self, Self::Applied | Self::Unchanged)
    }
}

/// Where in an apply a step belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The bundle lies durably in the state directory.
    Staged,
    /// Its text was checked.
    Validated,
    /// A throw-away Asterisk read the staged files.
    Preflight,
    /// Temporary copies lie beside every target.
    Prepared,
    /// The files were renamed into place.
    Switched,
    /// Asterisk was told to read them.
    Reloading,
    /// What Asterisk holds was read back.
    Verifying,
    /// Contacts of removed and re-keyed AORs were removed.
    Contacts,
    /// The last proven revision was brought back.
    RollingBack,
    /// The agent started again and repaired what it had been stopped in.
    Recovered,
}

impl Phase {
    /// The word that records and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Validated => "validated",
            Self::Preflight => "preflight",
            Self::Prepared => "prepared",
            Self::Switched => "switched",
            Self::Reloading => "reloading",
            Self::Verifying => "verifying",
            Self::Contacts => "contacts",
            Self::RollingBack => "rolling_back",
            Self::Recovered => "recovered",
        }
    }
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where in the apply.
    pub phase: Phase,
    /// What was done, in a few words.
    pub action: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Whether it did what it should.
    pub ok: bool,
    /// What Asterisk or the operating system said; never a secret.
    pub said: String,
}

/// A live file that the apply put in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Which file.
    pub slot: Slot,
    /// Where it lies on the PBX host.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// Hash of its bytes.
    pub sha256: Digest,
}

/// How an object differs from what the bundle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchKind {
    /// The bundle has it, Asterisk does not.
    Missing,
    /// Asterisk has it, the bundle does not.
    Extra,
    /// Both have it, with different content.
    Different,
}

impl MismatchKind {
    /// The word that records and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Different => "different",
        }
    }
}

/// The kind of thing that Asterisk holds otherwise than the bundle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A PJSIP endpoint.
    Endpoint,
    /// A PJSIP auth.
    Auth,
    /// A PJSIP AOR.
    Aor,
    /// A dialplan extension.
    Extension,
    /// The generation marker of one type.
    Marker,
    /// A registered phone that must be gone.
    Contact,
    /// A managed file.
    File,
}

impl ObjectKind {
    /// The word that records and the wire use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Auth => "auth",
            Self::Aor => "aor",
            Self::Extension => "extension",
            Self::Marker => "marker",
            Self::Contact => "contact",
            Self::File => "file",
        }
    }
}

/// An object that Asterisk holds otherwise than the bundle says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// What kind of object.
    pub object: ObjectKind,
    /// Its name.
    pub name: String,
    /// How it differs.
    pub kind: MismatchKind,
    /// Expected and found, without secrets.
    pub detail: String,
}

/// The record of one apply: complete once `outcome` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyRecord {
    /// Which attempt.
    pub apply_id: ApplyId,
    /// The revision it brings into force.
    pub revision: Revision,
    /// The digest of that revision's bundle.
    pub digest: Digest,
    /// The policy it was started with.
    pub on_reload_failure: OnReloadFailure,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// The live files that were put in place.
    pub files: Vec<WrittenFile>,
    /// Why the outcome is neither `applied` nor `unchanged`; empty otherwise.
    pub failure: String,
    /// Each object that Asterisk holds otherwise than the bundle says.
    pub mismatches: Vec<Mismatch>,
    /// The revision whose files are live now; `None` when there never was one.
    pub live_revision: Option<Revision>,
    /// What an administrator should know although the outcome stands.
    pub notes: Vec<String>,
}
