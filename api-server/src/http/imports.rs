//! `/imports`: users and devices from tables.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value};

use super::bulk::body::{ImportBody, ImportLineBody, LineErrorBody};
use super::bulk::columns::{self, Column, DEVICES, USERS};
use super::bulk::sheet::{self, Sheet};
use super::bulk::{Wish, in_turn, wish};
use super::devices::settings;
use super::error::{ApiError, Problem};
use super::extract::{By, InTenant, hyphenated, read};
use super::fields::{FieldError, Fields, text};
use super::once::{Answer, Once};
use super::openapi::{ByHeader, ImportProblems, OnceHeader};
use super::query::Query;
use super::users::user_patch;
use crate::clock::os_rng;
use crate::domain::calling::VoicemailPin;
use crate::domain::user::UserPatch;
use crate::domain::{DeviceId, Invalid, UserId};
use crate::services::bulk::devices::Which;
use crate::services::bulk::{self, Results};
use crate::services::work::Work;
use crate::services::{Error, Portal, pins};

/// A body that must be a table.
pub(super) struct CsvBody(Sheet);

impl<S: Send + Sync> FromRequest<S> for CsvBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let announced = request.headers().get(CONTENT_TYPE);
        let announced = announced.and_then(|value| value.to_str().ok());
        let mut parts = announced.unwrap_or_default().split(';').map(str::trim);
        let is_csv = parts
            .next()
            .is_some_and(|essence| essence.eq_ignore_ascii_case("text/csv"));
        if !is_csv {
            return Err(ApiError::UnsupportedTable);
        }
        let charset = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_matches('"').to_owned();
            name.trim().eq_ignore_ascii_case("charset").then_some(value)
        });
        let bytes = read(request, state).await?;
        let sheet = sheet::read(&bytes, charset.as_deref());
        let fault = |fault| ApiError::InvalidFields(vec![fault]);
        sheet.map(Self).map_err(fault)
    }
}

/// Import users
///
/// A table with a head: `id`, `extension`, `name`, `email`, `status`, `role`, `outbound_caller_id`,
/// `voicemail_enabled`, `voicemail_pin`, `dnd`, `forward_always`, `forward_busy`, `forward_no_answer`,
/// `forward_unregistered`, `forward_delay_seconds`, `metadata` (JSON, the whole), in any order; what
/// is not there is not spoken of. Commas, semicolons or tabs; UTF-8, UTF-16 with a byte order mark, or
/// what `charset` says.
///
/// A line means the user with its `id`, or without one the user with its `email`, who is created when
/// nobody has it. An empty cell says nothing, but for `outbound_caller_id` and the `forward_` columns,
/// where it says none. What was exported changes nothing.
///
/// `all_or_nothing` makes every line count or none, `per_line` those that can. With `preview` nothing is
/// done, and the answer is what would be.
#[utoipa::path(
    post, path = "/imports/users", tag = "imports", operation_id = "import_users",
    params(
        ("mode" = Option<String>, Query, description = "`all_or_nothing`, unless `per_line`"),
        ("preview" = Option<bool>, Query, description = "`true`: only tell what would be done"),
        ByHeader, OnceHeader,
    ),
    request_body(content = String, content_type = "text/csv"),
    responses(
        (status = 200, description = "What became of each line", body = ImportBody,
            headers(("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"))),
        (status = 409, description = "`idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        ImportProblems,
    )
)]
pub(super) async fn users(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    By(actor): By,
    Query(query): Query,
    once: Once,
    CsvBody(sheet): CsvBody,
) -> Result<Response, ApiError> {
    let wish = wish(query)?;
    let mut table = Table::of(USERS, &["id", "email"], sheet, user)?;
    let said = std::mem::take(&mut table.wanted);
    let carried_out = Box::pin(async {
        let (ids, patches): (Vec<_>, Vec<_>) = said.into_iter().unzip();
        let patches = pins::of_many(patches, wish.preview).await?;
        let wanted = ids.into_iter().zip(patches);
        let wanted: Vec<_> = wanted
            .map(|(id, patch)| bulk::users::Wanted { id, patch })
            .collect();
        let task = async |work: &mut Work<'_>| {
            let within = tenant.within;
            bulk::users::reconcile(work, within, &wanted, &mut os_rng()).await
        };
        answer(&portal, &actor, once, wish, table, task).await
    });
    in_turn(&portal, carried_out).await
}

