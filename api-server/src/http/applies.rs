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

use super::audit::CarriedBody;
use super::error::{ApiError, Problem};
use super::etag::TaggedByContent;
use super::extract::{AsSeen, By, Id, OptionalBody};
use super::fields::{FieldError, Fields};
use super::once::Once;
use super::openapi::{
    ApplyProblems, ByHeader, IdProblems, NoneMatchHeader, NotModified, OnceHeader, OnceProblems,
    QueryProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed, Takes, Wanted};
use super::prefer::{PREFERENCE_APPLIED, Preferred, RESPOND_ASYNC};
use super::query::pbx;
use super::texts::{DigestText, PbxRefText};
use crate::domain::apply::{ApplyFilter, ApplySort, Attempt, AttemptOutcome, Wish};
use crate::domain::page::SortKey;
use crate::domain::pbx::DEFAULT_PBX;
use crate::domain::viewer::Seen as _;
use crate::domain::{Actor, Invalid, PbxId};
use crate::services::apply::{OfPbx, Until};
use crate::services::{Error, Portal, applies, apply, audit, restore};

mod body;

pub(super) use body::milliseconds;
pub use body::{
    AppliedBody, ApplyBody, FailureBody, FileBody, IncludedUserBody, MismatchBody, PbxApplyBody,
    ShownApplyBody, StepBody,
};

/// How to apply. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it; `wish` reads the fields")]
pub(super) struct ApplyRequestBody {
    /// The id or the name of a PBX: only that one is applied. When absent, every PBX that has
    /// changes is; all of them when none has.
    pbx: Option<PbxRefText>,
    /// What happens when the files are in place but Asterisk does not hold what they say:
    /// `roll_back` to the last proven configuration, or `keep_new_files` for investigation. The
    /// portal's setting when absent. `keep_new_files` needs `applies.force`.
    on_reload_failure: Option<PolicyBody>,
    /// The digest that a preview showed: when the data says something else by now, nothing happens
    /// and the answer is 412. When there are several PBXes, `pbx` must be named with it.
    expected_digest: Option<DigestText>,
    /// Lets an agent in safe mode, whose state directory is damaged, set aside what is damaged and
    /// go on. The files on the PBX host are then replaced whatever they are; a copy is kept. Without
    /// safe mode it changes nothing. Needs `applies.force`.
    force: Option<bool>,
}

/// How to restore. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it; `wish` reads the fields")]
pub(super) struct RestoreRequestBody {
    /// As of `POST /apply`.
    on_reload_failure: Option<PolicyBody>,
    /// The digest of the revision that is to be brought back, as `GET /revisions` shows it: when its
    /// stored bundle has another one, nothing happens and the answer is 412.
    expected_digest: Option<DigestText>,
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
/// the first that was applied. Whoever is confined to a tenant applies the PBX of that one.
///
/// With `Prefer: respond-async` (RFC 7240) the answer is 202 as soon as the attempt stands in line:
/// `GET /applies/{id}` and `GET /applies/{id}/events` tell what becomes of it.
#[utoipa::path(
    post, path = "/apply", tag = "applies", operation_id = "apply",
    params(
        ByHeader, OnceHeader,
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
        (status = 409, description = "`apply_busy`: waited too long for another apply; \
            `idempotency_key_in_use`",
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
        OnceProblems,
        ApplyProblems,
    )
)]
pub(super) async fn run(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    AsSeen(viewer): AsSeen,
    preferred: Preferred,
    once: Once,
    OptionalBody(fields): OptionalBody,
) -> Result<Response, ApiError> {
    let mut fields = fields;
    let pbx = fields.or_default("pbx", pbx);
    let (wish, pbx) = wish(fields, pbx).map_err(ApiError::InvalidFields)?;
    apply::permit(&actor, &wish).map_err(Error::from)?;
    let (own, by, until) = (Arc::clone(&portal), actor.clone(), preferred.until());
    let task = move |root| async move {
        let wish = Wish { root, ..wish };
        let all = apply::run_several(&own, (&by, viewer), wish, pbx, until).await?;
        several(all, until)
    };
    let remake = |attempts: Vec<Attempt>| {
        let attempts = attempts.into_iter().map(OfPbx::from);
        let all = attempts.map(|of| of.seen_by(viewer)).collect();
        several(begun(all, until)?, until)
    };
    once.run_slowly(portal, actor, task, remake).await
}

/// What a request had begun whose portal died: answered when it has ended, or stands in line for
/// somebody who does not wait.
fn begun(all: Vec<OfPbx>, until: Until) -> Result<Vec<OfPbx>, ApiError> {
    let ended =
        |of: &OfPbx| matches!(&of.attempt, Some(Ok(attempt)) if attempt.outcome.has_ended());
    if !all.is_empty() && (until == Until::InLine || all.iter().all(ended)) {
        Ok(all)
    } else {
        Err(Error::KeyInUse.into())
    }
}

/// Brings an earlier revision back, once, whatever its `Idempotency-Key` says.
pub(super) async fn restore_once(
    once: Once,
    portal: Arc<Portal>,
    actor: Actor,
    preferred: Preferred,
    (id, wish): (ApplyId, Wish),
) -> Result<Response, ApiError> {
    let (own, by, until) = (Arc::clone(&portal), actor.clone(), preferred.until());
    let task = move |root| async move {
        let restore = Some(id);
        let wish = Wish {
            restore,
            root,
            ..wish
        };
        let pbx = restore::pbx(&own, id).await?;
        let attempt = match until {
            Until::InLine => apply::accept(own, pbx, by, wish).await?,
            Until::TheEnd => apply::run_to_the_end(own, pbx, by, wish).await?,
        };
        one(attempt, until)
    };
    let remake = |attempts: Vec<Attempt>| {
        let all = attempts.into_iter().map(OfPbx::from).collect();
        let attempt = begun(all, until)?.into_iter().next();
        let attempt = attempt.and_then(|of| of.attempt).ok_or(Error::KeyInUse)?;
        one(attempt?, until)
    };
    once.run_slowly(portal, actor, task, remake).await
}

