//! Accounts: who may sign in, and what whoever administers them may do to whom.
//!
//! Nobody gives a role above its own, or touches an account beyond its reach. Nobody suspends,
//! demotes or deletes itself, and an active platform administrator always remains.

use rand::CryptoRng;
use serde_json::{Value, json};

use super::denied::Denied;
use super::tenants::{self, refused_field};
use super::work::Work;
use super::{Error, Portal};
use crate::clock::unix_ms;
use crate::db::{self, DbError};
use crate::domain::account::{Account, AccountPatch, NewAccount, Seat};
use crate::domain::audit::Entry;
use crate::domain::page::{Page, Slice};
use crate::domain::patch::set;
use crate::domain::session::EndReason;
use crate::domain::tenant::ServiceStatus;
use crate::domain::{AccountId, Actor, Invalid, Login, Permission, Reach, Role, TenantId, uuid_v7};

mod standing;

pub use crate::db::accounts::{AccountFilter, AccountSort};
use standing::Post;
pub(super) use standing::{
    end_of_tenant, end_of_user, end_sessions, end_sessions_but, follow_user,
};

/// Why something is not done to an account or its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No account within reach has that id, or whoever asks has none.
    #[error("no such account")]
    NotFound,
    /// An account has that login.
    #[error("the login is taken")]
    LoginTaken,
    /// The user has an account.
    #[error("the user has an account")]
    UserHasAccount,
    /// It would leave nobody who administers the platform.
    #[error("the last active platform administrator stays")]
    LastPlatformAdmin,
    /// What nobody does to itself.
    #[error("nobody does this to its own account")]
    OwnAccount,
    /// A second factor is set already.
    #[error("a second factor is set")]
    SecondFactorSet,
    /// There is no second factor.
    #[error("no second factor is set")]
    NoSecondFactor,
    /// No token of the account has that id.
    #[error("no such API token")]
    TokenNotFound,
    /// A token of the account has that name.
    #[error("the name is taken")]
    TokenNameTaken,
    /// The account has as many tokens as it may.
    #[error("the account has too many API tokens")]
    TooManyTokens,
}

/// What the audit trail keeps of an account.
fn told(account: &Account) -> Value {
    json!({
        "login": account.login.as_str(),
        "name": account.name.as_str(),
        "tenant_id": account.seat.tenant().map(|tenant| tenant.0),
        "user_id": account.seat.user().map(|user| user.0),
        "role": account.role.name(),
        "status": account.status.name(),
    })
}

/// An entry about an account.
pub(super) fn entry(action: &'static str, account: &Account) -> Entry {
    Entry::new(action, "account", &account.id).of(account.seat.tenant())
}

