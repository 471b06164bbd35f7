//! Sessions: how one is opened, continued, shown and ended.

use rand::CryptoRng;
use serde_json::json;
use time::OffsetDateTime;

use super::access_tokens::{self, AccessToken};
use super::denied::Denied;
use super::work::Work;
use super::{Error, Portal};
use crate::clock::unix_ms;
use crate::db;
use crate::db::sessions::{Ended, Taken};
use crate::domain::account::SessionId;
use crate::domain::admin::Credential;
use crate::domain::audit::Entry;
use crate::domain::page::{Page, Slice};
use crate::domain::session::{
    CookieSecret, EndReason, RefreshToken, Session, SessionKind, UserAgent,
};
use crate::domain::{AccountId, Actor, TenantId, Version, uuid_v7};

pub use crate::db::sessions::SessionSort;

/// A session with what continues it, which is shown this once.
pub struct Opened {
    /// The session.
    pub session: Session,
    /// What continues it.
    pub secrets: Secrets,
}

/// What continues a session.
pub enum Secrets {
    /// For programs.
    Bearer {
        /// What requests are sent with.
        access: AccessToken,
        /// What the next of both is got with.
        refresh: RefreshToken,
        /// Until when.
        refresh_until: OffsetDateTime,
    },
    /// For browsers.
    Cookie(CookieSecret),
}

/// A session to be opened.
pub(super) struct New {
    pub(super) id: SessionId,
    pub(super) account: AccountId,
    pub(super) tenant: Option<TenantId>,
    pub(super) kind: SessionKind,
    pub(super) second_factor: bool,
    pub(super) user_agent: UserAgent,
}

/// An id for a session.
pub(super) fn fresh_id(now: OffsetDateTime, rng: &mut impl CryptoRng) -> SessionId {
    SessionId(uuid_v7(unix_ms(now), rng))
}

