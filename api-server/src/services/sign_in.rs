//! Signing in: password, second factor, and what stops those who guess.
//!
//! The story is [`sign_in`]. Nothing is held while a password is tried, neither a connection nor a
//! lock; everything that follows from its verdict is one unit of work, under a lock on the failures
//! of those who are counted together. So whatever is tried at once is judged one after the other, and
//! no more is learnt of it than by trying one after the other.
//!
//! Whoever needs both locks the failures of a login before its account, so that nobody waits in a circle.

use rand::CryptoRng;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::denied::Denied;
use super::passwords::{self, Caller, Verdict};
use super::sessions::{self, New, Opened};
use super::work::Work;
use super::{Error, Portal, audit, second_factor};
use crate::db;
use crate::db::sign_in::{Candidate, Class};
use crate::domain::account::SessionId;
use crate::domain::audit::Entry;
use crate::domain::password::{Password, PasswordHash};
use crate::domain::session::{
    CookieSecret, FORGOTTEN_AFTER, KEPT_AFTER_END, LoginHash, Network, SessionKind, TypedLogin,
    UserAgent, locked_for,
};
use crate::domain::totp::Code;
use crate::domain::{Actor, Principal};

mod attempts;
mod proof;

pub use attempts::Attempts;
pub use proof::Proof;

/// What somebody wants to sign in with.
pub struct SignIn {
    /// Who it says to be.
    pub login: TypedLogin,
    /// What shows it.
    pub password: Password,
    /// What shows it a second time, if that is needed.
    pub code: Option<Code>,
    /// What kind of session is wanted.
    pub kind: SessionKind,
    /// What it says to be.
    pub user_agent: UserAgent,
    /// The cookie that came along. It is never taken over: its session ends.
    pub brought: Option<CookieSecret>,
}

/// Counts an attempt of an address to be let in.
///
/// # Errors
/// [`Denied::TooManyAttempts`].
pub(super) fn admit(portal: &Portal, actor: &Actor) -> Result<(), Denied> {
    portal.gate.attempts.admit(Network::from(actor.source))
}

