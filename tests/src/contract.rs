//! Is a reply in the `OpenAPI` document? Path, method, status and content type must be, and the body
//! must fit its schema.

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::events::{self, EVENT_STREAM, ServerEvent};
use crate::schema;

/// The document that a portal serves about itself.
pub struct Contract(Value);

impl Contract {
    /// Takes `/openapi.json`.
    pub fn new(document: Value) -> anyhow::Result<Self> {
        document["paths"]
            .as_object()
            .context("the OpenAPI document has no paths")?;
        Ok(Self(document))
    }

    /// The document.
    pub const fn document(&self) -> &Value {
        &self.0
    }

    /// Checks one exchange together with the reply's body, which is empty when there is none.
    pub fn check_reply(
        &self,
        method: &str,
        path: &str,
        status: u16,
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let content_type = (!body.is_empty()).then_some(content_type);
        let Some(schema) = self.check(method, path, status, content_type)? else {
            return Ok(());
        };
        if content_type.is_some_and(|full| full.starts_with(EVENT_STREAM)) {
            let events = events::read(std::str::from_utf8(body)?)?;
            return events.iter().try_for_each(|event| self.check_event(event));
        }
        let text = content_type.is_some_and(|full| full.starts_with("text/"));
        let value = if text {
            Value::String(std::str::from_utf8(body)?.to_owned())
        } else {
            serde_json::from_slice(body)?
        };
        schema::check(&self.0, schema, &value)
            .with_context(|| format!("{method} {path}: {status} does not fit its schema"))
    }

    /// Checks the data of one event against the schema that the document names for it.
    pub fn check_event(&self, event: &ServerEvent) -> anyhow::Result<()> {
        let schema = match event.name.as_str() {
            "state" => "StateBody",
            "step" => "StepBody",
            "ended" => "ApplyBody",
            other => bail!("events of name {other} are not documented"),
        };
        let reference = serde_json::json!({ "$ref": format!("#/components/schemas/{schema}") });
        schema::check(&self.0, &reference, &event.data)
            .with_context(|| format!("event {} does not fit {schema}", event.name))
    }

    /// Checks one exchange. `content_type` is that of the reply's body, `None` when it has none.
    /// Returns the schema of the body.
    pub fn check(
        &self,
        method: &str,
        path: &str,
        status: u16,
        content_type: Option<&str>,
    ) -> anyhow::Result<Option<&Value>> {
        let path = path.split(['?', '#']).next().unwrap_or(path);
        let item = self
            .path_item(path)
            .with_context(|| format!("{path} is not in the OpenAPI document"))?;
        let operation = item
            .get(method.to_ascii_lowercase())
            .with_context(|| format!("{method} {path} is not in the OpenAPI document"))?;
        let responses = &operation["responses"];
        let class = format!("{}XX", status / 100);
        let response = [status.to_string().as_str(), &class, "default"]
            .into_iter()
            .find_map(|key| responses.get(key))
            .with_context(|| format!("{method} {path}: status {status} is not documented"))?;
        let content = &self.resolve(response)["content"];
        match content_type {
            None if content.is_null() => Ok(None),
            None => bail!("{method} {path}: {status} is documented with a body, but has none"),
            Some(full) => {
                let media_type = full.split(';').next().unwrap_or(full).trim();
                let documented = content.get(media_type).with_context(|| {
                    format!("{method} {path}: {status} is not documented as {media_type}")
                })?;
                let schema = documented.get("schema");
                Ok(Some(
                    schema.with_context(|| format!("{method} {path}: no schema"))?,
                ))
            }
        }
    }

    /// The path as written is preferred to one with parameters.
    fn path_item(&self, path: &str) -> Option<&Value> {
        let paths = self.0["paths"].as_object()?;
        paths.get(path).or_else(|| {
            let mut items = paths.iter();
            let found = items.find(|(template, _)| matches(template, path));
            found.map(|(_, item)| item)
        })
    }

    /// What a reference refers to; anything else is itself.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        value["$ref"]
            .as_str()
            .and_then(|reference| self.0.pointer(reference.strip_prefix('#')?))
            .unwrap_or(value)
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (mut left, mut right) = (template.split('/'), path.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) => {
                let parameter = wanted.starts_with('{') && wanted.ends_with('}');
                let fits = parameter && !given.is_empty();
                if !fits && wanted != given {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_documented_passes() {
        let contract = Contract::new(json!({
            "paths": { "/users/{id}": { "delete": { "responses": {
                "204": { "description": "gone" },
                "404": { "$ref": "#/components/responses/Problem" }
            } } } },
            "components": { "responses": { "Problem": {
                "content": { "application/problem+json": { "schema": { "type": "object" } } }
            } } }
        }));
        let contract = contract.unwrap();
        let problem = Some("application/problem+json; charset=utf-8");
        contract.check("DELETE", "/users/1", 204, None).unwrap();
        contract
            .check("DELETE", "/users/1?a=b", 404, problem)
            .unwrap();
        for (method, path, status, content_type) in [
            ("GET", "/users/1", 200, None),
            ("DELETE", "/users/", 204, None),
            ("DELETE", "/users/1/2", 204, None),
            ("DELETE", "/users/1", 200, None),
            ("DELETE", "/users/1", 204, Some("text/plain")),
            ("DELETE", "/users/1", 404, Some("text/plain")),
            ("DELETE", "/users/1", 404, None),
        ] {
            contract
                .check(method, path, status, content_type)
                .unwrap_err();
        }
        let problem = "application/problem+json";
        contract
            .check_reply("DELETE", "/users/1", 204, "", b"")
            .unwrap();
        contract
            .check_reply("DELETE", "/users/1", 404, problem, b"{}")
            .unwrap();
        for body in [&b"[]"[..], b"{", b""] {
            contract
                .check_reply("DELETE", "/users/1", 404, problem, body)
                .unwrap_err();
        }
    }
}
