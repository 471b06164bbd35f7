//! `/imports`: users and devices from tables.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::bulk::body::ImportBody;
use super::bulk::columns::{DEVICES, USERS};
use super::bulk::{InBulk, Wish, apart, in_time, in_turn, wish};
use super::error::{ApiError, Problem};
use super::extract::By;
use super::once::{Answer, Once};
use super::openapi::{ByHeader, ImportProblems, OnceHeader};
use super::query::Query;
use crate::clock::os_rng;
use crate::domain::calling::VoicemailPin;
use crate::domain::patch::Patch;
use crate::domain::{Actor, DeviceId, Permission, UserId};
use crate::services::bulk::{self, Results};
use crate::services::work::Work;
use crate::services::{Error, Portal, denied, pins};

mod lines;
mod table;

use lines::{device, user};
use table::{CsvBody, Table};

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
/// done, and the answer is what would be. It tells what was there before, and so needs `users.read` as well.
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
    InBulk {
        tenant,
        permit: _permit,
    }: InBulk,
    By(actor): By,
    Query(query): Query,
    once: Once,
    body: CsvBody,
) -> Result<Response, ApiError> {
    let wish = wish(query)?;
    tells(&actor, Permission::UsersRead)?;
    in_time(Box::pin(async {
        if !wish.preview
            && let Some(before) = once.before(&portal, &actor).await?
        {
            return Ok(before);
        }
        let begun = Instant::now();
        let read = {
            let body = body.clone();
            apart(move || said_pins(&body))
        };
        let mut said = read.await?;
        if wish.preview {
            // Nothing is kept of them.
            said.truncate(1);
        }
        let hashes = pins::of_many(said).await?;
        let carried_out = Box::pin(async {
            let mut table = apart(move || Table::of(&body, USERS, USER_KEY, user)).await?;
            // As many as there are PINs, or one for all.
            let mut hashes = hashes.iter().cycle().cloned();
            let wanted = std::mem::take(&mut table.wanted).into_iter();
            let wanted = wanted.map(|(id, patch)| {
                let patch = pins::with_next(patch, &mut hashes)?;
                Ok(bulk::users::Wanted { id, patch })
            });
            let wanted = wanted.collect::<Result<Vec<_>, Error>>()?;
            let unread = std::mem::take(&mut table.unread);
            let unread: Vec<_> = unread.into_iter().map(UserId).collect();
            let task = async |work: &mut Work<'_>| {
                let within = tenant.within;
                bulk::users::reconcile(work, within, &wanted, &unread, &mut os_rng()).await
            };
            answer(&portal, &actor, once, wish, table, task).await
        });
        in_turn(&portal, begun.elapsed(), carried_out).await
    }))
    .await
}

/// The answer tells what was there before: whoever may not read that imports nothing.
fn tells(actor: &Actor, needed: Permission) -> Result<(), ApiError> {
    Ok(denied::must(actor, needed).map_err(Error::from)?)
}

/// By which columns users, and devices, are known.
const USER_KEY: &[&str] = &["id", "email"];
const DEVICE_KEY: &[&str] = &["id", "user_email"];

/// The PINs of the good lines of a table of users, in their order.
fn said_pins(body: &CsvBody) -> Result<Vec<VoicemailPin>, ApiError> {
    let (_, heads) = body.sheet(USERS, USER_KEY)?;
    let mut columns = heads.iter().flatten();
    if !columns.any(|column| column.field == "voicemail.pin") {
        return Ok(Vec::new());
    }
    let table = Table::of(body, USERS, USER_KEY, user)?;
    let pins = table.wanted.into_iter();
    let pins = pins.filter_map(|(_, patch)| match patch.calls.voicemail_pin {
        Patch::Set(pin) => Some(pin),
        Patch::Keep | Patch::Clear => None,
    });
    Ok(pins.collect())
}

/// Import devices
///
/// A table with a head: `id`, `user_email`, `label`, `sip_username`, `enabled`, `transport`, `codecs`
/// (with blanks or commas between them), `digest_algorithm`, `rtp_symmetric`, `force_rport`, `rewrite_contact`,
/// `direct_media`. Otherwise as of users: a line means the device with its `id`, or without one the device
/// of `user_email` that is called `label`, which is created when there is none; an empty `transport`
/// says whichever it comes by. `sip_username` follows from the user: a line that names another one is
/// refused. Needs `devices.read` as well.
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
    InBulk {
        tenant,
        permit: _permit,
    }: InBulk,
    By(actor): By,
    Query(query): Query,
    once: Once,
    body: CsvBody,
) -> Result<Response, ApiError> {
    let wish = wish(query)?;
    tells(&actor, Permission::DevicesRead)?;
    in_time(Box::pin(async {
        if !wish.preview
            && let Some(before) = once.before(&portal, &actor).await?
        {
            return Ok(before);
        }
        let begun = Instant::now();
        let read = {
            let body = body.clone();
            apart(move || body.sheet(DEVICES, DEVICE_KEY).map(drop))
        };
        read.await?;
        let carried_out = Box::pin(async {
            let mut table = apart(move || Table::of(&body, DEVICES, DEVICE_KEY, device)).await?;
            let wanted = std::mem::take(&mut table.wanted);
            let unread = std::mem::take(&mut table.unread);
            let unread: Vec<_> = unread.into_iter().map(DeviceId).collect();
            let task = async |work: &mut Work<'_>| {
                let within = tenant.within;
                bulk::devices::reconcile(work, within, &wanted, &unread, &mut os_rng()).await
            };
            answer(&portal, &actor, once, wish, table, task).await
        });
        in_turn(&portal, begun.elapsed(), carried_out).await
    }))
    .await
}

async fn answer<T>(
    portal: &Portal,
    actor: &Actor,
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
