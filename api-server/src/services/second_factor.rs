//! The second factor of accounts: an app that shows codes (TOTP), and recovery codes in its place.

use rand::CryptoRng;
use serde_json::json;

use super::accounts::{self, Refused, entry, found, is_own};
use super::denied::Denied;
use super::password_resets::Shown;
use super::sign_in::Proof;
use super::tenants::refused_field;
use super::work::{self, Work};
use super::{Error, Portal};
use crate::db;
use crate::domain::account::Account;
use crate::domain::password::Password;
use crate::domain::recovery::RecoveryCode;
use crate::domain::totp::{Code, Enrolment, TotpCode, TotpSecret};
use crate::domain::{AccountId, Actor, Invalid};
use crate::vault::{OpenError, Place};

/// Takes a code of an account with a second factor; `false` when it is wrong, or was taken before.
/// Each time step and each recovery code is taken once, also of several at once. What was taken
/// counts with the work.
pub async fn check(work: &mut Work<'_>, account: AccountId, code: &Code) -> Result<bool, Error> {
    match code {
        Code::Totp(code) => check_totp(work, account, code).await,
        Code::Recovery(code) => {
            let now = work.now;
            let taken = db::recovery_codes::take(work.connection(), account, code, now).await?;
            if taken {
                let account = found(work, account).await?;
                let left = db::recovery_codes::left(work.connection(), account.id).await?;
                let after = json!({ "recovery_codes_left": left });
                work.record(entry("recovery_code.used", &account).changing(None, Some(after)));
            }
            Ok(taken)
        }
    }
}

async fn check_totp(
    work: &mut Work<'_>,
    account: AccountId,
    code: &TotpCode,
) -> Result<bool, Error> {
    let sealed = db::recovery_codes::totp_secret(work.connection(), account).await?;
    let Some(sealed) = sealed else {
        return Ok(false);
    };
    let opener = work.vault.opener(work.connection()).await?;
    let clear = opener.open(Place::TotpSecret(account), &sealed)?;
    // What is authentic was written by a portal, and those write secrets of this length.
    let secret = TotpSecret::from_bytes(&clear).ok_or(OpenError::Malformed)?;
    let Some(step) = secret.step_of(code, work.now) else {
        return Ok(false);
    };
    Ok(db::recovery_codes::take_step(work.connection(), account, step).await?)
}

