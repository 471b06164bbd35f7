//! Entity tags (RFC 9110, 8.8.3) and the conditions that name them.

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::ApiError;
use crate::domain::idempotency::Fingerprint;
use crate::domain::{Expected, Version};
use crate::services::Error;

/// A strong entity tag, with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    /// That of a row: `"<version>"`.
    pub(super) fn version(Version(version): Version) -> Self {
        Self(format!("\"{version}\""))
    }

    /// That of something that is only read: a hash of what it says.
    pub(super) fn content(bytes: &[u8]) -> Self {
        let Fingerprint(hash) = Fingerprint::of([bytes]);
        let half = u128::from_be_bytes(*hash.first_chunk().unwrap_or(&[0; 16]));
        Self(format!("\"{half:032x}\""))
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The row's version that the tag stands for.
    fn to_version(&self) -> Option<Version> {
        let digits = self.0.strip_prefix('"')?.strip_suffix('"')?;
        let version = Version(digits.parse().ok()?);
        // One version, one tag: `"+1"` and `"01"` are none.
        (Self::version(version) == *self).then_some(version)
    }
}

/// A single resource with its entity tag: 200, or 304 when the client has it ([`not_modified`]).
pub(super) struct Tagged<T>(pub(super) Tag, pub(super) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Self(tag, body) = self;
        match serde_json::to_vec(&body) {
            Ok(bytes) => tagged(&tag, bytes),
            Err(_) => ApiError::Panicked.into_response(),
        }
    }
}

/// A single resource without versions, whose entity tag is made from what it says.
pub(super) struct TaggedByContent<T>(pub(super) T);

impl<T: Serialize> IntoResponse for TaggedByContent<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => tagged(&Tag::content(&bytes), bytes),
            Err(_) => ApiError::Panicked.into_response(),
        }
    }
}

fn tagged(tag: &Tag, bytes: Vec<u8>) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (ETAG, tag.as_str())];
    (headers, bytes).into_response()
}

/// Answers 304 instead of what the client has already (`If-None-Match`).
pub(super) async fn not_modified(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || !request.headers().contains_key(IF_NONE_MATCH) {
        return next.run(request).await;
    }
    let known = match conditions(request.headers(), &IF_NONE_MATCH, "If-None-Match") {
        Ok(known) => known,
        Err(error) => return error.into_response(),
    };
    let mut response = next.run(request).await;
    let tag = response.headers().get(ETAG).map(HeaderValue::as_bytes);
    // The weak comparison: `W/` is left out of account.
    let has = match (tag, &known) {
        (None, _) | (_, Conditions::None) => false,
        (Some(_), Conditions::Any) => true,
        (Some(tag), Conditions::Tags(tags)) => {
            tags.iter().any(|known| known.tag.0.as_bytes() == tag)
        }
    };
    if has && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

/// Which state of a resource may be changed: `If-Match`.
pub(super) struct IfMatch(pub(super) Expected);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(
            match conditions(&parts.headers, &IF_MATCH, "If-Match")? {
                Conditions::None => Expected::Anything,
                Conditions::Any => Expected::Existing,
                // Weak tags never match (RFC 9110, 13.1.1).
                Conditions::Tags(tags) => Expected::OneOf(
                    tags.iter()
                        .filter(|given| !given.weak)
                        .filter_map(|given| given.tag.to_version())
                        .collect(),
                ),
            },
        ))
    }
}

impl IfMatch {
    /// What it says; refused when it says nothing, because what would be overwritten cannot be got
    /// back.
    pub(super) fn required(self) -> Result<Expected, ApiError> {
        match self.0 {
            Expected::Anything => Err(Error::PreconditionRequired.into()),
            expected @ (Expected::Existing | Expected::OneOf(_)) => Ok(expected),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Conditions {
    None,
    Any,
    Tags(Vec<Given>),
}

#[derive(Debug, PartialEq, Eq)]
struct Given {
    weak: bool,
    tag: Tag,
}

fn conditions(
    headers: &HeaderMap,
    header: &HeaderName,
    name: &'static str,
) -> Result<Conditions, ApiError> {
    let malformed = || ApiError::InvalidHeader(name, "must be * or a list of entity tags");
    let mut given = Vec::new();
    let mut any = false;
    let mut values = 0;
    for value in headers.get_all(header) {
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| malformed())?;
        values += 1;
        if text.trim() == "*" {
            any = true;
        } else {
            tags(text, &mut given).ok_or_else(malformed)?;
        }
    }
    match (any, given.is_empty(), values) {
        (_, _, 0) => Ok(Conditions::None),
        (true, true, 1) => Ok(Conditions::Any),
        (false, false, _) => Ok(Conditions::Tags(given)),
        _ => Err(malformed()),
    }
}

/// Reads `"a", W/"b"`; `None` when it is no such list.
fn tags(text: &str, given: &mut Vec<Given>) -> Option<()> {
    let mut rest = text.trim();
    loop {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inner = quoted.strip_prefix('"')?;
        let (opaque, after) = inner.split_once('"')?;
        let plain = |c: char| !c.is_ascii_control() && c != ' ';
        opaque.chars().all(plain).then_some(())?;
        let tag = Tag(format!("\"{opaque}\""));
        given.push(Given { weak, tag });
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(());
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Expected, ()> {
        let mut request = Request::new(Body::empty());
        for value in values {
            request
                .headers_mut()
                .append(IF_MATCH, value.parse().unwrap());
        }
        let (mut parts, _) = request.into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let read = runtime.block_on(IfMatch::from_request_parts(&mut parts, &()));
        read.map(|IfMatch(expected)| expected).map_err(|_| ())
    }

    #[test]
    fn if_match_names_versions() {
        let one_of = |versions: &[i64]| {
            let versions = versions.iter().map(|version| Version(*version));
            Ok(Expected::OneOf(versions.collect()))
        };
        assert_eq!(read(&[]), Ok(Expected::Anything));
        assert_eq!(read(&[" * "]), Ok(Expected::Existing));
        assert_eq!(read(&["\"7\""]), one_of(&[7]));
        assert_eq!(read(&["\"7\" ,\"8\"", "\"9\""]), one_of(&[7, 8, 9]));
        // Well formed, and never the tag of a row.
        for other in [
            "W/\"7\"", "\"x\"", "\"\"", "\"+7\"", "\"07\"", "\"é\"", "\"7,8\"",
        ] {
            assert_eq!(read(&[other]), one_of(&[]), "{other}");
        }
        for bad in [
            "",
            "7",
            "\"7",
            "\"7\" \"8\"",
            "\"7\",",
            "w/\"7\"",
            "*, \"7\"",
            "\"a b\"",
        ] {
            assert_eq!(read(&[bad]), Err(()), "{bad:?}");
        }
        assert_eq!(read(&["*", "\"7\""]), Err(()));
        assert_eq!(read(&["*", "*"]), Err(()));
    }

    #[test]
    fn expectations_are_checked() {
        let current = Version(2);
        for good in [
            Expected::Anything,
            Expected::Existing,
            Expected::OneOf(vec![Version(1), Version(2)]),
        ] {
            assert_eq!(good.check(current), Ok(()));
        }
        for bad in [Expected::OneOf(vec![]), Expected::OneOf(vec![Version(1)])] {
            assert_eq!(bad.check(current).unwrap_err().current, current);
        }
    }

    #[test]
    fn tags_of_content_differ_with_it() {
        assert_ne!(Tag::content(b"a"), Tag::content(b"b"));
        assert_eq!(Tag::content(b"a").as_str().len(), 34);
        assert_eq!(Tag::version(Version(3)).as_str(), "\"3\"");
    }
}
