//! The `api-server` binary, and a client that checks each reply against its `OpenAPI` document.

mod client;
mod reply;
mod request;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use api_server::pki::{HttpsPair, Role};
use nix::sys::signal::Signal;

use self::client::http_client;
use crate::agent::{add, binary};
use crate::loopback::Loopback;
use crate::pki::{self, Pki};
use crate::process::{Process, Program, wait_until};
use crate::scratch::{self, Place, Scratch};

pub use self::client::Client;
pub use self::reply::Reply;
pub use self::request::Request;

const PORT: u16 = 8080;
const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// The key of every portal in a test; two portals on one database need the same.
pub const SECRET_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// By what clients reach a portal, and whether they sign in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `AUTH_MODE=login`.
    pub login: bool,
    /// HTTPS, by a certificate of its own; otherwise plain HTTP, as from a proxy.
    pub https: bool,
}

impl Access {
    /// Nobody signs in, over plain HTTP.
    pub const TRUSTED_NETWORK: Self = Self {
        login: false,
        https: false,
    };

    /// As installed: signing in over HTTPS.
    pub const LOGIN: Self = Self {
        login: true,
        https: true,
    };
}

/// Somebody who may do everything.
#[derive(Clone)]
pub struct Administrator {
    /// For [`Client::sign_in`].
    pub login: String,
    /// Likewise.
    pub password: String,
}

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
    /// By what clients reach it.
    pub access: Access,
    /// Where it listens; on an address of its own when `None`.
    pub listen: Option<SocketAddr>,
    /// Added to its environment, later entries winning.
    pub env: &'a [(String, String)],
}

/// A running portal, which ends with this value.
pub struct Portal {
    program: Program,
    listen: SocketAddr,
    https: Option<HttpsPair>,
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
            .env("DATABASE_URL", setup.database_url)
            .env("SECRET_KEY", setup.secret_key.unwrap_or(SECRET_KEY))
            .env("PBX_AGENT_ADDR", setup.agent.to_string());
        let program = add(program, pki::environment(&tls));
        let (program, https) = reached(program, setup.access, listen, place.path())?;
        let program = add(program, setup.env.iter().map(|(name, value)| (name, value)));
        let mut portal = Self {
            program,
            listen,
            https,
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

    /// What its paths come after.
    pub fn url(&self) -> String {
        let scheme = if self.https.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.listen)
    }

    /// The files of its certificate for HTTPS, if it speaks that.
    pub const fn https(&self) -> Option<&HttpsPair> {
        self.https.as_ref()
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
        let serve = self.program.clone().arg("serve");
        let mut process = serve.start(&self.log_file())?;
        let ca = self.https.as_ref().map(|https| https.ca.as_path());
        let http = http_client(ca)?;
        let live = format!("{}/health/live", self.url());
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
            self.client = Some(Client::new(self.url(), ca).await?);
        }
        Ok(())
    }

    /// Runs another command of the binary, such as `account`, with this portal's environment.
    pub async fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let program = self.program.clone().args(arguments);
        program.run(COMMAND_DEADLINE).await?.success()
    }

    /// Makes the account of an administrator of the whole portal, as the first one of an
    /// installation is made.
    pub async fn create_administrator(&self, wanted: &Administrator) -> anyhow::Result<()> {
        let client = self.client()?;
        // The schema is made once the database is reached.
        let ready = async || {
            let ready = client.get("/health/ready").await;
            ready.is_ok_and(|r| r.json().is_ok_and(|body| body["database"]["ok"] == true))
        };
        wait_until("the portal has its schema", START_DEADLINE, ready).await?;
        let password = Scratch::new("password")?;
        let file = password.path().join("password");
        scratch::write(&file, 0o600, &wanted.password)?;
        let file = file.display().to_string();
        let create = [
            "account",
            "create",
            &wanted.login,
            "--name",
            "Administrator",
        ];
        let create = create.into_iter().chain(["--password-file", &file]);
        self.command(&create.collect::<Vec<_>>()).await.map(drop)
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

/// What tells a portal by what it is reached, and the certificate that it then shows, in `place`.
fn reached(
    program: Program,
    access: Access,
    listen: SocketAddr,
    place: &Path,
) -> anyhow::Result<(Program, Option<HttpsPair>)> {
    let program = if access.login {
        program.env("LISTEN_ADDR", listen.to_string())
    } else {
        program
            .env("AUTH_MODE", "trusted_network")
            .env("TRUSTED_NETWORK_LISTEN_ADDR", listen.to_string())
    };
    if !access.https {
        return Ok((program.env("PLAIN_HTTP", "behind_proxy"), None));
    }
    let https = pki::https(&place.join("https"), &listen.ip().to_string())?;
    let program = program
        .env("HTTPS_CERT_FILE", &https.pair.cert)
        .env("HTTPS_KEY_FILE", &https.pair.key);
    Ok((program, Some(https)))
}
