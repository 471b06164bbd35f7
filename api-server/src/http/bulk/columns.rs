//! The columns of tables of users and devices: what an export writes and an import reads. A line is turned
//! into the body that the API takes of one, and back, so that both have one set of rules.

use csv::StringRecord;
use serde_json::{Map, Value};

use super::sheet::{Line, Sheet};
use crate::http::fields::{FieldError, Room, parse_json, parse_json_within};

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Column {
    /// Its name in the head.
    pub(in crate::http) name: &'static str,
    /// The field of the body, that of a nested one like `call_forward.busy`.
    pub(in crate::http) field: &'static str,
    cell: Cell,
}

/// What a cell says. An empty one says nothing, except where there may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// Text.
    Text,
    /// Text; none when it is empty.
    OrNone,
    /// A whole number.
    Number,
    /// `true` or `false`, as spreadsheets write them as well.
    Bool,
    /// Words with blanks between them.
    Words,
    /// JSON.
    Json,
    /// Text that is never shown.
    Secret,
}

const fn column(name: &'static str, field: &'static str, cell: Cell) -> Column {
    Column { name, field, cell }
}

/// Those of users.
pub(in crate::http) const USERS: &[Column] = &[
    column("id", "id", Cell::Text),
    column("extension", "extension", Cell::Number),
    column("name", "name", Cell::Text),
    column("email", "email", Cell::Text),
    column("status", "status", Cell::Text),
    column("role", "role", Cell::Text),
    column("outbound_caller_id", "outbound_caller_id", Cell::OrNone),
    column("voicemail_enabled", "voicemail.enabled", Cell::Bool),
    column("voicemail_pin", "voicemail.pin", Cell::Secret),
    column("dnd", "dnd", Cell::Bool),
    column("forward_always", "call_forward.always", Cell::OrNone),
    column("forward_busy", "call_forward.busy", Cell::OrNone),
    column("forward_no_answer", "call_forward.no_answer", Cell::OrNone),
    column(
        "forward_unregistered",
        "call_forward.unregistered",
        Cell::OrNone,
    ),
    column(
        "forward_delay_seconds",
        "call_forward.delay_seconds",
        Cell::Number,
    ),
    column("metadata", "metadata", Cell::Json),
];

/// Those of devices.
pub(in crate::http) const DEVICES: &[Column] = &[
    column("id", "id", Cell::Text),
    column("user_email", "user_email", Cell::Text),
    column("label", "label", Cell::Text),
    column("sip_username", "sip_username", Cell::Text),
    column("enabled", "enabled", Cell::Bool),
    column("transport", "transport", Cell::OrNone),
    column("codecs", "codecs", Cell::Words),
    column("digest_algorithm", "digest_algorithm", Cell::Text),
    column("rtp_symmetric", "nat.rtp_symmetric", Cell::Bool),
    column("force_rport", "nat.force_rport", Cell::Bool),
    column("rewrite_contact", "nat.rewrite_contact", Cell::Bool),
    column("direct_media", "nat.direct_media", Cell::Bool),
];

/// Most memory for the values in the JSON of a table.
pub(in crate::http) const JSON_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The name of the column that a field of a body stands in.
pub(in crate::http) fn name_of<'a>(columns: &'static [Column], field: &'a str) -> &'a str {
    let column = columns.iter().find(|column| column.field == field);
    column.map_or(field, |column| column.name)
}

