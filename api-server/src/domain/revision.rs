//! What is in force on a PBX, as far as the database knows.

use shared::bundle::{ApplyId, Digest, Revision};
use time::OffsetDateTime;

use super::apply::RestoredFrom;

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
    /// When it was proven.
    pub proven_at: OffsetDateTime,
    /// Whose bundle it is, if it was brought back.
    pub restored_from: Option<RestoredFrom>,
    /// What the portal had to say about it then.
    pub notes: Vec<String>,
    /// Whether nothing happened since that may have put something else in force.
    pub certain: bool,
}
