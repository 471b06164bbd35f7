//! Watching the agent of a PBX: it is asked how it is in a steady rhythm and after each apply, its
//! events go into the audit trail, and whoever waits for it hears when it is back.

use std::time::Duration;

use shared::status::AgentStatus;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Portal;
use super::counters::{MONITOR_FAILURES, MONITOR_POLLS};
use super::events::{self, Recorded};
use super::pbxes::Pbx;
use crate::agent::AgentError;
use crate::causes::causes;
use crate::db::{DbError, State};
use crate::domain::event::PbxEventKind;
use crate::domain::pbx::DEFAULT_PBX;

/// How often an agent that does not answer is asked, in seconds.
const AWAY_SECONDS: u64 = 2;

/// How often the portal's certificates are looked at, in seconds.
const CERTIFICATES_SECONDS: u64 = 3600;

/// What the rest of the portal tells the monitor, and hears from it.
#[derive(Debug, Default)]
pub struct Signals {
    look: Notify,
    settle: Notify,
}

impl Signals {
    /// Something has happened on the PBX: look now.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    /// An attempt may be open that can be settled now.
    pub(super) fn settle(&self) {
        self.settle.notify_one();
    }

    /// Resolves when the agent answers again, or somebody left an attempt open.
    pub(super) async fn settling(&self) {
        self.settle.notified().await;
    }
}

/// What one look leaves for the next.
#[derive(Default)]
struct Memory {
    recorded: Recorded,
    /// Whether the agent answered last time; `None` before the first.
    answered: Option<bool>,
    /// The last word about that which the database has.
    turn: Option<PbxEventKind>,
    certificates_at: Option<Instant>,
}

/// Runs for ever.
pub async fn run(portal: &Portal, pbx: &Pbx) {
    let mut memory = Memory::default();
    loop {
        look(portal, pbx, &mut memory).await;
        let away = Duration::from_secs(AWAY_SECONDS);
        let pause = match memory.answered {
            Some(false) => away.min(portal.settings.monitor_period),
            Some(true) | None => portal.settings.monitor_period,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = pbx.signals.look.notified() => {}
        }
    }
}

async fn look(portal: &Portal, pbx: &Pbx, memory: &mut Memory) {
    portal.counters.count(MONITOR_POLLS);
    let status = pbx.agent().status().await;
    let answers = !matches!(status, Err(AgentError::Link(_)));
    if !answers {
        portal.counters.count(MONITOR_FAILURES);
    }
    if answers && memory.answered != Some(true) {
        pbx.signals.settle();
    }
    memory.answered = Some(answers);
    // A database that is down has said so in the log already. The agent keeps its events.
    if portal.database.state() == State::Ready
        && let Err(error) = record(portal, pbx, memory, &status).await
    {
        tracing::warn!(
            error = causes(&error),
            pbx = %pbx.id,
            "events of the PBX could not be recorded; trying again"
        );
    }
}

async fn record(
    portal: &Portal,
    pbx: &Pbx,
    memory: &mut Memory,
    status: &Result<AgentStatus, AgentError>,
) -> Result<(), DbError> {
    let (turn, detail) = match status {
        Ok(status) => (
            PbxEventKind::AgentBack,
            format!("agent version {} answers", status.version),
        ),
        Err(error @ AgentError::Link(_)) => (
            PbxEventKind::AgentUnreachable,
            format!("the agent: {error}"),
        ),
        Err(error) => (PbxEventKind::AgentBack, format!("the agent: {error}")),
    };
    if memory.turn != Some(turn) {
        events::record_turn(portal, pbx.id, turn, detail).await?;
        memory.turn = Some(turn);
    }
    if let Ok(status) = status {
        events::record_of_agent(portal, pbx.id, status, &mut memory.recorded).await?;
    }
    let period = Duration::from_secs(CERTIFICATES_SECONDS);
    // All links have the same certificates at this end: once is enough.
    if pbx.id == DEFAULT_PBX
        && memory
            .certificates_at
            .is_none_or(|at| at.elapsed() >= period)
    {
        certificates(portal, pbx).await?;
        memory.certificates_at = Some(Instant::now());
    }
    Ok(())
}

/// Warns of the portal's own certificates in good time. What cannot be read or used is told by
/// readiness.
async fn certificates(portal: &Portal, pbx: &Pbx) -> Result<(), DbError> {
    let (now, early) = (portal.clock.now(), portal.settings.cert_warning);
    let (ends, _) = pbx.agent().certificates(now, early);
    for status in ends {
        if let Some(warning) = status.warning(now, early) {
            tracing::warn!(warning, "a certificate of the link ends");
            events::record_certificate(portal, pbx.id, &status.name, status.not_after, warning)
                .await?;
        }
    }
    Ok(())
}
