//! Users and their extensions.

use rand::CryptoRng;

use super::accounts;
use super::denied;
use super::devices::{self, Credentials};
use super::tenants::refused_field;
use super::work::Work;
use super::{Error, Portal};
use crate::clock::unix_ms;
use crate::db::extensions::LockedRange;
use crate::db::{self, DbError};
use crate::domain::audit::Entry;
use crate::domain::calling::CallSettings;
use crate::domain::page::{Page, Slice};
use crate::domain::user::{NewUser, User, UserPatch};
use crate::domain::{ExtensionNumber, Invalid, TenantId, UserId, Version, Within, uuid_v7};

pub use crate::db::users::{UserFilter, UserSort};

/// A user that was just created, with what its first phone registers with.
#[derive(Debug)]
pub struct CreatedUser {
    /// The user.
    pub user: User,
    /// Its first device.
    pub device: Credentials,
}

/// Creates a user with the extension that is wanted or the lowest free one (FR-002), and a first
/// device with a fresh SIP password.
///
/// # Errors
/// [`Error::EmailTaken`], [`Error::ExtensionTaken`], [`Error::ExtensionPoolExhausted`],
/// [`Error::InvalidField`] for a number outside the range, [`Error::TenantNotFound`],
/// [`denied::Denied::Forbidden`] for a role from whoever may not give one; then nothing was stored.
pub async fn create(
    work: &mut Work<'_>,
    tenant: TenantId,
    new: NewUser,
    rng: &mut (impl CryptoRng + Send),
) -> Result<CreatedUser, Error> {
    if let Some(permission) = new.needs() {
        denied::must(work.actor, permission)?;
    }
    // Before its address is: whoever changes very many users waits for addresses while it holds the range.
    let range = db::extensions::lock_range(work.connection(), tenant)
        .await?
        .ok_or(Error::TenantNotFound)?;
    let now = work.now;
    let id = UserId(uuid_v7(unix_ms(now), rng));
    let mut calls = CallSettings::default();
    calls.apply(new.calls.clone());
    let by = work.actor.admin.clone();
    db::users::insert(work.connection(), (tenant, id), &new, &calls, &by, now)
        .await
        .map_err(email_taken)?;
    let device = devices::create_first(work, tenant, id, rng).await?;
    let extension = allocate(work, range, id, new.extension).await?;
    let device = device.of(extension);
    work.afterwards(
        move || tracing::info!(user = %id, %extension, by = by.as_str(), "user created"),
    );
    let user = User {
        id,
        tenant,
        name: new.name,
        email: new.email,
        extension,
        status: new.status,
        role: new.role,
        calls,
        metadata: new.metadata,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    work.record(told("user.created", &user).changing(None, Some(user.told())));
    devices::record_created(work, &device.device);
    Ok(CreatedUser { user, device })
}

/// An entry of the audit trail about a user, which the next apply carries.
fn told(action: &'static str, user: &User) -> Entry {
    Entry::new(action, "user", &user.id)
        .called(user.name.as_str())
        .of(user.tenant)
        .on_pbx_of_tenant()
}

async fn allocate(
    work: &mut Work<'_>,
    range: LockedRange,
    user: UserId,
    wanted: Option<ExtensionNumber>,
) -> Result<ExtensionNumber, Error> {
    let now = work.now;
    let Some(number) = wanted else {
        let (first, last) = (range.first, range.last);
        return db::extensions::take_lowest_free(work.connection(), range, user, now)
            .await?
            .ok_or(Error::ExtensionPoolExhausted { first, last });
    };
    if !range.contains(number) {
        return Err(outside_range());
    }
    db::extensions::take(work.connection(), range, user, number, now)
        .await
        .map_err(number_taken)?;
    Ok(number)
}

const fn outside_range() -> Error {
    refused_field(
        "extension",
        Invalid {
            code: "out_of_range",
            message: "must lie in the range of the tenant",
        },
    )
}

/// Living users of a tenant.
pub async fn list(
    portal: &Portal,
    within: Within,
    page: &Page<UserSort>,
    filter: UserFilter,
) -> Result<Slice<User>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::users::list(&mut connection, within, page, filter).await?)
}

/// One living user.
///
/// # Errors
/// [`Error::UserNotFound`].
pub async fn get(portal: &Portal, within: Within, id: UserId) -> Result<User, Error> {
    reached(within, id)?;
    let mut connection = portal.database.acquire().await?;
    db::users::find(&mut connection, within.tenant(), id)
        .await?
        .ok_or(Error::UserNotFound)
}

