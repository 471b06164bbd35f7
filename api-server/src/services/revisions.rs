//! The history of a PBX: every bundle that was given a revision.

use shared::bundle::ApplyId;

use super::{Error, Portal};
use crate::causes::causes;
use crate::db;
use crate::domain::PbxId;
use crate::domain::apply::{ApplyFilter, Attempt, RevisionSort};
use crate::domain::page::{Page, Slice};

/// A page of the history.
#[derive(Debug)]
pub struct History {
    /// Attempts that had a bundle, without the agent's records.
    pub revisions: Slice<Attempt>,
    /// The one that was proven last, and whether nothing happened since that may have put something
    /// else in force; `None`: nothing was ever proven.
    pub proven_last: Option<(ApplyId, bool)>,
}

/// A part of the history of a PBX.
pub async fn list(
    portal: &Portal,
    pbx: PbxId,
    filter: &ApplyFilter,
    page: &Page<RevisionSort>,
) -> Result<History, Error> {
    let mut transaction = db::snapshot::begin(&portal.database).await?;
    let revisions = db::revisions::list(&mut transaction, pbx, filter, page).await?;
    let in_force = db::revisions::in_force(&mut transaction, pbx).await?;
    db::commit(transaction).await?;
    Ok(History {
        revisions,
        proven_last: in_force.map(|in_force| (in_force.apply_id, in_force.doubt.is_none())),
    })
}

/// Drops the bundles of old revisions of a PBX. What cannot be dropped now is dropped after the next apply.
pub(super) async fn prune(portal: &Portal, pbx: PbxId) {
    let kept = portal.settings.bundles_kept;
    let pruned = async {
        let mut connection = portal.database.acquire().await?;
        db::revisions::prune(&mut connection, pbx, kept).await
    };
    match pruned.await {
        Ok(0) => {}
        Ok(bundles) => tracing::info!(bundles, kept, "bundles of old revisions were dropped"),
        Err(error) => {
            tracing::warn!(error = causes(&error), "old bundles could not be dropped");
        }
    }
}
