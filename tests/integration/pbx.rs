//! A PBX host without a portal: a real Asterisk and its agent, and a client with the portal's
//! certificate, to send what no portal would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api_server::agent::{Agent as Link, AgentError, Order};
use api_server::domain::RequestId;
use api_server::domain::snapshot::SnapshotUser;
use api_server::pki::Role;
use shared::bundle::{ApplyId, Bundle, Revision, Slot};
use shared::record::{ApplyRecord, OnReloadFailure};
use shared::tls::TlsFiles;
use tests::agent::Agent;
use tests::asterisk::{Asterisk, Settings};
use tests::pki::Pki;
use tests::process::wait_until;
use tests::scratch::{Place, Scratch};
use tests::snapshots;
use uuid::Uuid;

/// Longer than any apply in a test.
const APPLY_LIMIT: Duration = Duration::from_mins(1);

/// Asterisk, agent and the portal's end of the link.
pub(crate) struct Pbx {
    pub(crate) asterisk: Asterisk,
    pub(crate) agent: Agent,
    pub(crate) pki: Pki,
    /// Connects as the portal does.
    pub(crate) link: Link,
    last_revision: AtomicU64,
    last_certificate: AtomicU64,
    scratch: Scratch,
}

impl Pbx {
    /// With defaults.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_with(Settings::default(), &[]).await
    }

    /// With another Asterisk and additions to the agent's environment.
    pub(crate) async fn start_with(
        settings: Settings,
        env: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let env: Vec<_> = env
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let asterisk = Asterisk::start(settings).await?;
        Self::beside(asterisk, Place::temporary("agent")?, &env).await
    }

    /// With an Asterisk that runs and an agent that keeps its files in `place`.
    pub(crate) async fn beside(
        asterisk: Asterisk,
        place: Place,
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let (pki, scratch) = (Pki::temporary()?, Scratch::new("link")?);
        let agent = Agent::start_in(place, &asterisk, &pki, env).await?;
        let tls = pki.issue(&Role::Portal, &scratch.path().join("portal"), None)?;
        let link = link(&agent, tls)?;
        Ok(Self {
            asterisk,
            agent,
            pki,
            link,
            last_revision: AtomicU64::new(0),
            last_certificate: AtomicU64::new(0),
            scratch,
        })
    }

    /// One more connection as the portal.
    pub(crate) fn another_link(&self) -> anyhow::Result<Link> {
        self.link_to(self.agent.address())
    }

    /// One more connection as the portal, to an agent that is reached elsewhere.
    pub(crate) fn link_to(&self, address: SocketAddr) -> anyhow::Result<Link> {
        link_to(address, self.portal_tls()?)
    }

    /// A fresh certificate of the portal.
    pub(crate) fn portal_tls(&self) -> anyhow::Result<TlsFiles> {
        let number = self.last_certificate.fetch_add(1, Ordering::Relaxed);
        let dir = self.scratch.path().join(format!("portal{number}"));
        self.pki.issue(&Role::Portal, &dir, None)
    }

    /// What the next order will have.
    pub(crate) fn next_revision(&self) -> u64 {
        self.last_revision.load(Ordering::Relaxed) + 1
    }

    /// An order for `bundle` with the next revision.
    pub(crate) fn order(&self, bundle: &Bundle, policy: OnReloadFailure) -> Order {
        let revision = self.last_revision.fetch_add(1, Ordering::Relaxed) + 1;
        order_of(revision, bundle, policy)
    }

    /// Stages and applies; on failure Asterisk is to be rolled back.
    pub(crate) async fn apply(&self, bundle: &Bundle) -> anyhow::Result<ApplyRecord> {
        self.apply_with(bundle, OnReloadFailure::RollBack).await
    }

    /// Stages and applies.
    pub(crate) async fn apply_with(
        &self,
        bundle: &Bundle,
        policy: OnReloadFailure,
    ) -> anyhow::Result<ApplyRecord> {
        self.execute(&self.order(bundle, policy), bundle).await
    }

    /// Stages `bundle` and gives the order.
    pub(crate) async fn execute(
        &self,
        order: &Order,
        bundle: &Bundle,
    ) -> anyhow::Result<ApplyRecord> {
        self.link
            .stage(order, bundle.clone(), &request_id())
            .await?;
        Ok(self.link.apply(order, APPLY_LIMIT, &request_id()).await?)
    }

    /// Waits until the agent has finished and written down all that it had begun, also before it was
    /// killed: whoever asks what Asterisk holds is answered behind that.
    pub(crate) async fn idle(&self) -> anyhow::Result<()> {
        let idle = async || {
            let request = request_id();
            match self.link.verify(APPLY_LIMIT, &request).await {
                Ok(_) => true,
                // That is an answer as well.
                Err(AgentError::Refused { message, .. }) => message.contains("NOTHING_APPLIED"),
                Err(_) => false,
            }
        };
        wait_until("the agent is idle", APPLY_LIMIT, idle).await
    }

    /// A directory for certificates.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// An order for `bundle` with this revision.
