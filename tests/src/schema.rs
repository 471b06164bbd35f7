//! Does a JSON value fit a schema of the `OpenAPI` document? As much of JSON Schema as the document
//! uses, and stricter in one thing: a member that the schema does not name is a fault.

use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use regex::Regex;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Checks `value`; `document` is where references lead.
pub fn check(document: &Value, schema: &Value, value: &Value) -> anyhow::Result<()> {
    fits(document, schema, value)?;
    closed(document, schema, value)
}

/// What `schema` itself says, and the schema that it refers to.
fn parts<'a>(document: &'a Value, schema: &'a Value) -> anyhow::Result<Vec<&'a Value>> {
    let mut parts = vec![schema];
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference
            .strip_prefix('#')
            .and_then(|path| document.pointer(path));
        parts.push(target.with_context(|| format!("{reference} leads nowhere"))?);
    }
    Ok(parts)
}

fn fits(document: &Value, schema: &Value, value: &Value) -> anyhow::Result<()> {
    for part in parts(document, schema)? {
        has_type(&part["type"], value)?;
        if let Some(allowed) = part["enum"].as_array() {
            ensure!(allowed.contains(value), "{value} is none of {allowed:?}");
        }
        within(part, value)?;
        if let Some(text) = value.as_str() {
            is_text(part, text)?;
        }
        for required in part["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap_or_default();
            ensure!(value.get(name).is_some(), "{name} is missing in {value}");
        }
        for (name, schema) in part["properties"].as_object().into_iter().flatten() {
            if let Some(member) = value.get(name) {
                check(document, schema, member).with_context(|| format!("in {name}"))?;
            }
        }
        if let (Some(items), Some(array)) = (part.get("items"), value.as_array()) {
            for item in array {
                check(document, items, item)?;
            }
        }
        for schema in part["allOf"].as_array().into_iter().flatten() {
            fits(document, schema, value)?;
        }
        if let Some(choices) = part["oneOf"].as_array() {
            let fitting = choices
                .iter()
                .filter(|choice| check(document, choice, value).is_ok());
            ensure!(fitting.count() == 1, "not one of {choices:?}: {value}");
        }
    }
    Ok(())
}

/// Fails when an object has a member that its schema does not name. A schema that names none takes
/// all.
fn closed(document: &Value, schema: &Value, value: &Value) -> anyhow::Result<()> {
    let mut known = BTreeSet::new();
    collect_names(document, schema, &mut known)?;
    if let (Some(object), false) = (value.as_object(), known.is_empty()) {
        let unknown = object.keys().find(|name| !known.contains(name.as_str()));
        ensure!(
            unknown.is_none(),
            "{} is not documented",
            unknown.map_or("", |name| name)
        );
    }
    Ok(())
}

fn collect_names<'a>(
    document: &'a Value,
    schema: &'a Value,
    known: &mut BTreeSet<&'a str>,
) -> anyhow::Result<()> {
    for part in parts(document, schema)? {
        let properties = part["properties"].as_object().into_iter().flatten();
        known.extend(properties.map(|(name, _)| name.as_str()));
        for key in ["allOf", "oneOf"] {
            for schema in part[key].as_array().into_iter().flatten() {
                collect_names(document, schema, known)?;
            }
        }
    }
    Ok(())
}

fn has_type(wanted: &Value, value: &Value) -> anyhow::Result<()> {
    let wanted: Vec<&str> = match wanted {
        Value::Null => return Ok(()),
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    };
    let is = |name: &str| match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(number) if number.is_f64() => name == "number",
        Value::Number(_) => name == "integer" || name == "number",
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
    };
    ensure!(
        wanted.iter().any(|name| is(name)),
        "{value} is no {wanted:?}"
    );
    Ok(())
}

