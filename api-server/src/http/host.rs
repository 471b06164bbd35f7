//! Which host a request is for.
//!
//! Where nobody signs in, a page of any site reaches the portal once its name leads to the portal's
//! address (DNS rebinding), and the browser takes it for the portal's own. Such a page has a name; so
//! names are served only when they are set to be.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Version;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use crate::domain::access::AuthMode;
use crate::services::denied::Denied;
use crate::services::{Error, Settings};

/// Which hosts are served.
#[derive(Clone)]
pub(super) struct Hosts(Option<Arc<[String]>>);

impl Hosts {
    /// Every one, where whoever asks has to sign in.
    pub(super) fn of(settings: &Settings) -> Self {
        Self(match settings.auth {
            AuthMode::Login => None,
            AuthMode::TrustedNetwork => Some(settings.hosts.iter().cloned().collect()),
        })
    }

    fn permit(&self, authority: &Authority) -> bool {
        let Some(named) = &self.0 else {
            return true;
        };
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address.parse::<IpAddr>().is_ok()
            || named.iter().any(|name| name == host)
    }
}

/// Refuses a request for another host, and one that does not say clearly for which it is.
pub(super) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match asked(&request) {
        Err(refused) => refused.into_response(),
        Ok(asked) if asked.iter().flatten().all(|host| hosts.permit(host)) => {
            next.run(request).await
        }
        Ok(_) => ApiError::from(Error::from(Denied::HostNotPermitted)).into_response(),
    }
}

/// The hosts that a request names: HTTP/2, and HTTP/1.1 to a proxy, in its target.
fn asked(request: &Request) -> Result<[Option<Authority>; 2], ApiError> {
    let refused = |reason| ApiError::InvalidHeader("Host", reason);
    let mut given = request.headers().get_all(HOST).iter();
    let named = match (given.next(), given.next()) {
        (None, _) if request.version() == Version::HTTP_11 => {
            return Err(refused("must be given"));
        }
        (None, _) => None,
        (Some(_), Some(_)) => return Err(refused("must be given only once")),
        (Some(host), None) => {
            let host = host.to_str().ok().and_then(|host| host.parse().ok());
            let host = host.filter(|host: &Authority| !host.as_str().contains('@'));
            Some(host.ok_or_else(|| refused("must be a host, and a port if need be"))?)
        }
    };
    Ok([request.uri().authority().cloned(), named])
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked_by(version: Version, uri: &str, hosts: &[&str]) -> Option<[Option<Authority>; 2]> {
        let mut request = axum::http::Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        asked(&request.body(Body::empty()).unwrap()).ok()
    }

    #[test]
    fn a_request_names_one_host() {
        let host = || Some(Authority::from_static("portal:1"));
        let v11 = Version::HTTP_11;
        assert_eq!(asked_by(v11, "/", &["portal:1"]), Some([None, host()]));
        assert_eq!(asked_by(Version::HTTP_10, "/", &[]), Some([None, None]));
        let target = "https://portal:1/";
        assert_eq!(asked_by(Version::HTTP_2, target, &[]), Some([host(), None]));
        for bad in [
            &[][..],
            &["portal", "portal"],
            &[""],
            &["a b"],
            &["portal@evil.example"],
        ] {
            assert_eq!(asked_by(v11, "/", bad), None, "{bad:?}");
        }
    }

    #[test]
    fn without_sign_in_only_addresses_and_what_is_set_are_served() {
        let hosts = Hosts(Some(Arc::from(["portal.example".to_owned()])));
        let permits = |host: &str| hosts.permit(&host.parse().unwrap());
        for good in [
            "127.0.0.1",
            "192.0.2.1:8080",
            "[::1]:8080",
            "localhost:8080",
            "LOCALHOST",
            "Portal.Example:443",
            "portal.example.",
        ] {
            assert!(permits(good), "{good}");
        }
        for bad in [
            "evil.example",
            "portal.example.evil.example",
            "127.0.0.1.evil.example",
            "evil.localhost",
            "example",
        ] {
            assert!(!permits(bad), "{bad}");
            assert!(Hosts(None).permit(&bad.parse().unwrap()));
        }
    }
}
