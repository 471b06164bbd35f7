//! Hashing of voicemail PINs: slow by design, so it is done apart from the threads that serve
//! requests, and by few at a time.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use tokio::sync::Semaphore;

use super::Error;
use crate::domain::calling::{CallSettingsPatch, PinHash, VoicemailPin};
use crate::domain::patch::Patch;
use crate::domain::user::{NewUser, UserPatch};

/// Each takes 19 MiB and some 20 ms of a core.
static TURNS: Semaphore = Semaphore::const_new(2);

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
    let _turn = TURNS.acquire().await;
    let work = move || {
        // Argon2id with the crate's parameters, which are OWASP's: 19 MiB, two passes.
        Argon2::default()
            .hash_password(pin.expose().as_bytes())
            .map(|hash| PinHash::new(hash.to_string()))
            .map_err(|_| Error::Hashing)
    };
    tokio::task::spawn_blocking(work).await?
}

/// A user to be created, with its PIN hashed. To be called before there is a transaction.
///
/// # Errors
/// The system has no random numbers or the task was lost.
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
