//! Tables `session` and `refresh_token`.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::page::Listing;
use super::{DbError, accounts};
use crate::domain::account::SessionId;
use crate::domain::admin::{Credential, SignedIn};
use crate::domain::page::{Page, Slice, sort_keys};
use crate::domain::session::{EndReason, Session, SessionKind, UserAgent};
use crate::domain::{AccountId, Invalid, Role, TenantId, Version};

mod refresh;

pub use refresh::{Taken, insert_refresh_token, sweep, take_refresh_token};

#[derive(sqlx::FromRow)]
struct SessionRow {
    session_id: Uuid,
    account_id: Uuid,
    kind: String,
    second_factor: bool,
    source_address: String,
    user_agent: String,
    created_at: OffsetDateTime,
    last_used_at: OffsetDateTime,
    idle_until: OffsetDateTime,
    expires_at: OffsetDateTime,
    version: i64,
}

impl TryFrom<SessionRow> for Session {
    type Error = DbError;

    fn try_from(row: SessionRow) -> Result<Self, DbError> {
        let id = SessionId(row.session_id);
        Ok(Self {
            id,
            account: AccountId(row.account_id),
            kind: to_kind(id, &row.kind)?,
            second_factor: row.second_factor,
            source_address: row.source_address,
            user_agent: UserAgent::of(row.user_agent.as_bytes()),
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            idle_until: row.idle_until,
            expires_at: row.expires_at,
            version: Version(row.version),
        })
    }
}

fn to_kind(id: SessionId, name: &str) -> Result<SessionKind, DbError> {
    name.parse()
        .map_err(|reason: Invalid| DbError::inconsistent("session", "kind", &id, &reason))
}

/// What an account comes to at this moment, as `acting_account` says.
#[derive(Clone)]
pub(super) struct ActingRow {
    pub(super) account_id: Uuid,
    pub(super) login: String,
    pub(super) role: String,
    pub(super) tenant_id: Option<Uuid>,
    pub(super) user_id: Option<Uuid>,
}

impl ActingRow {
    /// Somebody who is known by `credential`.
    pub(super) fn signed_in(self, credential: Credential) -> Result<SignedIn, DbError> {
        let account = AccountId(self.account_id);
        let role: Role = self.role.parse().map_err(|reason: Invalid| {
            DbError::inconsistent("account", "role", &account, &reason)
        })?;
        let seat = accounts::to_seat(account, role, self.tenant_id, self.user_id)?;
        Ok(SignedIn {
            account,
            login: accounts::to_login(account, &self.login)?.to_admin(),
            role,
            reach: seat.reach(role),
            credential,
        })
    }
}

/// Somebody who has signed in, as its session, account, user and tenant are now.
pub struct Known {
    /// Who.
    pub who: SignedIn,
    /// The session.
    pub session: SessionId,
    /// What opens its next request.
    pub kind: SessionKind,
    /// When it was last used, to a minute.
    pub last_used_at: OffsetDateTime,
}

struct KnownRow {
    session_id: Uuid,
    kind: String,
    last_used_at: OffsetDateTime,
    account_id: Uuid,
    login: String,
    role: String,
    tenant_id: Option<Uuid>,
    user_id: Option<Uuid>,
}

impl TryFrom<KnownRow> for Known {
    type Error = DbError;

    fn try_from(row: KnownRow) -> Result<Self, DbError> {
        let session = SessionId(row.session_id);
        let acting = ActingRow {
            account_id: row.account_id,
            login: row.login,
            role: row.role,
            tenant_id: row.tenant_id,
            user_id: row.user_id,
        };
        Ok(Self {
            who: acting.signed_in(Credential::Session(session))?,
            session,
            kind: to_kind(session, &row.kind)?,
            last_used_at: row.last_used_at,
        })
    }
}

/// Who has a session of access tokens, if it lives and its account counts.
pub async fn known_by_id(
    connection: &mut PgConnection,
    id: SessionId,
    now: OffsetDateTime,
) -> Result<Option<Known>, DbError> {
    let row = sqlx::query_as!(
        KnownRow,
        r#"select s.session_id, s.kind, s.last_used_at, s.account_id, a.login as "login!",
            a.role as "role!", a.tenant_id, a.user_id
           from session s join acting_account a on a.account_id = s.account_id
           where s.session_id = $1 and s.kind = 'bearer' and s.ended_at is null
              and s.idle_until > $2 and s.expires_at > $2 and a.is_active"#,
        id.0,
        now,
    );
    let row = row.fetch_optional(connection).await?;
    row.map(Known::try_from).transpose()
}

/// Who has the session of a cookie, likewise.
pub async fn known_by_cookie(
    connection: &mut PgConnection,
    cookie: &[u8; 32],
    now: OffsetDateTime,
) -> Result<Option<Known>, DbError> {
    let row = sqlx::query_as!(
        KnownRow,
        r#"select s.session_id, s.kind, s.last_used_at, s.account_id, a.login as "login!",
            a.role as "role!", a.tenant_id, a.user_id
           from session s join acting_account a on a.account_id = s.account_id
           where s.cookie_hash = $1 and s.ended_at is null
              and s.idle_until > $2 and s.expires_at > $2 and a.is_active"#,
        cookie.as_slice(),
        now,
    );
    let row = row.fetch_optional(connection).await?;
    row.map(Known::try_from).transpose()
}

