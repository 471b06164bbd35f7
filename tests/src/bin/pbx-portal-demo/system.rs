//! The parts that the demonstration starts and ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tests::agent::Agent;
use tests::asterisk::{Asterisk, Settings};
use tests::loopback::Loopback;
use tests::pki::Pki;
use tests::portal::{Access, Client, Portal, PortalSetup};
use tests::postgres::Cluster;

use crate::state::State;

const DATABASE: &str = "portal";

/// Where the portal listens unless that is taken.
const PORT: u16 = 8443;

/// Where phones find Asterisk unless that is taken: the same at every start, so that a softphone on
/// this machine keeps its settings.
const ASTERISK: Ipv4Addr = Ipv4Addr::new(127, 22, 0, 1);

/// How often it is looked whether everything is still running.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Everything, in the order in which it must end.
pub(crate) struct System {
    pub(crate) portal: Portal,
    /// Of the portal, signed in as its first administrator.
    pub(crate) client: Client,
    pub(crate) agent: Agent,
    pub(crate) asterisk: Asterisk,
    cluster: Option<Cluster>,
    pub(crate) progress: Progress,
}

impl System {
    /// Starts everything on what `state` has kept.
    pub(crate) async fn start(state: &State) -> anyhow::Result<Self> {
        let progress = Progress(Instant::now());
        progress.line("starting PostgreSQL and Asterisk");
        let (database, asterisk) =
            tokio::try_join!(database(state, &progress), asterisk(state, &progress))?;
        let (cluster, url) = database;
        let pki = Pki::kept_in(&state.dir().join("pki"))?;
        progress.line("certificates issued for portal and agent by a private CA");
        // As an installation has it; the tests leave it out for speed.
        let preflight = ("PREFLIGHT".to_owned(), "on".to_owned());
        let env: Vec<_> = log_filter().into_iter().chain([preflight]).collect();
        let agent = Agent::start_in(state.place("agent")?, &asterisk, &pki, &env).await?;
        progress.line(&format!(
            "agent: gRPC with mutual TLS on {}",
            agent.address()
        ));
        let setup = PortalSetup {
            database_url: &url,
            agent: agent.address(),
            pki: &pki,
            secret_key: Some(&state.secret_key().await?),
            access: Access::LOGIN,
            listen: Some(listen_address()?),
            env: &log_filter(),
        };
        let portal = Portal::start_in(state.place("portal")?, setup).await?;
        progress.line(&format!("portal: {}", portal.url()));
        let client = sign_in(state, &portal, &progress).await?;
        Ok(Self {
            portal,
            client,
            agent,
            asterisk,
            cluster,
            progress,
        })
    }

    /// Returns when something has ended that should not have.
    pub(crate) async fn watch(&mut self) -> anyhow::Error {
        let mut interval = tokio::time::interval(WATCH_INTERVAL);
        loop {
            interval.tick().await;
            let ended = [
                ("the portal", !self.portal.is_running()),
                ("the agent", !self.agent.is_running()),
                ("Asterisk", !self.asterisk.is_running()),
                (
                    "PostgreSQL",
                    self.cluster.as_mut().is_some_and(|c| !c.is_running()),
                ),
            ];
            if let Some((name, _)) = ended.iter().find(|(_, ended)| *ended) {
                return anyhow::anyhow!("{name} has ended by itself; its log tells why");
            }
        }
    }

    /// Ends everything, the users of a part before the part.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.progress
            .line("ending portal, agent, Asterisk and PostgreSQL");
        let portal = self.portal.stop().await;
        let agent = self.agent.stop().await;
        let asterisk = self.asterisk.stop().await;
        let cluster = match &mut self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        };
        self.progress
            .line("everything that was started has ended; the data is kept");
        portal.and(agent).and(asterisk).and(cluster)
    }
}

/// Lines with the seconds since the start.
pub(crate) struct Progress(Instant);

impl Progress {
    pub(crate) fn line(&self, text: &str) {
        println!("[{:5.1}s] {text}", self.0.elapsed().as_secs_f64());
    }
}

/// `DATABASE_URL`, or a cluster of our own.
async fn database(state: &State, progress: &Progress) -> anyhow::Result<(Option<Cluster>, String)> {
    if let Some(url) = std::env::var("DATABASE_URL")
        .ok()
        .filter(|url| !url.is_empty())
    {
        progress.line("PostgreSQL: the database that DATABASE_URL names");
        return Ok((None, url));
    }
    let dir = state.dir().join("postgres");
    let cluster = Cluster::kept_in(&dir).await?;
    cluster.ensure_database(DATABASE).await?;
    let url = cluster.url(DATABASE);
    progress.line(&format!(
        "PostgreSQL: a private cluster in {}",
        dir.display()
    ));
    Ok((Some(cluster), url))
}

/// A client that is signed in as the first administrator, who is made at the first time.
async fn sign_in(state: &State, portal: &Portal, progress: &Progress) -> anyhow::Result<Client> {
    let is_new = !state.administrator_file().exists();
    let administrator = state.administrator()?;
    let (login, password) = (&administrator.login, &administrator.password);
    let file = state.administrator_file();
    let client = portal.client()?;
    if !is_new && let Ok(client) = client.sign_in(login, password).await {
        progress.line(&format!("signed in as {login}, see {}", file.display()));
        return Ok(client);
    }
    // New, or the database is.
    portal
        .create_administrator(&administrator)
        .await
        .with_context(|| {
            format!(
                "make the account {login} with the password in {0}; if there is such a login \
                 already, write its password into {0}",
                file.display()
            )
        })?;
    progress.line(&format!(
        "first administrator: login {login}, password {password} (shown this once, kept in {})",
        file.display()
    ));
    client.sign_in(login, password).await
}

async fn asterisk(state: &State, progress: &Progress) -> anyhow::Result<Asterisk> {
    let address = Loopback::take_from(ASTERISK)?;
    let place = state.place("asterisk")?;
    let asterisk = Asterisk::start_in(place, address, Settings::default()).await?;
    let version = asterisk.rx("core show version").await?;
    let version = version.split(" built").next().unwrap_or_default();
    progress.line(&format!("{version}: SIP on udp {}", asterisk.sip()));
    Ok(asterisk)
}

/// `PORT`, or the first free one.
fn listen_address() -> anyhow::Result<SocketAddr> {
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Ok(port) = std::env::var("PORT") {
        let address = local(port.parse().context("PORT is no port number")?);
        TcpListener::bind(address).with_context(|| format!("PORT: {address} is taken"))?;
        return Ok(address);
    }
    (PORT..u16::MAX)
        .map(local)
        .find(|address| TcpListener::bind(address).is_ok())
        .context("no port is free")
}

fn log_filter() -> Vec<(String, String)> {
    let filter = std::env::var("LOG").ok();
    filter
        .map(|filter| ("LOG".to_owned(), filter))
        .into_iter()
        .collect()
}
