//! What is wanted, applied, on disk and loaded on a PBX, and what that means.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::bundle::{ApplyId, Digest, Revision, Slot};
use shared::record::WrittenFile;
use shared::status::{ActiveRevision, CertificateStatus};
use time::OffsetDateTime;

use super::apply::{AttemptOutcome, Failure};
use super::{PbxId, PbxName, TenantId};

/// An attempt in short.
#[derive(Clone, Debug)]
pub struct AttemptBrief {
    /// Which attempt.
    pub id: ApplyId,
    /// `None` when it ended before there was a bundle.
    pub revision: Option<Revision>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Who asked.
    pub requested_by: String,
    /// As of the attempt.
    pub requested_tenant: Option<TenantId>,
    /// When it was asked for.
    pub started_at: OffsetDateTime,
    /// When its outcome was known.
    pub ended_at: Option<OffsetDateTime>,
    /// Why it is neither applied nor unchanged.
    pub failure: Option<Failure>,
    /// The live files that it left.
    pub files: Vec<WrittenFile>,
}

/// Something that an administrator should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Stable, for programs.
    pub code: &'static str,
    /// In words, without secrets.
    pub message: String,
}

impl Warning {
    /// A warning.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// The content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Hash of its bytes.
    pub sha256: Digest,
    /// Length in bytes.
    pub size: u64,
}

/// A managed file as the database would have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedFile {
    /// Its content.
    pub content: Content,
    /// What its markers would carry.
    pub generation: String,
}

/// What was put in a managed file last.
#[derive(Clone, Debug)]
pub struct LastApplied {
    /// Of which revision it is.
    pub revision: Revision,
    /// That file; `None` when it is withheld.
    pub content: Option<Content>,
    /// The attempt that brought it; `None` when the database does not know that revision.
    pub attempt: Option<AttemptBrief>,
}

/// What a generation id in Asterisk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The id.
    pub generation: String,
    /// The revision that has it, where the agent still knows that.
    pub revision: Option<Revision>,
}

/// What a managed file is in comparison with what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wanted, applied, on disk and loaded are the same.
    InSync,
    /// The database says something else than what was applied: the next apply brings it.
    PendingChanges,
    /// On disk is something else than what was applied.
    Drifted,
    /// On disk is what was applied, but Asterisk holds something else, or nothing of it.
    NotLoaded,
    /// Part of it is not known.
    Unknown,
}

impl Verdict {
    /// What it comes to while an apply runs: disk and Asterisk then differ by right for a moment.
    #[must_use]
    pub const fn while_running(self, running: bool) -> Self {
        match self {
            Self::Drifted | Self::NotLoaded if running => Self::Unknown,
            other => other,
        }
    }

    /// The word that the API uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::PendingChanges => "pending_changes",
            Self::Drifted => "drifted",
            Self::NotLoaded => "not_loaded",
            Self::Unknown => "unknown",
        }
    }
}

/// A managed file.
#[derive(Clone, Debug)]
pub struct FileState {
    /// Which file.
    pub slot: Slot,
    /// Where it lies on the PBX host.
    pub path: Option<String>,
    /// As the database would have it now; `None` when it cannot be rendered.
    pub wanted: Option<WantedFile>,
    /// What was put there last; `None` before the first apply.
    pub last_applied: Option<LastApplied>,
    /// What lies there; `None` when nothing does, or it is not known.
    pub on_disk: Option<Content>,
    /// Why it cannot be read.
    pub problem: Option<String>,
    /// What Asterisk has read of it; `None` when it shows nothing of it.
    pub loaded: Option<Loaded>,
    /// Whether Asterisk answers; `None` when the agent does not say.
    pub asterisk_answers: Option<bool>,
}

impl FileState {
    /// What it comes to, given whether the agent tells of its files at all.
    pub fn verdict(&self, agent_tells: bool) -> Verdict {
        if !agent_tells || self.problem.is_some() {
            return Verdict::Unknown;
        }
        let Some(last) = &self.last_applied else {
            // Whatever lies there is of the time before the first apply.
            return match self.wanted {
                Some(_) => Verdict::PendingChanges,
                None => Verdict::Unknown,
            };
        };
        if self.on_disk != last.content {
            return Verdict::Drifted;
        }
        let wanted = self.wanted.as_ref();
        let as_wanted = wanted.map(|wanted| Some(wanted.content) == last.content);
        let loaded = match (&self.loaded, wanted) {
            // Whatever was applied carries a mark.
            (None, _) => (self.asterisk_answers == Some(true)).then_some(false),
            (Some(loaded), Some(wanted)) if Some(wanted.content) == last.content => {
                Some(wanted.generation == loaded.generation)
            }
            // The id of what was applied is not known here, its revision is.
            (Some(loaded), _) => loaded.revision.map(|revision| revision == last.revision),
        };
        match (loaded, as_wanted) {
            (Some(false), _) => Verdict::NotLoaded,
            (_, Some(false)) => Verdict::PendingChanges,
            (Some(true), Some(true)) => Verdict::InSync,
            (None, _) | (_, None) => Verdict::Unknown,
        }
    }
}

/// What the database would have on a PBX now.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Digest of the bundle.
    pub digest: Digest,
    /// Each file.
    pub files: BTreeMap<Slot, WantedFile>,
}

