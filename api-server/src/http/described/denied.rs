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
    }
}

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