/// Import devices
///
/// A table with a head: `id`, `user_email`, `label`, `sip_username`, `enabled`, `transport`, `codecs`
/// (with blanks between them), `digest_algorithm`, `rtp_symmetric`, `force_rport`, `rewrite_contact`,
/// `direct_media`. Otherwise as of users: a line means the device with its `id`, or without one the device
/// of `user_email` that is called `label`, which is created when there is none; an empty `transport`
/// says whichever it comes by. `sip_username` follows from the user: a line that names another one is
/// refused.
#[utoipa::path(
    post, path = "/imports/devices", tag = "imports", operation_id = "import_devices",
    params(
        ("mode" = Option<String>, Query, description = "`all_or_nothing`, unless `per_line`"),
        ("preview" = Option<bool>, Query, description = "`true`: only tell what would be done"),
        ByHeader, OnceHeader,
    ),
    request_body(content = String, content_type = "text/csv"),
    responses(
        (status = 200, description = "What became of each line", body = ImportBody,
            headers(("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"))),
        (status = 409, description = "`idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        ImportProblems,
    )
)]
pub(super) async fn devices(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    By(actor): By,
    Query(query): Query,
    once: Once,
    CsvBody(sheet): CsvBody,
) -> Result<Response, ApiError> {
    let wish = wish(query)?;
    let mut table = Table::of(DEVICES, &["id", "user_email"], sheet, device)?;
    let wanted = std::mem::take(&mut table.wanted);
    let carried_out = Box::pin(async {
        let task = async |work: &mut Work<'_>| {
            let within = tenant.within;
            bulk::devices::reconcile(work, within, &wanted, &mut os_rng()).await
        };
        answer(&portal, &actor, once, wish, table, task).await
    });
    in_turn(&portal, carried_out).await
}

/// Lines that were read, and what was wrong with the others.
struct Table<T> {
    columns: &'static [Column],
    /// What each good line wants, in their order.
    wanted: Vec<T>,
    /// All lines.
    lines: Vec<ReadLine>,
}

/// A line that was read, or was not.
struct ReadLine {
    number: u64,
    key: Option<String>,
    /// What is wrong with it; nothing: it is a good one.
    errors: Vec<FieldError>,
}

