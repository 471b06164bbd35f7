//! `/apply` and `/applies`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::bundle::ApplyId;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::extract::{By, Id, OptionalBody};
use super::fields::{FieldError, Fields};
use super::openapi::{ApplyProblems, IdProblems, QueryProblems};
use super::prefer::{PREFERENCE_APPLIED, Preferred, RESPOND_ASYNC};
use super::query::{Query, limit, pbx};
use crate::domain::apply::{Attempt, AttemptOutcome, Wish};
use crate::domain::pbx::{DEFAULT_PBX, PbxRef};
use crate::domain::{Actor, Invalid, PbxId};
use crate::services::apply::{OfPbx, Until};
use crate::services::pbxes::{self, Pbx};
use crate::services::{Portal, applies, apply};

mod body;

pub(super) use body::{
    AppliedBody, ApplyBody, FailureBody, MismatchBody, PbxApplyBody, StepBody, milliseconds,
};

/// How to apply. Fields of other names are refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document shows it; `wish` reads the fields")]
pub(super) struct ApplyRequestBody {
    /// The id or the name of a PBX: only that one is applied. When absent, every PBX that has
    /// changes is; all of them when none has.
    pbx: Option<String>,
    /// What happens when the files are in place but Asterisk does not hold what they say:
    /// `roll_back` to the last proven configuration, or `keep_new_files` for investigation. The
    /// portal's setting when absent.
    on_reload_failure: Option<PolicyBody>,
    /// The digest that a preview showed: when the data says something else by now, nothing happens
    /// and the answer is 412. When there are several PBXes, `pbx` must be named with it.
    expected_digest: Option<String>,
    /// Lets an agent in safe mode, whose state directory is damaged, set aside what is damaged and
    /// go on. The files on the PBX host are then replaced whatever they are; a copy is kept. Without
    /// safe mode it changes nothing.
    force: Option<bool>,
}

/// How to restore. Fields of other names are refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document shows it; `wish` reads the fields")]
pub(super) struct RestoreRequestBody {
    /// As of `POST /apply`.
    on_reload_failure: Option<PolicyBody>,
    /// The digest of the revision that is to be brought back, as `GET /revisions` shows it: when its
    /// stored bundle has another one, nothing happens and the answer is 412.
    expected_digest: Option<String>,
    /// As of `POST /apply`.
    force: Option<bool>,
}

/// What happens when Asterisk does not take the new files.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it; `wish` reads the fields")]
enum PolicyBody {
    RollBack,
    KeepNewFiles,
}

/// Bring the users into force on their PBX
///
/// Renders the configuration of every user, hands it to the agent on the PBX host, which puts the
/// files in place, reloads Asterisk and reads back what Asterisk holds. 200 means that this is
/// proven. Applies of a PBX run one after another. A client that goes away does not end it.
///
/// Of several PBXes, every one that has changes is applied, at the same time and each for itself:
/// the failure of one holds up no other. `applies` tells of each, also in a problem. The attempt
/// itself, and the status, are of the first that failed, by name; otherwise of the default PBX, or
/// the first that was applied.
///
/// With `Prefer: respond-async` (RFC 7240) the answer is 202 as soon as the attempt stands in line:
/// `GET /applies/{id}` and `GET /applies/{id}/events` tell what becomes of it.
#[utoipa::path(
    post, path = "/apply", tag = "applies", operation_id = "apply",
    params(
        ("X-Admin-User" = Option<String>, Header, description = "Who asks; `anonymous` when absent"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the end"),
    ),
    request_body(content = Option<ApplyRequestBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "`applied` or `unchanged`", body = AppliedBody),
        (status = 202, description = "Accepted with `Prefer: respond-async`; it waits for its turn",
            body = AppliedBody, headers(
                ("Location" = String, description = "Where the attempt can be looked up"),
                ("Preference-Applied" = String, description = "`respond-async`"),
            )),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`apply_busy`: waited too long for another apply",
            body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`preview_outdated`: the data is not what `expected_digest` \
            names; nothing happened",
            body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The PBX did not take it: `apply_rejected`, \
            `apply_write_failed`, `apply_reload_failed_files_kept`, `apply_rolled_back`, \
            `apply_rollback_failed`, `apply_interrupted`, `agent_refused`",
            body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`apply_reload_unknown`: Asterisk did not answer",
            body = Problem, content_type = "application/problem+json"),
        ApplyProblems,
    )
)]
pub(super) async fn run(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    preferred: Preferred,
    OptionalBody(fields): OptionalBody,
) -> Result<Response, ApiError> {
    let mut fields = fields;
    let pbx = fields.or_default("pbx", pbx);
    let wish = wish(fields, pbx).map_err(ApiError::InvalidFields);
    let (wish, pbx) = wish?;
    let until = if preferred.respond_async {
        Until::InLine
    } else {
        Until::TheEnd
    };
    let all = apply::run_several(&portal, &actor, wish, pbx.as_ref(), until).await?;
    several(all)
}

