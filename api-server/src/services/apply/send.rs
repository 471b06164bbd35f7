//! Handing a bundle to the agent and learning what became of it.

use std::time::Duration;

use shared::bundle::Bundle;
use shared::record::ApplyRecord;
use tokio::time::Instant;

use crate::agent::{Agent, AgentError, LinkFault, Order};
use crate::domain::RequestId;
use crate::domain::apply::{AttemptOutcome, Failure};
use crate::services::Portal;
use crate::services::live::State;

/// How long a lost agent is looked for, in seconds: it restarts within that time.
const REATTACH_SECONDS: u64 = 20;

/// Pause between two attempts to find it again, in milliseconds.
const REATTACH_PAUSE_MS: u64 = 250;

/// A call that lasted longer than this had reached the agent, in seconds.
const ATTACHED_SECONDS: u64 = 1;

/// What became of an order.
pub(super) enum Sent {
    /// The agent's closed record.
    Ended(Box<ApplyRecord>),
    /// Nothing was started.
    NotStarted(AttemptOutcome, Failure),
    /// Nothing was started, because the agent has seen a higher revision.
    Stale(Failure),
    /// It may run, may have ended, or may never have arrived.
    Unknown(LinkFault),
}

/// Uploads the bundle, then orders it into force, all with one agent.
pub(super) async fn send(
    portal: &Portal,
    agent: &Agent,
    order: &Order,
    bundle: Bundle,
    request_id: &RequestId,
) -> Sent {
    let staged = match agent.stage(order, bundle.clone(), request_id).await {
        // A connection that died unnoticed since its last use: an upload touches nothing live, so
        // once more on a fresh connection.
        Err(AgentError::Link(LinkFault::Unreachable(_))) => {
            agent.stage(order, bundle, request_id).await
        }
        staged => staged,
    };
    match staged {
        Ok(()) => execute(portal, agent, order, request_id).await,
        Err(error) => not_started(&error),
    }
}

/// Orders until an answer comes. Repeating is safe: the same order attaches to the running apply,
/// or answers its record, or starts it if it never arrived.
async fn execute(portal: &Portal, agent: &Agent, order: &Order, request_id: &RequestId) -> Sent {
    let deadline = Instant::now() + portal.settings.apply_deadline;
    let mut lost_since: Option<Instant> = None;
    portal
        .live
        .tell(order.id, State::Running, portal.clock.now());
    loop {
        let called = Instant::now();
        let limit = deadline.saturating_duration_since(called);
        let fault = match agent.apply(order, limit, request_id).await {
            Ok(record) if record.outcome.is_some() => return Sent::Ended(Box::new(record)),
            // Answered before its end, as while it recovers.
            Ok(_) => LinkFault::Silent,
            Err(AgentError::Link(fault)) => fault,
            Err(error) if lost_since.is_none() => return not_started(&error),
            Err(error) => return refused_after_loss(agent, order, &error).await,
        };
        let now = Instant::now();
        let attached = now - called > Duration::from_secs(ATTACHED_SECONDS);
        let since = lost_since.filter(|_| !attached).unwrap_or(now);
        lost_since = Some(since);
        if now >= deadline || now - since > Duration::from_secs(REATTACH_SECONDS) {
            return Sent::Unknown(fault);
        }
        tracing::warn!(apply = %order.id, %fault, "the agent's answer was lost; asking again");
        portal
            .live
            .tell(order.id, State::AgentLost, portal.clock.now());
        tokio::time::sleep(Duration::from_millis(REATTACH_PAUSE_MS)).await;
    }
}

/// A refusal proves that nothing was started only if no earlier call may have started it.
async fn refused_after_loss(agent: &Agent, order: &Order, refusal: &AgentError) -> Sent {
    match agent.find_apply(order.id).await {
        Ok(Some(record)) if record.outcome.is_some() => Sent::Ended(Box::new(record)),
        Ok(None) => not_started(refusal),
        Ok(Some(_)) => Sent::Unknown(LinkFault::Silent),
        Err(error) => Sent::Unknown(LinkFault::Unreachable(error.to_string())),
    }
}

/// What an error says when it is certain that nothing was started.
fn not_started(error: &AgentError) -> Sent {
    let (outcome, code) = match error {
        AgentError::Link(fault) => (AttemptOutcome::AgentUnreachable, link_code(fault)),
        AgentError::Busy(_) => (AttemptOutcome::Busy, "agent_busy"),
        AgentError::Stale(_) => {
            return Sent::Stale(Failure::new(
                "stale_revision",
                format!("the agent: {error}"),
            ));
        }
        AgentError::NotFound | AgentError::Refused { .. } => {
            (AttemptOutcome::AgentRefused, "agent_refused")
        }
        AgentError::Malformed(_) => (AttemptOutcome::AgentRefused, "agent_not_understood"),
    };
    let running = match error {
        AgentError::Busy(Some(running)) => format!(" ({running})"),
        _ => String::new(),
    };
    Sent::NotStarted(
        outcome,
        Failure::new(code, format!("the agent: {error}{running}")),
    )
}

const fn link_code(fault: &LinkFault) -> &'static str {
    match fault {
        LinkFault::Unreachable(_) | LinkFault::Silent => "agent_unreachable",
        LinkFault::OurCertificateRefused(_) => "portal_certificate_refused",
        LinkFault::TheirCertificateRefused(_) => "agent_certificate_refused",
        LinkFault::OurFiles(_) => "portal_tls_files_unusable",
    }
}
