//! Everything that a test needs, in one builder.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::agent::Agent;
use crate::asterisk::{Asterisk, Settings};
use crate::loopback::Loopback;
use crate::phones::Phone;
use crate::pki::Pki;
use crate::portal::{Access, Administrator, Client, Portal, PortalSetup, Reply};
use crate::postgres::TestDatabase;

/// Who administers the portal where one signs in.
const ADMINISTRATOR: &str = "admin";

/// The whole product on real parts: PostgreSQL, portal, mutual TLS, agent, Asterisk.
pub struct Lab {
    /// The portal.
    pub portal: Portal,
    /// A client of it, signed in as the administrator where there is one.
    pub client: Client,
    /// The first administrator; nobody signs in without.
    pub administrator: Option<Administrator>,
    /// The agent.
    pub agent: Agent,
    /// The Asterisk beside the agent.
    pub asterisk: Asterisk,
    /// The portal's database.
    pub database: TestDatabase,
    /// The CA of the link.
    pub pki: Pki,
    asterisk_settings: Settings,
    agent_env: Vec<(String, String)>,
    portal_env: Vec<(String, String)>,
    access: Access,
}

/// One more PBX host: an agent with a certificate of its own, and the Asterisk beside it.
pub struct OtherPbx {
    /// What its agent's certificate names, and the portal calls it.
    pub name: String,
    /// Its agent.
    pub agent: Agent,
    /// The Asterisk beside that.
    pub asterisk: Asterisk,
}

impl Lab {
    /// Everything with its defaults.
    pub async fn start() -> anyhow::Result<Self> {
        LabBuilder::default().start().await
    }

    /// A builder, for anything else.
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// One more portal on the same database and agent.
    pub async fn another_portal(&self) -> anyhow::Result<Portal> {
        self.another_portal_to(self.agent.address()).await
    }

    /// One more portal on the same database that looks for the agent elsewhere, behind a proxy.
    pub async fn another_portal_to(&self, agent: SocketAddr) -> anyhow::Result<Portal> {
        let setup = setup(&self.database.url, agent, &self.pki, &self.portal_env);
        let access = self.access;
        Portal::start(PortalSetup { access, ..setup }).await
    }

    /// One more PBX host, which no portal knows yet.
    pub async fn another_host(&self, name: &str) -> anyhow::Result<OtherPbx> {
        let asterisk = Asterisk::start(self.asterisk_settings).await?;
        let agent = Agent::start_of(name, &asterisk, &self.pki, &self.agent_env).await?;
        Ok(OtherPbx {
            name: name.to_owned(),
            agent,
            asterisk,
        })
    }

    /// One more PBX in service.
    pub async fn another_pbx(&self, name: &str) -> anyhow::Result<OtherPbx> {
        let pbx = self.another_host(name).await?;
        let body = json!({ "name": name, "agent_address": pbx.agent.address().to_string() });
        self.client.post("/pbxes", &body).await?.expect(201)?;
        Ok(pbx)
    }

    /// Creates a user.
    pub async fn create_user(&self, name: &str, email: &str) -> anyhow::Result<NewUser> {
        create_user(&self.client, name, email).await
    }

    /// `POST /apply`, whatever comes of it.
    pub async fn apply(&self) -> anyhow::Result<Reply> {
        self.client.post_nothing("/apply").await
    }

    /// A phone with the credentials of `user`.
    pub fn phone(&self, user: &NewUser) -> anyhow::Result<Phone> {
        Phone::new(&self.asterisk, &user.sip_username, &user.sip_password)
    }
}

/// A portal with its database, without agent and Asterisk: for whatever never reaches the PBX.
pub struct PortalLab {
    /// The portal.
    pub portal: Portal,
    /// A client of it, signed in as the administrator where there is one.
    pub client: Client,
    /// The first administrator; nobody signs in without.
    pub administrator: Option<Administrator>,
    /// Its database.
    pub database: TestDatabase,
    /// The CA of the link.
    pub pki: Pki,
    /// Where the portal looks for an agent; nobody listens.
    pub agent: Loopback,
}

impl PortalLab {
    /// Starts it.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(TestDatabase::create().await?, &[]).await
    }

    /// Starts it on `database`, with additions to the portal's environment.
    pub async fn start_with(
        database: TestDatabase,
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        Self::reached_by(Access::TRUSTED_NETWORK, database, env).await
    }

    /// Starts it as it is installed: over HTTPS, with an administrator who is signed in.
    pub async fn login() -> anyhow::Result<Self> {
        Self::reached_by(Access::LOGIN, TestDatabase::create().await?, &[]).await
    }

    /// As [`PortalLab::start_with`], reached by `access`.
    pub async fn reached_by(
        access: Access,
        database: TestDatabase,
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let (pki, agent) = (Pki::temporary()?, Loopback::take()?);
        let setup = setup(&database.url, agent.port(1), &pki, env);
        let portal = Portal::start(PortalSetup { access, ..setup }).await?;
        let (client, administrator) = first_client(&portal, access).await?;
        Ok(Self {
            portal,
            client,
            administrator,
            database,
            pki,
            agent,
        })
    }

    /// Creates a user.
    pub async fn create_user(&self, name: &str, email: &str) -> anyhow::Result<NewUser> {
        create_user(&self.client, name, email).await
    }
}

