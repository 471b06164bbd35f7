//! What it is called in HTTP that something is not done to an account or its tokens.

use axum::http::StatusCode;

use super::Words;
use crate::http::error::Description;
use crate::services::accounts::Refused;

pub(super) fn describe(refused: Refused) -> Description {
    match refused {
        Refused::NotFound => NOT_FOUND,
        Refused::LoginTaken => LOGIN_TAKEN,
        Refused::UserHasAccount => USER_HAS_ACCOUNT,
        Refused::LastPlatformAdmin => LAST_PLATFORM_ADMIN,
        Refused::OwnAccount => OWN_ACCOUNT,
        Refused::SecondFactorSet => SECOND_FACTOR_SET,
        Refused::NoSecondFactor => NO_SECOND_FACTOR,
        Refused::TokenNotFound => TOKEN_NOT_FOUND,
        Refused::TokenNameTaken => TOKEN_NAME_TAKEN,
        Refused::TooManyTokens => TOO_MANY_TOKENS,
    }
    .told()
}

const NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "account_not_found",
    "Account not found",
    "There is no account with this id, or it was deleted. `me` is that of whoever has signed in; in \
     trusted-network mode nobody has.",
);

const LOGIN_TAKEN: Words = Words(
    StatusCode::CONFLICT,
    "login_taken",
    "Login taken",
    "Another account has this login. Logins are unique in the whole portal.",
);

const USER_HAS_ACCOUNT: Words = Words(
    StatusCode::CONFLICT,
    "user_has_account",
    "User has an account",
    "The user can sign in already: a user has one account.",
);

const LAST_PLATFORM_ADMIN: Words = Words(
    StatusCode::CONFLICT,
    "last_platform_admin",
    "Last platform administrator",
    "Nothing was changed: it is the last active account that administers the platform. Make another \
     one first.",
);

const OWN_ACCOUNT: Words = Words(
    StatusCode::CONFLICT,
    "own_account",
    "One's own account",
    "Nothing was changed: nobody suspends, demotes, moves, resets or deletes its own account. Another \
     administrator does that; POST /accounts/me/password changes one's password.",
);

const SECOND_FACTOR_SET: Words = Words(
    StatusCode::CONFLICT,
    "second_factor_set",
    "Second factor set",
    "The account has a second factor. Remove it first: POST /accounts/{account}/totp/remove.",
);

const NO_SECOND_FACTOR: Words = Words(
    StatusCode::CONFLICT,
    "no_second_factor",
    "No second factor",
    "The account has no second factor. POST /accounts/{account}/totp begins with one.",
);

const TOKEN_NOT_FOUND: Words = Words(
    StatusCode::NOT_FOUND,
    "api_token_not_found",
    "API token not found",
    "The account has no API token with this id, or it was revoked.",
);

const TOKEN_NAME_TAKEN: Words = Words(
    StatusCode::CONFLICT,
    "api_token_name_taken",
    "Name taken",
    "Another API token of the account has this name. It is free once that one is revoked.",
);

const TOO_MANY_TOKENS: Words = Words(
    StatusCode::CONFLICT,
    "too_many_api_tokens",
    "Too many API tokens",
    "An account has at most 100 API tokens. Revoke one first.",
);