/// The column of each cell of a table.
///
/// # Errors
/// Every name that is unknown or stands twice; `key` says what there must be one of.
pub(in crate::http) fn heads(
    columns: &'static [Column],
    key: &[&'static str],
    sheet: &Sheet,
) -> Result<Vec<Option<&'static Column>>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut heads: Vec<Option<&'static Column>> = Vec::with_capacity(sheet.head.len());
    for name in &sheet.head {
        let known = columns.iter().find(|column| column.name == name);
        let twice = known.is_some() && heads.iter().flatten().any(|head| head.name == name);
        if twice {
            errors.push(fault(name, "repeated", "is the name of two columns"));
        } else if known.is_none() && !name.is_empty() {
            errors.push(fault(
                name,
                "unknown_field",
                "is not a column of this table",
            ));
        }
        heads.push(known);
    }
    if !heads.iter().flatten().any(|head| key.contains(&head.name)) {
        let message = "is missing: without it nobody knows who is meant";
        errors.push(fault(
            key.last().copied().unwrap_or_default(),
            "missing",
            message,
        ));
    }
    if errors.is_empty() {
        Ok(heads)
    } else {
        Err(errors)
    }
}

fn fault(name: &str, code: &'static str, message: &'static str) -> FieldError {
    let name: String = name.chars().take(64).collect();
    FieldError::new(&name, crate::domain::Invalid { code, message })
}

/// Fails when a cell holds several lines, which none of ours does but JSON: then a quotation mark is one too
/// many or too few, and lines of others are in that cell.
///
/// # Errors
/// As above; the line is named.
pub(in crate::http) fn unbroken(
    heads: &[Option<&'static Column>],
    line: &Line,
) -> Result<(), FieldError> {
    let may_break = |at: usize, text: &str| {
        let column = heads.get(at).copied().flatten();
        column.is_some_and(|column| column.cell == Cell::Json)
            && parse_json(text.as_bytes()).is_ok()
    };
    let breaks = |(at, text): (usize, &str)| {
        let text = text.trim();
        text.contains(['\r', '\n']) && !may_break(at, text)
    };
    if line.cells.iter().enumerate().any(breaks) {
        let message =
            "a cell holds several lines: a quotation mark may be missing, or one too many";
        return Err(fault(
            &format!("line {}", line.number),
            "malformed",
            message,
        ));
    }
    Ok(())
}

/// A line as the body of one. What cannot be read of a cell stays text, and so the reader of the body says
/// what should be there. JSON takes of the room for that of the whole table.
///
/// # Errors
/// A cell holds something and has no column.
pub(in crate::http) fn body(
    heads: &[Option<&'static Column>],
    cells: &StringRecord,
    room: &Room,
) -> Result<Map<String, Value>, Vec<FieldError>> {
    let mut body = Map::new();
    for (at, cell) in cells.iter().enumerate() {
        let text = unguarded(cell.trim());
        match heads.get(at).copied().flatten() {
            Some(column) => {
                if let Some(value) = value(column.cell, text, room) {
                    put(&mut body, column.field, value);
                }
            }
            None if text.is_empty() => {}
            None => {
                let message = "holds something where the head names no column";
                return Err(vec![fault(
                    &format!("cell {}", at + 1),
                    "unknown_field",
                    message,
                )]);
            }
        }
    }
    Ok(body)
}

/// Words with blanks or commas between them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    words.filter(|word| !word.is_empty())
}

fn value(cell: Cell, text: &str, room: &Room) -> Option<Value> {
    let as_text = || Value::String(text.to_owned());
    Some(match cell {
        Cell::OrNone if text.is_empty() => Value::Null,
        _ if text.is_empty() => return None,
        Cell::Text | Cell::OrNone | Cell::Secret => as_text(),
        Cell::Number => text.parse::<u32>().map_or_else(|_| as_text(), Value::from),
        Cell::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Value::Bool(true),
            "false" | "no" | "0" => Value::Bool(false),
            _ => as_text(),
        },
        Cell::Words => words(text).map(Value::from).collect(),
        Cell::Json => parse_json_within(room, text.as_bytes()).unwrap_or_else(|_| as_text()),
    })
}

fn put(body: &mut Map<String, Value>, field: &str, value: Value) {
    let Some((outer, inner)) = field.split_once('.') else {
        body.insert(field.to_owned(), value);
        return;
    };
    let nested = body
        .entry(outer)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(nested) = nested {
        nested.insert(inner.to_owned(), value);
    }
}

