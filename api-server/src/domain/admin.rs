//! Who asks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use shared::telemetry::TraceContext;

use super::{Invalid, breaks_a_line};

/// The name in the audit trail of whoever gave none.
const ANONYMOUS: &str = "anonymous";

/// Who an administrator says to be (FR-013). In trusted-network mode nobody proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUser(String);

impl AdminUser {
    /// Whoever gave no name.
    pub fn anonymous() -> Self {
        Self(ANONYMOUS.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AdminUser {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > 100 || text.chars().any(breaks_a_line) {
            Err(Invalid::new(
                "malformed",
                "the name of an administrator is 1 to 100 printable characters",
            ))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// The id under which a request stands in logs, replies and the audit trail, and its place in the
/// trace that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    text: String,
    trace: Option<TraceContext>,
}

impl RequestId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The span of the request.
    pub const fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// With the span of the request.
    #[must_use]
    pub fn in_trace(self, trace: TraceContext) -> Self {
        let trace = Some(trace);
        Self { trace, ..self }
    }

    const fn new(text: String) -> Self {
        let trace = None;
        Self { text, trace }
    }
}

impl FromStr for RequestId {
    type Err = Invalid;

    /// 1 to 64 of `[A-Za-z0-9._-]`, so that a caller's own id cannot forge log lines.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self::new(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "a request id is 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'",
            ))
        }
    }
}

impl From<uuid::Uuid> for RequestId {
    fn from(id: uuid::Uuid) -> Self {
        Self::new(id.to_string())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who asked for something, from where, under which request.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The administrator.
    pub admin: AdminUser,
    /// The request.
    pub request_id: RequestId,
    /// The peer of the TCP connection.
    pub source: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_request_ids_cannot_forge_a_line() {
        assert_eq!(" Ann Ö. ".parse::<AdminUser>().unwrap().as_str(), "Ann Ö.");
        for bad in ["", "  ", "a\nb", "a\u{85}b", "a\u{2028}b", &"a".repeat(101)] {
            assert!(bad.parse::<AdminUser>().is_err(), "{bad:?}");
        }
        assert!("a-Z_0.9".parse::<RequestId>().is_ok());
        for bad in ["", "a b", "a\n", "é", &"a".repeat(65)] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?}");
        }
    }
}