fn reached(within: Within, id: UserId) -> Result<(), Error> {
    within.has(id).then_some(()).ok_or(Error::UserNotFound)
}

/// A living user that nobody else changes until the work is done.
///
/// # Errors
/// [`Error::UserNotFound`].
pub async fn locked(work: &mut Work<'_>, within: Within, id: UserId) -> Result<User, Error> {
    reached(within, id)?;
    let tenant = within.tenant();
    if !db::users::lock(work.connection(), tenant, id).await? {
        return Err(Error::UserNotFound);
    }
    db::users::find(work.connection(), tenant, id)
        .await?
        .ok_or(Error::UserNotFound)
}

/// Likewise, where the numbers of the tenant change as well. Whoever locks both locks the tenant's row
/// first, as those do who change very many users.
///
/// # Errors
/// [`Error::UserNotFound`].
pub async fn locked_with_numbers(
    work: &mut Work<'_>,
    within: Within,
    id: UserId,
) -> Result<User, Error> {
    let range = db::extensions::lock_range(work.connection(), within.tenant()).await?;
    range.ok_or(Error::UserNotFound)?;
    locked(work, within, id).await
}

/// Changes what `patch` names of a user of [`locked`], and nothing else. Another extension renames
/// the user's endpoints: the phones must be set up with the new names.
///
/// # Errors
/// [`denied::Denied::Forbidden`] when whoever asks may not change what is named; [`Error::EmailTaken`],
/// [`Error::ExtensionTaken`], [`Error::InvalidField`].
pub async fn change(work: &mut Work<'_>, before: User, patch: UserPatch) -> Result<User, Error> {
    for permission in patch.needs() {
        denied::must(work.actor, permission)?;
    }
    let renumbered = patch.extension.filter(|number| before.extension != *number);
    let patched = before.patched(patch);
    let mut user = patched.map_err(|reason| refused_field("metadata", reason))?;
    // Addresses are compared without their case, which is shown all the same.
    if user == before && user.email.as_str() == before.email.as_str() {
        return Ok(before);
    }
    user.version = user.version.next();
    user.updated_at = work.now;
    db::users::update(work.connection(), &user)
        .await
        .map_err(email_taken)?;
    if let Some(number) = renumbered {
        renumber(work, &user, number).await?;
    }
    accounts::follow_user(work, (before.role.get(), before.status), &user).await?;
    let after = user.told_after(&before);
    work.record(told("user.changed", &user).changing(Some(before.told()), Some(after)));
    let (id, by) = (user.id, work.actor.admin.clone());
    let status = user.status.name();
    work.afterwards(move || tracing::info!(user = %id, status, by = by.as_str(), "user changed"));
    Ok(user)
}

async fn renumber(work: &mut Work<'_>, user: &User, number: ExtensionNumber) -> Result<(), Error> {
    let now = work.now;
    let range = db::extensions::lock_range(work.connection(), user.tenant)
        .await?
        .ok_or(Error::TenantNotFound)?;
    if !range.contains(number) {
        return Err(outside_range());
    }
    db::extensions::change(work.connection(), range, user.id, number, now)
        .await
        .map_err(number_taken)
}

/// Ends a user of [`locked`]; the number is free at once, devices and account are gone. The phones stay
/// registered until the next apply.
pub async fn delete(work: &mut Work<'_>, user: &User) -> Result<(), Error> {
    let (id, now, by) = (user.id, work.now, work.actor.admin.clone());
    accounts::end_of_user(work, user.tenant, id).await?;
    let devices = devices::all_of(work, user).await?;
    let extension = db::users::delete(work.connection(), user.tenant, id, &by, now)
        .await?
        .ok_or(Error::UserNotFound)?;
    for device in &devices {
        devices::record_deleted(work, device);
    }
    work.record(told("user.deleted", user).changing(Some(user.told()), None));
    work.afterwards(
        move || tracing::info!(user = %id, %extension, by = by.as_str(), "user deleted"),
    );
    Ok(())
}

fn email_taken(error: DbError) -> Error {
    match error.constraint() {
        Some(db::users::EMAIL_KEY) => Error::EmailTaken,
        Some(_) | None => error.into(),
    }
}

fn number_taken(error: DbError) -> Error {
    match error.constraint() {
        Some(db::extensions::NUMBER_KEY) => Error::ExtensionTaken,
        Some(_) | None => error.into(),
    }
}
