//! A client of a portal, as anybody or signed in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{AUTHORIZATION, COOKIE};
use reqwest::{Certificate, Method};
use serde_json::{Value, json};

use super::{Reply, Request};
use crate::contract::Contract;
use crate::events::EventStream;

/// Longer than any deadline of the portal's own.
const REQUEST_DEADLINE: Duration = Duration::from_mins(5);

/// Where a browser gives back what proves that a page of the portal's own asks.
const CSRF_HEADER: &str = "x-csrf-token";

/// By what a client is known.
#[derive(Clone)]
enum Credential {
    /// An access token or API token.
    Bearer(String),
    /// What a browser keeps, with the token that changes need beside it.
    Cookie { cookie: String, csrf: String },
}

/// A client of one portal.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    contract: Arc<Contract>,
    credential: Option<Credential>,
}

impl Client {
    /// A client of the portal at `base` (`https://host:port`), which must be running, whose
    /// certificate is one of `ca`.
    pub(super) async fn new(base: String, ca: Option<&Path>) -> anyhow::Result<Self> {
        let http = http_client(ca)?;
        let document = http.get(format!("{base}/openapi.json")).send().await?;
        let document = document.error_for_status()?.json().await?;
        Ok(Self {
            contract: Arc::new(Contract::new(document)?),
            base,
            http,
            credential: None,
        })
    }

    /// The same without any credential.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        let credential = None;
        let same = self.clone();
        Self { credential, ..same }
    }

    /// The same with an access token or API token.
    #[must_use]
    pub fn with_bearer(&self, token: &str) -> Self {
        let credential = Some(Credential::Bearer(token.to_owned()));
        let same = self.clone();
        Self { credential, ..same }
    }

    /// The same as a browser: `cookie` is `name=value`, and `csrf` goes with what changes something.
    #[must_use]
    pub fn with_cookie(&self, cookie: &str, csrf: &str) -> Self {
        let credential = Some(Credential::Cookie {
            cookie: cookie.to_owned(),
            csrf: csrf.to_owned(),
        });
        let same = self.clone();
        Self { credential, ..same }
    }

    /// The token that it carries.
    pub fn bearer(&self) -> Option<&str> {
        match &self.credential {
            Some(Credential::Bearer(token)) => Some(token),
            Some(Credential::Cookie { .. }) | None => None,
        }
    }

    /// Signs in, and returns the client of this session.
    pub async fn sign_in(&self, login: &str, password: &str) -> anyhow::Result<Self> {
        let session = self.session(login, password, "bearer").await?.json()?;
        let token = session["access_token"].as_str();
        Ok(self.with_bearer(token.context("no access token")?))
    }

    /// Signs in as browsers do.
    pub async fn sign_in_by_cookie(&self, login: &str, password: &str) -> anyhow::Result<Self> {
        let session = self.session(login, password, "cookie").await?;
        let cookie = session.header("set-cookie").split(';').next();
        let cookie = cookie.filter(|cookie| !cookie.is_empty());
        let csrf = session.json()?["csrf_token"].as_str().map(str::to_owned);
        let csrf = csrf.context("no CSRF token")?;
        Ok(self.with_cookie(cookie.context("no cookie")?, &csrf))
    }

    async fn session(&self, login: &str, password: &str, kind: &str) -> anyhow::Result<Reply> {
        let body = json!({ "login": login, "password": password, "kind": kind });
        let reply = self.anonymous().post("/sessions", &body).await?;
        reply.expect(201)
    }

    /// The `OpenAPI` document that replies are checked against.
    pub fn openapi(&self) -> &Value {
        self.contract.document()
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.request(Method::GET, path).send().await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Reply> {
        self.request(Method::DELETE, path).send().await
    }

    /// `POST path` with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.request(Method::POST, path).json(body).send().await
    }

    /// `POST path` without a body.
    pub async fn post_nothing(&self, path: &str) -> anyhow::Result<Reply> {
        self.request(Method::POST, path).send().await
    }

    /// Follows an apply.
    pub async fn follow(&self, apply: &str) -> anyhow::Result<EventStream> {
        let path = format!("/applies/{apply}/events");
        self.request(Method::GET, &path).stream().await
    }

    /// Any other request.
    pub fn request(&self, method: Method, path: &str) -> Request {
        let http = self
            .http
            .request(method.clone(), format!("{}{path}", self.base));
        let http = match &self.credential {
            None => http,
            Some(Credential::Bearer(token)) => {
                http.header(AUTHORIZATION, format!("Bearer {token}"))
            }
            Some(Credential::Cookie { cookie, csrf }) => {
                let http = http.header(COOKIE, cookie);
                if method == Method::GET {
                    http
                } else {
                    http.header(CSRF_HEADER, csrf)
                }
            }
        };
        Request {
            http,
            method,
            path: path.to_owned(),
            contract: Some(Arc::clone(&self.contract)),
        }
    }
}

/// A client of HTTP that trusts `ca` and nobody else.
pub(super) fn http_client(ca: Option<&Path>) -> anyhow::Result<reqwest::Client> {
    // reqwest asks for a provider also for plain HTTP; a second call changes nothing.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let mut builder = reqwest::Client::builder().no_proxy();
    if let Some(ca) = ca {
        let ca = Certificate::from_pem(&std::fs::read(ca)?)?;
        builder = builder.tls_certs_only([ca]);
    }
    Ok(builder.timeout(REQUEST_DEADLINE).build()?)
}
