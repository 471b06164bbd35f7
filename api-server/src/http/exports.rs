//! `/exports`: users and devices as tables, a page of the database at a time.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument as _;

use super::bulk::columns::{self, Column, DEVICES, USERS};
use super::devices::DeviceBody;
use super::error::ApiError;
use super::extract::InTenant;
use super::fields::{Fields, boolean_text};
use super::openapi::QueryProblems;
use super::query::Query;
use super::users::UserBody;
use crate::causes::causes;
use crate::domain::page::Slice;
use crate::domain::{Invalid, Within};
use crate::services::bulk::export::{self, DeviceOfUser};
use crate::services::{Error, Portal};

/// How many pages are made before the client has taken the first of them.
const PAGES_AHEAD: usize = 2;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv { mark: bool },
    Json,
}

fn format(mut query: Fields) -> Result<Format, ApiError> {
    let mark = query.or_default("bom", boolean_text);
    let json = query.or_default("format", |value| match value.as_str() {
        Some("csv") => Ok(false),
        Some("json") => Ok(true),
        _ => Err(Invalid {
            code: "unknown_value",
            message: "must be csv or json",
        }),
    });
    let format = mark.zip(json).map(|(mark, json)| {
        if json {
            Format::Json
        } else {
            Format::Csv { mark }
        }
    });
    query.finish(format).map_err(ApiError::InvalidFields)
}

/// Export users
///
/// A table that `POST /imports/users` takes, and which then changes nothing; `voicemail_pin` is always
/// empty. In JSON an array of flat objects with the same names. Text that spreadsheets would take for a
/// formula begins with an apostrophe, which an import takes away. The answer is sent while it is made: when
/// it breaks off, the connection ends without the end of the body.
#[utoipa::path(
    get, path = "/exports/users", tag = "imports", operation_id = "export_users",
    params(
        ("format" = Option<String>, Query, description = "`csv`, unless `json`"),
        ("bom" = Option<bool>, Query, description = "`true`: with a byte order mark, by which Excel \
            knows that it is UTF-8"),
    ),
    responses(
        (status = 200, description = "The users, by extension", content(
            (String = "text/csv"), (Vec<Object> = "application/json"),
        )),
        QueryProblems,
    )
)]
pub(super) async fn users(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Query(query): Query,
) -> Result<Response, ApiError> {
    let format = format(query)?;
    let body = |user| serde_json::to_value(UserBody::from(user)).unwrap_or_default();
    stream(
        portal,
        tenant.within,
        format,
        "users",
        USERS,
        export::users,
        body,
    )
    .await
}

/// Export devices
///
/// A table that `POST /imports/devices` takes, and which then changes nothing. Otherwise as of users.
#[utoipa::path(
    get, path = "/exports/devices", tag = "imports", operation_id = "export_devices",
    params(
        ("format" = Option<String>, Query, description = "`csv`, unless `json`"),
        ("bom" = Option<bool>, Query, description = "`true`: with a byte order mark, by which Excel \
            knows that it is UTF-8"),
    ),
    responses(
        (status = 200, description = "The devices, in the order of their creation", content(
            (String = "text/csv"), (Vec<Object> = "application/json"),
        )),
        QueryProblems,
    )
)]
pub(super) async fn devices(
    State(portal): State<Arc<Portal>>,
    tenant: InTenant,
    Query(query): Query,
) -> Result<Response, ApiError> {
    let format = format(query)?;
    stream(
        portal,
        tenant.within,
        format,
        "devices",
        DEVICES,
        export::devices,
        device,
    )
    .await
}

fn device(DeviceOfUser { device, email }: DeviceOfUser) -> Value {
    let mut body = serde_json::to_value(DeviceBody::from(device)).unwrap_or_default();
    body["user_email"] = json!(email);
    body
}

/// The rows of `page`, one page after another. The first one is read before the answer begins, so that what
/// is wrong from the start is said properly.
async fn stream<T, F>(
    portal: Arc<Portal>,
    within: Within,
    format: Format,
    name: &'static str,
    columns: &'static [Column],
    page: impl Fn(Arc<Portal>, Within, Option<crate::domain::page::Position>) -> F + Send + 'static,
    body: fn(T) -> Value,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Slice<T>, Error>> + Send,
    T: Send + 'static,
{
    let mut slice = page(Arc::clone(&portal), within, None).await?;
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Broken>>(PAGES_AHEAD);
    let write = async move {
        let mut first = true;
        loop {
            let rows = std::mem::take(&mut slice.items);
            let rows: Vec<Value> = rows.into_iter().map(body).collect();
            let last = slice.next.is_none();
            let text = written(format, columns, &rows, first, last);
            // Whoever asked may be gone.
            if sender.send(Ok(text.into())).await.is_err() || last {
                return;
            }
            first = false;
            match page(Arc::clone(&portal), within, slice.next.take()).await {
                Ok(next) => slice = next,
                Err(error) => {
                    tracing::error!(error = causes(&error), "an export broke off");
                    sender.send(Err(Broken)).await.ok();
                    return;
                }
            }
        }
    };
    tokio::spawn(write.in_current_span());
    let (media_type, ending) = match format {
        Format::Csv { .. } => ("text/csv; charset=utf-8; header=present", "csv"),
        Format::Json => ("application/json", "json"),
    };
    let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    let disposition = format!("attachment; filename=\"{name}.{ending}\"");
    if let Ok(disposition) = HeaderValue::try_from(disposition) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// Ends a body before its end, which tells a client that it has not got all.
#[derive(Debug, thiserror::Error)]
#[error("the export broke off")]
struct Broken;

/// A part of a table.
fn written(
    format: Format,
    columns: &'static [Column],
    rows: &[Value],
    first: bool,
    last: bool,
) -> Vec<u8> {
    match format {
        Format::Csv { mark } => {
            let mut text = Vec::new();
            if first && mark {
                text.extend_from_slice("\u{feff}".as_bytes());
            }
            let mut writer = csv::Writer::from_writer(text);
            let head = first.then(|| {
                columns
                    .iter()
                    .map(|column| column.name.to_owned())
                    .collect()
            });
            let lines = rows.iter().map(|row| columns::cells(columns, row));
            for line in head.into_iter().chain(lines) {
                let line: Vec<String> = line;
                // Into memory, which does not fail.
                writer.write_record(line).ok();
            }
            writer.into_inner().unwrap_or_default()
        }
        Format::Json => {
            let rows: Vec<String> = rows
                .iter()
                .map(|row| columns::flat(columns, row).to_string())
                .collect();
            let (begin, end) = (if first { "[" } else { "," }, if last { "]\n" } else { "" });
            let begin = if rows.is_empty() && !first { "" } else { begin };
            format!("{begin}{}{end}", rows.join(",\n")).into_bytes()
        }
    }
}
