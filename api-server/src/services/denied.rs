//! Why somebody may not do what was asked.

use crate::domain::Permission;

/// Whoever asks is not known, or may not.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// There are no credentials, or none that count now.
    #[error("not signed in")]
    Unauthenticated,
    /// The account does not hold the permission, or its API token does not go so far.
    #[error("not permitted: {0}")]
    Forbidden(Permission),
    /// Nobody gives a role above its own.
    #[error("a role above one's own")]
    RoleAboveOwn,
    /// The token sets no password: it was used, or its time is over, or there never was such a one.
    #[error("no such password reset")]
    ResetRefused,
    /// An API token does not suffice for it.
    #[error("a session is needed")]
    SessionNeeded,
}