/// Waits for the end, or answers as soon as the attempt stands in line.
pub(super) async fn carry_out(
    portal: Arc<Portal>,
    pbx: Arc<Pbx>,
    actor: Actor,
    preferred: Preferred,
    wish: Wish,
) -> Result<Response, ApiError> {
    if preferred.respond_async {
        let attempt = apply::accept(portal, pbx, actor, wish).await?;
        return Ok(accepted(attempt.id, ApplyBody::from(attempt)));
    }
    let attempt = apply::run_to_the_end(portal, pbx, actor, wish).await?;
    answer(attempt).map(IntoResponse::into_response)
}

/// 200 only for what is proven.
fn answer(attempt: Attempt) -> Result<Json<ApplyBody>, ApiError> {
    good(attempt).map(|attempt| Json(attempt.into()))
}

/// An attempt that is proven, or stands in line.
fn good(attempt: Attempt) -> Result<Attempt, ApiError> {
    if attempt.outcome.is_proven() || attempt.outcome == AttemptOutcome::Queued {
        Ok(attempt)
    } else {
        Err(ApiError::NotApplied(Box::new(attempt)))
    }
}

fn accepted(id: ApplyId, body: impl Serialize) -> Response {
    let location = format!("/applies/{id}");
    let headers = [
        (LOCATION, location.as_str()),
        (PREFERENCE_APPLIED, RESPOND_ASYNC),
    ];
    (StatusCode::ACCEPTED, headers, Json(body)).into_response()
}

/// The first that failed; otherwise that of the default PBX, or the first.
fn several(all: Vec<OfPbx>) -> Result<Response, ApiError> {
    let applies: Vec<PbxApplyBody> = all.iter().map(PbxApplyBody::from).collect();
    let mut first: Option<(PbxId, Attempt)> = None;
    for OfPbx { id, attempt, .. } in all {
        let Some(attempt) = attempt else { continue };
        let attempt = match attempt.map_err(ApiError::from).and_then(good) {
            Ok(attempt) => attempt,
            Err(error) => return Err(ApiError::OfSeveral(Box::new(error), applies)),
        };
        if first.is_none() || id == DEFAULT_PBX {
            first = Some((id, attempt));
        }
    }
    // There is always the default PBX, and always one that is not left alone.
    let (_, attempt) = first.ok_or(ApiError::Panicked)?;
    let (id, queued) = (attempt.id, attempt.outcome == AttemptOutcome::Queued);
    let apply = ApplyBody::from(attempt);
    let body = AppliedBody { apply, applies };
    Ok(if queued {
        accepted(id, body)
    } else {
        Json(body).into_response()
    })
}

/// What is wished for, together with what else was read of the body.
pub(super) fn wish<T>(mut fields: Fields, other: Option<T>) -> Result<(Wish, T), Vec<FieldError>> {
    let on_reload_failure = fields.or_default("on_reload_failure", |value| {
        serde_json::from_value(value)
            .map(Some)
            .map_err(|_| Invalid {
                code: "malformed",
                message: "must be \"roll_back\" or \"keep_new_files\"",
            })
    });
    let expected_digest = fields.or_default("expected_digest", |value| {
        serde_json::from_value(value)
            .map(Some)
            .map_err(|_| Invalid {
                code: "malformed",
                message: "must be the digest of a bundle: 64 hexadecimal digits",
            })
    });
    let force = fields.or_default("force", |value| {
        value.as_bool().ok_or(Invalid {
            code: "malformed",
            message: "must be true or false",
        })
    });
    let wish = on_reload_failure.zip(expected_digest).zip(force).map(
        |((on_reload_failure, expected_digest), force)| Wish {
            on_reload_failure,
            expected_digest,
            force,
            restore: None,
        },
    );
    fields.finish(wish.zip(other))
}

