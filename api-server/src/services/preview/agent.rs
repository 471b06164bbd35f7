//! What a preview asks the agent, and what its answers mean.

use std::time::Duration;

use shared::bundle::{ApplyId, Bundle, Revision};
use shared::status::{AgentStatus, CheckReport, FileStatus, RegisteredPhone};

use super::Finding;
use crate::agent::{Agent, AgentError, Order};
use crate::clock::{os_rng, unix_ms};
use crate::domain::revision::InForce;
use crate::domain::status::Warning;
use crate::domain::{RequestId, uuid_v7};
use crate::services::{Portal, warnings};

/// How long the agent may take to check a bundle and to name phones, in seconds: a preview answers
/// without what it does not say in time.
const AGENT_SECONDS: u64 = 10;

/// How it is.
pub(super) async fn status(agent: &Agent) -> Result<AgentStatus, String> {
    in_time(agent.status()).await
}

/// What would keep the bundle from coming into force.
pub(super) async fn check(
    portal: &Portal,
    agent: &Agent,
    in_force: Option<&InForce>,
    bundle: Bundle,
    request_id: &RequestId,
) -> Result<CheckReport, String> {
    let latest = in_force.map_or(0, |in_force| in_force.revision.0);
    let now = unix_ms(portal.clock.now());
    // Nothing of it is kept: of the order only the digest matters.
    let order = Order {
        id: ApplyId(uuid_v7(now, &mut os_rng())),
        revision: Revision(latest + 1),
        digest: bundle.manifest().digest(),
        on_reload_failure: portal.settings.on_reload_failure,
        force: false,
    };
    in_time(agent.check(&order, bundle, request_id)).await
}

/// Who is registered there.
pub(super) async fn phones(
    agent: &Agent,
    aors: Vec<String>,
) -> Result<Vec<RegisteredPhone>, String> {
    // To the agent, none would mean any.
    if aors.is_empty() {
        return Ok(Vec::new());
    }
    in_time(agent.registered(aors)).await
}

/// What the agent does not say in time is not known.
async fn in_time<T>(answer: impl Future<Output = Result<T, AgentError>>) -> Result<T, String> {
    match tokio::time::timeout(Duration::from_secs(AGENT_SECONDS), answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("the agent: {error}")),
        Err(_) => Err(format!("the agent did not answer within {AGENT_SECONDS} s")),
    }
}

/// Why no apply can succeed now, whatever it brings.
pub(super) fn findings(status: &AgentStatus) -> Vec<Finding> {
    let finding = |message| Finding {
        source: "agent",
        slot: None,
        line: 0,
        message,
    };
    let safe_mode = status.safe_mode.as_ref();
    let safe_mode = safe_mode.map(|reason| format!("the agent is in safe mode: {reason}"));
    // In the middle of an apply it may be silent by right.
    let silent = (!status.asterisk_answering && status.running.is_none())
        .then(|| format!("Asterisk does not answer: {}", status.asterisk_detail));
    safe_mode.into_iter().chain(silent).map(finding).collect()
}

/// Hand edits that an apply would overwrite.
pub(super) fn overwritten(status: &AgentStatus) -> Vec<Warning> {
    // In the middle of an apply the files differ by right.
    if status.running.is_some() {
        return Vec::new();
    }
    let warning = |file: &FileStatus| {
        let path = &file.path;
        let message = match file.on_disk {
            Some(_) => format!(
                "{path} is not what was applied: an apply keeps a copy of it on the PBX host and \
                 overwrites it"
            ),
            None => format!("{path} is gone: an apply puts it back"),
        };
        Warning::new("drift", message)
    };
    warnings::drifted(status).into_iter().map(warning).collect()
}

/// That the agent knows of something else than the database.
pub(super) fn other_history(status: &AgentStatus, in_force: Option<&InForce>) -> Option<String> {
    let proven = status.active.map(|active| active.digest);
    if proven == in_force.map(|in_force| in_force.digest) {
        return None;
    }
    let proven = status.active.map_or_else(
        || "nothing".to_owned(),
        |active| format!("revision {}", active.revision),
    );
    Some(format!(
        "The agent says that {proven} was proven last on the PBX. That is not what this was \
         compared with: another database may have been applied, or this one restored from a backup."
    ))
}

/// That nobody knows how the PBX is.
pub(super) fn silent(reason: &str) -> Warning {
    let message = format!(
        "Whether an apply would succeed, and whether it would overwrite hand edits, is not known: \
         {reason}"
    );
    Warning::new("agent_unreachable", message)
}