/// Inserts a session, with what is stored of its cookie.
pub async fn insert(
    connection: &mut PgConnection,
    session: &Session,
    cookie: Option<&[u8; 32]>,
) -> Result<(), DbError> {
    let cookie = cookie.map(<[u8; 32]>::as_slice);
    sqlx::query!(
        "insert into session (
            session_id, account_id, kind, cookie_hash, second_factor, source_address, user_agent,
            created_at, last_used_at, idle_until, expires_at, version
         )
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        session.id.0,
        session.account.0,
        session.kind.name(),
        cookie,
        session.second_factor,
        session.source_address,
        session.user_agent.as_str(),
        session.created_at,
        session.last_used_at,
        session.idle_until,
        session.expires_at,
        session.version.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a session is used, unless somebody else did since `since`.
pub async fn note_use(
    connection: &mut PgConnection,
    id: SessionId,
    kind: SessionKind,
    now: OffsetDateTime,
    since: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update session set last_used_at = $2, idle_until = $3, version = version + 1
         where session_id = $1 and ended_at is null and last_used_at <= $4",
        id.0,
        now,
        now + kind.idle_limit(),
        since,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A living session of an account.
pub async fn find(
    connection: &mut PgConnection,
    account: AccountId,
    id: SessionId,
    now: OffsetDateTime,
) -> Result<Option<Session>, DbError> {
    sqlx::query_as!(
        SessionRow,
        "select session_id, account_id, kind, second_factor, source_address, user_agent, created_at,
            last_used_at, idle_until, expires_at, version
         from session
         where account_id = $1 and session_id = $2 and ended_at is null
            and idle_until > $3 and expires_at > $3",
        account.0,
        id.0,
        now,
    )
    .fetch_optional(connection)
    .await?
    .map(Session::try_from)
    .transpose()
}

/// Keeps others from changing a session until the transaction ends. It must be a statement of its
/// own, before the session is read.
pub async fn lock(connection: &mut PgConnection, id: SessionId) -> Result<(), DbError> {
    sqlx::query!(
        "select session_id from session where session_id = $1 for no key update",
        id.0
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// A session that is over now.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub account: AccountId,
    /// Of which tenant that is.
    pub tenant: Option<TenantId>,
}

/// Ends a session, if it has not ended.
pub async fn end(
    connection: &mut PgConnection,
    id: SessionId,
    reason: EndReason,
    now: OffsetDateTime,
) -> Result<Option<Ended>, DbError> {
    let row = sqlx::query!(
        "update session s set ended_at = $2, end_reason = $3, version = s.version + 1
         from account a
         where s.session_id = $1 and s.ended_at is null and a.account_id = s.account_id
         returning s.account_id, a.tenant_id",
        id.0,
        now,
        reason.name(),
    );
    let row = row.fetch_optional(connection).await?;
    Ok(row.map(|row| Ended {
        id,
        account: AccountId(row.account_id),
        tenant: row.tenant_id.map(TenantId),
    }))
}

/// Ends the session of a cookie, likewise.
pub async fn end_of_cookie(
    connection: &mut PgConnection,
    cookie: &[u8; 32],
    reason: EndReason,
    now: OffsetDateTime,
) -> Result<Option<Ended>, DbError> {
    let row = sqlx::query!(
        "update session s set ended_at = $2, end_reason = $3, version = s.version + 1
         from account a
         where s.cookie_hash = $1 and s.ended_at is null and a.account_id = s.account_id
         returning s.session_id, s.account_id, a.tenant_id",
        cookie.as_slice(),
        now,
        reason.name(),
    );
    let row = row.fetch_optional(connection).await?;
    Ok(row.map(|row| Ended {
        id: SessionId(row.session_id),
        account: AccountId(row.account_id),
        tenant: row.tenant_id.map(TenantId),
    }))
}

/// Ends every session of an account but `except`.
pub async fn end_all(
    connection: &mut PgConnection,
    account: AccountId,
    except: Option<SessionId>,
    reason: EndReason,
    now: OffsetDateTime,
) -> Result<Vec<Ended>, DbError> {
    let rows = sqlx::query!(
        "update session s set ended_at = $3, end_reason = $4, version = s.version + 1
         from account a
         where s.account_id = $1 and s.session_id is distinct from $2 and s.ended_at is null
            and a.account_id = s.account_id
         returning s.session_id, a.tenant_id",
        account.0,
        except.map(|id| id.0),
        now,
        reason.name(),
    );
    let rows = rows.fetch_all(connection).await?;
    let ended = rows.into_iter().map(|row| Ended {
        id: SessionId(row.session_id),
        account,
        tenant: row.tenant_id.map(TenantId),
    });
    Ok(ended.collect())
}

sort_keys! {
    /// What sessions are listed by.
    pub enum SessionSort of Id, default CreatedAt descending {
        CreatedAt = "created_at" Time,
    }
}

/// The living sessions of an account.
pub async fn list(
    connection: &mut PgConnection,
    account: AccountId,
    page: &Page<SessionSort>,
    now: OffsetDateTime,
) -> Result<Slice<Session>, DbError> {
    let key = match page.order.key {
        SessionSort::CreatedAt => "created_at",
    };
    Listing::new(
        "session_id, account_id, kind, second_factor, source_address, user_agent, created_at, \
         last_used_at, idle_until, expires_at, version",
        "session",
        page,
        key,
        "session_id",
    )
    .equal("account_id", Some(account.0))
    .only("ended_at is null")
    .later("idle_until", now)
    .later("expires_at", now)
    .fetch::<SessionRow>(connection)
    .await?
    .try_map(Session::try_from)
}
