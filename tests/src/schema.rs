//! Does a JSON value fit a schema of the `OpenAPI` document? As much of JSON Schema as the document
//! uses, and stricter in one thing: a member that the schema does not name is a fault.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
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
        if let (Some(minimum), Some(number)) = (part["minimum"].as_f64(), value.as_f64()) {
            ensure!(number >= minimum, "{number} is below {minimum}");
        }
        if let (Some(format), Some(text)) = (part["format"].as_str(), value.as_str()) {
            has_format(format, text)?;
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

fn has_format(format: &str, text: &str) -> anyhow::Result<()> {
    match format {
        "uuid" => drop(Uuid::try_parse(text).with_context(|| format!("no UUID: {text}"))?),
        "date-time" => {
            OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("no time: {text}"))?;
        }
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
            { "id": id, "at": "2026-01-01T00:00:00.5Z", "word": "a" },
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
            json!([{ "id": id, "free": [] }]),
            json!([{ "id": id, "secret": 1 }]),
        ] {
            check(&document, &pairs, &bad).unwrap_err();
        }
        check(&document, &more, &json!({ "id": id })).unwrap_err();
        check(&document, &more, &json!({ "id": id, "x": 1, "y": 1 })).unwrap_err();
    }
}
