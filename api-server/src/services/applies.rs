//! The audit trail of applies (FR-013).

use shared::bundle::ApplyId;

use super::{Error, Portal};
use crate::db;
use crate::domain::apply::{ApplyFilter, ApplySort, Attempt};
use crate::domain::page::{Page, Slice};

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

/// A part of the attempts, those in line among them.
pub async fn list(
    portal: &Portal,
    filter: &ApplyFilter,
    page: &Page<ApplySort>,
) -> Result<Slice<Attempt>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::applies::list(&mut connection, filter, page).await?)
}
