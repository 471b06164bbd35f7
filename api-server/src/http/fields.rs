//! Reading a JSON object so that everything that is wrong with it is reported at once.

use std::borrow::Cow;
use std::str::FromStr;

use serde_json::{Map, Value};
use shared::bundle::Digest;

use crate::domain::Invalid;
use crate::domain::patch::Patch;

mod json;

pub(super) use json::{Room, parse_json, parse_json_within};

/// Longest field name that an error repeats, in characters.
const NAME_CHARS_MAX: usize = 64;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The name in the body or in the query.
    #[schema(example = "email")]
    pub field: String,
    /// For programs: `missing`, `wrong_type`, `unknown_field`, `empty`, `too_long`, `malformed`,
    /// `control_character`, `too_deep`, `out_of_range`, `repeated`, `read_only`, `not_nullable`,
    /// `other_sort`, and those of single fields.
    #[schema(value_type = String, example = "malformed")]
    pub code: Cow<'static, str>,
    /// For people.
    #[schema(value_type = String)]
    pub message: Cow<'static, str>,
}

impl FieldError {
    /// What is wrong with `field`, whose name is not of a client.
    pub(super) fn new(field: &str, Invalid { code, message }: Invalid) -> Self {
        Self {
            field: field.to_owned(),
            code: code.into(),
            message: message.into(),
        }
    }
}

/// What was read of a field; `None` means that an error was noted.
pub(super) type Noted<T> = Option<T>;

/// The fields of an object that nobody has read yet, and what was wrong with the others.
#[derive(Debug, Default)]
pub(super) struct Fields {
    object: Map<String, Value>,
    errors: Vec<FieldError>,
    /// What stands before each name in an error: `call_forward.`, or nothing.
    prefix: String,
}

impl Fields {
    /// The fields of an object.
    pub(super) fn new(object: Map<String, Value>) -> Self {
        Self {
            object,
            ..Self::default()
        }
    }

    /// The hash of all of them but one.
    pub(super) fn digest_but(&self, name: &str) -> Digest {
        let others = self.object.iter().filter(|(given, _)| *given != name);
        let others: Vec<(&String, &Value)> = others.collect();
        // What was JSON can be written as JSON.
        Digest::of(&serde_json::to_vec(&others).unwrap_or_default())
    }

    /// Notes what is wrong with a field that cannot be read at all.
    pub(super) fn refuse(&mut self, name: &str, code: &'static str, message: &'static str) {
        self.fault::<()>(name, code, message);
    }

    /// A string that must be there. `None` means that an error was noted.
    pub(super) fn required_text<T: FromStr<Err = Invalid>>(&mut self, name: &str) -> Option<T> {
        self.required(name, text)
    }

    /// A value that may be missing or null. `None` means that an error was noted.
    pub(super) fn or_default<T: Default>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        match self.object.remove(name) {
            None | Some(Value::Null) => Some(T::default()),
            Some(value) => self.parse(name, value, parse),
        }
    }

    /// A value that must be there and is not null. `None` means that an error was noted.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        match self.object.remove(name) {
            Some(value) => self.parse(name, value, parse),
            None => self.fault(name, "missing", "is required"),
        }
    }

    /// A value that may be missing or null. `None` means that an error was noted.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Noted<Option<T>> {
        self.or_default(name, |value| parse(value).map(Some))
    }

    /// What a change says of a field that cannot be null: `Some(None)` is nothing. `None` means
    /// that an error was noted.
    pub(super) fn patch<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Noted<Option<T>> {
        match self.object.remove(name) {
            None => Some(None),
            Some(Value::Null) => self.fault(name, "not_nullable", "cannot be null"),
            Some(value) => self.parse(name, value, parse).map(Some),
        }
    }

    /// What a change says of a field that may be null. `None` means that an error was noted.
    pub(super) fn patch_nullable<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Option<Patch<T>> {
        match self.object.remove(name) {
            None => Some(Patch::Keep),
            Some(Value::Null) => Some(Patch::Clear),
            Some(value) => self.parse(name, value, parse).map(Patch::Set),
        }
    }

    /// An object with fields of its own, whose errors are named like `call_forward.busy`. `read`
    /// gets its fields and takes every one that it knows; `Some(None)` is nothing, `None` means that
    /// an error was noted.
    pub(super) fn object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Noted<Option<T>> {
        let object = match self.object.remove(name) {
            None => return Some(None),
            Some(Value::Null) => return self.fault(name, "not_nullable", "cannot be null"),
            Some(Value::Object(object)) => object,
            Some(_) => return self.fault(name, "wrong_type", "must be a JSON object"),
        };
        let mut inner = Self {
            object,
            errors: Vec::new(),
            prefix: format!("{}{name}.", self.prefix),
        };
        let value = read(&mut inner);
        match inner.finish(value) {
            Ok(value) => Some(Some(value)),
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }

    /// Refuses fields that can be read but not be changed this way.
    pub(super) fn read_only(&mut self, names: &[&str]) {
        for name in names {
            if self.object.remove(*name).is_some() {
                self.fault::<()>(name, "read_only", "cannot be changed here");
            }
        }
    }

    fn parse<T>(
        &mut self,
        name: &str,
        value: Value,
        parse: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(Invalid { code, message }) => self.fault(name, code, message),
        }
    }

    fn fault<T>(&mut self, name: &str, code: &'static str, message: &'static str) -> Option<T> {
        self.errors.push(FieldError {
            field: self
                .prefix
                .chars()
                .chain(name.chars().take(NAME_CHARS_MAX))
                .collect(),
            code: code.into(),
            message: message.into(),
        });
        None
    }

    /// `value`, unless anything was wrong. What nobody has read is unknown.
    ///
    /// Each `None` of the readers has noted its error, so `value` is `Some` when there is none.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        for (name, _) in std::mem::take(&mut self.object) {
            self.fault::<()>(&name, "unknown_field", "is not a field of this request");
        }
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            Some(_) | None => Err(self.errors),
        }
    }
}

/// Reads a string.
pub(super) fn text<T: FromStr<Err = Invalid>>(value: Value) -> Result<T, Invalid> {
    match value {
        Value::String(text) => text.parse(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(Invalid {
                code: "wrong_type",
                message: "must be a string",
            })
        }
    }
}

/// Reads `true` or `false`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
pub(super) fn boolean(value: Value) -> Result<bool, Invalid> {
    value.as_bool().ok_or(Invalid {
        code: "wrong_type",
        message: "must be true or false",
    })
}

/// Reads `true` or `false` in a query, where everything is text.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
pub(super) fn boolean_text(value: Value) -> Result<bool, Invalid> {
    let read = value.as_str().and_then(|text| text.parse().ok());
    read.ok_or(Invalid {
        code: "malformed",
        message: "must be true or false",
    })
}

/// Reads a whole number that may be a `T`; whether it is one, `T` says.
pub(super) fn number<T: TryFrom<u32, Error = Invalid>>(value: Value) -> Result<T, Invalid> {
    let Value::Number(number) = value else {
        return Err(Invalid {
            code: "wrong_type",
            message: "must be a whole number",
        });
    };
    let whole = number.as_u64().and_then(|whole| u32::try_from(whole).ok());
    whole.map_or(
        Err(Invalid {
            code: "out_of_range",
            message: "must be a whole number, not negative and not that large",
        }),
        T::try_from,
    )
}

/// Reads an object as it is.
pub(super) fn map(value: Value) -> Result<Map<String, Value>, Invalid> {
    match value {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Invalid {
                code: "wrong_type",
                message: "must be a JSON object",
            })
        }
    }
}

#[cfg(test)]
mod tests;