/// What a column shows of a body.
fn shown<'a>(column: &Column, body: &'a Value) -> &'a Value {
    if column.cell == Cell::Secret {
        return &Value::Null;
    }
    column
        .field
        .split('.')
        .fold(body, |value, name| &value[name])
}

/// The cells of a body.
pub(in crate::http) fn cells(columns: &[Column], body: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => guarded(text),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    };
    columns
        .iter()
        .map(|column| text(shown(column, body)))
        .collect()
}

/// The same as a flat JSON object.
pub(in crate::http) fn flat(columns: &[Column], body: &Value) -> Value {
    let named = |column: &Column| (column.name.to_owned(), shown(column, body).clone());
    Value::Object(columns.iter().map(named).collect())
}

/// What a formula begins with; spreadsheets of East Asia take the wide forms for the same.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// What spreadsheets take for a formula, which may do more than show something, begins with an
/// apostrophe; a telephone number is none.
pub fn guarded(text: &str) -> String {
    if is_formula(text) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// What [`guarded`] made something of.
fn unguarded(text: &str) -> &str {
    text.strip_prefix('\'')
        .filter(|rest| is_formula(rest))
        .unwrap_or(text)
}

fn is_formula(text: &str) -> bool {
    let bare = text.trim_start_matches('\'');
    let digits = bare.strip_prefix('+').unwrap_or_default();
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    bare.starts_with(FORMULA) && !number
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn room() -> Room {
        Room::new(JSON_BYTES_MAX)
    }

    #[test]
    fn a_body_comes_back_from_its_cells() {
        let body = json!({
            "id": "x", "extension": 1000, "name": "=cmd|' /C calc'!A0", "email": "a@example.com",
            "status": "active", "role": "user", "outbound_caller_id": "+420123",
            "voicemail": { "enabled": true }, "dnd": false,
            "call_forward": {
                "always": null, "busy": "00420", "no_answer": null, "unregistered": null,
                "delay_seconds": 25,
            },
            "metadata": { "a": [1, "b,c"] },
        });
        let heads: Vec<_> = USERS.iter().map(Some).collect();
        let cells = cells(USERS, &body);
        assert!(cells[2].starts_with("'="), "{cells:?}");
        assert_eq!(cells[6], "+420123");
        let cells = StringRecord::from(cells);
        assert_eq!(
            Value::Object(super::body(&heads, &cells, &room()).unwrap()),
            body
        );
    }

    #[test]
    fn text_that_begins_like_a_formula_comes_back_as_it_was() {
        for text in [
            "", "=1", "'=1", "''=1", "+420", "+1-2", "-", "@x", "'", "O'Neil", "'tis", "＝1",
            "＋1", "'－1", "＠x",
        ] {
            assert_eq!(unguarded(&guarded(text)), text);
            let plain = ["", "+420", "'", "O'Neil", "'tis"].contains(&text);
            assert_eq!(guarded(text) == text, plain, "{text}");
        }
    }

    #[test]
    fn cells_mean_what_spreadsheets_write() {
        for (cell, text, meant) in [
            (Cell::Bool, "TRUE", Some(json!(true))),
            (Cell::Bool, "0", Some(json!(false))),
            (Cell::Bool, "maybe", Some(json!("maybe"))),
            (Cell::Bool, "", None),
            (Cell::Number, "1000", Some(json!(1000))),
            (Cell::Number, "1e3", Some(json!("1e3"))),
            (Cell::OrNone, "", Some(json!(null))),
            (Cell::Words, "ulaw  alaw", Some(json!(["ulaw", "alaw"]))),
            (
                Cell::Json,
                "{\"a\":1,\"a\":2}",
                Some(json!("{\"a\":1,\"a\":2}")),
            ),
        ] {
            assert_eq!(value(cell, text, &room()), meant, "{text}");
        }
    }
}
