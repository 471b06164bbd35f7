//! Cursors: where a page ended.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::written;
use crate::domain::Invalid;
use crate::domain::page::{Kind, Order, Position, SortKey, Value};
use crate::http::instant::of_our_calendar;

/// A cursor: what the list is sorted by, and the place after which it goes on.
pub(super) fn cursor<K: SortKey>(order: Order<K>, place: &Position) -> String {
    let parts = json!([
        written(order),
        cursor_value(&place.value),
        cursor_value(&place.id)
    ]);
    URL_SAFE_NO_PAD.encode(parts.to_string())
}

fn cursor_value(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
        Value::Time(time) => json!(microseconds(*time)),
        Value::Id(id) => json!(id),
    }
}

fn microseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// The place that a cursor of a list in this order names.
pub(super) fn place<K: SortKey>(order: Order<K>, text: &str) -> Result<Position, Invalid> {
    let malformed = Invalid {
        code: "malformed",
        message: "must be the cursor of a Link of this list",
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed)?;
    let parts: (String, serde_json::Value, serde_json::Value) =
        serde_json::from_slice(&bytes).map_err(|_| malformed)?;
    let (sort, value, id) = parts;
    if sort != written(order) {
        return Err(Invalid {
            code: "other_sort",
            message: "is of a list that is sorted otherwise",
        });
    }
    let value = placed(order.key.kind(), &value).ok_or(malformed)?;
    let id = placed(K::ID, &id).ok_or(malformed)?;
    Ok(Position { value, id })
}

fn placed(kind: Kind, value: &serde_json::Value) -> Option<Value> {
    Some(match kind {
        // PostgreSQL's text holds no U+0000.
        Kind::Text => Value::Text(
            value
                .as_str()
                .filter(|text| !text.contains('\0'))?
                .to_owned(),
        ),
        Kind::Number => Value::Number(value.as_i64()?),
        Kind::Time => {
            let nanoseconds = i128::from(value.as_i64()?) * 1_000;
            let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
            Value::Time(of_our_calendar(time)?)
        }
        Kind::Id => Value::Id(Uuid::try_parse(value.as_str()?).ok()?),
    })
}