/// Gives the account of whoever asks, which has no second factor, a fresh secret, which counts once it is
/// confirmed. The password is needed: a session that was stolen must not lock out whose it is.
///
/// # Errors
/// [`Refused::SecondFactorSet`], [`Refused::NotFound`] for any other account, [`Error::InvalidField`],
/// [`Denied`], [`Error::Overloaded`].
pub async fn begin(
    portal: &Portal,
    actor: &Actor,
    id: AccountId,
    password: Password,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Enrolment, Error> {
    let shown = Shown::by(portal, actor, id, "password", password).await?;
    work::run(portal, actor, async |work| {
        let account = shown.counts(work).await?;
        begun(work, &account, rng).await
    })
    .await
}

async fn begun(
    work: &mut Work<'_>,
    account: &Account,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Enrolment, Error> {
    if account.second_factor_at.is_some() {
        return Err(Refused::SecondFactorSet.into());
    }
    let secret = TotpSecret::generate(rng);
    let place = Place::TotpSecret(account.id);
    let seal = work.vault.sealer(work.connection()).await?;
    let sealed = seal.seal(place, secret.expose(), rng)?;
    db::recovery_codes::begin_totp(work.connection(), account.id, &sealed).await?;
    work.record(entry("totp.requested", account));
    secret
        .enrolment(&account.login)
        .map_err(|_| OpenError::Malformed.into())
}

/// From now on the account needs its second factor: its app has shown a right code.
///
/// # Errors
/// [`Refused::SecondFactorSet`], [`Refused::NoSecondFactor`] when none was begun,
/// [`Error::InvalidField`] for a wrong code.
pub async fn confirm(
    work: &mut Work<'_>,
    account: &Account,
    code: &Code,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Vec<RecoveryCode>, Error> {
    if account.second_factor_at.is_some() {
        return Err(Refused::SecondFactorSet.into());
    }
    let begun = db::recovery_codes::totp_secret(work.connection(), account.id).await?;
    begun.ok_or(Refused::NoSecondFactor)?;
    if !check(work, account.id, code).await? {
        return Err(wrong_code());
    }
    let now = work.now;
    db::recovery_codes::confirm_totp(work.connection(), account.id, now).await?;
    let codes = RecoveryCode::generate_set(rng);
    db::recovery_codes::replace(work.connection(), account.id, &codes).await?;
    work.record(entry("totp.confirmed", account));
    told(work, account, "second factor confirmed");
    Ok(codes)
}

/// The account needs no second factor any more: by whoever asks, of its own with the password, of
/// others with the permission.
///
/// # Errors
/// [`Refused::NoSecondFactor`], [`Refused::NotFound`], [`Denied`], [`Error::InvalidField`],
/// [`Error::Overloaded`].
pub async fn remove(
    portal: &Portal,
    actor: &Actor,
    id: AccountId,
    password: Option<Password>,
) -> Result<Account, Error> {
    let shown = match (is_own(actor, id), password) {
        (true, Some(password)) => {
            if !actor.has_session() {
                return Err(Denied::SessionNeeded.into());
            }
            Some(Shown::by(portal, actor, id, "password", password).await?)
        }
        (true, None) => return Err(refused_field("password", MISSING)),
        (false, Some(_)) => return Err(refused_field("password", NOT_WANTED)),
        (false, None) => None,
    };
    work::run(portal, actor, async |work| {
        let account = match &shown {
            Some(shown) => shown.counts(work).await?,
            None => accounts::locked(work, id).await?,
        };
        account.second_factor_at.ok_or(Refused::NoSecondFactor)?;
        let now = work.now;
        db::recovery_codes::remove_totp(work.connection(), id, now).await?;
        work.record(entry("totp.removed", &account));
        told(work, &account, "second factor removed");
        found(work, id).await
    })
    .await
}

const MISSING: Invalid = Invalid {
    code: "missing",
    message: "is required for one's own account",
};

const NOT_WANTED: Invalid = Invalid {
    code: "not_wanted",
    message: "is not asked for of somebody else's account: leave it out",
};

/// Lets the owner of an account show a code.
///
/// # Errors
/// [`Refused::NotFound`] for any other account, [`Denied::SignInLocked`],
/// [`Denied::TooManyAttempts`].
pub async fn proof(portal: &Portal, actor: &Actor, id: AccountId) -> Result<Proof, Error> {
    let account = accounts::own(portal, actor, id).await?;
    Proof::begin(portal, actor, &account).await
}

/// Puts fresh recovery codes in place of all that there were, for whoever has a code. A failure is the
/// caller's to count, because it leaves nothing of the work.
///
/// # Errors
/// [`Refused::NoSecondFactor`], [`Error::InvalidField`] for a wrong code, as [`is_wrong_code`] tells.
pub async fn replace_codes(
    work: &mut Work<'_>,
    id: AccountId,
    code: &Code,
    proof: &Proof,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Vec<RecoveryCode>, Error> {
    proof.counts(work).await?;
    let account = &accounts::own_locked(work, id).await?;
    account.second_factor_at.ok_or(Refused::NoSecondFactor)?;
    if !check(work, account.id, code).await? {
        return Err(wrong_code());
    }
    let codes = RecoveryCode::generate_set(rng);
    db::recovery_codes::replace(work.connection(), account.id, &codes).await?;
    work.record(entry("recovery_codes.replaced", account));
    told(work, account, "recovery codes replaced");
    Ok(codes)
}

const WRONG_CODE: Invalid = Invalid {
    code: "wrong_code",
    message: "is not right now, or was used before: wait for the next one",
};

const fn wrong_code() -> Error {
    refused_field("code", WRONG_CODE)
}

/// Whether it failed because of a wrong code.
pub fn is_wrong_code(error: &Error) -> bool {
    matches!(error, Error::InvalidField { reason, .. } if *reason == WRONG_CODE)
}

fn told(work: &mut Work<'_>, account: &Account, what: &'static str) {
    let (id, by) = (account.id, work.actor.admin.clone());
    work.afterwards(move || tracing::info!(account = %id, by = by.as_str(), "{what}"));
}
