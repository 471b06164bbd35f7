//! Hashing of voicemail PINs, in turn with passwords.

use super::{Error, passwords};
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

async fn hash(pin: VoicemailPin) -> Result<PinHash, Error> {
    let hash = passwords::in_turn(move || passwords::hashed(pin.expose())).await??;
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
        role: new.role,
        calls: hashed(new.calls).await?,
        metadata: new.metadata,
    })
}

/// A partial change, likewise.
///
/// # Errors
/// As of [`of_new`].
pub async fn of_patch(patch: UserPatch<VoicemailPin>) -> Result<UserPatch, Error> {
    Ok(UserPatch {
        name: patch.name,
        email: patch.email,
        extension: patch.extension,
        status: patch.status,
        role: patch.role,
        calls: hashed(patch.calls).await?,
        metadata: patch.metadata,
    })
}