/// Opens a session.
pub(super) async fn open(
    portal: &Portal,
    work: &mut Work<'_>,
    new: New,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Opened, Error> {
    let now = work.now;
    let session = Session {
        id: new.id,
        account: new.account,
        kind: new.kind,
        second_factor: new.second_factor,
        source_address: work.actor.source.to_string(),
        user_agent: new.user_agent,
        created_at: now,
        last_used_at: now,
        idle_until: now + new.kind.idle_limit(),
        expires_at: now + new.kind.limit(),
        version: Version::FIRST,
    };
    let secrets = match session.kind {
        SessionKind::Cookie => {
            let cookie = CookieSecret::generate(rng);
            let hash = cookie.hash();
            db::sessions::insert(work.connection(), &session, Some(&hash)).await?;
            Secrets::Cookie(cookie)
        }
        SessionKind::Bearer => {
            db::sessions::insert(work.connection(), &session, None).await?;
            tokens(portal, work, &session, rng).await?
        }
    };
    let after = json!({
        "account_id": session.account.0,
        "kind": session.kind.name(),
        "second_factor": session.second_factor,
        "user_agent": session.user_agent.as_str(),
    });
    let entry = Entry::new("session.created", "session", &session.id);
    work.record(entry.of(new.tenant).changing(None, Some(after)));
    Ok(Opened { session, secrets })
}

/// The next access and refresh token of a session.
async fn tokens(
    portal: &Portal,
    work: &mut Work<'_>,
    session: &Session,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Secrets, Error> {
    let (now, refresh) = (work.now, RefreshToken::generate(rng));
    let refresh_until = session.expires_at.min(now + session.kind.idle_limit());
    let (hash, id) = (refresh.hash(), session.id);
    db::sessions::insert_refresh_token(work.connection(), &hash, id, now, refresh_until).await?;
    let access = access_tokens::issue(work, &portal.gate.keys, session, rng).await?;
    Ok(Secrets::Bearer {
        access,
        refresh,
        refresh_until,
    })
}

/// Exchanges a refresh token for the next one, and an access token. One that was exchanged before
/// ends its session: somebody else has it as well.
///
/// # Errors
/// [`Denied::RefreshRefused`], [`Denied::RefreshReused`].
pub async fn refresh(
    portal: &Portal,
    actor: &Actor,
    token: &RefreshToken,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Opened, Error> {
    let mut work = Work::begin(portal, actor).await?;
    let now = work.now;
    match db::sessions::take_refresh_token(work.connection(), &token.hash(), now).await? {
        Taken::Never => Err(Denied::RefreshRefused.into()),
        Taken::Before(id) => {
            let (reason, connection) = (EndReason::RefreshReused, work.connection());
            let ended = db::sessions::end(connection, id, reason, now).await?;
            if let Some(ended) = ended {
                record_end(&mut work, ended, reason);
            }
            work.commit().await?;
            Err(Denied::RefreshReused.into())
        }
        Taken::Now(id) => {
            let known = db::sessions::known_by_id(work.connection(), id, now).await?;
            let known = known.ok_or(Denied::RefreshRefused)?;
            db::sessions::note_use(work.connection(), id, known.kind, now, now).await?;
            let account = known.who.account;
            let session = db::sessions::find(work.connection(), account, id, now).await?;
            let session = session.ok_or(Denied::RefreshRefused)?;
            let secrets = tokens(portal, &mut work, &session, rng).await?;
            work.commit().await?;
            Ok(Opened { session, secrets })
        }
    }
}

/// The session that a request was let in by.
fn current(actor: &Actor) -> Option<SessionId> {
    match actor.account()?.credential {
        Credential::Session(id) => Some(id),
        Credential::ApiToken(..) => None,
    }
}

/// Which session of one's own is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRef {
    /// The one that the request was let in by.
    Current,
    /// This one.
    Id(SessionId),
}

impl SessionRef {
    fn resolve(self, actor: &Actor) -> Result<(AccountId, SessionId), Error> {
        let account = actor.account().ok_or(Error::SessionNotFound)?.account;
        let id = match self {
            Self::Current => current(actor).ok_or(Error::SessionNotFound)?,
            Self::Id(id) => id,
        };
        Ok((account, id))
    }
}

/// Whether it is the session that the request was let in by.
pub fn is_current(actor: &Actor, session: &Session) -> bool {
    current(actor) == Some(session.id)
}

/// A living session of whoever asks.
///
/// # Errors
/// [`Error::SessionNotFound`].
pub async fn get(portal: &Portal, actor: &Actor, wanted: SessionRef) -> Result<Session, Error> {
    let (account, id) = wanted.resolve(actor)?;
    let mut connection = portal.database.acquire().await?;
    db::sessions::find(&mut connection, account, id, portal.clock.now())
        .await?
        .ok_or(Error::SessionNotFound)
}

/// The living sessions of whoever asks.
pub async fn list(
    portal: &Portal,
    actor: &Actor,
    page: &Page<SessionSort>,
) -> Result<Slice<Session>, Error> {
    let Some(known) = actor.account() else {
        // Whoever is trusted without sign-in has none.
        return Ok(Slice {
            items: Vec::new(),
            next: None,
        });
    };
    let mut connection = portal.database.acquire().await?;
    let now = portal.clock.now();
    Ok(db::sessions::list(&mut connection, known.account, page, now).await?)
}

/// A living session of whoever asks that nobody else changes until the work is done.
///
/// # Errors
/// [`Error::SessionNotFound`].
pub async fn locked(work: &mut Work<'_>, wanted: SessionRef) -> Result<Session, Error> {
    let (account, id) = wanted.resolve(work.actor)?;
    db::sessions::lock(work.connection(), id).await?;
    let now = work.now;
    db::sessions::find(work.connection(), account, id, now)
        .await?
        .ok_or(Error::SessionNotFound)
}

/// Ends a session: signs out, or another device of one's own.
pub async fn end(work: &mut Work<'_>, locked: &Session) -> Result<(), Error> {
    let reason = if is_current(work.actor, locked) {
        EndReason::SignedOut
    } else {
        EndReason::Revoked
    };
    let now = work.now;
    let ended = db::sessions::end(work.connection(), locked.id, reason, now).await?;
    if let Some(ended) = ended {
        record_end(work, ended, reason);
    }
    Ok(())
}

/// Ends the session of a cookie that its browser will not send again.
pub(super) async fn replace(work: &mut Work<'_>, cookie: &CookieSecret) -> Result<(), Error> {
    let (now, reason) = (work.now, EndReason::Replaced);
    let hash = cookie.hash();
    let ended = db::sessions::end_of_cookie(work.connection(), &hash, reason, now).await?;
    if let Some(ended) = ended {
        record_end(work, ended, reason);
    }
    Ok(())
}

fn record_end(work: &mut Work<'_>, ended: Ended, reason: EndReason) {
    work.lessens(ended.account);
    if current(work.actor) == Some(ended.id) {
        work.signs_out();
    }
    let after = json!({ "account_id": ended.account.0, "reason": reason.name() });
    let entry = Entry::new("session.ended", "session", &ended.id);
    work.record(entry.of(ended.tenant).changing(None, Some(after)));
    work.afterwards(
        move || tracing::info!(session = %ended.id, reason = reason.name(), "session ended"),
    );
}