/// Creates an account, which has no password yet.
///
/// # Errors
/// [`Refused::LoginTaken`], [`Refused::UserHasAccount`], [`Denied::RoleAboveOwn`],
/// [`Error::TenantNotFound`], [`Error::UserNotFound`]; then nothing was stored.
pub async fn create(
    work: &mut Work<'_>,
    new: NewAccount,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Account, Error> {
    within_reach(work.actor, new.seat)?;
    stays(work, new.seat).await?;
    let role = role_of(work, new.seat).await?;
    may_give(work.actor, role)?;
    let now = work.now;
    let id = AccountId(uuid_v7(unix_ms(now), rng));
    let by = work.actor.admin.clone();
    db::accounts::insert(work.connection(), id, &new, role, &by, now)
        .await
        .map_err(taken)?;
    let account = found(work, id).await?;
    work.record(entry("account.created", &account).changing(None, Some(told(&account))));
    let login = account.login.clone();
    work.afterwards(
        move || tracing::info!(account = %id, %login, by = by.as_str(), "account created"),
    );
    Ok(account)
}

/// A tenant that ends meanwhile gets no staff, who would be left behind.
async fn stays(work: &mut Work<'_>, seat: Seat) -> Result<(), Error> {
    if let Seat::Staff(tenant, _) = seat {
        tenants::locked(work, tenant).await?;
    }
    Ok(())
}

/// The role that a seat in a living tenant gives, or its living user has.
async fn role_of(work: &mut Work<'_>, seat: Seat) -> Result<Role, Error> {
    match seat {
        Seat::Platform => Ok(Role::PlatformAdmin),
        Seat::Staff(tenant, role) => {
            let found = db::tenants::find(work.connection(), tenant).await?;
            found.map(|_| role.get()).ok_or(Error::TenantNotFound)
        }
        Seat::User(tenant, user) => {
            if !db::users::lock(work.connection(), tenant, user).await? {
                return Err(Error::UserNotFound);
            }
            let user = db::users::find(work.connection(), tenant, user).await?;
            user.map(|user| user.role.get()).ok_or(Error::UserNotFound)
        }
    }
}

/// Another tenant is nobody's business, and the platform that of those who administer it.
fn within_reach(actor: &Actor, seat: Seat) -> Result<(), Error> {
    match seat.tenant() {
        None if actor.reach() == Reach::Everything => Ok(()),
        None => Err(Denied::RoleAboveOwn.into()),
        Some(tenant) if actor.reach().within(tenant).is_some() => Ok(()),
        Some(_) => Err(Error::TenantNotFound),
    }
}

fn may_give(actor: &Actor, role: Role) -> Result<(), Denied> {
    let may = actor.role().is_some_and(|own| role <= own);
    may.then_some(()).ok_or(Denied::RoleAboveOwn)
}

/// Whether it is the account of whoever asks.
pub(super) fn is_own(actor: &Actor, id: AccountId) -> bool {
    actor.account().is_some_and(|known| known.account == id)
}

fn is_visible(actor: &Actor, account: &Account) -> bool {
    match actor.reach() {
        Reach::Everything => true,
        Reach::Tenant(tenant) => account.seat.tenant() == Some(tenant),
        Reach::Own(..) | Reach::Nothing => is_own(actor, account.id),
    }
}

/// Whoever asks may do something to its own account, or has the permission for those of others.
fn own_or(actor: &Actor, id: AccountId, permission: Permission) -> Result<(), Denied> {
    let may = is_own(actor, id) || actor.may(permission);
    may.then_some(()).ok_or(Denied::Forbidden(permission))
}

/// One's own account, or one within reach.
///
/// # Errors
/// [`Refused::NotFound`], [`Denied::Forbidden`].
pub async fn get(portal: &Portal, actor: &Actor, id: AccountId) -> Result<Account, Error> {
    own_or(actor, id, Permission::AccountsRead)?;
    let mut connection = portal.database.acquire().await?;
    let account = db::accounts::find(&mut connection, id).await?;
    let account = account.filter(|account| is_visible(actor, account));
    Ok(account.ok_or(Refused::NotFound)?)
}

/// Accounts within reach.
pub async fn list(
    portal: &Portal,
    actor: &Actor,
    page: &Page<AccountSort>,
    filter: AccountFilter,
) -> Result<Slice<Account>, Error> {
    let tenant = match (actor.reach(), filter.tenant) {
        (Reach::Everything, wanted) => wanted,
        (Reach::Tenant(own), wanted) if wanted.is_none_or(|wanted| wanted == own) => Some(own),
        (Reach::Tenant(_) | Reach::Own(..) | Reach::Nothing, _) => {
            let (items, next) = (Vec::new(), None);
            return Ok(Slice { items, next });
        }
    };
    let filter = AccountFilter { tenant, ..filter };
    let mut connection = portal.database.acquire().await?;
    Ok(db::accounts::list(&mut connection, page, filter).await?)
}

/// An account of [`get`] that nobody else changes until the work is done.
///
/// # Errors
/// [`Refused::NotFound`], [`Denied::Forbidden`].
pub async fn locked(work: &mut Work<'_>, id: AccountId) -> Result<Account, Error> {
    own_or(work.actor, id, Permission::AccountsWrite)?;
    if !db::accounts::lock(work.connection(), id).await? {
        return Err(Refused::NotFound.into());
    }
    seen(work, id).await
}

async fn seen(work: &mut Work<'_>, id: AccountId) -> Result<Account, Error> {
    let account = found(work, id).await?;
    if !is_visible(work.actor, &account) {
        return Err(Refused::NotFound.into());
    }
    Ok(account)
}

/// The account of whoever asks.
///
/// # Errors
/// [`Refused::NotFound`] for any other.
pub(super) async fn own(portal: &Portal, actor: &Actor, id: AccountId) -> Result<Account, Error> {
    if !is_own(actor, id) {
        return Err(Refused::NotFound.into());
    }
    get(portal, actor, id).await
}

/// Likewise, which nobody else changes until the work is done.
///
/// # Errors
/// As of `own`.
pub async fn own_locked(work: &mut Work<'_>, id: AccountId) -> Result<Account, Error> {
    if !is_own(work.actor, id) {
        return Err(Refused::NotFound.into());
    }
    locked(work, id).await
}

/// Which account has a login.
///
/// # Errors
/// [`Refused::NotFound`].
pub async fn id_of(work: &mut Work<'_>, login: &Login) -> Result<AccountId, Error> {
    let account = db::accounts::find_by_login(work.connection(), login).await?;
    Ok(account.ok_or(Refused::NotFound)?.id)
}

/// An account as it is now.
pub(super) async fn found(work: &mut Work<'_>, id: AccountId) -> Result<Account, Error> {
    let account = db::accounts::find(work.connection(), id).await?;
    Ok(account.ok_or(Refused::NotFound)?)
}

/// Changes what `patch` names of an account of [`locked`]. Suspending it ends its sessions; whoever
/// comes to do more starts afresh.
///
/// # Errors
/// [`Refused::LoginTaken`], [`Refused::LastPlatformAdmin`], [`Refused::OwnAccount`],
/// [`Denied::Forbidden`], [`Denied::RoleAboveOwn`], [`Error::TenantNotFound`],
/// [`Error::InvalidField`].
pub async fn change(
    work: &mut Work<'_>,
    account: Account,
    patch: AccountPatch,
) -> Result<Account, Error> {
    let post = Post::of(&account);
    may_change(work.actor, &account, &patch)?;
    let before = account.clone();
    let mut account = account;
    if patch.role.is_some() || patch.tenant.is_some() {
        let seat = moved(work.actor, &account, patch.role, patch.tenant)?;
        if seat.tenant() != account.seat.tenant() {
            stays(work, seat).await?;
        }
        account.seat = seat;
        account.role = role_of(work, account.seat).await?;
        may_give(work.actor, account.role)?;
    }
    set(&mut account.login, patch.login);
    set(&mut account.name, patch.name);
    set(&mut account.status, patch.status);
    if account == before {
        return Ok(account);
    }
    if is_active_platform(&before) && !is_active_platform(&account) {
        another_platform_admin(work, account.id).await?;
    }
    account.version = account.version.next();
    account.updated_at = work.now;
    db::accounts::update(work.connection(), &account)
        .await
        .map_err(taken)?;
    if patch.status == Some(ServiceStatus::Suspended) {
        end_sessions(work, account.id, EndReason::AccountChanged).await?;
    }
    post.left(work, &account).await?;
    let (was, is) = (told(&before), told(&account));
    work.record(entry("account.changed", &account).changing(Some(was), Some(is)));
    let (id, by) = (account.id, work.actor.admin.clone());
    let status = account.status.name();
    work.afterwards(
        move || tracing::info!(account = %id, status, by = by.as_str(), "account changed"),
    );
    found(work, id).await
}

/// What somebody may change of an account: of its own, without administering others, the name alone.
fn may_change(actor: &Actor, account: &Account, patch: &AccountPatch) -> Result<(), Error> {
    let AccountPatch {
        login,
        name: _,
        status,
        role,
        tenant,
    } = patch;
    let standing = status.is_some_and(|status| status != account.status)
        || role.is_some_and(|role| role != account.role)
        || tenant.is_some_and(|tenant| Some(tenant) != account.seat.tenant());
    if (standing || login.is_some()) && !actor.may(Permission::AccountsWrite) {
        return Err(Denied::Forbidden(Permission::AccountsWrite).into());
    }
    if standing && is_own(actor, account.id) {
        return Err(Refused::OwnAccount.into());
    }
    Ok(())
}

/// The seat of an account with another role or tenant.
fn moved(
    actor: &Actor,
    account: &Account,
    role: Option<Role>,
    tenant: Option<TenantId>,
) -> Result<Seat, Error> {
    if account.seat.user().is_some() {
        let field = if role.is_some() { "role" } else { "tenant" };
        let message = "is that of the user: change it there";
        let code = "read_only";
        return Err(refused_field(field, Invalid { code, message }));
    }
    let role = role.unwrap_or(account.role);
    // Whoever comes to administer the platform leaves its tenant.
    let kept = account
        .seat
        .tenant()
        .filter(|_| role != Role::PlatformAdmin);
    let seat = Seat::new(role, tenant.or(kept)).map_err(of_seat)?;
    within_reach(actor, seat)?;
    Ok(seat)
}

/// Which field is wrong when there is no such seat.
pub fn of_seat(reason: Invalid) -> Error {
    let field = if reason.code == "unknown_value" {
        "role"
    } else {
        "tenant"
    };
    refused_field(field, reason)
}

fn is_active_platform(account: &Account) -> bool {
    account.seat == Seat::Platform && account.status == ServiceStatus::Active
}

async fn another_platform_admin(work: &mut Work<'_>, id: AccountId) -> Result<(), Error> {
    let held = db::accounts::is_platform_held_without(work.connection(), id).await?;
    Ok(held.then_some(()).ok_or(Refused::LastPlatformAdmin)?)
}

/// Removes an account of [`locked`] with its sessions and tokens.
///
/// # Errors
/// [`Refused::OwnAccount`], [`Refused::LastPlatformAdmin`].
pub async fn delete(work: &mut Work<'_>, account: &Account) -> Result<(), Error> {
    if is_own(work.actor, account.id) {
        return Err(Refused::OwnAccount.into());
    }
    if is_active_platform(account) {
        another_platform_admin(work, account.id).await?;
    }
    work.lessens(account.id);
    db::accounts::delete(work.connection(), account.id).await?;
    work.record(entry("account.deleted", account).changing(Some(told(account)), None));
    let (id, by) = (account.id, work.actor.admin.clone());
    work.afterwards(move || tracing::info!(account = %id, by = by.as_str(), "account deleted"));
    Ok(())
}

/// Forgets that somebody failed to sign in to an account, so that it can be tried again from
/// everywhere. The account itself is not changed, and so not locked.
///
/// # Errors
/// As of [`locked`].
pub async fn unlock(work: &mut Work<'_>, id: AccountId) -> Result<Account, Error> {
    own_or(work.actor, id, Permission::AccountsWrite)?;
    let account = seen(work, id).await?;
    forget_failures(work, &account.login).await?;
    work.record(entry("account.unlocked", &account));
    let by = work.actor.admin.clone();
    work.afterwards(move || tracing::info!(account = %id, by = by.as_str(), "account unlocked"));
    Ok(account)
}

pub(super) async fn forget_failures(work: &mut Work<'_>, login: &Login) -> Result<(), Error> {
    let login = work.login_hash(login);
    db::sign_in::forget_all(work.connection(), &login).await?;
    Ok(())
}

fn taken(error: DbError) -> Error {
    match error.constraint() {
        Some(db::accounts::LOGIN_KEY) => Refused::LoginTaken.into(),
        Some(db::accounts::USER_KEY) => Refused::UserHasAccount.into(),
        Some(_) | None => error.into(),
    }
}
