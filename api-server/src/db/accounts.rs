//! Table `account`, and the view `acting_account` of it.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use super::page::Listing;
use crate::domain::account::{Account, AccountId, NewAccount, Seat};
use crate::domain::page::{Page, Slice, sort_keys};
use crate::domain::password::PasswordHash;
use crate::domain::{AdminUser, DisplayName, Invalid, Login, Role, TenantId, UserId, Version};

/// The constraint that keeps a login unique.
pub const LOGIN_KEY: &str = "account_login_key";

/// The constraint that gives a user one account.
pub const USER_KEY: &str = "account_user_key";

/// First and second key of the advisory lock under which platform administrators become fewer.
const PLATFORM_LOCK: (i32, i32) = (0x0061_6461, 0);

#[derive(sqlx::FromRow)]
struct AccountRow {
    account_id: Uuid,
    login: String,
    name: String,
    tenant_id: Option<Uuid>,
    user_id: Option<Uuid>,
    role: String,
    status: String,
    is_active: bool,
    password_set_at: Option<OffsetDateTime>,
    second_factor_at: Option<OffsetDateTime>,
    last_sign_in_at: Option<OffsetDateTime>,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<AccountRow> for Account {
    type Error = DbError;

    fn try_from(row: AccountRow) -> Result<Self, DbError> {
        let id = AccountId(row.account_id);
        let broken =
            |column, reason: Invalid| DbError::inconsistent("account", column, &id, &reason);
        let role = row.role.parse().map_err(|reason| broken("role", reason))?;
        Ok(Self {
            id,
            login: to_login(id, &row.login)?,
            name: DisplayName::from_stored(&row.name).map_err(|reason| broken("name", reason))?,
            seat: to_seat(id, role, row.tenant_id, row.user_id)?,
            role,
            status: row
                .status
                .parse()
                .map_err(|reason| broken("status", reason))?,
            is_active: row.is_active,
            password_set_at: row.password_set_at,
            second_factor_at: row.second_factor_at,
            last_sign_in_at: row.last_sign_in_at,
            version: Version(row.version),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Reads a login.
pub(super) fn to_login(id: AccountId, login: &str) -> Result<Login, DbError> {
    login
        .parse()
        .map_err(|reason: Invalid| DbError::inconsistent("account", "login", &id, &reason))
}

/// Reads whose an account is.
pub(super) fn to_seat(
    id: AccountId,
    role: Role,
    tenant: Option<Uuid>,
    user: Option<Uuid>,
) -> Result<Seat, DbError> {
    let seat = match (tenant, user) {
        (Some(tenant), Some(user)) => Ok(Seat::User(TenantId(tenant), UserId(user))),
        (tenant, _) => Seat::new(role, tenant.map(TenantId)),
    };
    seat.map_err(|reason| DbError::inconsistent("account", "tenant_id", &id, &reason))
}

/// Inserts an active account without a password, with the role of its seat or of its user. The
/// constraints [`LOGIN_KEY`] and [`USER_KEY`] may be violated.
pub async fn insert(
    connection: &mut PgConnection,
    id: AccountId,
    new: &NewAccount,
    role: Role,
    by: &AdminUser,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into account (
            account_id, login, name, tenant_id, user_id, role, created_at, created_by, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $7)",
        id.0,
        new.login.as_str(),
        new.name.as_str(),
        new.seat.tenant().map(|tenant| tenant.0),
        new.seat.user().map(|user| user.0),
        role.name(),
        at,
        by.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// One account.
pub async fn find(
    connection: &mut PgConnection,
    id: AccountId,
) -> Result<Option<Account>, DbError> {
    sqlx::query_as!(
        AccountRow,
        r#"select account_id as "account_id!", login as "login!", name as "name!", tenant_id,
            user_id, role as "role!", status as "status!", is_active as "is_active!", password_set_at,
            second_factor_at, last_sign_in_at, version as "version!", created_at as "created_at!",
            updated_at as "updated_at!"
           from acting_account where account_id = $1"#,
        id.0,
    )
    .fetch_optional(connection)
    .await?
    .map(Account::try_from)
    .transpose()
}

/// One account, by its login.
pub async fn find_by_login(
    connection: &mut PgConnection,
    login: &Login,
) -> Result<Option<Account>, DbError> {
    let id = sqlx::query_scalar!(
        "select account_id from account where login = $1",
        login.as_str(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    match id {
        Some(id) => find(connection, AccountId(id)).await,
        None => Ok(None),
    }
}

/// Keeps others from changing an account until the transaction ends; `false` when there is none. It
/// must be a statement of its own, before the account is read. Whoever needs the failures of its login
/// as well has locked them before.
pub async fn lock(connection: &mut PgConnection, id: AccountId) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        "select account_id from account where account_id = $1 for no key update",
        id.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Writes everything of an account that can be changed, but for its secrets. To be called on what
/// was read under [`lock`]. The constraint [`LOGIN_KEY`] may be violated.
pub async fn update(connection: &mut PgConnection, account: &Account) -> Result<(), DbError> {
    sqlx::query!(
        "update account set
            login = $2, name = $3, tenant_id = $4, role = $5, status = $6, version = $7,
            updated_at = $8
         where account_id = $1",
        account.id.0,
        account.login.as_str(),
        account.name.as_str(),
        account.seat.tenant().map(|tenant| tenant.0),
        account.role.name(),
        account.status.name(),
        account.version.0,
        account.updated_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives an account a password. To be called under [`lock`].
pub async fn set_password(
    connection: &mut PgConnection,
    id: AccountId,
    hash: &PasswordHash,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update account set password_hash = $2, password_set_at = $3, version = version + 1,
            updated_at = $3
         where account_id = $1",
        id.0,
        hash.expose(),
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Raises the version of the account of a user whose role or status was changed; which account that
/// is.
pub async fn user_changed(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
    at: OffsetDateTime,
) -> Result<Option<AccountId>, DbError> {
    let id = sqlx::query_scalar!(
        "update account set version = version + 1, updated_at = $3
         where tenant_id = $1 and user_id = $2
         returning account_id",
        tenant.0,
        user.0,
        at,
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(AccountId))
}

/// The accounts of a tenant.
pub async fn of_tenant(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<AccountId>, DbError> {
    let ids = sqlx::query_scalar!(
        "select account_id from account where tenant_id = $1 order by account_id",
        tenant.0,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(AccountId).collect())
}

/// The account of a user.
pub async fn of_user(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
) -> Result<Option<AccountId>, DbError> {
    let id = sqlx::query_scalar!(
        "select account_id from account where tenant_id = $1 and user_id = $2",
        tenant.0,
        user.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(AccountId))
}

/// Removes an account with its sessions, tokens and codes. To be called under [`lock`].
pub async fn delete(connection: &mut PgConnection, id: AccountId) -> Result<(), DbError> {
    sqlx::query!("delete from account where account_id = $1", id.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there is an active platform administrator beside this one. Whoever asks is alone until
/// the transaction ends, so that no two find each other and both go.
pub async fn is_platform_held_without(
    connection: &mut PgConnection,
    id: AccountId,
) -> Result<bool, DbError> {
    sqlx::query!(
        "select pg_advisory_xact_lock($1, $2)",
        PLATFORM_LOCK.0,
        PLATFORM_LOCK.1,
    )
    .execute(&mut *connection)
    .await?;
    // A statement of its own: it sees what those before it have committed.
    let held = sqlx::query_scalar!(
        r#"select exists (
            select from account
            where role = 'platform_admin' and status = 'active' and account_id <> $1
        ) as "held!""#,
        id.0,
    )
    .fetch_one(connection)
    .await?;
    Ok(held)
}

sort_keys! {
    /// What accounts are listed by.
    pub enum AccountSort of Id, default Login ascending {
        Login = "login" Text,
        CreatedAt = "created_at" Time,
    }
}

/// Which accounts are wanted.
#[derive(Clone, Debug, Default)]
pub struct AccountFilter {
    /// Those of this tenant.
    pub tenant: Option<TenantId>,
    /// Those with this role.
    pub role: Option<String>,
    /// Those with this status.
    pub status: Option<String>,
    /// Those whose login or name holds this text.
    pub search: Option<String>,
}

/// Accounts.
pub async fn list(
    connection: &mut PgConnection,
    page: &Page<AccountSort>,
    filter: AccountFilter,
) -> Result<Slice<Account>, DbError> {
    let key = match page.order.key {
        AccountSort::Login => "a.login",
        AccountSort::CreatedAt => "a.created_at",
    };
    Listing::new(
        "a.account_id, a.login, a.name, a.tenant_id, a.user_id, a.role, a.status, a.is_active, \
         a.password_set_at, a.second_factor_at, a.last_sign_in_at, a.version, a.created_at, \
         a.updated_at",
        "acting_account a",
        page,
        key,
        "a.account_id",
    )
    .equal("a.tenant_id", filter.tenant.map(|tenant| tenant.0))
    .equal("a.role", filter.role)
    .equal("a.status", filter.status)
    .search(
        &["(a.login || ' ' || lower(a.name))"],
        filter.search.as_deref(),
    )
    .fetch::<AccountRow>(connection)
    .await?
    .try_map(Account::try_from)
}
