//! Table `pbx_event`: what happened to a PBX apart from applies.

use sqlx::{Connection as _, FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use super::page::Listing;
use crate::domain::event::{EventFilter, EventSort, NewEvent, PbxEvent, PbxEventKind};
use crate::domain::page::{Page, Slice};
use crate::domain::{Invalid, PbxId};

/// How many events of a kind are kept for each PBX: whoever knocks at the agent's door all day
/// fills only the place of its own kind.
const KEPT_PER_KIND: i64 = 10_000;

/// Records an event; its id, or `None` when it is there already.
pub async fn insert(
    connection: &mut PgConnection,
    pbx: PbxId,
    event: &NewEvent,
) -> Result<Option<i64>, DbError> {
    let numbered = event.numbered.as_ref();
    let actor = event.actor.as_ref();
    let source = actor.map(|actor| actor.source.to_string());
    let id = sqlx::query_scalar!(
        "insert into pbx_event (
            pbx_id, kind, detail, at, instance, sequence, requested_by, request_id, source_address
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict on constraint pbx_event_sequence_key do nothing
        returning event_id",
        pbx.0,
        event.kind.name(),
        event.detail.replace('\0', "\u{fffd}"),
        event.at,
        numbered.map(|numbered| numbered.instance.as_str()),
        numbered.map(|numbered| numbered.sequence),
        actor.map(|actor| actor.admin.as_str()),
        actor.map(|actor| actor.request_id.as_str()),
        source,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if id.is_some() {
        forget_oldest(connection, pbx, event.kind).await?;
    }
    Ok(id)
}

/// Records that the agent went away or came back, unless the last word about that says so already:
/// several portals see the same. Nothing is recorded of an agent that is back and was never away.
pub async fn insert_turn(
    connection: &mut PgConnection,
    pbx: PbxId,
    event: &NewEvent,
) -> Result<Option<i64>, DbError> {
    let mut transaction = connection.begin().await?;
    // One portal after another: the last word must stay the last until it is answered.
    sqlx::query!(
        "select pbx_id from pbx where pbx_id = $1 for no key update",
        pbx.0
    )
    .fetch_one(&mut *transaction)
    .await?;
    let last = sqlx::query_scalar!(
        "select kind from pbx_event
         where pbx_id = $1 and kind in ('agent_unreachable', 'agent_back')
         order by event_id desc limit 1",
        pbx.0,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let last = last.as_deref().unwrap_or(PbxEventKind::AgentBack.name());
    let id = if last == event.kind.name() {
        None
    } else {
        insert(&mut transaction, pbx, event).await?
    };
    transaction.commit().await?;
    Ok(id)
}

async fn forget_oldest(
    connection: &mut PgConnection,
    pbx: PbxId,
    kind: PbxEventKind,
) -> Result<(), DbError> {
    sqlx::query!(
        "delete from pbx_event where pbx_id = $1 and kind = $2 and event_id <= (
            select event_id from pbx_event where pbx_id = $1 and kind = $2
            order by event_id desc offset $3 limit 1
        )",
        pbx.0,
        kind.name(),
        KEPT_PER_KIND,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Says in the words of an event what came of it.
pub async fn set_detail(
    connection: &mut PgConnection,
    id: i64,
    detail: &str,
) -> Result<(), DbError> {
    sqlx::query!(
        "update pbx_event set detail = $2 where event_id = $1",
        id,
        detail.replace('\0', "\u{fffd}"),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The highest number that is recorded of a life of the agent; `None` when there is none.
pub async fn last_sequence(
    connection: &mut PgConnection,
    pbx: PbxId,
    instance: &str,
) -> Result<Option<i64>, DbError> {
    Ok(sqlx::query_scalar!(
        "select max(sequence) from pbx_event where pbx_id = $1 and instance = $2",
        pbx.0,
        instance,
    )
    .fetch_one(connection)
    .await?)
}

/// A part of the events.
pub async fn list(
    connection: &mut PgConnection,
    filter: &EventFilter,
    page: &Page<EventSort>,
) -> Result<Slice<PbxEvent>, DbError> {
    let key = match page.order.key {
        EventSort::Id => "event_id",
        EventSort::At => "at",
    };
    let columns = "event_id, pbx_id, name as pbx_name, kind, detail, at, recorded_at, requested_by, \
         request_id";
    Listing::new(
        columns,
        "pbx_event join pbx using (pbx_id)",
        page,
        key,
        "event_id",
    )
    .equal("pbx_id", filter.pbx.map(|pbx| pbx.0))
    .equal("kind", filter.kind.map(PbxEventKind::name))
    .equal("requested_by", filter.requested_by.clone())
    .search(&["detail"], filter.search.as_deref())
    .fetch::<EventRow>(connection)
    .await?
    .try_map(PbxEvent::try_from)
}

#[derive(FromRow)]
struct EventRow {
    event_id: i64,
    pbx_id: Uuid,
    pbx_name: String,
    kind: String,
    detail: String,
    at: OffsetDateTime,
    recorded_at: OffsetDateTime,
    requested_by: Option<String>,
    request_id: Option<String>,
}

impl TryFrom<EventRow> for PbxEvent {
    type Error = DbError;

    fn try_from(row: EventRow) -> Result<Self, DbError> {
        let unknown = || DbError::inconsistent("pbx_event", "kind", &row.event_id, &"unknown");
        Ok(Self {
            id: row.event_id,
            pbx_id: PbxId(row.pbx_id),
            pbx_name: row.pbx_name.parse().map_err(|reason: Invalid| {
                DbError::inconsistent("pbx", "name", &row.event_id, &reason)
            })?,
            kind: PbxEventKind::from_name(&row.kind).ok_or_else(unknown)?,
            detail: row.detail,
            at: row.at,
            recorded_at: row.recorded_at,
            requested_by: row.requested_by,
            request_id: row.request_id,
        })
    }
}
