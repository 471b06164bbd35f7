//! What it is called in HTTP that somebody may not.

use axum::http::StatusCode;

use super::Words;
use crate::domain::Permission;
use crate::http::error::Description;
use crate::services::denied::Denied;

pub(super) fn describe(denied: &Denied) -> Description {
    match denied {
        Denied::Unauthenticated => UNAUTHENTICATED.told(),
        Denied::Forbidden(permission) => forbidden(*permission),
        Denied::RoleAboveOwn => ROLE_ABOVE_OWN.told(),
        Denied::ResetRefused => RESET_REFUSED.told(),
        Denied::SessionNeeded => SESSION_NEEDED.told(),
        Denied::WrongCredentials => WRONG_CREDENTIALS.told(),
        Denied::SecondFactorRequired => SECOND_FACTOR_REQUIRED.told(),
        Denied::WrongCode => WRONG_CODE.told(),
        Denied::AccountSuspended => ACCOUNT_SUSPENDED.told(),
        Denied::SignInLocked { .. } => SIGN_IN_LOCKED.told(),
        Denied::TooManyAttempts { .. } => TOO_MANY_ATTEMPTS.told(),
        Denied::RefreshRefused => REFRESH_REFUSED.told(),
        Denied::RefreshReused => REFRESH_REUSED.told(),
        Denied::CrossSite => CROSS_SITE.told(),
        Denied::CsrfTokenNeeded => CSRF_TOKEN_NEEDED.told(),
        Denied::HostNotPermitted => HOST_NOT_PERMITTED.told(),
        Denied::UnknownBodyTooLarge => UNKNOWN_BODY_TOO_LARGE.told(),
    }
}

const HOST_NOT_PERMITTED: Words = Words(
    StatusCode::MISDIRECTED_REQUEST,
    "host_not_permitted",
    "Host not permitted",
    "Without sign-in the portal is served by its address, as localhost, or by a name that \
     TRUSTED_NETWORK_HOSTS lists.",
);

const UNKNOWN_BODY_TOO_LARGE: Words = Words(
    StatusCode::PAYLOAD_TOO_LARGE,
    "body_too_large",
    "Body too large",
    "From somebody who is not signed in, the body must be at most 8 KiB.",
);

const UNAUTHENTICATED: Words = Words(
    StatusCode::UNAUTHORIZED,
    "unauthenticated",
    "Not signed in",
    "Send an access token or an API token as Authorization: Bearer, or the cookie of a session; \
     POST /sessions signs in. What was sent has ended or was revoked, or there was nothing.",
);

const ROLE_ABOVE_OWN: Words = Words(
    StatusCode::FORBIDDEN,
    "role_above_own",
    "Role above one's own",
    "Nothing was changed: nobody gives a role that is above its own.",
);

const RESET_REFUSED: Words = Words(
    StatusCode::FORBIDDEN,
    "reset_refused",
    "Token refused",
    "Nothing was changed: the token was used before, its time is over, or another one took its \
     place. An administrator issues a new one: POST /accounts/{account}/reset.",
);

const SESSION_NEEDED: Words = Words(
    StatusCode::FORBIDDEN,
    "session_needed",
    "Session needed",
    "An API token cannot do this: sign in.",
);

const WRONG_CREDENTIALS: Words = Words(
    StatusCode::UNAUTHORIZED,
    "wrong_credentials",
    "Wrong login or password",
    "Nobody signs in with this login and this password. After some failures sign-in with the login \
     is locked for a while.",
);

const SECOND_FACTOR_REQUIRED: Words = Words(
    StatusCode::UNAUTHORIZED,
    "second_factor_required",
    "Second factor required",
    "Send the same again with `code`: six digits of the authenticator app, or a recovery code.",
);

const WRONG_CODE: Words = Words(
    StatusCode::UNAUTHORIZED,
    "wrong_code",
    "Wrong code",
    "The code is wrong, too old, or was used before: each is taken once. Wait for the app's next \
     one.",
);

const ACCOUNT_SUSPENDED: Words = Words(
    StatusCode::FORBIDDEN,
    "account_suspended",
    "Account suspended",
    "The account, its user or its tenant is suspended. An administrator can change that.",
);

const SIGN_IN_LOCKED: Words = Words(
    StatusCode::TOO_MANY_REQUESTS,
    "sign_in_locked",
    "Sign-in is locked",
    "There were too many failures with this login: nothing was tried. Try again after the time that \
     Retry-After says; an administrator can unlock it before.",
);

const TOO_MANY_ATTEMPTS: Words = Words(
    StatusCode::TOO_MANY_REQUESTS,
    "too_many_attempts",
    "Too many attempts",
    "This address tried to sign in too often: nothing was tried. Try again after the time that \
     Retry-After says.",
);

const REFRESH_REFUSED: Words = Words(
    StatusCode::UNAUTHORIZED,
    "refresh_refused",
    "Refresh token refused",
    "The refresh token is unknown or too old, or its session has ended: sign in again.",
);

const REFRESH_REUSED: Words = Words(
    StatusCode::UNAUTHORIZED,
    "refresh_reused",
    "Refresh token used before",
    "Each refresh token is used once, so somebody else has this one as well: the session was ended \
     for both. Sign in again.",
);

const CROSS_SITE: Words = Words(
    StatusCode::FORBIDDEN,
    "cross_site",
    "Sent by another site",
    "Nothing was done: the browser says that a page of another site sent this. A proxy in front of \
     the portal must hand on the Host that the browser asked for.",
);

const CSRF_TOKEN_NEEDED: Words = Words(
    StatusCode::FORBIDDEN,
    "csrf_token_needed",
    "CSRF token needed",
    "Nothing was done: a change by cookie needs the header X-CSRF-Token. Sign-in and GET \
     /sessions/current tell its value.",
);

fn forbidden(permission: Permission) -> Description {
    Description(
        StatusCode::FORBIDDEN,
        "forbidden",
        "Not permitted",
        format!(
            "It needs the permission {permission} ({}), which the account, or the API token, does \
             not have.",
            permission.meaning()
        ),
    )
}
