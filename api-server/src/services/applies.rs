//! The audit trail of applies (FR-013).

use shared::bundle::ApplyId;

use super::{Error, Portal};
use crate::db;
use crate::domain::apply::Attempt;

/// One attempt, with the users it included.
pub async fn get(portal: &Portal, id: ApplyId) -> Result<Attempt, Error> {
    let mut connection = portal.database.acquire().await?;
    db::applies::find(&mut connection, id)
        .await?
        .ok_or(Error::ApplyNotFound)
}

/// Attempts, the newest first.
pub async fn list(
    portal: &Portal,
    before: Option<ApplyId>,
    limit: u16,
) -> Result<Vec<Attempt>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::applies::list(&mut connection, before, limit).await?)
}
