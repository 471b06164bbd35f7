use serde_json::json;

use super::*;
use crate::domain::{DisplayName, Email, Metadata};

fn fields(value: &Value) -> Fields {
    Fields::new(value.as_object().unwrap().clone())
}

#[test]
fn every_fault_is_reported_at_once() {
    let mut fields = fields(&json!({ "email": 7, "metadata": [], "role": "x", "age": null }));
    let name = fields.required_text::<DisplayName>("name");
    let email = fields.required_text::<Email>("email");
    let metadata = fields.or_default("metadata", Metadata::try_from);
    let errors = fields.finish(name.zip(email).zip(metadata)).unwrap_err();
    let found: Vec<_> = errors
        .iter()
        .map(|e| (e.field.as_str(), &*e.code))
        .collect();
    assert_eq!(
        found,
        [
            ("name", "missing"),
            ("email", "wrong_type"),
            ("metadata", "wrong_type"),
            ("age", "unknown_field"),
            ("role", "unknown_field"),
        ]
    );
}

#[test]
fn an_unknown_field_is_enough() {
    let mut fields = fields(&json!({ "name": "Ann", "x": 1 }));
    let name = fields.required_text::<DisplayName>("name");
    assert_eq!(fields.finish(name).unwrap_err().len(), 1);
}

#[test]
fn optional_may_be_missing_or_null() {
    for body in [json!({}), json!({ "metadata": null })] {
        let mut fields = fields(&body);
        let metadata = fields.or_default("metadata", Metadata::try_from);
        assert_eq!(fields.finish(metadata).unwrap(), Metadata::default());
    }
}

#[test]
fn a_change_tells_absent_null_and_value_apart() {
    let mut all = fields(&json!({ "a": null, "b": true, "d": { "x": null, "y": 1 } }));
    assert_eq!(all.patch_nullable("a", boolean), Some(Patch::Clear));
    assert_eq!(all.patch_nullable("b", boolean), Some(Patch::Set(true)));
    assert_eq!(all.patch_nullable("c", boolean), Some(Patch::Keep));
    assert_eq!(all.patch("c", boolean), Some(None));
    let inner = all.object("d", |d| {
        let x = d.patch_nullable("x", boolean);
        x.zip(d.patch("y", map).or(Some(None)))
    });
    assert_eq!(inner, None, "y is no object");
    let errors = all.finish(Some(())).unwrap_err();
    assert_eq!(
        (errors[0].field.as_str(), &*errors[0].code),
        ("d.y", "wrong_type")
    );
}

#[test]
fn what_a_change_may_not_say_is_refused_by_name() {
    let mut all = fields(&json!({
        "id": 1, "name": null, "n": -1, "m": 1.5, "call_forward": { "busy": 7, "x": 1 }
    }));
    all.read_only(&["id", "created_at"]);
    let name = all.patch("name", text::<DisplayName>);
    let n = all.patch("n", number::<crate::domain::ExtensionNumber>);
    let m = all.patch("m", number::<crate::domain::ExtensionNumber>);
    let forward = all.object("call_forward", |f| f.patch("busy", text::<DisplayName>));
    assert!(name.is_none() && n.is_none() && m.is_none() && forward.is_none());
    let errors = all.finish(Some(())).unwrap_err();
    let found: Vec<_> = errors
        .iter()
        .map(|e| (e.field.as_str(), &*e.code))
        .collect();
    assert_eq!(
        found,
        [
            ("id", "read_only"),
            ("name", "not_nullable"),
            ("n", "out_of_range"),
            ("m", "out_of_range"),
            ("call_forward.busy", "wrong_type"),
            ("call_forward.x", "unknown_field"),
        ]
    );
}

#[test]
fn json_is_read_strictly() {
    let text = br#"{"a": [1, -2, 1.5, "x", null, true, {"b": {}}]}"#;
    assert_eq!(
        parse_json(text).unwrap(),
        serde_json::from_slice::<Value>(text).unwrap()
    );
    for bad in [
        &b"{\"a\":1,\"a\":2}"[..],
        b"{\"x\":{\"a\":1,\"a\":2}}",
        b"{} {}",
        b"{",
        b"",
        b"{\"a\":1e999}",
        b"\"\xff\"",
        "[".repeat(200).as_bytes(),
    ] {
        assert!(parse_json(bad).is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

/// Small values need far more memory than text.
#[test]
fn values_take_no_more_memory_than_there_is() {
    let list = |unit: &str, count: usize| format!("[{}0]", format!("{unit},").repeat(count));
    let refused = |text: String| {
        let read = parse_json(text.as_bytes());
        read.is_err_and(|error| error.to_string().contains("too many values"))
    };
    assert!(!refused(list("{}", 250_000)));
    assert!(refused(list("{}", 300_000)));
    for (unit, count) in [
        ("[0]", 1_100_000),
        ("\"\"", 3_200_000),
        ("0", 6_300_000),
        ("{\"a\":[0]}", 250_000),
    ] {
        assert!(refused(list(unit, count)), "{unit}");
    }
    // Several texts share what there is.
    let room = Room::new(100_000);
    let text = list("\"a\"", 1_000);
    assert!(parse_json_within(&room, text.as_bytes()).is_ok());
    assert!(parse_json_within(&room, text.as_bytes()).is_err());
    assert!(room.is_exhausted());
}
