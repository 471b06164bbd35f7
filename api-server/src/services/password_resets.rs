//! Passwords of accounts: changed by whoever knows the one before, or set by a token that is good
//! once.

use rand::CryptoRng;
use time::{Duration, OffsetDateTime};

use super::accounts::{self, Refused, end_sessions, end_sessions_but, entry, is_own};
use super::api_tokens;
use super::denied::Denied;
use super::passwords::{self, Caller, Verdict};
use super::sign_in::{self, Proof};
use super::work::{self, Work};
use super::{Error, Portal};
use crate::db;
use crate::domain::account::Account;
use crate::domain::admin::Credential;
use crate::domain::password::{Password, PasswordHash};
use crate::domain::session::EndReason;
use crate::domain::token::{ResetToken, Token, TokenKind};
use crate::domain::{AccountId, Actor, Invalid};

/// How long a token is good for.
const TOKEN_LIFE: Duration = Duration::hours(24);

/// A token that sets the password of an account, once.
#[derive(Debug)]
pub struct Issued {
    /// Shown this once.
    pub token: Token,
    /// Until when it is good.
    pub expires_at: OffsetDateTime,
}

/// Makes a token for an account that is locked, in place of those that it had. Its password stays
/// until the token is used.
///
/// # Errors
/// [`Refused::OwnAccount`]: who has a session must not come to have the password by it.
pub async fn issue(
    work: &mut Work<'_>,
    account: &Account,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Issued, Error> {
    if is_own(work.actor, account.id) {
        return Err(Refused::OwnAccount.into());
    }
    let (now, by) = (work.now, work.actor.admin.clone());
    let (token, expires_at) = (Token::generate(TokenKind::Reset, rng), now + TOKEN_LIFE);
    let connection = work.connection();
    db::password_resets::replace(connection, account.id, &token, &by, now, expires_at).await?;
    work.record(entry("password_reset.created", account));
    let id = account.id;
    work.afterwards(
        move || tracing::info!(account = %id, by = by.as_str(), "password reset issued"),
    );
    Ok(Issued { token, expires_at })
}

/// Sets a password by a token. Somebody else may have had the account: every session of it ends and
/// every API token, and so does its lock-out.
///
/// # Errors
/// [`Denied::ResetRefused`], [`Denied::TooManyAttempts`], [`Error::InvalidField`],
/// [`Error::Overloaded`].
pub async fn redeem(
    portal: &Portal,
    actor: &Actor,
    ResetToken(token): &ResetToken,
    password: Password,
) -> Result<(), Error> {
    sign_in::admit(portal, actor)?;
    let mut connection = portal.database.acquire().await?;
    let id = db::password_resets::find(&mut connection, token, portal.clock.now()).await?;
    let id = id.ok_or(Denied::ResetRefused)?;
    let account = db::accounts::find(&mut connection, id).await?;
    let account = account.ok_or(Denied::ResetRefused)?;
    drop(connection);
    // A bad choice leaves the token good.
    let hash = passwords::choose("password", password, about(&account)).await?;
    work::run(portal, actor, async |work| {
        let now = work.now;
        accounts::forget_failures(work, &account.login).await?;
        if !db::accounts::lock(work.connection(), id).await?
            || !db::password_resets::take(work.connection(), token, now).await?
        {
            return Err(Denied::ResetRefused.into());
        }
        set(work, id, &hash).await?;
        end_sessions(work, id, EndReason::PasswordChanged).await?;
        api_tokens::revoke_all(work, &account).await?;
        work.record(entry("password.reset", &account));
        work.afterwards(move || tracing::info!(account = %id, "password reset"));
        Ok(())
    })
    .await
}

/// Changes the password of whoever asks, who has to know the one before. Its other sessions end, and
/// tokens that could set it again.
///
/// # Errors
/// [`Refused::NotFound`] for any other account, [`Error::InvalidField`], [`Error::Overloaded`].
pub async fn change(
    portal: &Portal,
    actor: &Actor,
    id: AccountId,
    current: Password,
    new: Password,
) -> Result<Account, Error> {
    let shown = Shown::by(portal, actor, id, "current_password", current).await?;
    let hash = passwords::choose("new_password", new, about(&shown.account)).await?;
    work::run(portal, actor, async |work| {
        let account = shown.counts(work).await?;
        set(work, id, &hash).await?;
        let session = match actor.account().map(|known| &known.credential) {
            Some(Credential::Session(session)) => Some(*session),
            Some(Credential::ApiToken(..)) | None => None,
        };
        end_sessions_but(work, id, session, EndReason::PasswordChanged).await?;
        db::password_resets::end(work.connection(), id).await?;
        work.record(entry("password.changed", &account));
        work.afterwards(move || tracing::info!(account = %id, "password changed"));
        accounts::found(work, id).await
    })
    .await
}

/// Somebody who has shown the password of its own account.
pub(super) struct Shown {
    /// The account.
    pub(super) account: Account,
    field: &'static str,
    proof: Proof,
}

impl Shown {
    /// Tries a password, which stands in `field` of a request.
    ///
    /// # Errors
    /// [`Refused::NotFound`] for any other account, [`Error::InvalidField`],
    /// [`Denied::SignInLocked`], [`Denied::TooManyAttempts`], [`Error::Overloaded`].
    pub(super) async fn by(
        portal: &Portal,
        actor: &Actor,
        id: AccountId,
        field: &'static str,
        password: Password,
    ) -> Result<Self, Error> {
        let account = accounts::own(portal, actor, id).await?;
        let proof = Proof::begin(portal, actor, &account).await?;
        match passwords::verify(Caller::Known, password, proof.password()).await? {
            Verdict::Right { .. } => Ok(Self {
                account,
                field,
                proof,
            }),
            Verdict::Wrong => {
                proof.failed(portal, actor, "wrong_password").await?;
                Err(wrong_password(field))
            }
        }
    }

    /// It counts, if the password of the account, which is locked from then on, is still the one that
    /// was shown.
    pub(super) async fn counts(&self, work: &mut Work<'_>) -> Result<Account, Error> {
        self.proof.counts(work).await?;
        let account = accounts::own_locked(work, self.account.id).await?;
        let same = account.password_set_at == self.proof.password_set_at();
        same.then_some(account).ok_or(wrong_password(self.field))
    }
}

async fn set(work: &mut Work<'_>, id: AccountId, hash: &PasswordHash) -> Result<(), Error> {
    let now = work.now;
    Ok(db::accounts::set_password(work.connection(), id, hash, now).await?)
}

/// What a password is judged by: what everybody knows of whose it is.
fn about(account: &Account) -> Vec<String> {
    vec![
        account.login.as_str().to_owned(),
        account.name.as_str().to_owned(),
    ]
}

const fn wrong_password(field: &'static str) -> Error {
    let (code, message) = ("wrong_password", "is not the password of the account");
    Error::InvalidField {
        field,
        reason: Invalid { code, message },
    }
}

/// Sets the password of an account that has none yet and was just created.
///
/// # Errors
/// [`Error::InvalidField`], [`Error::Overloaded`].
pub async fn set_first(
    work: &mut Work<'_>,
    account: &Account,
    password: Password,
) -> Result<(), Error> {
    let hash = passwords::choose("password", password, about(account)).await?;
    set(work, account.id, &hash).await?;
    work.record(entry("password.reset", account));
    Ok(())
}
