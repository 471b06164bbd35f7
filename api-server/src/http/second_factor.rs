//! The second factor: `/accounts/{account}/totp…` and `/accounts/{account}/recovery-codes`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::accounts::{AccountBody, OfAccount};
use super::error::{ApiError, Problem};
use super::etag::{Tag, Tagged};
use super::extract::{Body, By, OptionalBody};
use super::fields::text;
use super::once::{Answer, Once};
use super::openapi::{BodyProblems, ByHeader, OnceHeader, OnceProblems};
use super::texts::CodeText;
use crate::clock::os_rng;
use crate::domain::password::Password;
use crate::domain::recovery::RecoveryCode;
use crate::domain::totp::{Code, Enrolment};
use crate::services::work::Work;
use crate::services::{Portal, accounts, second_factor};

/// How an app comes to know the secret.
#[derive(Serialize, ToSchema)]
pub(super) struct EnrolmentBody {
    /// Shown this once: in base32, to be typed.
    #[schema(example = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")]
    secret: String,
    /// The same, to be shown as a QR code.
    #[schema(example = "otpauth://totp/PBX%20portal:ann?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")]
    otpauth_uri: String,
}

impl From<Enrolment> for EnrolmentBody {
    fn from(enrolment: Enrolment) -> Self {
        Self {
            secret: enrolment.secret.expose_secret().to_owned(),
            otpauth_uri: enrolment.uri.expose_secret().to_owned(),
        }
    }
}

/// A code. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it")]
struct CodeBody {
    /// Of the app, or where there are any, a recovery code.
    code: CodeText,
}

/// What leads in when the app is lost.
#[derive(Serialize, ToSchema)]
pub(super) struct RecoveryCodesBody {
    /// Each is taken once. Shown this once.
    #[schema(example = json!(["abcd-efgh-ijkl-mnop"]))]
    recovery_codes: Vec<String>,
}

impl From<Vec<RecoveryCode>> for RecoveryCodesBody {
    fn from(codes: Vec<RecoveryCode>) -> Self {
        let recovery_codes = codes.iter().map(RecoveryCode::expose).collect();
        Self { recovery_codes }
    }
}

/// How a second factor is removed. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it; `remove` reads the field")]
struct RemovalBody {
    /// Of one's own account, whose password is needed; not of others.
    #[schema(format = Password, min_length = 1, max_length = 128)]
    password: Option<String>,
}

/// What it takes to begin with a second factor. Fields of other names are refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document shows it; `begin` reads the field")]
struct BeginningBody {
    /// That of the account: who has its session must not lock its owner out.
    #[schema(format = Password, min_length = 1, max_length = 128)]
    password: String,
}

/// Begin with a second factor
///
/// Makes a secret for an authenticator app. It counts once `POST /accounts/{account}/totp/confirm` has
/// shown that the app knows it; until then, beginning again makes another one. There is no
/// `Idempotency-Key`, because what is kept of a request under a key would be easier to guess the
/// password from than its own hash.
#[utoipa::path(
    post, path = "/accounts/{account}/totp", tag = "accounts", operation_id = "begin_totp",
    params(("account" = String, Path, description = "Your own: its id, or `me`"), ByHeader),
    request_body = BeginningBody,
    responses(
        (status = 200, description = "The secret", body = EnrolmentBody),
        (status = 404, description = "`account_not_found`: not your own",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`second_factor_set`",
            body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`sign_in_locked`, `too_many_attempts`, with `Retry-After`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn begin(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    Body(mut fields): Body,
) -> Result<Json<EnrolmentBody>, ApiError> {
    let password = fields.required_text("password");
    let password = fields.finish(password).map_err(ApiError::InvalidFields)?;
    let begun = second_factor::begin(&portal, &actor, id, password, &mut os_rng()).await?;
    Ok(Json(begun.into()))
}

/// Confirm a second factor
///
/// From now on signing in needs a code. Answers the recovery codes, shown this once.
#[utoipa::path(
    post, path = "/accounts/{account}/totp/confirm", tag = "accounts",
    operation_id = "confirm_totp",
    params(
        ("account" = String, Path, description = "Your own: its id, or `me`"), ByHeader, OnceHeader,
    ),
    request_body = CodeBody,
    responses(
        (status = 200, description = "The recovery codes", body = RecoveryCodesBody,
            headers(
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`account_not_found`: not your own",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`second_factor_set`, `no_second_factor`, \
            `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        OnceProblems,
    )
)]
pub(super) async fn confirm(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    once: Once,
    Body(mut fields): Body,
) -> Result<Response, ApiError> {
    let code = fields.required_text::<Code>("code");
    let code = fields.finish(code).map_err(ApiError::InvalidFields)?;
    once.run(&portal, &actor, async |work| {
        let account = accounts::own_locked(work, id).await?;
        let codes = second_factor::confirm(work, &account, &code, &mut os_rng()).await?;
        Answer::new(StatusCode::OK, &RecoveryCodesBody::from(codes))
    })
    .await
}

/// Make new recovery codes
///
/// In place of all that there were. Needs a code of the app, or one of those that are left.
#[utoipa::path(
    post, path = "/accounts/{account}/recovery-codes", tag = "accounts",
    operation_id = "replace_recovery_codes",
    params(
        ("account" = String, Path, description = "Your own: its id, or `me`"), ByHeader, OnceHeader,
    ),
    request_body = CodeBody,
    responses(
        (status = 200, description = "The recovery codes", body = RecoveryCodesBody,
            headers(
                ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
            )),
        (status = 404, description = "`account_not_found`: not your own",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`no_second_factor`, `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`sign_in_locked`, `too_many_attempts`, with `Retry-After`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        OnceProblems,
    )
)]
pub(super) async fn replace_codes(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    once: Once,
    Body(mut fields): Body,
) -> Result<Response, ApiError> {
    let code = fields.required_text::<Code>("code");
    let code = fields.finish(code).map_err(ApiError::InvalidFields)?;
    let proof = second_factor::proof(&portal, &actor, id).await?;
    let task = async |work: &mut Work<'_>| {
        let codes = second_factor::replace_codes(work, id, &code, &proof, &mut os_rng()).await?;
        Answer::new(StatusCode::OK, &RecoveryCodesBody::from(codes))
    };
    let done = once.run(&portal, &actor, task).await;
    if let Err(ApiError::Service(error)) = &done
        && second_factor::is_wrong_code(error)
    {
        proof.failed(&portal, &actor, "wrong_code").await?;
    }
    done
}

/// Remove a second factor
///
/// One's own with the password; that of somebody who has lost it with the permission. There is no
/// `Idempotency-Key`, because what is kept of a request under a key would be easier to guess the
/// password from than its own hash.
#[utoipa::path(
    post, path = "/accounts/{account}/totp/remove", tag = "accounts", operation_id = "remove_totp",
    params(("account" = String, Path, description = "Id, or `me`"), ByHeader),
    request_body(content = Option<RemovalBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "The account", body = AccountBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 403, description = "`session_needed`",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`account_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`no_second_factor`",
            body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`sign_in_locked`, `too_many_attempts`, with `Retry-After`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn remove(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    OfAccount(id): OfAccount,
    OptionalBody(mut fields): OptionalBody,
) -> Result<Response, ApiError> {
    let password = fields.optional("password", text::<Password>);
    let password = fields.finish(password).map_err(ApiError::InvalidFields)?;
    let account = second_factor::remove(&portal, &actor, id, password).await?;
    Ok(Tagged(Tag::version(account.version), AccountBody::from(account)).into_response())
}
