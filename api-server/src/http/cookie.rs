//! The cookie of a browser's session, and what keeps other sites from using it (CSRF).

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::domain::session::CookieSecret;
use crate::services::denied::Denied;

/// `__Host-`: browsers take it only over HTTPS, for this host alone and for all of its paths.
const NAME: &str = "__Host-session";

/// What a browser does with the cookie: no script reads it, and no other site sends it.
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

/// Where a page sends the token of its session.
static CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// Where a browser says from which site a request was caused.
static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The `Set-Cookie` of a session; `None`: of its end.
pub(super) fn set(cookie: Option<&CookieSecret>) -> Option<HeaderValue> {
    let text = match cookie {
        Some(cookie) => format!("{NAME}={}; {ATTRIBUTES}", cookie.expose()),
        None => format!("{NAME}=; {ATTRIBUTES}; Max-Age=0"),
    };
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The cookie that a request brings. One that is given twice, or is none of the portal's, is none.
pub(super) fn read(headers: &HeaderMap) -> Option<CookieSecret> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == NAME);
    match (ours.next(), ours.next()) {
        (Some((_, value)), None) => CookieSecret::read(value),
        (None, _) | (Some(_), Some(_)) => None,
    }
}

/// The cookie that came with a sign-in.
pub(super) struct Brought(pub(super) Option<CookieSecret>);

impl<S: Sync> FromRequestParts<S> for Brought {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(read(&parts.headers)))
    }
}

/// Whether a request only reads.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Refuses what a page of another site had a browser send. Pages cannot send `Authorization` to
/// another site, so who sends that is none.
pub(super) fn same_site(request: &Parts, behind_proxy: bool) -> Result<(), Denied> {
    if is_safe(&request.method) || request.headers.contains_key(AUTHORIZATION) {
        return Ok(());
    }
    let mut sites = request.headers.get_all(&FETCH_SITE).iter();
    if sites.any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site")) {
        return Err(Denied::CrossSite);
    }
    let mut origins = request.headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) if is_own(origin, request, behind_proxy) == Some(true) => Ok(()),
        (Some(_), _) => Err(Denied::CrossSite),
    }
}

/// Whether an `Origin` is the host that the request is for, over HTTPS; `None` when one of them is
/// malformed. A proxy has spoken HTTPS, unless the browser is on this machine and asks past it.
fn is_own(origin: &HeaderValue, request: &Parts, behind_proxy: bool) -> Option<bool> {
    let origin: Uri = origin.to_str().ok()?.parse().ok()?;
    let (default_port, is_secure) = match origin.scheme_str()? {
        "https" => (443, true),
        "http" => (80, false),
        _ => return None,
    };
    let asked = match request.uri.authority() {
        Some(authority) => authority.clone(),
        None => request.headers.get(HOST)?.to_str().ok()?.parse().ok()?,
    };
    let own = host(&asked, default_port)?;
    let scheme_fits = is_secure || behind_proxy && is_this_machine(&own.0);
    Some(scheme_fits && host(origin.authority()?, default_port)? == own)
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = address.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback())
}

/// Host and port; `None` when there is more or less to it.
fn host(authority: &Authority, default_port: u16) -> Option<(String, u16)> {
    let host = authority.host();
    let rest = authority.as_str().strip_prefix(host)?;
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => default_port,
        None => return None,
        Some(port) => port.parse().ok()?,
    };
    Some((host.to_ascii_lowercase(), port))
}

