//! What the database wants beyond what is in force, in short.

use shared::bundle::Digest;

use crate::domain::PbxId;
use crate::domain::apply::UserCounts;
use crate::domain::change::Summary;
use crate::domain::revision::InForce;
use crate::services::compare::Instant;
use crate::services::{Error, Portal};

/// What the database wants beyond what is in force.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What was proven last; `None`: nothing ever was. `restored_from`, `requested_by` and
    /// `proven_at` tell whether an earlier bundle was brought back, by whom and when; `certain`
    /// whether something else may be in force since.
    pub in_force: Option<InForce>,
    /// What the database says now.
    pub wanted: Wanted,
}

/// What the database says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A bundle.
    Bundle {
        /// Its digest.
        digest: Digest,
        /// How many users it holds.
        user_counts: UserCounts,
        /// Whether it is not what is in force.
        differs: bool,
        /// What an apply would change; `None` when the two cannot be compared.
        changes: Option<Summary>,
    },
    /// Nothing that can be applied, for this reason.
    Unrenderable(String),
}

impl Wanted {
    /// Whether an apply would change anything; `None` when there is nothing to apply.
    pub const fn differs(&self) -> Option<bool> {
        match self {
            Self::Bundle { differs, .. } => Some(*differs),
            Self::Unrenderable(_) => None,
        }
    }
}

/// What the database wants of a PBX beyond what is in force there. Costs as much as rendering; asks nobody but the
/// database.
///
/// # Errors
/// The database cannot be asked.
pub async fn pending(portal: &Portal, pbx: PbxId) -> Result<Pending, Error> {
    let instant = Instant::read(portal, pbx).await?;
    let work = move || {
        let baseline = &instant.baseline;
        let wanted = match instant.render() {
            Ok(content) => Wanted::Bundle {
                digest: content.digest(),
                user_counts: UserCounts::of(&content.users),
                differs: !baseline.is(&content),
                changes: baseline.summary(&instant.opener, &content),
            },
            Err(unrenderable) => Wanted::Unrenderable(unrenderable.to_string()),
        };
        Pending {
            wanted,
            in_force: instant.baseline.in_force,
        }
    };
    Ok(tokio::task::spawn_blocking(work).await?)
}
