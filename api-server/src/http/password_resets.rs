//! Passwords of accounts: `/accounts/{account}/password`, `/accounts/{account}/reset` and
//! `/password-resets`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::accounts::{AccountBody, OfAccount};
use super::error::{ApiError, Problem};
use super::etag::{Tag, Tagged};
use super::extract::{Body, By};
use super::fields::{FieldError, Fields};
use super::once::{Answer, Once};
use super::openapi::{BodyProblems, ByHeader, IdProblems, OnceHeader, OnceProblems};
use super::texts::ResetTokenText;
use crate::clock::os_rng;
use crate::domain::password::Password;
use crate::services::password_resets::Issued;
use crate::services::{Portal, accounts, password_resets};

/// A change of one's own password. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it; `change` reads the fields")]
struct PasswordChangeBody {
    /// The one that counts now.
    #[schema(format = Password, min_length = 1, max_length = 128)]
    current_password: String,
    /// 12 to 128 characters, and hard to guess also for somebody who knows you.
    #[schema(
        format = Password,
        example = "correct horse battery staple",
        min_length = 12,
        max_length = 128
    )]
    new_password: String,
}

/// A password that is set by a token. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it; `redeem` reads the fields")]
struct PasswordResetBody {
    /// What an administrator got from `POST /accounts/{account}/reset`.
    token: ResetTokenText,
    /// 12 to 128 characters, and hard to guess also for somebody who knows you.
    #[schema(
        format = Password,
        example = "correct horse battery staple",
        min_length = 12,
        max_length = 128
    )]
    password: String,
}

/// What sets a password, once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct IssuedBody {
    /// Shown this once.
    #[schema(example = "pbxp_Yn2u0yJ3n8w1b5kqv4T7mZc6xR9sD2fGhJkLpQaWeEr")]
    pub token: String,
    /// Until when it is good.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl From<Issued> for IssuedBody {
    fn from(issued: Issued) -> Self {
        Self {
            token: issued.token.expose().to_owned(),
            expires_at: issued.expires_at,
        }
    }
}

/// Change your password
///
/// Ends all your other sessions; API tokens stay. There is no `Idempotency-Key`, because what is kept of a request
/// under a key would be easier to guess the password from than its own hash.
#[utoipa::path(
    post, path = "/accounts/{account}/password", tag = "accounts",
    operation_id = "change_password",
    params(("account" = String, Path, description = "Your own: its id, or `me`"), ByHeader),
    request_body = PasswordChangeBody,
    responses(
        (status = 200, description = "The account", body = AccountBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`account_not_found`: not your own",
            body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`sign_in_locked`, `too_many_attempts`, with `Retry-After`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn change(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    Body(fields): Body,
) -> Result<Response, ApiError> {
    let (current, new) = passwords(fields).map_err(ApiError::InvalidFields)?;
    let account = password_resets::change(&portal, &actor, id, current, new).await?;
    Ok(Tagged(Tag::version(account.version), AccountBody::from(account)).into_response())
}

fn passwords(mut fields: Fields) -> Result<(Password, Password), Vec<FieldError>> {
    let current = fields.required_text("current_password");
    let new = fields.required_text("new_password");
    fields.finish(current.zip(new))
}

/// Reset the password of an account
///
/// Makes a token that sets its password once, within a day, by `POST /password-resets`, in place of
/// the tokens that it had. The password stays until then.
#[utoipa::path(
    post, path = "/accounts/{account}/reset", tag = "accounts",
    operation_id = "issue_password_reset",
    params(("account" = String, Path, description = "Id"), ByHeader, OnceHeader),
    responses(
        (status = 200, description = "The token", body = IssuedBody,
            headers(
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`account_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`own_account`, `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        OnceProblems,
    )
)]
pub(super) async fn issue(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    once: Once,
) -> Result<Response, ApiError> {
    once.run(&portal, &actor, async |work| {
        let account = accounts::locked(work, id).await?;
        let issued = password_resets::issue(work, &account, &mut os_rng()).await?;
        Answer::new(StatusCode::OK, &IssuedBody::from(issued))
    })
    .await
}

/// Set a password by a token
///
/// For whoever was given one; nobody needs to be signed in. All sessions of the account end and all its
/// API tokens are revoked. A token whose password was refused is still good. There is no `Idempotency-Key`, because what is kept of a
/// request under a key would be easier to guess the password from than its own hash.
#[utoipa::path(
    post, path = "/password-resets", tag = "accounts", operation_id = "use_password_reset",
    params(ByHeader),
    request_body = PasswordResetBody,
    responses(
        (status = 204, description = "The password is set: sign in with it"),
        (status = 403, description = "`reset_refused`, `cross_site`",
            body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_attempts`, with `Retry-After`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn redeem(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    Body(mut fields): Body,
) -> Result<StatusCode, ApiError> {
    let token = fields.required_text("token");
    let password = fields.required_text("password");
    let given = fields.finish(token.zip(password));
    let (token, password) = given.map_err(ApiError::InvalidFields)?;
    password_resets::redeem(&portal, &actor, &token, password).await?;
    Ok(StatusCode::NO_CONTENT)
}
