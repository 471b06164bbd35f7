//! What a portal answers.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

/// What came back.
#[derive(Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// From sending to the last byte.
    pub took: Duration,
    pub(super) what: String,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {self}"))
    }

    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// The content type, or an empty text.
    pub fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE.as_str())
    }

    /// The path and query of the next page of a list (RFC 8288), if there is one.
    pub fn next(&self) -> Option<&str> {
        let link = self.header("link").strip_suffix(">; rel=\"next\"")?;
        link.strip_prefix('<')
    }

    /// This reply, if its status is `status`.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        ensure!(self.status == status, "wanted {status}, got {self}");
        Ok(self)
    }

    /// The `code` of a problem document (RFC 9457) of this status.
    pub fn problem(&self, status: u16) -> anyhow::Result<String> {
        ensure!(self.status == status, "wanted {status}, got {self}");
        let content_type = self.content_type();
        ensure!(
            content_type.starts_with("application/problem+json"),
            "no problem document ({content_type}): {self}"
        );
        let body = self.json()?;
        ensure!(body["status"] == status, "its status differs: {self}");
        let code = body["code"].as_str();
        Ok(code.with_context(|| format!("no code: {self}"))?.to_owned())
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} → {}: {}", self.what, self.status, self.text())
    }
}
