//! The lines of a table, and what became of them.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::Invalid;
use crate::http::bulk::Wish;
use crate::http::bulk::body::{ImportBody, ImportLineBody, LineErrorBody};
use crate::http::bulk::columns::{self, Column};
use crate::http::bulk::sheet::{self, Sheet};
use crate::http::error::ApiError;
use crate::http::extract::{hyphenated, read};
use crate::http::fields::{FieldError, Fields, Room};
use crate::services::bulk::Results;

/// A body that must be a table, as it came.
#[derive(Clone)]
pub(in crate::http) struct CsvBody {
    bytes: Bytes,
    charset: Option<String>,
}

impl CsvBody {
    /// The table, and what each of its cells is.
    pub(in crate::http) fn sheet(
        &self,
        columns: &'static [Column],
        key: &[&'static str],
    ) -> Result<(Sheet, Vec<Option<&'static Column>>), ApiError> {
        let sheet = sheet::read(&self.bytes, self.charset.as_deref());
        let sheet = sheet.map_err(|fault| ApiError::InvalidFields(vec![fault]))?;
        let heads = columns::heads(columns, key, &sheet).map_err(ApiError::InvalidFields)?;
        Ok((sheet, heads))
    }
}

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
        Ok(Self { bytes, charset })
    }
}

/// Lines that were read, and what was wrong with the others.
pub(in crate::http) struct Table<T> {
    columns: &'static [Column],
    /// What each good line wants, in their order.
    pub(in crate::http) wanted: Vec<T>,
    /// The ids in lines that cannot be read otherwise: what those would have made of theirs nobody knows.
    pub(in crate::http) unread: Vec<Uuid>,
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
    pub(in crate::http) fn of(
        body: &CsvBody,
        columns: &'static [Column],
        key: &[&'static str],
        one: fn(Fields) -> Result<T, Vec<FieldError>>,
    ) -> Result<Self, ApiError> {
        let (sheet, heads) = body.sheet(columns, key)?;
        let room = Room::new(columns::JSON_BYTES_MAX);
        let mut table = Self {
            columns,
            wanted: Vec::new(),
            unread: Vec::new(),
            lines: Vec::with_capacity(sheet.lines.len()),
        };
        for line in sheet.lines {
            let broken = |fault| ApiError::InvalidFields(vec![fault]);
            columns::unbroken(&heads, &line).map_err(broken)?;
            let body = columns::body(&heads, &line.cells, &room);
            if room.is_exhausted() {
                return Err(ApiError::InvalidFields(vec![too_much_json(line.number)]));
            }
            let key = body.as_ref().ok().and_then(named);
            let id = body.as_ref().ok().and_then(|body| body.get("id"));
            let id = id.and_then(Value::as_str).and_then(hyphenated);
            let read = body.and_then(|body| one(Fields::new(body)));
            let errors = match read {
                Ok(wanted) => {
                    table.wanted.push(wanted);
                    Vec::new()
                }
                Err(errors) => {
                    table.unread.extend(id);
                    errors
                }
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
    pub(in crate::http) fn told(self, results: Results, wish: Wish) -> ImportBody {
        let columns = self.columns;
        let refused = self.lines.iter().any(|line| !line.errors.is_empty())
            || results.iter().any(Result::is_err);
        // Of what was undone there is no id, and no password.
        let undone = wish.preview || (refused && !wish.per_line);
        let mut results = results.into_iter();
        let lines = self.lines.into_iter().map(|line| {
            let result = if line.errors.is_empty() {
                results.next()
            } else {
                None
            };
            match result {
                Some(Ok(done)) => ImportLineBody::done(line.number, done, columns, undone),
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

fn too_much_json(line: u64) -> FieldError {
    let reason = Invalid {
        code: "too_many",
        message: "has, with the lines above, more values in its JSON than a table may have: divide it",
    };
    FieldError::new(&format!("line {line}"), reason)
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