impl<T> Table<T> {
    fn of(
        columns: &'static [Column],
        key: &[&'static str],
        sheet: Sheet,
        one: fn(Fields) -> Result<T, Vec<FieldError>>,
    ) -> Result<Self, ApiError> {
        let heads = columns::heads(columns, key, &sheet).map_err(ApiError::InvalidFields)?;
        let mut table = Self {
            columns,
            wanted: Vec::new(),
            lines: Vec::with_capacity(sheet.lines.len()),
        };
        for line in sheet.lines {
            let broken = |fault| ApiError::InvalidFields(vec![fault]);
            columns::unbroken(&heads, &line).map_err(broken)?;
            let body = columns::body(&heads, &line.cells);
            let key = body.as_ref().ok().and_then(named);
            let read = body.and_then(|body| one(Fields::new(body)));
            let errors = match read {
                Ok(wanted) => {
                    table.wanted.push(wanted);
                    Vec::new()
                }
                Err(errors) => errors,
            };
            table.lines.push(ReadLine {
                number: line.number,
                key,
                errors,
            });
        }
        Ok(table)
    }

    /// What became of each line, once it is known what became of the good ones.
    fn told(self, results: Results, wish: Wish) -> ImportBody {
        let columns = self.columns;
        let mut results = results.into_iter();
        let lines = self.lines.into_iter().map(|line| {
            let result = if line.errors.is_empty() {
                results.next()
            } else {
                None
            };
            match result {
                Some(Ok(done)) => ImportLineBody::done(line.number, done, columns, wish.preview),
                Some(Err(error)) => {
                    let errors = vec![LineErrorBody::of(error, columns)];
                    ImportLineBody::refused(line.number, line.key, errors)
                }
                None => {
                    let errors = line.errors.into_iter();
                    let errors = errors.map(|error| LineErrorBody::of_field(error, columns));
                    ImportLineBody::refused(line.number, line.key, errors.collect())
                }
            }
        });
        ImportBody::of(wish, lines.collect())
    }
}

/// What people know the user or device of a line by, as far as the line says it.
fn named(body: &Map<String, Value>) -> Option<String> {
    let said = |name: &str| body.get(name).and_then(Value::as_str);
    let names = ["email", "user_email", "label"]
        .into_iter()
        .filter_map(said);
    let key = names.collect::<Vec<_>>().join(" ");
    (!key.is_empty()).then(|| key.chars().take(320).collect())
}

async fn answer<T>(
    portal: &Portal,
    actor: &crate::domain::Actor,
    once: Once,
    wish: Wish,
    table: Table<T>,
    task: impl AsyncFnOnce(&mut Work<'_>) -> Result<Results, Error>,
) -> Result<Response, ApiError> {
    if wish.preview {
        let results = bulk::preview(portal, actor, task).await?;
        return Ok(Json(table.told(results, wish)).into_response());
    }
    let task = async |work: &mut Work<'_>| {
        let results = task(work).await?;
        let told = table.told(results, wish);
        if told.counts.refused > 0 && !wish.per_line {
            return Err(ApiError::ImportRefused(Box::new(told)));
        }
        Answer::new(StatusCode::OK, &told)
    };
    once.run(portal, actor, task).await
}

type SaidOfUser = (Option<UserId>, UserPatch<VoicemailPin>);

fn user(mut fields: Fields) -> Result<SaidOfUser, Vec<FieldError>> {
    let id = fields.patch("id", id);
    // What is wrong with the id is among what is wrong with the rest.
    let patch = user_patch(fields)?;
    let id = id.flatten().map(UserId);
    if id.is_none() && patch.email.is_none() {
        return Err(vec![unnamed("email")]);
    }
    Ok((id, patch))
}

fn device(mut fields: Fields) -> Result<bulk::devices::Wanted, Vec<FieldError>> {
    let id = fields.patch("id", id);
    let owner = fields.patch("user_email", text);
    let label = fields.patch("label", text);
    let username = fields.patch("sip_username", |value| {
        Ok(value.as_str().unwrap_or_default().to_owned())
    });
    let settings = settings(&mut fields);
    let nobody = matches!((&id, &owner), (Some(None), Some(None)));
    let wanted = (|| {
        let id = id?;
        Some(bulk::devices::Wanted {
            which: id.map_or(Which::Labelled, |id| Which::Id(DeviceId(id))),
            owner: owner?,
            label: label?,
            settings: settings?,
            sip_username: username?,
        })
    })();
    let wanted = fields.finish(wanted)?;
    if nobody {
        Err(vec![unnamed("user_email")])
    } else {
        Ok(wanted)
    }
}

const MALFORMED_ID: Invalid = Invalid {
    code: "malformed",
    message: "must be an id as an export writes it, or empty",
};

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn id(value: Value) -> Result<uuid::Uuid, Invalid> {
    value.as_str().and_then(hyphenated).ok_or(MALFORMED_ID)
}

fn unnamed(field: &str) -> FieldError {
    let reason = Invalid {
        code: "missing",
        message: "is needed where there is no id: nobody is meant otherwise",
    };
    FieldError::new(field, reason)
}