/// Numbers, lengths and sizes lie within their bounds.
fn within(schema: &Value, value: &Value) -> anyhow::Result<()> {
    let count = |count: usize| u32::try_from(count).map(f64::from).ok();
    let (number, text) = (value.as_f64(), value.as_str());
    let items = value.as_array();
    for (least, most, size) in [
        ("minimum", "maximum", number),
        (
            "minLength",
            "maxLength",
            text.and_then(|text| count(text.chars().count())),
        ),
        (
            "minItems",
            "maxItems",
            items.and_then(|items| count(items.len())),
        ),
    ] {
        let Some(size) = size else { continue };
        let too_small = schema[least].as_f64().is_some_and(|least| size < least);
        let too_large = schema[most].as_f64().is_some_and(|most| size > most);
        ensure!(!too_small && !too_large, "{value} is not within {schema}");
    }
    if let (Some(true), Some(items)) = (schema["uniqueItems"].as_bool(), items) {
        let twice = |(at, item): (usize, &Value)| items[..at].contains(item);
        ensure!(
            !items.iter().enumerate().any(twice),
            "{value} has something twice"
        );
    }
    Ok(())
}

fn is_text(schema: &Value, text: &str) -> anyhow::Result<()> {
    if let Some(format) = schema["format"].as_str() {
        has_format(format, text)?;
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        ensure!(matches(pattern, text)?, "{text:?} does not match {pattern}");
    }
    Ok(())
}

/// Whether a text matches a pattern. A pattern is read once, because that takes long.
fn matches(pattern: &str, text: &str) -> anyhow::Result<bool> {
    static READ: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if !read.contains_key(pattern) {
        let regex = Regex::new(pattern).with_context(|| format!("{pattern} is no pattern"))?;
        read.insert(pattern.to_owned(), regex);
    }
    Ok(read.get(pattern).is_some_and(|regex| regex.is_match(text)))
}

fn has_format(format: &str, text: &str) -> anyhow::Result<()> {
    match format {
        "uuid" => {
            let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
            id.with_context(|| format!("no UUID: {text}"))?;
        }
        "date-time" => {
            OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("no time: {text}"))?;
        }
        // It only says how to show it.
        "password" => {}
        other => bail!("format {other} is not known here"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_does_not_fit_is_noticed() {
        let document = json!({ "components": { "schemas": {
            "Pair": { "type": "object", "required": ["id"], "properties": {
                "id": { "type": "string", "format": "uuid" },
                "at": { "type": ["string", "null"], "format": "date-time" },
                "count": { "type": "integer", "minimum": 0 },
                "most": { "type": ["integer", "null"], "minimum": 0 },
                "free": { "type": "object" },
                "few": { "type": "array", "minItems": 1, "uniqueItems": true },
                "code": { "type": "string", "minLength": 2, "maxLength": 3, "pattern": "^[a-z]+$" },
                "word": { "oneOf": [{ "type": "null" }, { "type": "string", "enum": ["a"] }] },
            } },
            "More": { "allOf": [
                { "$ref": "#/components/schemas/Pair" },
                { "type": "object", "required": ["x"], "properties": { "x": { "type": "number" } } },
            ] },
        } } });
        let id = Uuid::nil().to_string();
        let pairs = json!({ "type": "array", "items": { "$ref": "#/components/schemas/Pair" } });
        let more = json!({ "$ref": "#/components/schemas/More" });
        let good = json!([
            { "id": id },
            { "id": id, "at": null, "count": 0, "most": null, "free": { "any": 1 }, "word": null },
            { "id": id, "at": "2026-01-01T00:00:00.5Z", "word": "a", "few": [1, 2], "code": "abc" },
        ]);
        check(&document, &pairs, &good).unwrap();
        check(&document, &more, &json!({ "id": id, "x": 1.5 })).unwrap();
        for bad in [
            json!({ "id": id }),
            json!([{}]),
            json!([{ "id": "x" }]),
            json!([{ "id": id, "at": "yesterday" }]),
            json!([{ "id": id, "count": -1 }]),
            json!([{ "id": id, "count": 1.5 }]),
            json!([{ "id": id, "count": null }]),
            json!([{ "id": id, "word": "b" }]),
            json!([{ "id": id, "few": [] }]),
            json!([{ "id": id, "few": [1, 1] }]),
            json!([{ "id": id, "code": "a" }]),
            json!([{ "id": id, "code": "abcd" }]),
            json!([{ "id": id, "code": "aB" }]),
            json!([{ "id": id, "free": [] }]),
            json!([{ "id": id, "secret": 1 }]),
        ] {
            check(&document, &pairs, &bad).unwrap_err();
        }
        check(&document, &more, &json!({ "id": id })).unwrap_err();
        check(&document, &more, &json!({ "id": id, "x": 1, "y": 1 })).unwrap_err();
    }
}
