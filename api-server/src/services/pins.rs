//! Hashing of voicemail PINs, in turn with passwords.

use super::at_once::at_once;
use super::{Error, argon2id, passwords};
use crate::domain::calling::{CallSettingsPatch, PinHash, VoicemailPin};
use crate::domain::patch::Patch;
use crate::domain::user::{NewUser, UserPatch};

/// The settings with a hash in place of the PIN.
async fn hashed(
    calls: CallSettingsPatch<VoicemailPin>,
) -> Result<CallSettingsPatch<PinHash>, Error> {
    let pin = match calls.voicemail_pin.clone() {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(pin) => Patch::Set(hash(pin).await?),
    };
    Ok(calls.with_pin(pin))
}

async fn hash_one_of_many(pin: VoicemailPin) -> Result<PinHash, Error> {
    let hash = passwords::one_of_many(move || argon2id::hash(pin.expose())).await??;
    Ok(PinHash::new(hash))
}

async fn hash(pin: VoicemailPin) -> Result<PinHash, Error> {
    let hash = passwords::in_turn(move || argon2id::hash(pin.expose())).await??;
    Ok(PinHash::new(hash))
}

/// A user to be created, with its PIN hashed. To be called before there is a transaction.
///
/// # Errors
/// [`Error::Overloaded`], or the system has no random numbers.
pub async fn of_new(new: NewUser<VoicemailPin>) -> Result<NewUser, Error> {
    Ok(NewUser {
        name: new.name,
        email: new.email,
        extension: new.extension,
        status: new.status,
        role: new.role,
        calls: hashed(new.calls).await?,
        metadata: new.metadata,
    })
}

/// How many of one caller wait for their hash at once.
const SIDE_BY_SIDE: usize = 2;

/// Very many PINs, in their order. Nobody else is kept waiting for as long as that takes: others get their
/// hashes in between.
///
/// # Errors
/// The system has no random numbers.
pub async fn of_many(pins: Vec<VoicemailPin>) -> Result<Vec<PinHash>, Error> {
    let mut hashes = Vec::with_capacity(pins.len());
    let mut pins = pins.into_iter();
    while pins.len() > 0 {
        let some = pins.by_ref().take(SIDE_BY_SIDE).map(hash_one_of_many);
        for hash in at_once(some).await {
            hashes.push(hash?);
        }
    }
    Ok(hashes)
}

/// A partial change with the next of some hashes in place of its PIN, if it has one.
///
/// # Errors
/// [`Error::Hashing`]: there is none left.
pub fn with_next(
    patch: UserPatch<VoicemailPin>,
    hashes: &mut impl Iterator<Item = PinHash>,
) -> Result<UserPatch, Error> {
    let pin = match &patch.calls.voicemail_pin {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(_) => Patch::Set(hashes.next().ok_or(Error::Hashing)?),
    };
    Ok(patch.with_pin(pin))
}

/// A partial change, likewise.
///
/// # Errors
/// As of [`of_new`].
pub async fn of_patch(patch: UserPatch<VoicemailPin>) -> Result<UserPatch, Error> {
    let pin = hashed(patch.calls.clone()).await?.voicemail_pin;
    Ok(patch.with_pin(pin))
}
