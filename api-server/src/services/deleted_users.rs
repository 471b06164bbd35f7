//! What is left of deleted users, and how it is removed for good.

use super::work::Work;
use super::{Error, Portal};
use crate::db;
use crate::domain::audit::Entry;
use crate::domain::page::{Page, Slice};
use crate::domain::user::DeletedUser;
use crate::domain::{Expected, TenantId, UserId, Within};

pub use crate::db::deleted_users::DeletedUserSort;

/// Deleted users of a tenant.
pub async fn list(
    portal: &Portal,
    within: Within,
    page: &Page<DeletedUserSort>,
    search: Option<&str>,
) -> Result<Slice<DeletedUser>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::deleted_users::list(&mut connection, within, page, search).await?)
}

/// One deleted user.
///
/// # Errors
/// [`Error::UserNotFound`].
pub async fn get(portal: &Portal, within: Within, id: UserId) -> Result<DeletedUser, Error> {
    if !within.has(id) {
        return Err(Error::UserNotFound);
    }
    let mut connection = portal.database.acquire().await?;
    db::deleted_users::find(&mut connection, within.tenant(), id)
        .await?
        .ok_or(Error::UserNotFound)
}

/// Removes what is left of a deleted user. The history of applies keeps the name.
///
/// # Errors
/// [`Error::UserNotFound`], [`Error::PreconditionFailed`].
pub async fn purge(
    work: &mut Work<'_>,
    tenant: TenantId,
    id: UserId,
    expected: &Expected,
) -> Result<(), Error> {
    let user = db::deleted_users::find(work.connection(), tenant, id)
        .await?
        .ok_or(Error::UserNotFound)?;
    // Nothing changes a deleted user but this.
    expected.check(user.version)?;
    if !db::deleted_users::purge(work.connection(), tenant, id).await? {
        return Err(Error::UserNotFound);
    }
    let entry = Entry::new("user.purged", "user", &id).called(user.name.as_str());
    work.record(entry.of(tenant).changing(Some(user.told()), None));
    let by = work.actor.admin.clone();
    work.afterwards(move || tracing::info!(user = %id, by = by.as_str(), "user purged"));
    Ok(())
}