pub(crate) fn order_of(revision: u64, bundle: &Bundle, policy: OnReloadFailure) -> Order {
    Order {
        id: ApplyId(Uuid::now_v7()),
        revision: Revision(revision),
        digest: bundle.manifest().digest(),
        on_reload_failure: policy,
        force: false,
    }
}

/// A client of `agent` that shows the certificate of `tls`.
pub(crate) fn link(agent: &Agent, tls: TlsFiles) -> anyhow::Result<Link> {
    link_to(agent.address(), tls)
}

fn link_to(address: SocketAddr, tls: TlsFiles) -> anyhow::Result<Link> {
    let identity = "spiffe://pbx.internal/agent/default".parse()?;
    Ok(Link::new(address.to_string(), identity, tls))
}

/// A fresh one.
pub(crate) fn request_id() -> RequestId {
    RequestId::from(Uuid::now_v7())
}

/// What a portal renders for these extensions. Another `edition` has another name, another password
/// and so another digest for each of them.
pub(crate) fn bundle(numbers: &[u32], edition: &str) -> Bundle {
    let users: Vec<_> = numbers.iter().map(|&number| (number, edition)).collect();
    mixed_bundle(&users)
}

/// As [`bundle`], with an edition for each extension.
pub(crate) fn mixed_bundle(users: &[(u32, &str)]) -> Bundle {
    let user = |&(number, edition): &(u32, &str)| {
        let device = snapshots::device(1, &password(number, edition))?;
        snapshots::user(number, &format!("User {number} {edition}"), vec![device])
    };
    let users: anyhow::Result<_> = users.iter().map(user).collect();
    bundle_of(vec![(1, users.expect("users"))])
}

/// What a portal renders for these tenants, by their numbers.
pub(crate) fn bundle_of(tenants: Vec<(u32, Vec<SnapshotUser>)>) -> Bundle {
    let tenants = tenants.into_iter();
    let tenants = tenants.map(|(number, users)| snapshots::tenant(number, users));
    let tenants: anyhow::Result<Vec<_>> = tenants.collect();
    let mut snapshot = snapshots::snapshot(tenants.expect("tenants")).expect("a snapshot");
    let users = snapshot.tenants.iter().flat_map(|tenant| &tenant.users);
    let highest = users.map(|user| user.extension.get()).max();
    snapshot.reserved_numbers = vec![1000..=highest.unwrap_or_default().max(1999)];
    api_server::render::render(&snapshot).expect("a bundle")
}

/// The SIP password in [`bundle`].
pub(crate) fn password(number: u32, edition: &str) -> String {
    format!("password{edition}{number}")
}

/// The text of a slot.
pub(crate) fn text(bundle: &Bundle, slot: Slot) -> String {
    String::from_utf8(bundle.files[&slot].clone()).expect("UTF-8")
}

/// The bundle with another text in a slot.
pub(crate) fn with_text(bundle: &Bundle, slot: Slot, text: impl Into<Vec<u8>>) -> Bundle {
    let mut bundle = bundle.clone();
    bundle.files.insert(slot, text.into());
    bundle
}
