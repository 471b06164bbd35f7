//! What the database wants beyond what is in force, as a part of the status.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::changes::{RestoredFromBody, SummaryBody};
use crate::domain::revision::InForce;
use crate::services::preview::{Pending, Wanted};

/// What the database wants beyond what is in force.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PendingBody {
    /// Whether an apply would change anything; null when the data cannot be rendered.
    pub differs: Option<bool>,
    /// How many users the configuration would hold; of the own ones, for whoever is confined to a
    /// tenant.
    pub user_count: Option<usize>,
    /// What an apply would change; null when nothing was proven yet, or the two cannot be compared.
    pub changes: Option<SummaryBody>,
    /// What was proven last; null before the first time.
    pub in_force: Option<InForceBody>,
}

/// What was proven last, as the database knows it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InForceBody {
    pub apply_id: Uuid,
    pub revision: u64,
    /// Withheld from whoever is confined to a tenant, unless it was somebody of that tenant.
    pub requested_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub proven_at: OffsetDateTime,
    /// Whose bundle it is, when an earlier one was brought back; null otherwise.
    pub restored_from: Option<RestoredFromBody>,
    /// Whether nothing happened since that may have put something else in force.
    pub certain: bool,
}

impl From<Pending> for PendingBody {
    fn from(pending: Pending) -> Self {
        let in_force = pending.in_force.map(InForceBody::from);
        match pending.wanted {
            Wanted::Bundle {
                user_counts,
                differs,
                changes,
                ..
            } => Self {
                differs: Some(differs),
                user_count: Some(user_counts.total()),
                changes: changes.map(SummaryBody::from),
                in_force,
            },
            Wanted::Unrenderable(_) => Self {
                differs: None,
                user_count: None,
                changes: None,
                in_force,
            },
        }
    }
}

impl From<InForce> for InForceBody {
    fn from(in_force: InForce) -> Self {
        Self {
            apply_id: in_force.apply_id.0,
            revision: in_force.revision.0,
            requested_by: in_force.requested_by,
            proven_at: in_force.proven_at,
            restored_from: in_force.restored_from.map(RestoredFromBody::from),
            certain: in_force.doubt.is_none(),
        }
    }
}
