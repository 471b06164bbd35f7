//! What happened to the PBX apart from applies: recorded once, however many portals see it.

use shared::status::{AgentStatus, EventKind};

use super::counters::EVENTS_RECORDED;
use super::{Error, Portal};
use crate::db::{self, DbError};
use crate::domain::PbxId;
use crate::domain::event::{EventFilter, EventSort, NewEvent, Numbered, PbxEvent, PbxEventKind};
use crate::domain::page::{Page, Slice};

/// A part of the events.
pub async fn list(
    portal: &Portal,
    filter: &EventFilter,
    page: &Page<EventSort>,
) -> Result<Slice<PbxEvent>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::events::list(&mut connection, filter, page).await?)
}

/// Up to which number the events of one life of the agent are recorded: spares the database the
/// same questions every half minute.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    instance: String,
    up_to: Option<i64>,
}

/// Records what the agent tells and was not recorded yet.
pub(super) async fn record_of_agent(
    portal: &Portal,
    pbx: PbxId,
    status: &AgentStatus,
    recorded: &mut Recorded,
) -> Result<(), DbError> {
    if status.instance.is_empty() {
        // Too old to number its events.
        return Ok(());
    }
    if recorded.instance != status.instance {
        let mut connection = portal.database.acquire().await?;
        let up_to = db::events::last_sequence(&mut connection, pbx, &status.instance).await?;
        recorded.instance.clone_from(&status.instance);
        recorded.up_to = up_to;
    }
    for event in &status.events {
        let sequence = i64::try_from(event.sequence).unwrap_or(i64::MAX);
        if recorded.up_to.is_some_and(|up_to| sequence <= up_to) {
            continue;
        }
        let new = NewEvent {
            kind: PbxEventKind::OfAgent(event.kind),
            detail: event.detail.clone(),
            at: event.at,
            numbered: Some(Numbered {
                instance: status.instance.clone(),
                sequence,
            }),
            actor: None,
        };
        record(portal, pbx, &new).await?;
        recorded.up_to = Some(sequence);
    }
    Ok(())
}

/// Records once for each certificate of this portal that it ends soon.
pub(super) async fn record_certificate(
    portal: &Portal,
    pbx: PbxId,
    name: &str,
    not_after: time::OffsetDateTime,
    warning: String,
) -> Result<(), DbError> {
    let new = NewEvent {
        kind: PbxEventKind::OfAgent(EventKind::CertificateExpiring),
        detail: warning,
        at: portal.clock.now(),
        numbered: Some(Numbered {
            instance: format!("portal: {name}"),
            sequence: not_after.unix_timestamp(),
        }),
        actor: None,
    };
    record(portal, pbx, &new).await.map(drop)
}

/// Records that the agent went away or came back.
pub(super) async fn record_turn(
    portal: &Portal,
    pbx: PbxId,
    kind: PbxEventKind,
    detail: String,
) -> Result<(), DbError> {
    let new = NewEvent {
        kind,
        detail,
        at: portal.clock.now(),
        numbered: None,
        actor: None,
    };
    let mut connection = portal.database.acquire().await?;
    let id = db::events::insert_turn(&mut connection, pbx, &new).await?;
    told(portal, pbx, &new, id);
    Ok(())
}

/// Records an event; its id, or `None` when another portal was quicker.
pub(super) async fn record(
    portal: &Portal,
    pbx: PbxId,
    new: &NewEvent,
) -> Result<Option<i64>, DbError> {
    let mut connection = portal.database.acquire().await?;
    let id = db::events::insert(&mut connection, pbx, new).await?;
    told(portal, pbx, new, id);
    Ok(id)
}

/// The portal that recorded an event puts it into its log.
pub(super) fn told(portal: &Portal, pbx: PbxId, new: &NewEvent, id: Option<i64>) {
    let Some(event) = id else { return };
    portal.counters.count(EVENTS_RECORDED);
    let (kind, detail) = (new.kind.name(), &new.detail);
    match new.kind {
        PbxEventKind::AgentBack
        | PbxEventKind::VerifyRequested
        | PbxEventKind::OfAgent(
            EventKind::DriftEnded | EventKind::ForeignFileGone | EventKind::SafeModeLeft,
        ) => tracing::info!(event, %pbx, kind, detail, "PBX event"),
        PbxEventKind::AgentUnreachable
        | PbxEventKind::OfAgent(
            EventKind::DriftFound
            | EventKind::DriftOverwritten
            | EventKind::ForeignFileFound
            | EventKind::SafeModeEntered
            | EventKind::CertificateExpiring
            | EventKind::PeerRefused,
        ) => tracing::warn!(event, %pbx, kind, detail, "PBX event"),
    }
}
