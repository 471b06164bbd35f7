//! A comparison in full of what is in force with what Asterisk holds, on demand.

use std::sync::Arc;

use shared::status::VerifyReport;

use super::counters::VERIFICATIONS;
use super::pbxes::Pbx;
use super::{Error, Portal, events, work};
use crate::agent::AgentError;
use crate::db;
use crate::domain::Actor;
use crate::domain::audit::Entry;
use crate::domain::event::{NewEvent, PbxEventKind};
use crate::domain::viewer::{Seen as _, Viewer};

/// Compares, and answers what differs, as the viewer may see it. Nothing is changed. That it was asked for, by whom and what
/// came of it, is in the events, also when the caller does not wait for the answer.
pub async fn run_to_the_end(
    portal: Arc<Portal>,
    viewer: Viewer,
    pbx: Arc<Pbx>,
    actor: Actor,
) -> Result<VerifyReport, Error> {
    let running = portal.runs.one_more();
    let task = async move {
        let result = run(&portal, &pbx, actor).await;
        drop(running);
        result
    };
    let span = tracing::Span::current();
    let report = tokio::spawn(tracing::Instrument::instrument(task, span)).await?;
    report.map(|report| report.seen_by(viewer))
}

async fn run(portal: &Portal, pbx: &Pbx, actor: Actor) -> Result<VerifyReport, Error> {
    let request_id = actor.request_id.clone();
    // First, so that nothing is done that nobody could look up.
    let id = requested(portal, pbx, &actor).await?;
    portal.counters.count(VERIFICATIONS);
    let limit = portal.settings.apply_deadline;
    let result = pbx.agent().verify(limit, &request_id).await;
    if let Some(id) = id {
        note(portal, id, &words(&result)).await;
    }
    // What it found may be drift.
    pbx.signals.look();
    result.map_err(|error| match error {
        AgentError::Link(fault) => Error::AgentUnreachable(fault),
        AgentError::Busy(running) => Error::ApplyRuns(running),
        error if error.is_nothing_applied() => Error::NothingApplied,
        error => Error::AgentRefused(error),
    })
}

/// Writes down that it was asked for: the event, to be completed, and the entry of the audit trail.
async fn requested(portal: &Portal, pbx: &Pbx, actor: &Actor) -> Result<Option<i64>, Error> {
    let event = NewEvent {
        kind: PbxEventKind::VerifyRequested,
        detail: "asked for; no answer yet".to_owned(),
        at: portal.clock.now(),
        numbered: None,
        actor: Some(actor.clone()),
    };
    let id = work::run(portal, actor, async |work| {
        let name = pbx.name();
        let entry = Entry::new("verify.requested", "pbx", &pbx.id).called(name.as_str());
        work.record(entry.of(actor.reach().tenant()));
        let id = db::events::insert(work.connection(), pbx.id, &event).await?;
        Ok::<_, Error>(id)
    });
    let id = id.await?;
    events::told(portal, pbx.id, &event, id);
    Ok(id)
}

fn words(result: &Result<VerifyReport, AgentError>) -> String {
    match result {
        Ok(report) => {
            let (revision, compared) = (report.revision, report.compared);
            let differ = report.mismatches.len();
            match (report.in_force, report.failure.as_str()) {
                (true, _) => format!("revision {revision} is in force; compared: {compared}"),
                (false, "") => format!(
                    "revision {revision} is not in force; compared: {compared}, different: {differ}"
                ),
                (false, failure) => format!(
                    "revision {revision} is not proven to be in force: {failure}; compared: \
                     {compared}, different: {differ}"
                ),
            }
        }
        Err(error) => format!("no result: the agent: {error}"),
    }
}

async fn note(portal: &Portal, id: i64, words: &str) {
    let noted = async {
        let mut connection = portal.database.acquire().await?;
        db::events::set_detail(&mut connection, id, words).await
    };
    if let Err(error) = noted.await {
        tracing::warn!(event = id, %error, words, "what came of a verification was not recorded");
    }
}
