//! Wiring, from the configuration to an orderly end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::causes::causes;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Serving};
use crate::db::Database;
use crate::db::pbxes::PbxSettings;
use crate::domain::access::AuthMode;
use crate::domain::pbx::{DEFAULT_PBX, DEFAULT_PBX_NAME};
use crate::https::Https;
use crate::services::apply::{AllEnded, Runs};
use crate::services::audit::{self, Refusals};
use crate::services::authentication::Gate;
use crate::services::bulkhead::Bulkhead;
use crate::services::counters::Counters;
use crate::services::live::Live;
use crate::services::pbxes::{self, DefaultPbx, Pbxes};
use crate::services::{Portal, Settings};
use crate::{http, listen};

/// How long an orderly end may take beside what a running apply may take, in seconds.
const SHUTDOWN_GRACE_SECONDS: u64 = 20;

/// Serves until it is told to stop by SIGTERM or SIGINT; applies that run are finished first.
///
/// # Errors
/// The certificate for HTTPS cannot be used, the address not be listened on, or the database, reached at once, is sealed with another key.
/// A database or an agent that is down is no error.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    raise_file_limit();
    let https = open_https(&config)?;
    let listener = listen_on(&config).await?;
    let (portal, ended) = wire(&config, https.clone())?;
    let database = portal.database.clone();
    let mut keeper = tokio::spawn(database.clone().keep());
    // Monitors and reconcilers are its own, and end with it.
    let watch = tokio::spawn({
        let portal = Arc::clone(&portal);
        async move {
            tokio::join!(
                pbxes::keep(Arc::clone(&portal)),
                audit::keep_anchored(portal)
            )
        }
    });
    let watchdog = tokio::spawn(watchdog());
    tell(NotifyState::Ready);

    let mut refused = None;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            reason = &mut keeper => {
                refused = Some(reason);
                "the database cannot be used"
            }
        }
    };
    let running = listen::serve(listener, https, http::router(Arc::clone(&portal)), stop).await;
    tell(NotifyState::Stopping);
    // Whoever follows an apply goes on at another portal, or at this one's next life.
    portal.live.stop();
    watch.abort();
    drop(portal);
    let limit = config.apply_deadline + Duration::from_secs(SHUTDOWN_GRACE_SECONDS);
    let orderly = async {
        running.shutdown().await;
        // What watches the PBXes, and connections, held the rest of the portal.
        watch.await.ok();
        ended.wait().await;
    };
    if tokio::time::timeout(limit, orderly).await.is_err() {
        tracing::warn!("stopping although requests are still running");
    }
    database.close().await;
    keeper.abort();
    watchdog.abort();
    tracing::info!("stopped");
    match refused {
        None => Ok(()),
        Some(reason) => {
            let reason = reason.context("the task that keeps the database in order died")?;
            tracing::error!(error = causes(&reason), "the database cannot be used");
            Err(reason.into())
        }
    }
}

/// The socket for clients; whoever needs no credentials there is warned of.
async fn listen_on(config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.entrance.address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    let spoken = if matches!(config.entrance.serving, Serving::Https(_)) {
        "HTTPS"
    } else {
        "HTTP"
    };
    tracing::info!(%address, "listening ({spoken})");
    if config.auth == AuthMode::TrustedNetwork {
        tracing::warn!(
            %address,
            "AUTH_MODE=trusted_network: there is no sign-in; whoever reaches this address \
             administers the PBX"
        );
    }
    Ok(listener)
}

/// Takes as many file descriptors as the machine allows: the usual 1,024 would be gone with as many
/// connections, and database and agents out of reach.
fn raise_file_limit() {
    let limit = Resource::RLIMIT_NOFILE;
    let raised = getrlimit(limit).and_then(|(_, hard)| setrlimit(limit, hard, hard));
    if let Err(error) = raised {
        // As in the unit, which sets a limit and forbids to change it.
        tracing::debug!(%error, "the limit of file descriptors stays as it is");
    }
}

/// The certificate that clients see, unless a proxy has that.
fn open_https(config: &Config) -> anyhow::Result<Option<Arc<Https>>> {
    let Serving::Https(files) = &config.entrance.serving else {
        return Ok(None);
    };
    let https = Https::open(files.clone()).context("HTTPS cannot be served")?;
    for warning in https.warnings(SystemClock.now(), config.cert_warning) {
        tracing::warn!(warning, "certificate of HTTPS");
    }
    Ok(Some(Arc::new(https)))
}

fn wire(config: &Config, https: Option<Arc<Https>>) -> anyhow::Result<(Arc<Portal>, AllEnded)> {
    let pbx = PbxSettings {
        id: DEFAULT_PBX,
        agent_address: config.agent_address.clone(),
        agent_identity: config.agent_identity.clone(),
        sip_realm: config.sip_realm.clone(),
    };
    let default = DefaultPbx {
        name: DEFAULT_PBX_NAME.parse()?,
        agent_address: config.agent_address.clone(),
        agent_identity: config.agent_identity.clone(),
        sip_realm: config.sip_realm.clone(),
    };
    let (runs, ended) = Runs::new();
    let portal = Portal {
        database: Database::new(config.database.clone(), pbx, config.vault.clone())
            .owned_by(config.migration.clone()),
        vault: config.vault.clone(),
        clock: Arc::new(SystemClock),
        https,
        pbxes: Pbxes::new(default, config.tls.clone()),
        settings: Settings {
            auth: config.auth,
            behind_proxy: config.entrance.serving == Serving::BehindProxy,
            hosts: config.entrance.hosts.clone(),
            on_reload_failure: config.on_reload_failure,
            apply_lock_wait: config.apply_lock_wait,
            apply_deadline: config.apply_deadline,
            monitor_period: config.monitor_period,
            cert_warning: config.cert_warning,
            bundles_kept: config.bundles_kept,
        },
        runs,
        live: Live::default(),
        counters: Counters::default(),
        refusals: Refusals::default(),
        rendering: Semaphore::new(1),
        bulk: Semaphore::new(1),
        bulkhead: Bulkhead::default(),
        gate: Gate::default(),
    };
    Ok((Arc::new(portal), ended))
}

/// Tells systemd, if it started this process, that the runtime still turns.
async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        ticks.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
