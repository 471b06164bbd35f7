//! What browsers are told with every answer: to come by HTTPS alone, to run nothing, to show it in
//! no frame and to nobody else's pages, and to pass no address on.

use axum::http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The documentation, which is the only page.
const DOCS: &str = "/docs";

/// An answer of the API is data: nothing in it is to be loaded or run, should a browser take it for
/// a page.
const OF_DATA: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page of the documentation loads its own files, and images that its style sheet holds; the hash
/// is that of the style in its logo.
const OF_DOCS: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The same with every answer. The first one counts over HTTPS only, the portal's own or that of the
/// proxy before it; browsers ignore it otherwise.
static ALWAYS: [(HeaderName, HeaderValue); 7] = [
    (
        STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000"),
    ),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Adds it to the answer for `path`.
pub(super) fn instruct(headers: &mut HeaderMap, path: &str) {
    for (name, value) in &ALWAYS {
        headers.insert(name, value.clone());
    }
    let below = path.strip_prefix(DOCS);
    let policy = match below {
        Some(below) if below.is_empty() || below.starts_with('/') => OF_DOCS,
        _ => OF_DATA,
    };
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
}
