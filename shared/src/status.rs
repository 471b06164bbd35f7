//! What the agent tells of itself: what is in force, what lies on disk, what happened apart from
//! applies, and what it finds when it is asked to check or to verify.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use crate::bundle::{ApplyId, Digest, FileManifest, Revision, Slot};
use crate::record::Mismatch;

/// The answer to `GetStatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    /// The agent's version.
    pub version: String,
    /// The last revision that was proven; `None` before the first.
    pub active: Option<ActiveRevision>,
    /// The highest revision that it has seen: it refuses lower ones.
    pub highest_revision: Revision,
    /// Its books were lost before this one: of applies of lower ones that it does not know, nobody
    /// knows what became of them.
    pub forgotten_before: Option<Revision>,
    /// The apply that runs now.
    pub running: Option<ApplyId>,
    /// Whether Asterisk answers.
    pub asterisk_answering: bool,
    /// Its version, or why it does not answer.
    pub asterisk_detail: String,
    /// Paths of `*.conf` beside the managed files, which Asterisk includes as well.
    pub foreign_files: Vec<String>,
    /// What an administrator should look at.
    pub warnings: Vec<String>,
    /// Each managed file.
    pub files: Vec<FileStatus>,
    /// How the live files are watched.
    pub drift: DriftStatus,
    /// The certificates of the agent's end of the link.
    pub certificates: Vec<CertificateStatus>,
    /// Counted since the agent started, by metric name.
    pub counters: BTreeMap<String, u64>,
    /// Why the agent touches nothing; `None` when it works.
    pub safe_mode: Option<String>,
    /// Chosen anew at each start of the agent: events are numbered within it.
    pub instance: String,
    /// The last things that happened apart from applies, the oldest first.
    pub events: Vec<Event>,
}

/// A revision that was proven to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveRevision {
    /// Its number.
    pub revision: Revision,
    /// Its digest.
    pub digest: Digest,
    /// The apply that brought it.
    pub apply_id: ApplyId,
    /// When it was proven last.
    pub proven_at: OffsetDateTime,
}

/// A managed file: what was put there, what lies there, what Asterisk has read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Which file.
    pub slot: Slot,
    /// Where it lies on the PBX host.
    pub path: String,
    /// The revision whose file the last switch put there; `None` before the first.
    pub applied_revision: Option<Revision>,
    /// That file.
    pub applied: Option<FileManifest>,
    /// What lies there; `None` when there is no file or it cannot be read.
    pub on_disk: Option<FileManifest>,
    /// Why it cannot be read; empty when it can, or when there is none.
    pub problem: String,
    /// The generation id that the markers in Asterisk carry; `None` when it is not known.
    pub loaded_generation: Option<String>,
    /// The revision with this generation id, where the agent still knows it.
    pub loaded_revision: Option<Revision>,
}

/// How the live files are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriftStatus {
    /// How often they are hashed.
    pub period: Duration,
    /// When they were hashed last; `None` before the first time.
    pub checked_at: Option<OffsetDateTime>,
    /// Since when they are not what was applied; `None` while they are.
    pub since: Option<OffsetDateTime>,
}

/// When a certificate, or a revocation list, ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// `agent certificate`, `portal certificate`, `CA certificate` or `revocation list`.
    pub name: String,
    /// Its last instant.
    pub not_after: OffsetDateTime,
}

/// Something that happened on a PBX apart from an apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number within [`AgentStatus::instance`], rising.
    pub sequence: u64,
    /// When it was noticed.
    pub at: OffsetDateTime,
    /// What it is.
    pub kind: EventKind,
    /// In plain words, never a secret.
    pub detail: String,
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Live files are not what was applied.
    DriftFound,
    /// They are again, by another hand.
    DriftEnded,
    /// An apply replaced them; the detail says where a copy is.
    DriftOverwritten,
    /// A `*.conf` that is not managed, but that Asterisk includes.
    ForeignFileFound,
    /// It is gone.
    ForeignFileGone,
    /// The state directory is damaged: the agent touches nothing.
    SafeModeEntered,
    /// A forced apply ended that.
    SafeModeLeft,
    /// A certificate or revocation list ends soon.
    CertificateExpiring,
    /// Somebody was refused at the door; the detail says why.
    PeerRefused,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::DriftFound,
        Self::DriftEnded,
        Self::DriftOverwritten,
        Self::ForeignFileFound,
        Self::ForeignFileGone,
        Self::SafeModeEntered,
        Self::SafeModeLeft,
        Self::CertificateExpiring,
        Self::PeerRefused,
    ];

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DriftFound => "drift_found",
            Self::DriftEnded => "drift_ended",
            Self::DriftOverwritten => "drift_overwritten",
            Self::ForeignFileFound => "foreign_file_found",
            Self::ForeignFileGone => "foreign_file_gone",
            Self::SafeModeEntered => "safe_mode_entered",
            Self::SafeModeLeft => "safe_mode_left",
            Self::CertificateExpiring => "certificate_expiring",
            Self::PeerRefused => "peer_refused",
        }
    }
}

/// What would keep a bundle from coming into force: the answer to `Check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Everything that was found.
    pub findings: Vec<CheckFinding>,
    /// What the throw-away Asterisk did, or why it did not run.
    pub preflight: String,
    /// Whether it ran.
    pub preflight_ran: bool,
}

/// Something that Asterisk would refuse, ignore, or take as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFinding {
    /// Who found it.
    pub source: FindingSource,
    /// In which file; `None` where it concerns the bundle as a whole.
    pub slot: Option<Slot>,
    /// From 1; 0 where it concerns the file as a whole.
    pub line: u32,
    /// What is wrong; never a secret.
    pub message: String,
}

/// Who found a [`CheckFinding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingSource {
    /// The check of the text and of the references in it.
    Text,
    /// The look at what lies beside the managed files.
    Surroundings,
    /// The throw-away Asterisk.
    Preflight,
}

impl FindingSource {
    /// The word that the API uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Surroundings => "surroundings",
            Self::Preflight => "preflight",
        }
    }
}

/// The live revision against what Asterisk holds: the answer to `Verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The live revision.
    pub revision: Revision,
    /// Its digest.
    pub digest: Digest,
    /// Whether Asterisk and the live files hold exactly what it says.
    pub in_force: bool,
    /// Objects and extensions whose every part was compared.
    pub compared: u64,
    /// What differs.
    pub mismatches: Vec<Mismatch>,
    /// Why it could not be compared to the end; empty when it was.
    pub failure: String,
    /// How long it took.
    pub duration: Duration,
}

/// A phone that is registered at an AOR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredPhone {
    /// Where.
    pub aor: String,
    /// Its contact address.
    pub uri: String,
    /// What it calls itself; empty when it did not say.
    pub user_agent: String,
}
