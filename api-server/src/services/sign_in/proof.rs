//! Who has signed in shows again who it is, for what a session that was stolen must not suffice.
//! Failures count with those of signing in, and lock out likewise.

use time::OffsetDateTime;

use super::{Seen, failed, locked, look_up};
use crate::db;
use crate::domain::Actor;
use crate::domain::account::Account;
use crate::domain::password::PasswordHash;
use crate::domain::session::{Network, TypedLogin};
use crate::services::denied::Denied;
use crate::services::work::Work;
use crate::services::{Error, Portal};

/// What is known before somebody shows something.
pub struct Proof(Seen);

impl Proof {
    /// Lets somebody try, unless it tried too often.
    ///
    /// # Errors
    /// [`Denied::TooManyAttempts`], [`Denied::SignInLocked`].
    pub async fn begin(portal: &Portal, actor: &Actor, account: &Account) -> Result<Self, Error> {
        let network = Network::from(actor.source);
        portal.gate.attempts.admit(network)?;
        let seen = look_up(portal, &TypedLogin::from(&account.login), network).await?;
        if let Some(until) = seen.locked_until {
            let mut work = Work::of_record(portal, actor).await?;
            let refused = locked(portal, &mut work, &seen, until);
            work.commit().await?;
            return Err(refused.into());
        }
        Ok(Self(seen))
    }

    /// What the password of the account is tried against.
    pub fn password(&self) -> Option<PasswordHash> {
        self.0.candidate.as_ref()?.password.clone()
    }

    /// When that password was set: it is the same as long as that is.
    pub fn password_set_at(&self) -> Option<OffsetDateTime> {
        self.0.candidate.as_ref()?.password_set_at
    }

    /// What was shown is right, and counts, unless somebody was locked out meanwhile. To be called
    /// before the account is locked, as at sign-in.
    ///
    /// # Errors
    /// [`Denied::SignInLocked`].
    pub async fn counts(&self, work: &mut Work<'_>) -> Result<(), Error> {
        let Seen { login, class, .. } = &self.0;
        let now = work.now;
        db::sign_in::lock_failures(work.connection(), login, class, now).await?;
        let until = db::sign_in::locked_until(work.connection(), login, class, now).await?;
        if let Some(until) = until {
            let wait = (until - now).unsigned_abs();
            return Err(Denied::SignInLocked { wait }.into());
        }
        Ok(db::sign_in::forget(work.connection(), login, class).await?)
    }

    /// What was shown is wrong: counts it, whatever becomes of the request.
    pub async fn failed(
        &self,
        portal: &Portal,
        actor: &Actor,
        reason: &'static str,
    ) -> Result<(), Error> {
        let mut work = Work::of_record(portal, actor).await?;
        let Seen { login, class, .. } = &self.0;
        let now = work.now;
        db::sign_in::lock_failures(work.connection(), login, class, now).await?;
        failed(portal, &mut work, &self.0, reason).await?;
        work.commit().await
    }
}