/// 200 only for what is proven, 202 for whoever does not wait.
fn one(attempt: Attempt, until: Until) -> Result<Response, ApiError> {
    let attempt = good(attempt, until)?;
    let id = attempt.id;
    let body = ApplyBody::from(attempt);
    Ok(match until {
        Until::InLine => accepted(id, body),
        Until::TheEnd => Json(body).into_response(),
    })
}

/// An attempt that is proven, or that nobody waits for, whatever became of it meanwhile.
fn good(attempt: Attempt, until: Until) -> Result<Attempt, ApiError> {
    if attempt.outcome.is_proven() || until == Until::InLine {
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
fn several(all: Vec<OfPbx>, until: Until) -> Result<Response, ApiError> {
    let applies: Vec<PbxApplyBody> = all.iter().map(PbxApplyBody::from).collect();
    let mut first: Option<(PbxId, Attempt)> = None;
    for OfPbx { id, attempt, .. } in all {
        let Some(attempt) = attempt else { continue };
        let attempt = attempt.map_err(ApiError::from);
        let attempt = match attempt.and_then(|attempt| good(attempt, until)) {
            Ok(attempt) => attempt,
            Err(error) => return Err(ApiError::OfSeveral(Box::new(error), applies)),
        };
        if first.is_none() || id == DEFAULT_PBX {
            first = Some((id, attempt));
        }
    }
    // There is always the default PBX, and always one that is not left alone.
    let (_, attempt) = first.ok_or(ApiError::Panicked)?;
    let id = attempt.id;
    let apply = ApplyBody::from(attempt);
    let body = AppliedBody { apply, applies };
    Ok(match until {
        Until::InLine => accepted(id, body),
        Until::TheEnd => Json(body).into_response(),
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
            root: None,
        },
    );
    fields.finish(wish.zip(other))
}

/// List the attempts to apply
///
/// The audit trail, the newest first. Every attempt is there, also one that failed before it
/// reached the PBX. Whoever is confined to a tenant finds those of its PBX, and by `requested_by` or
/// `q` only what was asked for by somebody of that tenant.
#[utoipa::path(
    get, path = "/applies", tag = "applies", operation_id = "list_applies",
    params(ListParams<Applies>),
    responses(
        (status = 200, description = "The attempts", body = [ApplyBody],
            headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`"))),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    AsSeen(viewer): AsSeen,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Applies>()?;
    let filter = apply_filter(&portal, &wanted).await?;
    let attempts = applies::list(&portal, viewer, filter, &wanted.page).await?;
    Ok(wanted.answer(attempts.map(ApplyBody::in_list)))
}

/// What `/applies` can be asked for.
struct Applies;

impl Listed for Applies {
    type Sort = ApplySort;
    const FILTERS: &'static [Filter] = APPLY_FILTERS;
    const SEARCH: Option<&'static str> = Some(APPLY_SEARCH);
}

/// What attempts and revisions can be filtered by.
pub(super) const APPLY_FILTERS: &[Filter] = &[
    Filter {
        name: "pbx",
        takes: Takes::Pbx,
        description: "Only those of the PBX of this id or name",
    },
    Filter {
        name: "outcome",
        takes: Takes::OneOf(|| AttemptOutcome::ALL.iter().map(|end| end.name()).collect()),
        description: "Only those that ended so",
    },
    Filter {
        name: "requested_by",
        takes: Takes::Text,
        description: "Only those that this administrator asked for",
    },
];

/// Where `q` looks.
pub(super) const APPLY_SEARCH: &str = "`requested_by`, `request_id` and the message of `failure`";

/// Which of them are wanted.
pub(super) async fn apply_filter<K: SortKey>(
    portal: &Portal,
    wanted: &Wanted<K>,
) -> Result<ApplyFilter, ApiError> {
    Ok(ApplyFilter {
        pbx: wanted.pbx(portal).await?,
        outcome: wanted.text("outcome").and_then(AttemptOutcome::from_name),
        requested_by: wanted.text("requested_by").map(str::to_owned),
        search: wanted.search.clone(),
        of_tenant: None,
    })
}

/// Show one attempt to apply
///
/// With every step, the users it included and the changes that it carried.
#[utoipa::path(
    get, path = "/applies/{id}", tag = "applies", operation_id = "get_apply",
    params(("id" = Uuid, Path, description = "The attempt"), NoneMatchHeader),
    responses(
        (status = 200, description = "The attempt", body = ShownApplyBody,
            headers(("ETag" = String, description = "Its state"))),
        NotModified,
        (status = 404, description = "`apply_not_found`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    AsSeen(viewer): AsSeen,
    By(actor): By,
    Id(id): Id,
) -> Result<TaggedByContent<ShownApplyBody>, ApiError> {
    let attempt = applies::get(&portal, viewer, ApplyId(id)).await?;
    let carried = audit::carried(&portal, &actor, attempt.id).await?;
    Ok(TaggedByContent(ShownApplyBody {
        apply: attempt.into(),
        carried: carried.into_iter().map(CarriedBody::from).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use shared::record::OnReloadFailure;

    use super::*;

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
