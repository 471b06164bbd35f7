//! Users, their extensions and SIP accounts.

use rand::CryptoRng;

use super::{Error, Portal};
use crate::clock::unix_ms;
use crate::db::{self, DbError};
use crate::domain::user::{NewUser, User};
use crate::domain::{Actor, SipPassword, SipRealm, UserId, uuid_v7};
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
    portal: &Portal,
    actor: &Actor,
    new: NewUser,
    rng: &mut (impl CryptoRng + Send),
) -> Result<CreatedUser, Error> {
    let tenant = portal.settings.tenant;
    let now = portal.clock.now();
    let id = UserId(uuid_v7(unix_ms(now), rng));
    let password = SipPassword::generate(rng);

    let mut transaction = portal.database.begin().await?;
    let seal = portal.vault.sealer(&mut transaction).await?;
    let sealed = seal.seal(Place::SipPassword(id), password.expose().as_bytes(), rng)?;
    db::users::insert(&mut transaction, tenant, id, &new, &actor.admin, now)
        .await
        .map_err(email_taken)?;
    // The lock is taken as late as possible: creators wait for each other from here to the commit.
    let range = db::extensions::lock_range(&mut transaction, tenant).await?;
    let (first, last) = (range.first, range.last);
    let extension = db::extensions::NewExtension {
        user: id,
        sip_password_encrypted: &sealed,
        allocated_at: now,
    };
    let number = db::extensions::take_lowest_free(&mut transaction, range, extension)
        .await?
        .ok_or(Error::ExtensionPoolExhausted { first, last })?;
    db::commit(transaction).await?;

    tracing::info!(user = %id, extension = %number, by = actor.admin.as_str(), "user created");
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

/// Every living user, by extension.
pub async fn list(portal: &Portal) -> Result<Vec<User>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::users::list(&mut connection, portal.settings.tenant).await?)
}

/// One living user.
pub async fn get(portal: &Portal, id: UserId) -> Result<User, Error> {
    let mut connection = portal.database.acquire().await?;
    db::users::find(&mut connection, portal.settings.tenant, id)
        .await?
        .ok_or(Error::UserNotFound)
}

/// Ends a user; the number is free at once. The phone stays registered until the next apply.
pub async fn delete(portal: &Portal, actor: &Actor, id: UserId) -> Result<(), Error> {
    let (tenant, now) = (portal.settings.tenant, portal.clock.now());
    let mut connection = portal.database.acquire().await?;
    let extension = db::users::delete(&mut connection, tenant, id, &actor.admin, now)
        .await?
        .ok_or(Error::UserNotFound)?;
    tracing::info!(user = %id, %extension, by = actor.admin.as_str(), "user deleted");
    Ok(())
}

fn email_taken(error: DbError) -> Error {
    match error.constraint() {
        Some(db::users::EMAIL_KEY) => Error::EmailTaken,
        Some(_) | None => error.into(),
    }
}
