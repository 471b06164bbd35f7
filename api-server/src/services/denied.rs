//! Why somebody may not do what was asked.

use crate::domain::{Actor, Permission};

/// Whoever asks is not known, or may not.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// There are no credentials, or none that count now.
    #[error("not signed in")]
    Unauthenticated,
    /// The account does not hold the permission, or its API token does not go so far.
    #[error("not permitted: {0}")]
    Forbidden(Permission),
    /// An API token does not suffice for it.
    #[error("a session is needed")]
    SessionNeeded,
}

/// Requires a permission that not everybody who may carry out the operation has.
///
/// # Errors
/// [`Denied::Forbidden`].
pub fn must(actor: &Actor, permission: Permission) -> Result<(), Denied> {
    let permitted = actor.may(permission);
    permitted.then_some(()).ok_or(Denied::Forbidden(permission))
}
