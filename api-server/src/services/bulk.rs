//! Many users or devices in one unit of work: each is compared with what is there, and created, changed
//! or left alone. What is refused is undone alone, so that whoever asks hears of all of it at once and
//! decides then whether the rest counts.

pub mod declaration;
pub mod devices;
pub mod export;
pub mod users;

use serde_json::Value;
use uuid::Uuid;

use super::accounts::Refused;
use super::denied::Denied;
use super::devices::Credentials;
use super::work::{Savepoint, Work};
use super::{Error, Portal};
use crate::domain::bulk::{FieldChange, Outcome, changed_fields};
use crate::domain::{Actor, ExtensionNumber, Invalid};

/// How many entries are looked up at a time.
const LOOKED_UP: usize = 500;

/// What became of one of many.
#[derive(Debug)]
pub struct Done {
    /// What.
    pub outcome: Outcome,
    /// Which user or device.
    pub id: Uuid,
    /// What people know it by: the address of a user; that of the owner, and the label, of a device.
    pub key: String,
    /// The number of the user, or of the device's; a tenant has none.
    pub extension: Option<ExtensionNumber>,
    /// What was changed, or what something new is.
    pub changes: Vec<FieldChange>,
    /// What a phone registers with that was created.
    pub credentials: Option<Credentials>,
}

/// What became of each of many, in their order.
pub type Results = Vec<Result<Done, Error>>;

/// Carries out `task` to find out what it would do, and undoes it.
pub async fn preview<T, E: From<Error>>(
    portal: &Portal,
    actor: &Actor,
    task: impl AsyncFnOnce(&mut Work<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut work = Work::begin(portal, actor).await?;
    task(&mut work).await
}

/// What is wrong with what was asked, as opposed to what is wrong with the portal: the others go on.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidField { .. }
            | Error::EmailTaken
            | Error::ExtensionTaken
            | Error::ExtensionPoolExhausted { .. }
            | Error::TooManyDevices
            | Error::RangeInUse
            | Error::DefaultTenantFixed
            | Error::UserNotFound
            | Error::DeviceNotFound
            | Error::Denied(Denied::Forbidden(_) | Denied::RoleAboveOwn)
            | Error::Account(Refused::OwnAccount | Refused::LastPlatformAdmin)
    )
}

/// Keeps what was done since the savepoint, or undoes it when it was refused.
///
/// # Errors
/// What is no refusal: then nothing of the whole counts.
async fn settle<T>(
    work: &mut Work<'_>,
    savepoint: Savepoint,
    result: Result<T, Error>,
) -> Result<Result<T, Error>, Error> {
    match result {
        Ok(done) => {
            work.release(savepoint).await?;
            Ok(Ok(done))
        }
        Err(error) if is_refusal(&error) => {
            work.undo(savepoint).await?;
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}

/// What differs between two states of something, as the audit trail tells them.
fn differences(before: &Value, after: &Value) -> (Outcome, Vec<FieldChange>) {
    let changes = changed_fields(before, after);
    let outcome = if changes.is_empty() {
        Outcome::Unchanged
    } else {
        Outcome::Changed
    };
    (outcome, changes)
}

/// The same entity stands twice in what was sent.
const fn repeated(field: &'static str) -> Error {
    let reason = Invalid {
        code: "repeated",
        message: "stands above already",
    };
    Error::InvalidField { field, reason }
}

const fn missing(field: &'static str) -> Error {
    let reason = Invalid {
        code: "missing",
        message: "is required to create one",
    };
    Error::InvalidField { field, reason }
}
