//! Why somebody may not do what was asked.

use std::time::Duration;

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
    /// Nobody gives a role above its own.
    #[error("a role above one's own")]
    RoleAboveOwn,
    /// The token sets no password: it was used, or its time is over, or there never was such a one.
    #[error("no such password reset")]
    ResetRefused,
    /// An API token does not suffice for it.
    #[error("a session is needed")]
    SessionNeeded,
    /// Login or password is wrong, or both.
    #[error("wrong login or password")]
    WrongCredentials,
    /// The password is right, and a second factor is needed.
    #[error("a second factor is needed")]
    SecondFactorRequired,
    /// The password is right, and the second factor is not.
    #[error("wrong code")]
    WrongCode,
    /// The password is right, but the account, its user or its tenant is out of force.
    #[error("the account is suspended")]
    AccountSuspended,
    /// There were too many failures with this login.
    #[error("sign-in is locked")]
    SignInLocked {
        /// For how long.
        wait: Duration,
    },
    /// The address tried too often.
    #[error("too many attempts to sign in")]
    TooManyAttempts {
        /// How long until it may try again.
        wait: Duration,
    },
    /// The refresh token is unknown or too old, or its session has ended.
    #[error("the refresh token is of no use")]
    RefreshRefused,
    /// The refresh token was used before.
    #[error("the refresh token was used before")]
    RefreshReused,
    /// A page of another site sent the request.
    #[error("sent by another site")]
    CrossSite,
    /// A request by cookie that changes something came without the token of the session.
    #[error("the CSRF token is missing or wrong")]
    CsrfTokenNeeded,
    /// Without sign-in, a request is for a name that is not served.
    #[error("the host is not permitted")]
    HostNotPermitted,
    /// A body is larger than that of somebody unknown may be.
    #[error("the body is too large for somebody unknown")]
    UnknownBodyTooLarge,
}

impl Denied {
    /// How long to wait before another attempt.
    pub const fn wait(&self) -> Option<Duration> {
        match self {
            Self::SignInLocked { wait } | Self::TooManyAttempts { wait } => Some(*wait),
            Self::Unauthenticated
            | Self::Forbidden(_)
            | Self::RoleAboveOwn
            | Self::ResetRefused
            | Self::SessionNeeded
            | Self::WrongCredentials
            | Self::SecondFactorRequired
            | Self::WrongCode
            | Self::AccountSuspended
            | Self::RefreshRefused
            | Self::RefreshReused
            | Self::CrossSite
            | Self::CsrfTokenNeeded
            | Self::HostNotPermitted
            | Self::UnknownBodyTooLarge => None,
        }
    }
}

/// Requires a permission that not everybody who may carry out the operation has.
///
/// # Errors
/// [`Denied::Forbidden`].
pub fn must(actor: &Actor, permission: Permission) -> Result<(), Denied> {
    let permitted = actor.may(permission);
    permitted.then_some(()).ok_or(Denied::Forbidden(permission))
}
