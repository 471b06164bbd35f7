//! Text that PostgreSQL takes.

use serde_json::Value;

/// PostgreSQL stores no U+0000, but what Asterisk or a client said may hold one.
pub(super) fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nul).collect()),
        Value::Object(map) => {
            let pairs = map
                .into_iter()
                .map(|(key, inner)| (key, without_nul(inner)));
            Value::Object(pairs.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced_wherever_it_stands() {
        let value = serde_json::json!({ "a": ["x\0", { "b": "\0" }], "c": 1 });
        let expected = serde_json::json!({ "a": ["x\u{fffd}", { "b": "\u{fffd}" }], "c": 1 });
        assert_eq!(without_nul(value), expected);
    }
}
