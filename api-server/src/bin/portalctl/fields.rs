//! What is set by options: the fields of a body, of which only those that were named are sent.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Longest key that the portal takes.
const KEY_BYTES_MAX: usize = 255;

/// The fields of a body.
#[derive(Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Sets what was named.
    pub(crate) fn set<T: serde::Serialize>(mut self, name: &str, value: Option<&T>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), json!(value));
        }
        self
    }

    /// Sets what was named; an empty text stands for nothing.
    pub(crate) fn set_or_clear(mut self, name: &str, value: Option<&String>) -> Self {
        if let Some(text) = value {
            let value = if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            };
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// Sets an object, unless nothing was named of it.
    pub(crate) fn object(mut self, name: &str, object: Self) -> Self {
        if !object.0.is_empty() {
            self.0.insert(name.to_owned(), Value::Object(object.0));
        }
        self
    }

    /// Sets a JSON value.
    pub(crate) fn value(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// The body of something new.
    pub(crate) fn body(self) -> Value {
        Value::Object(self.0)
    }

    /// The body of a change.
    ///
    /// # Errors
    /// Nothing would be changed.
    pub(crate) fn changes(self) -> Result<Value, Failure> {
        if self.0.is_empty() {
            return Err(Failure::Usage("say what to change: see --help".to_owned()));
        }
        Ok(self.body())
    }
}

/// By what something is known that is done once.
#[derive(Args, Debug)]
pub(crate) struct Key {
    /// A name of your choice for this request: sent again under the same one within a day, it is done
    /// once and answered as the first time
    #[arg(long, value_name = "KEY", value_parser = key)]
    idempotency_key: Option<String>,
}

impl Key {
    /// The one that was given.
    pub(crate) fn given(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }
}

/// As the portal takes it.
fn key(text: &str) -> Result<String, String> {
    let good = (1..=KEY_BYTES_MAX).contains(&text.len());
    if good && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 255 visible ASCII characters".to_owned())
    }
}

/// What people keep beside an entity.
#[derive(Args, Debug)]
pub(crate) struct Metadata {
    /// Merged into what is kept beside it: a JSON object, in which null removes a member
    #[arg(long, value_name = "JSON", value_parser = object)]
    metadata: Option<Value>,
}

impl Metadata {
    pub(crate) fn fields(&self, fields: Fields) -> Fields {
        fields.set("metadata", self.metadata.as_ref())
    }
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("must be a JSON object, as in {\"desk\": \"3.14\"}".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// `name=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_named_is_sent() {
        let fields = Fields::default()
            .set::<u32>("extension", None)
            .set("dnd", Some(&false))
            .set_or_clear("outbound_caller_id", Some(&String::new()))
            .set_or_clear("name", Some(&"Ann".to_owned()))
            .object("voicemail", Fields::default())
            .object(
                "call_forward",
                Fields::default().set("delay_seconds", Some(&9)),
            );
        let body = fields.changes().unwrap();
        let expected = json!({
            "dnd": false, "outbound_caller_id": null, "name": "Ann",
            "call_forward": { "delay_seconds": 9 },
        });
        assert_eq!(body, expected);
        assert!(Fields::default().changes().is_err());
    }
}
