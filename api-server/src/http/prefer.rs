//! What a client prefers (RFC 7240).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use super::error::ApiError;
use crate::services::apply::Until;

/// The header that says which preferences were followed.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Do not wait for the end.
pub(super) const RESPOND_ASYNC: &str = "respond-async";

/// The preferences that the portal knows; others are ignored, as the RFC says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preferred {
    /// Answer before the work is done.
    pub(super) respond_async: bool,
}

impl<S: Sync> FromRequestParts<S> for Preferred {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self::read(&parts.headers))
    }
}

impl Preferred {
    /// For what an apply is waited.
    pub(super) const fn until(self) -> Until {
        if self.respond_async {
            Until::InLine
        } else {
            Until::TheEnd
        }
    }

    fn read(headers: &HeaderMap) -> Self {
        let values = headers.get_all("prefer").iter();
        let values = values.filter_map(|value| value.to_str().ok());
        let mut preferences = values.flat_map(|value| value.split(','));
        Self {
            respond_async: preferences.any(is_respond_async),
        }
    }
}

/// A preference is a name, perhaps `=value`, perhaps `;parameter`.
fn is_respond_async(preference: &str) -> bool {
    let name = preference.split([';', '=']).next().unwrap_or_default();
    name.trim().eq_ignore_ascii_case(RESPOND_ASYNC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn respond_async_is_found_among_others() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", value.parse().unwrap());
            }
            Preferred::read(&headers).respond_async
        };
        for yes in [
            &["respond-async"][..],
            &["Respond-Async; foo=1"],
            &["wait=10, respond-async"],
            &["return=minimal", "respond-async"],
        ] {
            assert!(read(yes), "{yes:?}");
        }
        for no in [&[][..], &["respond"], &["wait=10"], &["x=respond-async"]] {
            assert!(!read(no), "{no:?}");
        }
    }
}
