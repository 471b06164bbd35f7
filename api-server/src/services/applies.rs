//! The audit trail of applies (FR-013).

use std::collections::BTreeSet;

use shared::bundle::ApplyId;

use super::{Error, Portal};
use crate::db;
use crate::domain::PbxId;
use crate::domain::apply::Attempt;

/// One attempt, with the users it included.
pub async fn get(portal: &Portal, id: ApplyId) -> Result<Attempt, Error> {
    let mut connection = portal.database.acquire().await?;
    if let Some(attempt) = db::applies::find(&mut connection, id).await? {
        return Ok(attempt);
    }
    if let Some(attempt) = db::queued::find(&mut connection, id).await? {
        return Ok(attempt);
    }
    // Its turn may have come between the two questions.
    let attempt = db::applies::find(&mut connection, id).await?;
    attempt.ok_or(Error::ApplyNotFound)
}

/// Attempts, the newest first, of one PBX if there is one.
pub async fn list(
    portal: &Portal,
    pbx: Option<PbxId>,
    before: Option<ApplyId>,
    limit: u16,
) -> Result<Vec<Attempt>, Error> {
    let mut connection = portal.database.acquire().await?;
    // Those in line first: one whose turn comes between the two questions is then found twice, not
    // missed.
    let queued = db::queued::list(&mut connection, pbx, before, limit).await?;
    let mut attempts = db::applies::list(&mut connection, pbx, before, limit).await?;
    if !queued.is_empty() {
        let begun: BTreeSet<ApplyId> = attempts.iter().map(|attempt| attempt.id).collect();
        attempts.extend(
            queued
                .into_iter()
                .filter(|attempt| !begun.contains(&attempt.id)),
        );
        attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.id));
        attempts.truncate(usize::from(limit));
    }
    Ok(attempts)
}