/// List the attempts to apply
///
/// The audit trail, the newest first. Every attempt is there, also one that failed before it
/// reached the PBX.
#[utoipa::path(
    get, path = "/applies", tag = "applies", operation_id = "list_applies",
    params(
        ("limit" = Option<u16>, Query, description = "1 to 200; 50 when absent",
            minimum = 1, maximum = 200),
        ("before" = Option<Uuid>, Query, description = "Only attempts older than this one"),
        ("pbx" = Option<String>, Query, description = "Only those of the PBX of this id or name"),
    ),
    responses(
        (status = 200, description = "The attempts", body = [ApplyBody]),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    Query(fields): Query,
) -> Result<Json<Vec<ApplyBody>>, ApiError> {
    let ((before, limit), pbx) = page(fields).map_err(ApiError::InvalidFields)?;
    let pbx = match &pbx {
        Some(pbx) => Some(pbxes::id_of(&portal, pbx).await?),
        None => None,
    };
    let attempts = applies::list(&portal, pbx, before, limit).await?;
    Ok(Json(attempts.into_iter().map(ApplyBody::in_list).collect()))
}

type Page = ((Option<ApplyId>, u16), Option<PbxRef>);

fn page(mut fields: Fields) -> Result<Page, Vec<FieldError>> {
    let before = fields.or_default("before", |value| {
        let id = value.as_str().and_then(|text| Uuid::try_parse(text).ok());
        id.map(|id| Some(ApplyId(id))).ok_or(Invalid {
            code: "malformed",
            message: "must be the id of an apply",
        })
    });
    let limit = limit(&mut fields);
    let pbx = fields.or_default("pbx", pbx);
    fields.finish(before.zip(limit).zip(pbx))
}

/// Show one attempt to apply
///
/// With every step and the users it included.
#[utoipa::path(
    get, path = "/applies/{id}", tag = "applies", operation_id = "get_apply",
    params(("id" = Uuid, Path, description = "The attempt")),
    responses(
        (status = 200, description = "The attempt", body = ApplyBody),
        (status = 404, description = "`apply_not_found`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    Id(id): Id,
) -> Result<Json<ApplyBody>, ApiError> {
    let attempt = applies::get(&portal, ApplyId(id)).await?;
    Ok(Json(attempt.into()))
}

#[cfg(test)]
mod tests {
    use shared::record::OnReloadFailure;

    use super::*;
    use crate::http::query::read;

    #[test]
    fn pages() {
        assert_eq!(page(read("")).unwrap(), ((None, 50), None));
        assert_eq!(page(read("limit=200")).unwrap().0.1, 200);
        assert!(page(read("pbx=default")).unwrap().1.is_some());
        for bad in [
            ("limit", "0"),
            ("limit", "201"),
            ("limit", "x"),
            ("before", "x"),
            ("pbx", "A B"),
            ("x", "1"),
        ] {
            let query = format!("{}={}", bad.0, bad.1);
            assert_eq!(page(read(&query)).unwrap_err()[0].field, bad.0);
        }
    }

    #[test]
    fn wishes() {
        let read = |text: &str| {
            let mut fields = Fields::new(serde_json::from_str(text).unwrap());
            let pbx = fields.or_default("pbx", pbx);
            wish(fields, pbx)
        };
        assert_eq!(read("{}").unwrap(), (Wish::default(), None));
        let digest = "0f".repeat(32);
        let all = format!(
            r#"{{"on_reload_failure": "keep_new_files", "expected_digest": "{digest}", "force": true, "pbx": "b"}}"#
        );
        let (wish, pbx) = read(&all).unwrap();
        assert_eq!(pbx, Some("b".parse().unwrap()));
        assert_eq!(wish.on_reload_failure, Some(OnReloadFailure::KeepNewFiles));
        assert_eq!(wish.expected_digest.unwrap().to_string(), digest);
        assert!(wish.force);
        for bad in [
            r#"{"on_reload_failure": "x"}"#,
            r#"{"on_reload_failure": 1}"#,
            r#"{"expected_digest": "0f"}"#,
            r#"{"force": "yes"}"#,
            r#"{"y": 1}"#,
            r#"{"pbx": 1}"#,
            r#"{"pbx": "A"}"#,
        ] {
            assert_eq!(read(bad).unwrap_err().len(), 1, "{bad}");
        }
    }
}
