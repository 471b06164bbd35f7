//! The PBXes that this portal works on: a handle for each, with all that is kept apart, so that
//! nothing that happens to one touches another.
//!
//! What the table `pbx` says is read whenever the database becomes ready, after each change by this
//! portal, in the rhythm of the monitors, because another portal may have changed it, and when
//! somebody names a PBX that is not known.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use shared::tls::{Identity, TlsFiles};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::causes::causes;
use crate::db::{self, DbError, State};
use crate::domain::pbx::{AgentAddress, DEFAULT_PBX, PbxRef};
use crate::domain::{PbxId, PbxName, SipRealm, pbx};
use crate::services::apply::Queue;
use crate::services::monitor::{self, Signals};
use crate::services::{Error, Portal, reconcile};

/// One PBX as this portal works with it.
pub struct Pbx {
    /// Which PBX.
    pub id: PbxId,
    /// The applies of this process on it, one after another.
    pub queue: Queue,
    /// Between those who learn of its agent's state and those who need it.
    pub signals: Signals,
    current: RwLock<Current>,
}

/// What may change about it.
#[derive(Clone)]
struct Current {
    name: PbxName,
    address: AgentAddress,
    identity: Identity,
    realm: SipRealm,
    agent: Agent,
}

/// What the environment says about the default PBX.
#[derive(Clone, Debug)]
pub struct DefaultPbx {
    /// What it is called until the database says otherwise.
    pub name: PbxName,
    /// Where its agent listens.
    pub agent_address: AgentAddress,
    /// Whom its agent's certificate must name.
    pub agent_identity: Identity,
    /// The realm of its SIP digests.
    pub sip_realm: SipRealm,
}

impl Pbx {
    fn new(id: PbxId, current: Current) -> Self {
        Self {
            id,
            queue: Queue::default(),
            signals: Signals::default(),
            current: RwLock::new(current),
        }
    }

    /// What administrators call it.
    pub fn name(&self) -> PbxName {
        self.current().name
    }

    /// The realm of its SIP digests.
    pub fn sip_realm(&self) -> SipRealm {
        self.current().realm
    }

    /// Its agent. Whoever asks it several questions about one thing keeps this value: another call
    /// may answer another host, when the address was changed in between.
    pub fn agent(&self) -> Agent {
        self.current().agent
    }

    fn current(&self) -> Current {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Takes over what its row says. The agent of the default PBX is the one that this portal's
    /// environment names, whatever another portal wrote.
    fn take_over(&self, row: &pbx::Pbx, tls: &TlsFiles) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.name.clone_from(&row.name);
        if self.id == DEFAULT_PBX {
            return;
        }
        current.realm.clone_from(&row.sip_realm);
        if current.address != row.agent_address || current.identity != row.agent_identity {
            *current = Current::of(row, tls);
            drop(current);
            self.signals.look();
        }
    }
}

impl Current {
    fn of(row: &pbx::Pbx, tls: &TlsFiles) -> Self {
        Self {
            name: row.name.clone(),
            address: row.agent_address.clone(),
            identity: row.agent_identity.clone(),
            realm: row.sip_realm.clone(),
            agent: Agent::new(
                row.agent_address.as_str().to_owned(),
                row.agent_identity.clone(),
                tls.clone(),
            ),
        }
    }
}

/// The PBXes in service, as far as this portal knows.
pub struct Pbxes {
    default: Arc<Pbx>,
    known: RwLock<BTreeMap<PbxId, Arc<Pbx>>>,
    /// Of the link to every agent.
    tls: TlsFiles,
    /// One reader at a time, so that an older answer does not replace a newer one.
    reading: Mutex<()>,
    /// Some came or went.
    changed: Notify,
}

