//! One attempt to bring what the database says into force on a PBX, as the audit trail keeps it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::bundle::{ApplyId, Digest, Revision};
use shared::record::{ApplyRecord, OnReloadFailure, Outcome};
use time::OffsetDateTime;

use super::audit::told_time;
use super::change::Summary;
use super::device::{DeviceSlot, endpoint_name};
use super::idempotency::AttemptRoot;
use super::page::sort_keys;
use super::viewer::Confined;
use super::{ExtensionNumber, PbxId, PbxName, TenantId, TenantNumber, UserId};

/// How an attempt ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Accepted; it waits for its turn, and nothing was sent.
    Queued,
    /// Sent or about to be sent; what the agent made of it is not known yet.
    Started,
    /// As the agent reported it.
    OnPbx(Outcome),
    /// Another apply held the PBX for too long; nothing was sent, or the agent did not take it.
    Busy,
    /// What the database holds could not be turned into a bundle; nothing was sent.
    RenderFailed,
    /// The data is not what the preview showed any more; nothing was sent.
    PreviewOutdated,
    /// The stored bundle cannot be used; nothing was sent.
    RestoreFailed,
    /// The agent could not be reached; nothing was changed.
    AgentUnreachable,
    /// The agent did not take the bundle or the order; nothing was changed.
    AgentRefused,
    /// Committed, but the agent never heard of it.
    NeverStarted,
}

impl AttemptOutcome {
    /// Each of them.
    pub const ALL: [Self; 18] = [
        Self::Queued,
        Self::Started,
        Self::OnPbx(Outcome::Applied),
        Self::OnPbx(Outcome::Unchanged),
        Self::OnPbx(Outcome::Rejected),
        Self::OnPbx(Outcome::WriteFailed),
        Self::OnPbx(Outcome::ReloadFailedFilesKept),
        Self::OnPbx(Outcome::RolledBack),
        Self::OnPbx(Outcome::RollbackFailed),
        Self::OnPbx(Outcome::ReloadUnknown),
        Self::OnPbx(Outcome::Interrupted),
        Self::Busy,
        Self::RenderFailed,
        Self::PreviewOutdated,
        Self::RestoreFailed,
        Self::AgentUnreachable,
        Self::AgentRefused,
        Self::NeverStarted,
    ];

    /// The word that the database and the REST API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Started => "started",
            Self::OnPbx(Outcome::Applied) => "applied",
            Self::OnPbx(Outcome::Unchanged) => "unchanged",
            Self::OnPbx(Outcome::Rejected) => "rejected",
            Self::OnPbx(Outcome::WriteFailed) => "write_failed",
            Self::OnPbx(Outcome::ReloadFailedFilesKept) => "reload_failed_files_kept",
            Self::OnPbx(Outcome::RolledBack) => "rolled_back",
            Self::OnPbx(Outcome::RollbackFailed) => "rollback_failed",
            Self::OnPbx(Outcome::ReloadUnknown) => "reload_unknown",
            Self::OnPbx(Outcome::Interrupted) => "interrupted",
            Self::Busy => "busy",
            Self::RenderFailed => "render_failed",
            Self::PreviewOutdated => "preview_outdated",
            Self::RestoreFailed => "restore_failed",
            Self::AgentUnreachable => "agent_unreachable",
            Self::AgentRefused => "agent_refused",
            Self::NeverStarted => "never_started",
        }
    }

    /// Whether it is over, as far as anybody knows.
    pub const fn has_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Started)
    }

    /// Whether the revision is proven to be in force.
    pub const fn is_proven(self) -> bool {
        matches!(self, Self::OnPbx(outcome) if outcome.is_proven())
    }

    /// The outcome of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

sort_keys! {
    /// What attempts are listed by.
    pub enum ApplySort of Id, default StartedAt descending {
        StartedAt = "started_at" Time,
    }
}

sort_keys! {
    /// What revisions are listed by.
    pub enum RevisionSort of Id, default Revision descending {
        Revision = "revision" Number,
    }
}

/// Which attempts or revisions are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyFilter {
    /// Only those of this PBX.
    pub pbx: Option<PbxId>,
    /// Only those that ended so.
    pub outcome: Option<AttemptOutcome>,
    /// Only those that this administrator asked for.
    pub requested_by: Option<String>,
    /// Only those that hold this text.
    pub search: Option<String>,
    /// Only those that somebody of this tenant asked for; then the text is looked for in who asked
    /// and under which request only.
    pub of_tenant: Option<TenantId>,
}

impl ApplyFilter {
    /// The same for whoever is confined to a tenant. What is withheld must not be found either, or
    /// it could be guessed letter by letter.
    #[must_use]
    pub fn confined(self, to: Confined) -> Self {
        let asks_for_withheld = self.requested_by.is_some() || self.search.is_some();
        Self {
            pbx: Some(to.pbx),
            of_tenant: asks_for_withheld.then_some(to.tenant),
            ..self
        }
    }
}

/// Why an attempt did not bring its revision into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for programs.
    pub code: String,
    /// For the administrator: what happened.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }

    /// Whether its message is the portal's own and names no user, request or file: anybody may know.
    pub fn names_nobody(&self) -> bool {
        ["never_started", "pbx_deleted", "preview_outdated"].contains(&self.code.as_str())
    }
}

/// What whoever asks for an apply may say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// What happens when Asterisk does not take the files; the portal's setting when absent.
    pub on_reload_failure: Option<OnReloadFailure>,
    /// The digest that a preview showed: when the data says something else by now, nothing happens.
    pub expected_digest: Option<Digest>,
    /// Lets an agent whose state directory is damaged set that aside and go on.
    pub force: bool,
    /// Bring the bundle of this apply back, instead of what the database says.
    pub restore: Option<ApplyId>,
    /// What the ids of its attempts are made from; fresh ones when absent.
    pub root: Option<AttemptRoot>,
}

