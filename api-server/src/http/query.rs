//! Reading a query strictly: what is not well encoded, or said twice, is refused like any other
//! mistake instead of being ignored.

use std::fmt::Write as _;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::fields::Fields;
use crate::domain::Invalid;
use crate::domain::pbx::PbxRef;

/// How many rows a page holds unless told otherwise.
pub(super) const LIMIT_DEFAULT: u16 = 50;

/// How many at most.
pub(super) const LIMIT_MAX: u16 = 200;

/// The parameters of a query: every value is text.
pub(super) struct Query(pub(super) Fields);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(read(parts.uri.query().unwrap_or_default())))
    }
}

/// Reads `application/x-www-form-urlencoded` text; what is wrong with it is noted in the fields.
pub(super) fn read(query: &str) -> Fields {
    let (mut given, mut faults) = (Map::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some((name, value)) = decoded(name).zip(decoded(value)) else {
            faults.push((
                name.to_owned(),
                "malformed",
                "must be UTF-8, percent-encoded",
            ));
            continue;
        };
        if given.contains_key(&name) {
            faults.push((name, "repeated", "must be given only once"));
        } else {
            given.insert(name, Value::String(value));
        }
    }
    let mut fields = Fields::new(given);
    for (name, code, message) in faults {
        fields.refuse(&name, code, message);
    }
    fields
}

/// The well-formed parameters of a query that [`read`] found no fault with, decoded.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        decoded(name).zip(decoded(value))
    })
}

/// Text as a name or value of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => 16 * digit(rest.next()?)? + digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

/// The parameter `limit`: how many rows a page holds. `None` means that an error was noted.
pub(super) fn limit(fields: &mut Fields) -> Option<u16> {
    let limit = fields.or_default("limit", |value| {
        let limit = value.as_str().and_then(|text| text.parse::<u16>().ok());
        let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.map(Some).ok_or(Invalid {
            code: "out_of_range",
            message: "must be a number from 1 to 200",
        })
    });
    limit.map(|limit| limit.unwrap_or(LIMIT_DEFAULT))
}

/// Reads the parameter, or field of a body, `pbx`: the id or the name of one.
pub(super) fn pbx(value: Value) -> Result<Option<PbxRef>, Invalid> {
    match value {
        Value::String(text) => text.parse().map(Some),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(Invalid {
                code: "wrong_type",
                message: "must be a string",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_text_is_decoded() {
        for (query, name, value) in [
            ("limit=7", "limit", "7"),
            ("&limit=7&", "limit", "7"),
            ("a+b=c%20d", "a b", "c d"),
            ("a=%C3%A9=%3d", "a", "é=="),
            ("a", "a", ""),
        ] {
            let mut fields = read(query);
            let text = fields.or_default(name, |value| Ok(value.as_str().map(str::to_owned)));
            let text = fields.finish(text).unwrap();
            assert_eq!(text.as_deref(), Some(value), "{query}");
        }
    }

    #[test]
    fn what_is_not_is_refused_by_name() {
        for (query, name, code) in [
            ("limit=%", "limit", "malformed"),
            ("limit=%1", "limit", "malformed"),
            ("limit=%zz", "limit", "malformed"),
            ("limit=%+1", "limit", "malformed"),
            ("limit=%ff", "limit", "malformed"),
            ("%ff=1", "%ff", "malformed"),
            ("limit=1&limit=1", "limit", "repeated"),
            ("limit=1&%6cimit=2", "limit", "repeated"),
        ] {
            let mut fields = read(query);
            let limit = limit(&mut fields);
            let errors = fields.finish(limit).unwrap_err();
            let found: Vec<_> = errors
                .iter()
                .map(|e| (e.field.as_str(), &*e.code))
                .collect();
            assert_eq!(found, [(name, code)], "{query}");
        }
    }
}