impl Pbxes {
    /// The default PBX alone, until the database is read.
    pub fn new(default: DefaultPbx, tls: TlsFiles) -> Self {
        let agent = Agent::new(
            default.agent_address.as_str().to_owned(),
            default.agent_identity.clone(),
            tls.clone(),
        );
        let current = Current {
            name: default.name,
            address: default.agent_address,
            identity: default.agent_identity,
            realm: default.sip_realm,
            agent,
        };
        let default = Arc::new(Pbx::new(DEFAULT_PBX, current));
        Self {
            known: RwLock::new(BTreeMap::from([(DEFAULT_PBX, Arc::clone(&default))])),
            default,
            tls,
            reading: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The PBX that the first migration made.
    pub const fn default(&self) -> &Arc<Pbx> {
        &self.default
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Pbx>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.values().cloned().collect();
        drop(known);
        all.sort_by_cached_key(|pbx| pbx.name());
        all
    }

    fn known(&self, named: &PbxRef) -> Option<Arc<Pbx>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match named {
            PbxRef::Id(id) => known.get(id).cloned(),
            PbxRef::Name(name) => known.values().find(|pbx| pbx.name() == *name).cloned(),
        }
    }

    fn take_over(&self, rows: &[pbx::Pbx]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        // The default one stays, whatever its row says.
        known.retain(|id, _| *id == DEFAULT_PBX || rows.iter().any(|row| row.id == *id));
        let mut changed = known.len() != before;
        for row in rows {
            if let Some(pbx) = known.get(&row.id) {
                pbx.take_over(row, &self.tls);
            } else {
                let pbx = Pbx::new(row.id, Current::of(row, &self.tls));
                known.insert(row.id, Arc::new(pbx));
                changed = true;
            }
        }
        drop(known);
        if changed {
            self.changed.notify_one();
        }
    }
}

/// Reads again which PBXes there are.
pub async fn refresh(portal: &Portal) -> Result<(), DbError> {
    let turn = portal.pbxes.reading.lock().await;
    let mut connection = portal.database.acquire().await?;
    let rows = db::pbxes::list(&mut connection).await?;
    drop(connection);
    let readable = rows.into_iter().filter_map(|row| {
        row.inspect_err(|error| {
            tracing::error!(
                error = causes(error),
                "a PBX is left out, because its row is broken"
            );
        })
        .ok()
    });
    portal.pbxes.take_over(&readable.collect::<Vec<_>>());
    drop(turn);
    Ok(())
}

/// The PBX that somebody names; the database is asked about one that is not known.
///
/// # Errors
/// [`Error::PbxNotFound`].
pub async fn find(portal: &Portal, named: &PbxRef) -> Result<Arc<Pbx>, Error> {
    if let Some(pbx) = portal.pbxes.known(named) {
        return Ok(pbx);
    }
    refresh(portal).await?;
    portal.pbxes.known(named).ok_or(Error::PbxNotFound)
}

/// The PBX that somebody names, or the default one.
///
/// # Errors
/// [`Error::PbxNotFound`].
pub async fn named_or_default(portal: &Portal, named: Option<&PbxRef>) -> Result<Arc<Pbx>, Error> {
    match named {
        Some(named) => find(portal, named).await,
        None => Ok(Arc::clone(portal.pbxes.default())),
    }
}

/// Runs for ever: reads which PBXes there are, and gives each its monitor and its reconciler, which
/// end with it.
pub async fn keep(portal: Arc<Portal>) {
    let mut watched: HashMap<PbxId, Watched> = HashMap::new();
    let mut changes = portal.database.changes();
    loop {
        // A database that is down has said so in the log already.
        if portal.database.state() == State::Ready
            && let Err(error) = refresh(&portal).await
        {
            tracing::warn!(
                error = causes(&error),
                "the PBXes could not be read; trying again"
            );
        }
        let all = portal.pbxes.all();
        watched.retain(|id, _| all.iter().any(|pbx| pbx.id == *id));
        for pbx in all {
            watched
                .entry(pbx.id)
                .or_insert_with(|| Watched::begin(&portal, pbx));
        }
        tokio::select! {
            () = tokio::time::sleep(portal.settings.monitor_period) => {}
            // The sender lives as long as the portal.
            _ = changes.changed() => {}
            () = portal.pbxes.changed.notified() => {}
        }
    }
}

/// What runs for a PBX until it is dropped.
struct Watched([JoinHandle<()>; 2]);

impl Watched {
    fn begin(portal: &Arc<Portal>, pbx: Arc<Pbx>) -> Self {
        let monitor = tokio::spawn({
            let (portal, pbx) = (Arc::clone(portal), Arc::clone(&pbx));
            async move { monitor::run(&portal, &pbx).await }
        });
        let reconciler = tokio::spawn({
            let portal = Arc::clone(portal);
            async move { reconcile::run(&portal, &pbx).await }
        });
        Self([monitor, reconciler])
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
