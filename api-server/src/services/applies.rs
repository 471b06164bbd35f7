//! The audit trail of applies (FR-013).

use shared::bundle::ApplyId;

use super::{Error, Portal};
use crate::db;
use crate::domain::apply::{ApplyFilter, ApplySort, Attempt};
use crate::domain::page::{Page, Slice};
use crate::domain::viewer::{Seen as _, Viewer};

/// One attempt, with the users it included, as the viewer may see it.
///
/// # Errors
/// [`Error::ApplyNotFound`].
pub async fn get(portal: &Portal, viewer: Viewer, id: ApplyId) -> Result<Attempt, Error> {
    let attempt = find(portal, id).await?;
    if !viewer.sees(attempt.pbx_id) {
        return Err(Error::ApplyNotFound);
    }
    Ok(attempt.seen_by(viewer))
}

/// All of one attempt.
///
/// # Errors
/// [`Error::ApplyNotFound`].
pub(super) async fn find(portal: &Portal, id: ApplyId) -> Result<Attempt, Error> {
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

/// A part of the attempts, those in line among them, as the viewer may see them.
///
/// # Errors
/// [`Error::PbxNotFound`] when the filter names a PBX of which the viewer sees nothing.
pub async fn list(
    portal: &Portal,
    viewer: Viewer,
    filter: ApplyFilter,
    page: &Page<ApplySort>,
) -> Result<Slice<Attempt>, Error> {
    if filter.pbx.is_some_and(|pbx| !viewer.sees(pbx)) {
        return Err(Error::PbxNotFound);
    }
    let filter = match viewer {
        Viewer::Everything => filter,
        Viewer::Confined(to) => filter.confined(to),
    };
    let mut connection = portal.database.acquire().await?;
    let attempts = db::applies::list(&mut connection, &filter, page).await?;
    Ok(attempts.map(|attempt| attempt.seen_by(viewer)))
}
