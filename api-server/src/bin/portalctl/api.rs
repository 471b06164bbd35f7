//! Requests to the portal: whose they are, how they are sent, and what comes back.

mod credential;
mod own_tenant;
mod reply;
mod request;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Url, redirect};
use tokio::sync::OnceCell;

use self::credential::Credential;
use crate::cli::Global;
use crate::failure::Failure;
use crate::operations::Operation;
use crate::session::Store;

pub(crate) use self::reply::{Reply, broken};
pub(crate) use self::request::Call;

/// How long to wait for a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long the portal may say nothing: longer than any deadline of its own.
const SILENCE_DEADLINE: Duration = Duration::from_mins(5);

/// Likewise about many things at once, for which it takes up to 610 s once it has them, and they
/// may be 16 MiB on a slow line.
const BULK_SILENCE_DEADLINE: Duration = Duration::from_mins(15);

/// The portal, for somebody.
pub(crate) struct Api {
    http: reqwest::Client,
    ca: Option<String>,
    base: Url,
    tenant: Option<String>,
    /// That of whoever asks, once it was asked for.
    own_tenant: OnceCell<Option<String>>,
    /// Who says to be asking, where nobody signs in.
    admin_user: Option<HeaderValue>,
    credential: Credential,
}

impl Api {
    /// The portal and the session that are meant, or the token of the environment.
    ///
    /// # Errors
    /// No portal is named, or what is kept cannot be used.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let token = std::env::var_os("PORTAL_TOKEN").map(token).transpose()?;
        let store = Store::find();
        // With a token and a portal nothing is needed of the session, not even a place for it.
        let kept = match (&token, &global.url) {
            (Some(_), Some(_)) => store.as_ref().ok().and_then(|store| store.read().ok()?),
            _ => store.as_ref().map_or(Ok(None), Store::read)?,
        };
        let base = match (&global.url, &kept) {
            (Some(url), _) => base(url)?,
            (None, Some(kept)) => base(&kept.url)?,
            (None, None) => {
                let said = "which portal? Sign in with `portalctl login --url`, or set PORTAL_URL";
                return Err(Failure::Usage(said.to_owned()));
            }
        };
        let kept = kept.filter(|kept| kept.url == base.as_str());
        let ca = match &global.ca {
            Some(file) => Some(read_ca(file)?),
            None => kept.as_ref().and_then(|kept| kept.ca.clone()),
        };
        let credential = match (token, kept, store) {
            (Some(token), _, _) => Credential::Token(token.into()),
            (None, Some(kept), Ok(store)) => Credential::session(kept, store),
            (None, _, _) => Credential::None,
        };
        let admin_user = global.admin_user.as_deref().map(admin_user).transpose()?;
        Ok(Self {
            tenant: global.tenant.clone(),
            admin_user,
            ..Self::to(base, ca.as_deref(), credential)?
        })
    }

    /// The portal, for nobody yet.
    pub(crate) fn anonymous(base: Url, ca: Option<&str>) -> Result<Self, Failure> {
        Self::to(base, ca, Credential::None)
    }

    fn to(base: Url, ca: Option<&str>, credential: Credential) -> Result<Self, Failure> {
        let http = client(ca, &base, SILENCE_DEADLINE)?;
        Ok(Self {
            http,
            ca: ca.map(str::to_owned),
            base,
            tenant: None,
            own_tenant: OnceCell::new(),
            admin_user: None,
            credential,
        })
    }

    /// What sends `operation`, with the patience that it needs.
    fn client(&self, operation: &Operation) -> Result<reqwest::Client, Failure> {
        if operation.bulk {
            client(self.ca.as_deref(), &self.base, BULK_SILENCE_DEADLINE)
        } else {
            Ok(self.http.clone())
        }
    }

    /// The tenant that was named.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Forgets the session that is kept here.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        self.credential.forget()
    }
}

/// The token of the environment. One that cannot be meant is told: going on with the session would
/// do as somebody else what a script means to do.
fn token(value: OsString) -> Result<String, Failure> {
    let wrong = |why: &str| Err(Failure::Usage(format!("PORTAL_TOKEN {why}")));
    match value.into_string() {
        Ok(token) if token.trim().is_empty() => {
            wrong("is empty: set it to a token, or unset it to use the session")
        }
        Ok(token) => Ok(token),
        Err(_) => wrong("is no text (UTF-8)"),
    }
}

/// A name as the portal takes it: UTF-8, which it reads whatever HTTP says of header values.
fn admin_user(name: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_bytes(name.as_bytes())
        .map_err(|_| Failure::Usage("--admin-user: must be printable characters".to_owned()))
}

/// What the paths of a portal come after. Nothing secret is sent in the clear: plain HTTP is for
/// this machine itself.
pub(crate) fn base(url: &str) -> Result<Url, Failure> {
    let refuse = |why: &str| Failure::Usage(format!("--url: {why}"));
    let url = if url.contains("://") {
        Url::parse(url)
    } else {
        Url::parse(&format!("https://{url}"))
    };
    let mut url = url.map_err(|error| refuse(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("must hold no password"));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_here(&url) => {}
        "http" => {
            return Err(refuse(
                "must be https://, or everybody on the way reads passwords",
            ));
        }
        _ => return Err(refuse("must begin with https://")),
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{path}/"));
    Ok(url)
}

/// Whether it is this machine itself.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The certificates in a file, PEM.
pub(crate) fn read_ca(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::other(format!("--ca {}: {error}", file.display())))
}

fn client(ca: Option<&str>, base: &Url, silence: Duration) -> Result<reqwest::Client, Failure> {
    // The workspace has one provider; a second call changes nothing.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("portalctl/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_DEADLINE)
        .read_timeout(silence);
    if is_here(base) {
        // Plain HTTP is let through because it does not leave this machine, and to a proxy it would;
        // what this machine is to a proxy is another one anyway.
        builder = builder.no_proxy();
    }
    if let Some(ca) = ca {
        let certificates = Certificate::from_pem_bundle(ca.as_bytes())
            .map_err(|_| Failure::other("--ca: the file holds no certificates (PEM)"))?;
        if certificates.is_empty() {
            return Err(Failure::other("--ca: the file holds no certificates (PEM)"));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder
        .build()
        .map_err(|error| Failure::other(format!("TLS: {}", api_server::causes::causes(&error))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_token_that_cannot_be_meant_is_told() {
        assert_eq!(token("pbxt_x".into()).unwrap(), "pbxt_x");
        for bad in [&b""[..], b" \n", b"pbxt_\xff"] {
            let failure = token(OsString::from_vec(bad.to_vec())).unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            assert!(!format!("{failure:?}").contains("pbxt_"));
        }
    }

    #[test]
    fn where_a_portal_is() {
        for (given, meant) in [
            ("portal.example.com", "https://portal.example.com/"),
            ("https://p.example:8443", "https://p.example:8443/"),
            (
                "https://p.example/portal/?x=1#y",
                "https://p.example/portal/",
            ),
            ("http://127.0.0.9:8080", "http://127.0.0.9:8080/"),
            ("http://localhost", "http://localhost/"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
        ] {
            assert_eq!(base(given).unwrap().as_str(), meant);
        }
        for bad in [
            "http://portal.example.com",
            "http://192.0.2.1",
            "ftp://localhost",
            "https://ann:secret@p.example",
            "https://",
        ] {
            let said = format!("{:?}", base(bad).unwrap_err());
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
