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

/// Many partial changes, likewise. For a preview, which keeps nothing, all PINs get the hash of one.
///
/// Nobody else is kept waiting for as long as that takes: others get their hashes in between, see
/// [`passwords::one_of_many`].
///
/// # Errors
/// As of [`of_new`].
pub async fn of_many(
    patches: Vec<UserPatch<VoicemailPin>>,
    preview: bool,
) -> Result<Vec<UserPatch>, Error> {
    if preview {
        return with_stand_in(patches).await;
    }
    let mut hashed = Vec::with_capacity(patches.len());
    let mut patches = patches.into_iter();
    while patches.len() > 0 {
        let some = patches.by_ref().take(SIDE_BY_SIDE).map(of_one_of_many);
        for patch in at_once(some).await {
            hashed.push(patch?);
        }
    }
    Ok(hashed)
}

async fn of_one_of_many(patch: UserPatch<VoicemailPin>) -> Result<UserPatch, Error> {
    let pin = match patch.calls.voicemail_pin.clone() {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(pin) => Patch::Set(hash_one_of_many(pin).await?),
    };
    Ok(patch.with_pin(pin))
}

async fn with_stand_in(patches: Vec<UserPatch<VoicemailPin>>) -> Result<Vec<UserPatch>, Error> {
    let mut pins = patches
        .iter()
        .filter_map(|patch| match &patch.calls.voicemail_pin {
            Patch::Set(pin) => Some(pin.clone()),
            Patch::Keep | Patch::Clear => None,
        });
    let stand_in = match pins.next() {
        Some(pin) => Patch::Set(hash_one_of_many(pin).await?),
        None => Patch::Keep,
    };
    drop(pins);
    let with_stand_in = |patch: UserPatch<VoicemailPin>| {
        let pin = match &patch.calls.voicemail_pin {
            Patch::Keep => Patch::Keep,
            Patch::Clear => Patch::Clear,
            Patch::Set(_) => stand_in.clone(),
        };
        patch.with_pin(pin)
    };
    Ok(patches.into_iter().map(with_stand_in).collect())
}

/// A partial change, likewise.
///
/// # Errors
/// As of [`of_new`].
pub async fn of_patch(patch: UserPatch<VoicemailPin>) -> Result<UserPatch, Error> {
    let pin = hashed(patch.calls.clone()).await?.voicemail_pin;
    Ok(patch.with_pin(pin))
}