/// Signs in.
///
/// # Errors
/// [`Denied`]; [`Error::Overloaded`] when too many passwords are tried at this moment.
pub async fn sign_in(
    portal: &Portal,
    actor: &Actor,
    wanted: SignIn,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Opened, Error> {
    let network = Network::from(actor.source);
    portal.gate.attempts.admit(network)?;
    let seen = look_up(portal, &wanted.login, network).await?;
    if let Some(until) = seen.locked_until {
        let mut work = Work::begin(portal, actor).await?;
        let refused = locked(portal, &mut work, &seen, until);
        work.commit().await?;
        return Err(refused.into());
    }
    let password = seen.candidate.as_ref().and_then(|c| c.password.clone());
    let caller = seen.caller();
    let verdict = passwords::verify(caller, wanted.password.clone(), password).await?;
    let rehashed = match verdict {
        Verdict::Right { outdated: true } => passwords::rehash(wanted.password.clone()).await.ok(),
        Verdict::Right { outdated: false } | Verdict::Wrong => None,
    };
    let tried = Tried {
        right: matches!(verdict, Verdict::Right { .. }),
        set_at: seen.candidate.as_ref().and_then(|c| c.password_set_at),
        rehashed,
    };
    let session = sessions::fresh_id(portal.clock.now(), rng);
    let as_account = seen.as_account(actor, session)?;
    let mut work = Work::begin(portal, actor).await?;
    let outcome = judge(portal, &mut work, &seen, &wanted, &tried).await?;
    let candidate = match outcome {
        Err(refused) => {
            // The failure counts, and stands in the audit trail.
            work.commit().await?;
            return Err(refused.into());
        }
        Ok(candidate) => candidate,
    };
    work.actor = as_account.as_ref().unwrap_or(actor);
    let new = New {
        id: session,
        account: candidate.id,
        tenant: candidate.tenant,
        kind: wanted.kind,
        second_factor: candidate.has_second_factor,
        user_agent: wanted.user_agent,
    };
    let opened = admitted(portal, &mut work, &seen, &tried, new, rng).await?;
    if let Some(cookie) = &wanted.brought {
        sessions::replace(&mut work, cookie).await?;
    }
    work.commit().await?;
    Ok(opened)
}

/// What is known before the password is tried.
struct Seen {
    candidate: Option<Candidate>,
    login: LoginHash,
    network: Network,
    class: Class,
    locked_until: Option<OffsetDateTime>,
}

impl Seen {
    /// Whoever signs in, once it has.
    fn as_account(&self, actor: &Actor, session: SessionId) -> Result<Option<Actor>, Error> {
        let known = self.candidate.as_ref().map(|c| c.signed_in(session));
        Ok(known.transpose()?.map(|known| Actor {
            admin: known.login.clone(),
            principal: Principal::Account(known),
            ..actor.clone()
        }))
    }

    fn caller(&self) -> Caller {
        if self.class.is_known() {
            Caller::Known
        } else {
            Caller::Stranger
        }
    }

    /// What is noted of an attempt. Of a login that is no account's only a hash is: people type
    /// passwords there.
    fn entry(&self, action: &'static str) -> Entry {
        match &self.candidate {
            Some(candidate) => Entry::new(action, "account", &candidate.id).of(candidate.tenant),
            None => Entry::new(action, "login", &self.login),
        }
    }
}

async fn look_up(portal: &Portal, login: &TypedLogin, network: Network) -> Result<Seen, Error> {
    let now = portal.clock.now();
    let mut connection = portal.database.acquire().await?;
    let candidate = db::sign_in::candidate(&mut connection, login).await?;
    let account = candidate.as_ref().map(|candidate| candidate.id);
    let class = Class::of(&mut connection, account, network).await?;
    let login = portal.database.audit_key()?.login_hash(login.as_str());
    let locked_until = db::sign_in::locked_until(&mut connection, &login, &class, now).await?;
    Ok(Seen {
        candidate,
        login,
        network,
        class,
        locked_until,
    })
}

/// A password that was tried, and when the one was set that it was tried against.
struct Tried {
    right: bool,
    set_at: Option<OffsetDateTime>,
    rehashed: Option<PasswordHash>,
}

/// Whether to let somebody in. A refusal is counted and noted, which the caller commits.
async fn judge(
    portal: &Portal,
    work: &mut Work<'_>,
    seen: &Seen,
    wanted: &SignIn,
    tried: &Tried,
) -> Result<Result<Candidate, Denied>, Error> {
    let now = work.now;
    db::sign_in::lock_failures(work.connection(), &seen.login, &seen.class, now).await?;
    let until = db::sign_in::locked_until(work.connection(), &seen.login, &seen.class, now).await?;
    if let Some(until) = until {
        return Ok(Err(locked(portal, work, seen, until)));
    }
    let Some(account) = seen.candidate.as_ref().map(|candidate| candidate.id) else {
        failed(portal, work, seen, "unknown_login").await?;
        return Ok(Err(Denied::WrongCredentials));
    };
    db::sign_in::lock(work.connection(), account).await?;
    let candidate = db::sign_in::candidate(work.connection(), &wanted.login).await?;
    // What was tried may be another password by now, or somebody else's. Its hash may be another one of
    // the same password: it is made anew where it took less effort.
    let same = |candidate: &Candidate| {
        candidate.id == account && candidate.password_set_at == tried.set_at && tried.right
    };
    let Some(candidate) = candidate.filter(same) else {
        failed(portal, work, seen, "wrong_password").await?;
        return Ok(Err(Denied::WrongCredentials));
    };
    if !candidate.is_active {
        refused(portal, work, seen, "suspended", None);
        return Ok(Err(Denied::AccountSuspended));
    }
    if candidate.has_second_factor {
        let Some(code) = &wanted.code else {
            refused(portal, work, seen, "second_factor_required", None);
            return Ok(Err(Denied::SecondFactorRequired));
        };
        if !second_factor::check(work, account, code).await? {
            failed(portal, work, seen, "wrong_code").await?;
            return Ok(Err(Denied::WrongCode));
        }
    }
    Ok(Ok(candidate))
}

/// Everything that is done once somebody is let in.
async fn admitted(
    portal: &Portal,
    work: &mut Work<'_>,
    seen: &Seen,
    tried: &Tried,
    new: New,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Opened, Error> {
    let (account, now, network) = (new.account, work.now, seen.network);
    db::sign_in::forget(work.connection(), &seen.login, &seen.class).await?;
    let rehashed = tried.rehashed.as_ref();
    db::sign_in::note(work.connection(), account, network, rehashed, now).await?;
    let opened = sessions::open(portal, work, new, rng).await?;
    db::sign_in::sweep(work.connection(), now - FORGOTTEN_AFTER).await?;
    db::sessions::sweep(work.connection(), now - KEPT_AFTER_END).await?;
    let (id, source) = (opened.session.id, work.actor.source);
    work.afterwards(move || tracing::info!(%account, session = %id, %source, "signed in"));
    Ok(opened)
}

/// Counts a failure, and locks out whoever has too many.
async fn failed(
    portal: &Portal,
    work: &mut Work<'_>,
    seen: &Seen,
    reason: &'static str,
) -> Result<(), Error> {
    let now = work.now;
    let forgotten = now - FORGOTTEN_AFTER;
    let (login, class) = (&seen.login, &seen.class);
    let failures =
        db::sign_in::count_failure(work.connection(), login, class, now, forgotten).await?;
    let until = locked_for(failures).map(|time| now + time);
    if let Some(until) = until {
        db::sign_in::lock_out(work.connection(), login, class, until).await?;
    }
    refused(portal, work, seen, reason, Some((failures, until)));
    Ok(())
}

/// Notes that somebody was not let in, or counts it: an address has only so many entries a minute.
fn refused(
    portal: &Portal,
    work: &mut Work<'_>,
    seen: &Seen,
    reason: &'static str,
    counted: Option<(u32, Option<OffsetDateTime>)>,
) {
    let (failures, until) = counted.unzip();
    let until = until
        .flatten()
        .and_then(|until| until.format(&Rfc3339).ok());
    let after =
        json!({ "reason": reason, "failures": failures, "locked_until": until, "count": 1 });
    let entry = seen.entry("sign_in.failed").changing(None, Some(after));
    if audit::is_told_of_failure(portal, work.actor, &entry) {
        work.record(entry);
    }
    let source = work.actor.source;
    work.afterwards(move || tracing::info!(reason, %source, "sign-in refused"));
}

/// Notes that somebody tried who is locked out, or counts it.
fn locked(portal: &Portal, work: &mut Work<'_>, seen: &Seen, until: OffsetDateTime) -> Denied {
    let after = json!({ "locked_until": until.format(&Rfc3339).ok(), "count": 1 });
    let entry = seen.entry("sign_in.locked").changing(None, Some(after));
    if audit::is_told_of_locked(portal, work.actor, &entry) {
        work.record(entry);
    }
    let source = work.actor.source;
    work.afterwards(move || tracing::info!(reason = "locked", %source, "sign-in refused"));
    Denied::SignInLocked {
        wait: (until - work.now).unsigned_abs(),
    }
}
