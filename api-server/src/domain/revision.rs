//! What is in force on a PBX, as far as the database knows.

use shared::bundle::{ApplyId, Digest, Revision};
use time::OffsetDateTime;

use super::TenantId;
use super::apply::{AttemptOutcome, RestoredFrom};

/// The revision that was proven last.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The apply that proved it.
    pub apply_id: ApplyId,
    /// Its number.
    pub revision: Revision,
    /// The digest of its bundle.
    pub digest: Digest,
    /// Who asked for it.
    pub requested_by: String,
    /// As of the attempt.
    pub requested_tenant: Option<TenantId>,
    /// When it was proven.
    pub proven_at: OffsetDateTime,
    /// Whose bundle it is, if it was brought back.
    pub restored_from: Option<RestoredFrom>,
    /// What the portal had to say about it then.
    pub notes: Vec<String>,
    /// What may have put something else in force since; `None` when nothing did.
    pub doubt: Option<Doubt>,
}

/// An apply that leaves open what Asterisk holds, while nothing was proven since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Which apply.
    pub apply_id: ApplyId,
    /// Its revision.
    pub revision: Revision,
    /// How it ended, or [`AttemptOutcome::Started`].
    pub outcome: AttemptOutcome,
}

impl Doubt {
    /// Whether it has ended: one that runs casts doubt by right.
    pub const fn is_of_the_end(&self) -> bool {
        self.outcome.has_ended()
    }
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            apply_id, revision, ..
        } = self;
        write!(f, "apply {apply_id} (revision {revision}) ")?;
        if self.is_of_the_end() {
            let outcome = self.outcome.name();
            write!(
                f,
                "ended as '{outcome}', which leaves open what Asterisk holds"
            )
        } else {
            f.write_str("has begun, and its outcome is not known yet")
        }
    }
}