/// Whose bundle an attempt brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredFrom {
    /// The apply that made the bundle.
    pub id: ApplyId,
    /// Its number then.
    pub revision: Revision,
}

/// A user as it was in the snapshot of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncludedUser {
    /// Which user.
    pub id: UserId,
    /// The name at that time.
    pub name: String,
    /// The tenant's number.
    pub tenant: u32,
    /// The number at that time.
    pub extension: u32,
}

impl IncludedUser {
    /// What the user's first device registers as.
    pub fn first_device(&self) -> String {
        let numbers = TenantNumber::try_from(self.tenant)
            .ok()
            .zip(ExtensionNumber::try_from(self.extension).ok());
        // What was in a bundle has both.
        numbers.map_or_else(String::new, |(tenant, extension)| {
            endpoint_name(tenant, extension, DeviceSlot::FIRST).to_string()
        })
    }

    /// What tells the user from those of other tenants: the number, or `t2-1000`.
    pub fn address(&self) -> String {
        if self.tenant == TenantNumber::DEFAULT.get() {
            self.extension.to_string()
        } else {
            format!("t{}-{}", self.tenant, self.extension)
        }
    }
}

/// How many users there are of each tenant, by the tenant's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserCounts(pub BTreeMap<u32, usize>);

impl UserCounts {
    /// Of these users.
    pub fn of(users: &[IncludedUser]) -> Self {
        let mut counts = BTreeMap::new();
        for user in users {
            *counts.entry(user.tenant).or_default() += 1;
        }
        Self(counts)
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Forgets those of other tenants.
    pub fn keep(&mut self, tenant: TenantNumber) {
        self.0.retain(|number, _| *number == tenant.get());
    }
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which attempt.
    pub id: ApplyId,
    /// On which PBX.
    pub pbx_id: PbxId,
    /// What that is called now.
    pub pbx_name: PbxName,
    /// `None` when it ended before there was a bundle.
    pub revision: Option<Revision>,
    /// The bundle's digest.
    pub digest: Option<Digest>,
    /// What was to happen when Asterisk does not take the files.
    pub on_reload_failure: OnReloadFailure,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The administrator's name, as given then.
    pub requested_by: String,
    /// The request that asked for it.
    pub request_id: String,
    /// Where that request came from.
    pub source_address: String,
    /// The tenant that the administrator is confined to; `None`: none, or it is not known.
    pub requested_tenant: Option<TenantId>,
    /// When it was asked for.
    pub started_at: OffsetDateTime,
    /// When its outcome was known.
    pub ended_at: Option<OffsetDateTime>,
    /// Why it is neither applied nor unchanged.
    pub failure: Option<Failure>,
    /// What the agent did.
    pub record: Option<ApplyRecord>,
    /// How many users the snapshot held.
    pub user_counts: UserCounts,
    /// Who they were; empty where only the count was asked for.
    pub users: Vec<IncludedUser>,
    /// What it changes against the bundle that was proven before; `None` when there was no bundle,
    /// or the two could not be compared.
    pub changes: Option<Summary>,
    /// Whose bundle it brings back; `None` when it rendered what the database said.
    pub restored_from: Option<RestoredFrom>,
    /// What the portal has to say about it once it is in force.
    pub notes: Vec<String>,
    /// Whether its bundle is still kept.
    pub bundle_kept: bool,
    /// How many changes of the audit trail it carries: those that were made since the last one that
    /// was proven.
    pub change_count: Option<usize>,
}

impl Attempt {
    /// What the audit trail keeps of it.
    pub fn told(&self) -> Value {
        let failure = self.failure.as_ref();
        json!({
            "id": self.id.0,
            "pbx_id": self.pbx_id.0,
            "outcome": self.outcome.name(),
            "revision": self.revision.map(|revision| revision.0),
            "digest": self.digest.map(|digest| digest.to_string()),
            "on_reload_failure": self.on_reload_failure,
            "requested_by": self.requested_by,
            "started_at": told_time(self.started_at),
            "ended_at": self.ended_at.map(told_time),
            "failure": failure.map(|failure| json!({
                "code": failure.code,
                "message": failure.message,
            })),
            "restored_from": self.restored_from.map(|source| source.id.0),
            "user_count": self.user_counts.total(),
            "change_count": self.change_count,
        })
    }

    /// Whether its bundle can be brought back: kept, and proven once.
    pub const fn is_restorable(&self) -> bool {
        self.bundle_kept && self.outcome.is_proven()
    }

    /// Takes the agent's closed record over. A record without outcome leaves the attempt open.
    pub fn close_with(&mut self, record: ApplyRecord, at: OffsetDateTime) {
        if let Some(outcome) = record.outcome {
            let failed = !outcome.is_proven();
            self.outcome = AttemptOutcome::OnPbx(outcome);
            self.ended_at = Some(at);
            self.failure =
                failed.then(|| Failure::new(self.outcome.name(), record.failure.clone()));
        }
        self.record = Some(record);
    }

    /// Ends the attempt without a record of the agent.
    pub fn fail(&mut self, outcome: AttemptOutcome, failure: Failure, at: OffsetDateTime) {
        self.outcome = outcome;
        self.failure = Some(failure);
        self.ended_at = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_name() {
        for outcome in AttemptOutcome::ALL {
            assert_eq!(AttemptOutcome::from_name(outcome.name()), Some(outcome));
        }
        assert_eq!(AttemptOutcome::from_name("nonsense"), None);
    }
}