/// What differs from the defaults.
#[derive(Default)]
pub struct LabBuilder {
    asterisk: Settings,
    database: Option<TestDatabase>,
    agent_env: Vec<(String, String)>,
    portal_env: Vec<(String, String)>,
    access: Access,
}

impl LabBuilder {
    /// As installed: over HTTPS, with an administrator who is signed in.
    #[must_use]
    pub const fn login(mut self) -> Self {
        self.access = Access::LOGIN;
        self
    }

    /// How Asterisk is set up.
    #[must_use]
    pub const fn asterisk(mut self, settings: Settings) -> Self {
        self.asterisk = settings;
        self
    }

    /// The database, for tests that stop its cluster.
    #[must_use]
    pub fn database(mut self, database: TestDatabase) -> Self {
        self.database = Some(database);
        self
    }

    /// A variable of the agent's environment.
    #[must_use]
    pub fn agent_env(mut self, name: &str, value: &str) -> Self {
        self.agent_env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable of the environment of every portal of this lab.
    #[must_use]
    pub fn portal_env(mut self, name: &str, value: &str) -> Self {
        self.portal_env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts everything.
    pub async fn start(self) -> anyhow::Result<Lab> {
        let pki = Pki::temporary()?;
        let database = async {
            match self.database {
                Some(database) => Ok(database),
                None => TestDatabase::create().await,
            }
        };
        let (database, asterisk) = tokio::try_join!(database, Asterisk::start(self.asterisk))?;
        let agent = Agent::start(&asterisk, &pki, &self.agent_env).await?;
        let setup = setup(&database.url, agent.address(), &pki, &self.portal_env);
        let access = self.access;
        let portal = Portal::start(PortalSetup { access, ..setup }).await?;
        let (client, administrator) = first_client(&portal, access).await?;
        Ok(Lab {
            client,
            administrator,
            portal,
            agent,
            asterisk,
            database,
            pki,
            asterisk_settings: self.asterisk,
            agent_env: self.agent_env,
            portal_env: self.portal_env,
            access,
        })
    }
}

/// What `POST /users` returned.
#[derive(Clone)]
pub struct NewUser {
    /// Its id.
    pub id: String,
    /// Its extension.
    pub extension: u64,
    /// The username for SIP.
    pub sip_username: String,
    /// The password for SIP, shown this once.
    pub sip_password: String,
    /// The whole reply.
    pub body: Value,
}

impl NewUser {
    /// Reads the body of a 201.
    pub fn read(body: Value) -> anyhow::Result<Self> {
        let text = |value: &Value, what| {
            let text = value.as_str().map(str::to_owned);
            text.with_context(|| format!("the reply to POST /users has no {what}"))
        };
        let extension = body["extension"].as_u64();
        Ok(Self {
            id: text(&body["id"], "id")?,
            extension: extension.context("the reply to POST /users has no extension")?,
            sip_username: text(&body["sip"]["username"], "sip.username")?,
            sip_password: text(&body["sip"]["password"], "sip.password")?,
            body,
        })
    }
}

/// Creates a user.
pub async fn create_user(client: &Client, name: &str, email: &str) -> anyhow::Result<NewUser> {
    let body = json!({ "name": name, "email": email });
    let reply = client.post("/users", &body).await?.expect(201)?;
    NewUser::read(reply.json()?)
}

/// A client that may do everything, and who that is.
async fn first_client(
    portal: &Portal,
    access: Access,
) -> anyhow::Result<(Client, Option<Administrator>)> {
    let client = portal.client()?;
    if !access.login {
        has_its_schema(&client).await?;
        return Ok((client, None));
    }
    let administrator = Administrator {
        login: ADMINISTRATOR.to_owned(),
        password: Uuid::new_v4().to_string(),
    };
    portal.create_administrator(&administrator).await?;
    let client = client
        .sign_in(&administrator.login, &administrator.password)
        .await?;
    Ok((client, Some(administrator)))
}

/// The portal listens before it has reached its database. A first answer, whatever it says, means
/// that the schema is there or the database is not: a test may then read the tables itself.
async fn has_its_schema(client: &Client) -> anyhow::Result<()> {
    client.get("/users").await.map(drop)
}

fn setup<'a>(
    database_url: &'a str,
    agent: SocketAddr,
    pki: &'a Pki,
    env: &'a [(String, String)],
) -> PortalSetup<'a> {
    PortalSetup {
        database_url,
        agent,
        pki,
        secret_key: None,
        access: Access::default(),
        listen: None,
        env,
    }
}
