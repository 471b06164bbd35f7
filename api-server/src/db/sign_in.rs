//! Tables `sign_in_failure` and `known_address`, and what of `account` is asked and noted at
//! sign-in.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use super::sessions::ActingRow;
use crate::domain::account::SessionId;
use crate::domain::admin::{Credential, SignedIn};
use crate::domain::password::PasswordHash;
use crate::domain::session::{LoginHash, Network, TypedLogin};
use crate::domain::{AccountId, TenantId};

/// How many old rows one sign-in removes at most.
const SWEEP_MAX: i64 = 20;

/// Of how many addresses it is remembered that an account was signed in to from there.
const KNOWN_MAX: i64 = 50;

/// An account that somebody wants to sign in to.
pub struct Candidate {
    /// Which.
    pub id: AccountId,
    /// Whose tenant's.
    pub tenant: Option<TenantId>,
    /// Whether it, its user and its tenant are in force.
    pub is_active: bool,
    /// Whether a second factor is needed.
    pub has_second_factor: bool,
    /// What its password is tried against; `None`: none was set yet.
    pub password: Option<PasswordHash>,
    /// When that was set.
    pub password_set_at: Option<OffsetDateTime>,
    acting: ActingRow,
}

impl Candidate {
    /// Somebody who has signed in to it.
    pub fn signed_in(&self, session: SessionId) -> Result<SignedIn, DbError> {
        self.acting.clone().signed_in(Credential::Session(session))
    }
}

struct CandidateRow {
    account_id: Uuid,
    login: String,
    role: String,
    tenant_id: Option<Uuid>,
    user_id: Option<Uuid>,
    is_active: bool,
    has_second_factor: bool,
    password_hash: Option<String>,
    password_set_at: Option<OffsetDateTime>,
}

impl From<CandidateRow> for Candidate {
    fn from(row: CandidateRow) -> Self {
        Self {
            id: AccountId(row.account_id),
            tenant: row.tenant_id.map(TenantId),
            is_active: row.is_active,
            has_second_factor: row.has_second_factor,
            password: row.password_hash.map(PasswordHash::new),
            password_set_at: row.password_set_at,
            acting: ActingRow {
                account_id: row.account_id,
                login: row.login,
                role: row.role,
                tenant_id: row.tenant_id,
                user_id: row.user_id,
            },
        }
    }
}

/// The account of a login, in force or not.
pub async fn candidate(
    connection: &mut PgConnection,
    login: &TypedLogin,
) -> Result<Option<Candidate>, DbError> {
    let row = sqlx::query_as!(
        CandidateRow,
        r#"select account_id as "account_id!", login as "login!", role as "role!", tenant_id, user_id,
            is_active as "is_active!", has_second_factor as "has_second_factor!", password_hash,
            password_set_at
           from acting_account where login = $1"#,
        login.as_str(),
    );
    Ok(row.fetch_optional(connection).await?.map(Candidate::from))
}

