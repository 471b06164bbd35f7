//! Users, their extensions and SIP accounts.

use rand::CryptoRng;

use super::work::Work;
use super::{Error, Portal};
use crate::clock::unix_ms;
use crate::db::{self, DbError};
use crate::domain::page::{Page, Slice};
use crate::domain::user::{NewUser, User, UserSort};
use crate::domain::{Expected, SipPassword, SipRealm, UserId, Version, uuid_v7};
use crate::vault::Place;

/// A user that was just created, with what its phone registers with. The password cannot be shown
/// again.
#[derive(Debug)]
pub struct CreatedUser {
    /// The user.
    pub user: User,
    /// What the phone registers as.
    pub sip_username: String,
    /// With which password.
    pub sip_password: SipPassword,
    /// In which realm.
    pub sip_realm: SipRealm,
}

/// Creates a user with the lowest free extension (FR-002) and a fresh SIP password.
///
/// # Errors
/// [`Error::EmailTaken`], [`Error::ExtensionPoolExhausted`]; then nothing was stored.
pub async fn create(
    work: &mut Work<'_>,
    new: NewUser,
    rng: &mut (impl CryptoRng + Send),
) -> Result<CreatedUser, Error> {
    let (portal, by, now) = (work.portal, &work.actor.admin, work.now);
    let tenant = portal.settings.tenant;
    let id = UserId(uuid_v7(unix_ms(now), rng));
    let password = SipPassword::generate(rng);
    let sealed = portal
        .vault
        .seal(Place::SipPassword(id), password.expose().as_bytes(), rng)?;

    db::users::insert(work.connection(), tenant, id, &new, by, now)
        .await
        .map_err(email_taken)?;
    // The lock is taken as late as possible: creators wait for each other from here to the commit.
    let range = db::extensions::lock_range(work.connection(), tenant).await?;
    let (first, last) = (range.first, range.last);
    let extension = db::extensions::NewExtension {
        user: id,
        sip_password_encrypted: &sealed,
        allocated_at: now,
    };
    let number = db::extensions::take_lowest_free(work.connection(), range, extension)
        .await?
        .ok_or(Error::ExtensionPoolExhausted { first, last })?;

    work.afterwards(move || {
        tracing::info!(user = %id, extension = %number, by = by.as_str(), "user created");
    });
    Ok(CreatedUser {
        user: User {
            id,
            name: new.name,
            email: new.email,
            extension: number,
            metadata: new.metadata,
            created_at: now,
        },
        sip_username: number.to_string(),
        sip_password: password,
        sip_realm: portal.settings.sip_realm.clone(),
    })
}

/// A part of the living users, those that hold `search` in their name or address.
pub async fn list(
    portal: &Portal,
    search: Option<&str>,
    page: &Page<UserSort>,
) -> Result<Slice<User>, Error> {
    let mut connection = portal.database.acquire().await?;
    let tenant = portal.settings.tenant;
    Ok(db::users::list(&mut connection, tenant, search, page).await?)
}

/// One living user.
pub async fn get(portal: &Portal, id: UserId) -> Result<User, Error> {
    let mut connection = portal.database.acquire().await?;
    db::users::find(&mut connection, portal.settings.tenant, id)
        .await?
        .ok_or(Error::UserNotFound)
}

/// Ends a user; the number is free at once. The phone stays registered until the next apply.
pub async fn delete(work: &mut Work<'_>, id: UserId, expected: &Expected) -> Result<(), Error> {
    // Users have one state so far.
    expected.check(Version(1))?;
    let (tenant, by, now) = (work.portal.settings.tenant, &work.actor.admin, work.now);
    let extension = db::users::delete(work.connection(), tenant, id, by, now)
        .await?
        .ok_or(Error::UserNotFound)?;
    work.afterwards(move || {
        tracing::info!(user = %id, %extension, by = by.as_str(), "user deleted");
    });
    Ok(())
}

fn email_taken(error: DbError) -> Error {
    match error.constraint() {
        Some(db::users::EMAIL_KEY) => Error::EmailTaken,
        Some(_) | None => error.into(),
    }
}