/// Refuses a change by cookie whose sender does not know the session's token.
pub(super) fn knows_token(request: &Parts, cookie: &CookieSecret) -> Result<(), Denied> {
    let mut said = request.headers.get_all(&CSRF_TOKEN).iter();
    let knows = match (said.next(), said.next()) {
        (Some(said), None) => cookie.csrf_token().is(said.as_bytes()),
        (None, _) | (Some(_), Some(_)) => false,
    };
    if knows || is_safe(&request.method) {
        Ok(())
    } else {
        Err(Denied::CsrfTokenNeeded)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::clock::os_rng;

    fn request(method: Method, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_cookie_is_read_as_it_was_set_and_never_guessed_at() {
        let cookie = CookieSecret::generate(&mut os_rng());
        let set = set(Some(&cookie)).unwrap();
        let set = set.to_str().unwrap();
        let (pair, attributes) = set.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict");
        let read = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            read(&request(Method::GET, "/", &lines).headers).map(|cookie| cookie.hash())
        };
        assert_eq!(read(&[pair]), Some(cookie.hash()));
        assert_eq!(read(&[&format!("a=b; {pair}; c=d")]), Some(cookie.hash()));
        assert_eq!(read(&["a=b", pair]), Some(cookie.hash()));
        for bad in [
            &[][..],
            &["__Host-session="],
            &["__Host-session"],
            &[&pair[1..]],
            &[&pair.to_lowercase().replace('=', "=x")],
            &[pair, pair],
            &[&format!("{pair}; {pair}")],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_pages_of_the_portal_itself_cause_changes() {
        let allowed = |method: Method, uri: &str, headers: &[(&str, &str)]| {
            same_site(&request(method, uri, headers), false).is_ok()
        };
        let host = ("host", "portal.example");
        for good in [
            &[host][..],
            &[host, ("origin", "https://portal.example")],
            &[host, ("origin", "https://PORTAL.example:443")],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
            &[
                host,
                ("origin", "https://evil.example"),
                ("authorization", "Bearer x"),
            ],
            &[
                ("host", "portal.example:8443"),
                ("origin", "https://portal.example:8443"),
            ],
        ] {
            assert!(allowed(Method::POST, "/users", good), "{good:?}");
        }
        for bad in [
            &[host, ("origin", "https://evil.example")][..],
            &[host, ("origin", "https://portal.example:8443")],
            &[host, ("origin", "http://portal.example:443.evil.example")],
            &[host, ("origin", "https://portal.example.evil.example")],
            &[host, ("origin", "http://portal.example")],
            &[("host", "127.0.0.1"), ("origin", "http://127.0.0.1")],
            &[host, ("origin", "null")],
            &[host, ("origin", "")],
            &[host, ("origin", "file://portal.example")],
            &[("origin", "https://portal.example")],
            &[
                host,
                ("origin", "https://portal.example"),
                ("origin", "https://evil.example"),
            ],
            &[host, ("sec-fetch-site", "cross-site")],
            &[
                host,
                ("origin", "https://portal.example"),
                ("sec-fetch-site", "Cross-Site"),
            ],
        ] {
            assert!(!allowed(Method::POST, "/users", bad), "{bad:?}");
            assert!(allowed(Method::GET, "/users", bad), "{bad:?}");
        }
        // HTTP/2 names the host in the URI.
        let own = [("origin", "https://portal.example")];
        assert!(allowed(Method::POST, "https://portal.example/users", &own));
        assert!(!allowed(Method::POST, "https://other.example/users", &own));
    }

    #[test]
    fn behind_a_proxy_plain_http_is_for_this_machine() {
        let allowed = |host: &str, origin: &str| {
            let headers = [("host", host), ("origin", origin)];
            same_site(&request(Method::POST, "/users", &headers), true).is_ok()
        };
        for (host, origin) in [
            ("portal.example", "https://portal.example"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("localhost:8080", "http://localhost:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            assert!(allowed(host, origin), "{origin}");
        }
        for (host, origin) in [
            ("portal.example", "http://portal.example"),
            ("192.0.2.1:8080", "http://192.0.2.1:8080"),
            ("localhost:8080", "http://localhost:8081"),
        ] {
            assert!(!allowed(host, origin), "{origin}");
        }
    }

    #[test]
    fn a_change_by_cookie_needs_the_token_of_that_session() {
        let [one, other] = [(); 2].map(|()| CookieSecret::generate(&mut os_rng()));
        let token = one.csrf_token();
        let knows = |method: Method, cookie: &CookieSecret, said: &[&str]| {
            let said: Vec<_> = said.iter().map(|token| ("x-csrf-token", *token)).collect();
            knows_token(&request(method, "/users", &said), cookie).is_ok()
        };
        assert!(knows(Method::POST, &one, &[token.expose()]));
        assert!(knows(Method::GET, &one, &[]));
        for method in [Method::POST, Method::PATCH, Method::DELETE] {
            assert!(!knows(method.clone(), &one, &[]));
            assert!(!knows(method.clone(), &one, &[""]));
            assert!(!knows(method.clone(), &one, &[one.expose()]));
            assert!(!knows(method.clone(), &other, &[token.expose()]));
            assert!(!knows(method, &one, &[token.expose(), token.expose()]));
        }
    }
}