/// Keeps others from changing an account until the transaction ends. It must be a statement of its
/// own, before the account is read.
pub async fn lock(connection: &mut PgConnection, account: AccountId) -> Result<(), DbError> {
    sqlx::query!(
        "select account_id from account where account_id = $1 for no key update",
        account.0
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Those whose failures count together: the account's own address, or all that it was never signed
/// in to from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class(String);

impl Class {
    /// The class of whoever signs in from a network to an account, if there is one.
    pub async fn of(
        connection: &mut PgConnection,
        account: Option<AccountId>,
        network: Network,
    ) -> Result<Self, DbError> {
        let known = sqlx::query_scalar!(
            r#"select exists (
                select from known_address where account_id = $1 and source_address = $2
               ) as "known!""#,
            account.map(|id| id.0),
            network.to_string(),
        );
        let known = known.fetch_one(connection).await?;
        let strangers = String::new();
        Ok(Self(if known {
            network.to_string()
        } else {
            strangers
        }))
    }
}

impl Class {
    /// Whether the account was signed in to from there before.
    pub const fn is_known(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Until when a class may not try a login; `None`: it may.
pub async fn locked_until(
    connection: &mut PgConnection,
    login: &LoginHash,
    class: &Class,
    now: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, DbError> {
    let until = sqlx::query_scalar!(
        r#"select locked_until as "locked_until!" from sign_in_failure
         where login_hash = $1 and source_address = $2 and locked_until > $3"#,
        &login.0,
        class.0,
        now,
    );
    Ok(until.fetch_optional(connection).await?)
}

/// Makes others who try the same login from the same class wait until the transaction ends. It must
/// be a statement of its own, before it is asked whether they are locked out.
pub async fn lock_failures(
    connection: &mut PgConnection,
    login: &LoginHash,
    class: &Class,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into sign_in_failure (login_hash, source_address, failures, last_at)
         values ($1, $2, 0, $3)
         on conflict on constraint sign_in_failure_pkey do update set failures = sign_in_failure.failures",
        &login.0,
        class.0,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts one more failure of a class, and tells how many there are since `forgotten`. To be called
/// under [`lock_failures`].
pub async fn count_failure(
    connection: &mut PgConnection,
    login: &LoginHash,
    class: &Class,
    now: OffsetDateTime,
    forgotten: OffsetDateTime,
) -> Result<u32, DbError> {
    let failures = sqlx::query_scalar!(
        "update sign_in_failure
         set failures = case when last_at <= $4 then 1 else failures + 1 end, last_at = $3
         where login_hash = $1 and source_address = $2
         returning failures",
        &login.0,
        class.0,
        now,
        forgotten,
    );
    Ok(failures.fetch_one(connection).await?.unsigned_abs())
}

/// Locks a class out of a login.
pub async fn lock_out(
    connection: &mut PgConnection,
    login: &LoginHash,
    class: &Class,
    until: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update sign_in_failure set locked_until = $3
         where login_hash = $1 and source_address = $2",
        &login.0,
        class.0,
        until,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the failures of a class.
pub async fn forget(
    connection: &mut PgConnection,
    login: &LoginHash,
    class: &Class,
) -> Result<(), DbError> {
    sqlx::query!(
        "delete from sign_in_failure where login_hash = $1 and source_address = $2",
        &login.0,
        class.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets all failures with a login. To be called before its account is locked, as at sign-in.
pub async fn forget_all(connection: &mut PgConnection, login: &LoginHash) -> Result<(), DbError> {
    sqlx::query!(
        "delete from sign_in_failure where (login_hash, source_address) in (
            select login_hash, source_address from sign_in_failure where login_hash = $1
            order by source_address
            for update
         )",
        login.0.as_slice()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes some of the failures that were last seen before `forgotten`, never waiting for anybody.
pub async fn sweep(
    connection: &mut PgConnection,
    forgotten: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "delete from sign_in_failure where (login_hash, source_address) in (
            select login_hash, source_address from sign_in_failure where last_at <= $1
            order by last_at limit $2
            for update skip locked
         )",
        forgotten,
        SWEEP_MAX,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that somebody has signed in to an account from a network, and its hash where that was made
/// anew. What is shown of it changes, so its version does.
pub async fn note(
    connection: &mut PgConnection,
    account: AccountId,
    network: Network,
    rehashed: Option<&PasswordHash>,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update account set last_sign_in_at = $2, password_hash = coalesce($3, password_hash),
            version = version + 1
         where account_id = $1",
        account.0,
        now,
        rehashed.map(PasswordHash::expose),
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into known_address (account_id, source_address, last_at) values ($1, $2, $3)
         on conflict on constraint known_address_pkey do update set last_at = excluded.last_at",
        account.0,
        network.to_string(),
        now,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from known_address where account_id = $1 and source_address in (
            select source_address from known_address where account_id = $1
            order by last_at desc offset $2
         )",
        account.0,
        KNOWN_MAX,
    )
    .execute(connection)
    .await?;
    Ok(())
}
