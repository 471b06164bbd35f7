//! The `api-server` binary, and a client that checks each reply against its `OpenAPI` document.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use api_server::pki::Role;
use nix::sys::signal::Signal;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

use crate::agent::{add, binary};
use crate::contract::Contract;
use crate::events::{EVENT_STREAM, EventStream};
use crate::loopback::Loopback;
use crate::pki::{self, Pki};
use crate::process::{Process, Program};
use crate::scratch::Place;

const PORT: u16 = 8080;
const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Longer than any deadline of the portal's own.
const REQUEST_DEADLINE: Duration = Duration::from_mins(5);

/// The key of every portal in a test; two portals on one database need the same.
pub const SECRET_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What a portal needs to be started.
pub struct PortalSetup<'a> {
    /// `DATABASE_URL`.
    pub database_url: &'a str,
    /// Where the agent listens.
    pub agent: SocketAddr,
    /// Who issues its certificate.
    pub pki: &'a Pki,
    /// `SECRET_KEY`; the tests' own when `None`.
    pub secret_key: Option<&'a str>,
    /// Where it listens; on an address of its own when `None`.
    pub listen: Option<SocketAddr>,
    /// Added to its environment, later entries winning.
    pub env: &'a [(String, String)],
}

/// A running portal, which ends with this value.
pub struct Portal {
    program: Program,
    listen: SocketAddr,
    process: Option<Process>,
    client: Option<Client>,
    place: Place,
    _address: Option<Loopback>,
}

impl Portal {
    /// Starts one and waits until it answers; its database, agent and Asterisk need not be there.
    pub async fn start(setup: PortalSetup<'_>) -> anyhow::Result<Self> {
        Self::start_in(Place::temporary("portal")?, setup).await
    }

    /// As [`Portal::start`], with its log and certificate in `place`.
    pub async fn start_in(place: Place, setup: PortalSetup<'_>) -> anyhow::Result<Self> {
        let tls = place.path().join("tls");
        let tls = setup.pki.issue(&Role::Portal, &tls, None)?;
        let address = setup.listen.is_none().then(Loopback::take).transpose()?;
        let own = address.as_ref().map(|address| address.port(PORT));
        let listen = setup.listen.or(own).context("no address to listen on")?;
        let program = Program::new(binary("api-server")?)
            .arg("serve")
            .env("DATABASE_URL", setup.database_url)
            .env("LISTEN_ADDR", listen.to_string())
            .env("AUTH_MODE", "trusted_network")
            .env("SECRET_KEY", setup.secret_key.unwrap_or(SECRET_KEY))
            .env("PBX_AGENT_ADDR", setup.agent.to_string());
        let program = add(program, pki::environment(&tls));
        let program = add(program, setup.env.iter().map(|(name, value)| (name, value)));
        let mut portal = Self {
            program,
            listen,
            process: None,
            client: None,
            place,
            _address: address,
        };
        portal.resume().await?;
        Ok(portal)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.listen
    }

    /// A client of it. It stays valid while the portal is stopped and started.
    pub fn client(&self) -> anyhow::Result<Client> {
        self.client.clone().context("the portal never answered")
    }

    /// What it has logged, JSON lines.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_file());
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    /// Starts it again after [`Portal::stop`] or [`Portal::kill`], and waits until it answers.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let mut process = self.program.start(&self.log_file())?;
        let http = http_client()?;
        let live = format!("http://{}/health/live", self.listen);
        let answers = async || {
            http.get(&live)
                .send()
                .await
                .is_ok_and(|r| r.status().is_success())
        };
        process
            .wait_until("the portal answers", START_DEADLINE, answers)
            .await?;
        self.process = Some(process);
        if self.client.is_none() {
            self.client = Some(Client::new(self.listen).await?);
        }
        Ok(())
    }

    /// Stops it in an orderly way (SIGTERM).
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGTERM, STOP_DEADLINE).await?;
        }
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process.take();
    }

    /// Sends it a signal, such as SIGSTOP.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process
            .as_ref()
            .context("the portal is stopped")?
            .signal(signal)
    }

    /// Whether it is running.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Its process id.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref().context("the portal is stopped")?;
        Ok(process.pid())
    }

    fn log_file(&self) -> PathBuf {
        self.place.path().join("portal.log")
    }
}

/// A client of one portal.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    contract: Arc<Contract>,
}

impl Client {
    /// A client of the portal at `address`, which must be running.
    pub async fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let base = format!("http://{address}");
        let http = http_client()?;
        let document = http.get(format!("{base}/openapi.json")).send().await?;
        let document = document.error_for_status()?.json().await?;
        Ok(Self {
            contract: Arc::new(Contract::new(document)?),
            base,
            http,
        })
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
        Request {
            http: self
                .http
                .request(method.clone(), format!("{}{path}", self.base)),
            method,
            path: path.to_owned(),
            contract: Some(Arc::clone(&self.contract)),
        }
    }
}

/// A request that is being put together.
pub struct Request {
    http: reqwest::RequestBuilder,
    method: Method,
    path: String,
    contract: Option<Arc<Contract>>,
}

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.http = self.http.header(name, value);
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.http = self.http.json(body);
        self
    }

    /// Sets a body and its content type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        self.http = self.http.header(CONTENT_TYPE, content_type).body(body);
        self
    }

    /// Does not check the reply against the document: for paths that do not exist.
    #[must_use]
    pub fn undocumented(mut self) -> Self {
        self.contract = None;
        self
    }

    /// Sends it. Fails when there is no reply, or one that the document does not have.
    pub async fn send(self) -> anyhow::Result<Reply> {
        let what = format!("{} {}", self.method, self.path);
        let began = Instant::now();
        let response = self.http.send().await.with_context(|| what.clone())?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| what.clone())?;
        let reply = Reply {
            status,
            headers,
            body: body.to_vec(),
            took: began.elapsed(),
            what,
        };
        if let Some(contract) = self.contract {
            let (method, content_type) = (self.method.as_str(), reply.content_type());
            contract
                .check_reply(method, &self.path, status, content_type, &reply.body)
                .with_context(|| format!("the reply was {reply}"))?;
        }
        Ok(reply)
    }
}

impl Request {
    /// Sends it and takes the reply as server-sent events, which must begin with a 200.
    pub async fn stream(self) -> anyhow::Result<EventStream> {
        let what = format!("{} {}", self.method, self.path);
        let response = self.http.send().await.with_context(|| what.clone())?;
        let contract = self.contract.context("streams are documented")?;
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        contract.check(self.method.as_str(), &self.path, status, content_type)?;
        let streams = content_type.is_some_and(|full| full.starts_with(EVENT_STREAM));
        if !streams {
            anyhow::bail!(
                "{what}: no stream, but {status}: {}",
                response.text().await?
            );
        }
        Ok(EventStream::new(response, contract))
    }
}

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
    what: String,
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

fn http_client() -> anyhow::Result<reqwest::Client> {
    // reqwest asks for a provider although only plain HTTP is spoken; a second call changes nothing.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let builder = reqwest::Client::builder().no_proxy();
    Ok(builder.timeout(REQUEST_DEADLINE).build()?)
}