/// A certificate or revocation list of the link.
#[derive(Clone, Debug)]
pub struct LinkCertificate {
    /// Whether it lies with the portal that answers, or with the agent.
    pub of_portal: bool,
    /// What it is and when it ends.
    pub status: CertificateStatus,
}

/// How the live files are watched.
#[derive(Clone, Copy, Debug)]
pub struct Drift {
    /// How often they are hashed.
    pub period: Duration,
    /// When they were hashed last.
    pub checked_at: Option<OffsetDateTime>,
    /// Since when they are not what was applied; `None` while they are.
    pub since: Option<OffsetDateTime>,
}

/// What the agent tells.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// Its version.
    pub version: String,
    /// Whether Asterisk answers.
    pub asterisk_answering: bool,
    /// Its version, or why it does not answer.
    pub asterisk_detail: String,
    /// What was proven last.
    pub active: Option<ActiveRevision>,
    /// The apply that runs now.
    pub running: Option<ApplyId>,
    /// How the files are watched; `None` when it is too old to say.
    pub drift: Option<Drift>,
    /// `*.conf` that Asterisk includes as well.
    pub foreign_files: Vec<String>,
    /// Why it touches nothing.
    pub safe_mode: Option<String>,
}

/// Everything that is known of a PBX.
#[derive(Clone, Debug)]
pub struct PbxState {
    /// Which one.
    pub id: PbxId,
    /// Its name.
    pub name: PbxName,
    /// What the agent tells, or why it tells nothing.
    pub agent: Result<AgentView, String>,
    /// What the database would have, or why it cannot be rendered.
    pub wanted: Result<Wanted, String>,
    /// Each managed file with its verdict.
    pub files: Vec<(FileState, Verdict)>,
    /// The newest attempt that got a revision, to be sent, whatever came of it.
    pub last_attempt: Option<AttemptBrief>,
    /// The newest attempt that was proven.
    pub last_proven: Option<AttemptBrief>,
    /// Attempts whose outcome is not known yet.
    pub open: Vec<AttemptBrief>,
    /// Attempts that wait for their turn.
    pub queued: usize,
    /// The certificates of both ends.
    pub certificates: Vec<LinkCertificate>,
    /// What was counted at both ends, by metric name.
    pub counters: BTreeMap<String, u64>,
    /// Why it is degraded; empty when it is not.
    pub reasons: Vec<String>,
    /// What else an administrator should look at.
    pub warnings: Vec<Warning>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Content = Content {
        sha256: Digest([1; 32]),
        size: 1,
    };
    const B: Content = Content {
        sha256: Digest([2; 32]),
        size: 1,
    };

    fn file(wanted: Content, applied: Content, on_disk: Content, loaded: (&str, u64)) -> FileState {
        FileState {
            slot: Slot::PjsipEndpoints,
            path: None,
            wanted: Some(WantedFile {
                content: wanted,
                generation: "g-a".to_owned(),
            }),
            last_applied: Some(LastApplied {
                revision: Revision(3),
                content: Some(applied),
                attempt: None,
            }),
            on_disk: Some(on_disk),
            problem: None,
            loaded: Some(Loaded {
                generation: loaded.0.to_owned(),
                revision: Some(Revision(loaded.1)),
            }),
            asterisk_answers: Some(true),
        }
    }

    #[test]
    fn verdicts() {
        let verdict = |file: &FileState| file.verdict(true);
        assert_eq!(verdict(&file(A, A, A, ("g-a", 3))), Verdict::InSync);
        // Equal content of an earlier revision is as good.
        assert_eq!(verdict(&file(A, A, A, ("g-a", 2))), Verdict::InSync);
        assert_eq!(verdict(&file(A, A, A, ("g-b", 2))), Verdict::NotLoaded);
        assert_eq!(verdict(&file(A, A, B, ("g-a", 3))), Verdict::Drifted);
        assert_eq!(verdict(&file(A, B, B, ("g-b", 3))), Verdict::PendingChanges);
        assert_eq!(verdict(&file(A, B, B, ("g-c", 2))), Verdict::NotLoaded);
        assert_eq!(verdict(&file(A, B, A, ("g-b", 3))), Verdict::Drifted);

        let whole = file(A, A, A, ("g-a", 3));
        assert_eq!(whole.verdict(false), Verdict::Unknown);
        let gone = FileState {
            on_disk: None,
            ..whole.clone()
        };
        assert_eq!(verdict(&gone), Verdict::Drifted);
        let unreadable = FileState {
            problem: Some("permission denied".to_owned()),
            ..gone.clone()
        };
        assert_eq!(verdict(&unreadable), Verdict::Unknown);
        let fresh = FileState {
            last_applied: None,
            loaded: None,
            ..gone
        };
        assert_eq!(verdict(&fresh), Verdict::PendingChanges);
        let made_by_hand = FileState {
            on_disk: Some(B),
            ..fresh
        };
        assert_eq!(verdict(&made_by_hand), Verdict::PendingChanges);
        let nothing_loaded = FileState {
            loaded: None,
            ..whole
        };
        assert_eq!(verdict(&nothing_loaded), Verdict::NotLoaded);
        let pending_too = FileState {
            loaded: None,
            ..file(A, B, B, ("g-b", 3))
        };
        assert_eq!(verdict(&pending_too), Verdict::NotLoaded);
        let asterisk_down = FileState {
            asterisk_answers: Some(false),
            ..nothing_loaded
        };
        assert_eq!(verdict(&asterisk_down), Verdict::Unknown);
    }
}
