//! Table `user`, joined with the extension of each.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::page::Listing;
use super::{DbError, extensions};
use crate::domain::calling::{CallForward, CallSettings, DialNumber, ForwardDelay, PinHash};
use crate::domain::page::{Page, Slice, sort_keys};
use crate::domain::tenant::TenantBrief;
use crate::domain::user::{NewUser, User};
use crate::domain::{
    AdminUser, DisplayName, Email, ExtensionNumber, Metadata, TenantId, UserId, Version, Within,
};

/// The index that keeps an address unique among the living users of a tenant.
pub const EMAIL_KEY: &str = "user_tenant_email_key";

#[derive(sqlx::FromRow)]
struct UserRow {
    user_id: Uuid,
    tenant_id: Uuid,
    name: String,
    email: String,
    number: i32,
    status: String,
    role: String,
    outbound_caller_id: Option<String>,
    voicemail_enabled: bool,
    voicemail_pin_hash: Option<String>,
    dnd_enabled: bool,
    forward_always: Option<String>,
    forward_busy: Option<String>,
    forward_no_answer: Option<String>,
    forward_unregistered: Option<String>,
    forward_delay_seconds: i16,
    metadata: Value,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<UserRow> for User {
    type Error = DbError;

    fn try_from(row: UserRow) -> Result<Self, DbError> {
        let id = UserId(row.user_id);
        let broken = |column, reason| DbError::inconsistent("user", column, &id, &reason);
        let number = |column, text: Option<String>| {
            let parsed = text.map(|text| text.parse::<DialNumber>()).transpose();
            parsed.map_err(|reason| broken(column, reason))
        };
        let delay = u32::try_from(row.forward_delay_seconds).unwrap_or_default();
        Ok(Self {
            id,
            tenant: TenantId(row.tenant_id),
            name: DisplayName::from_stored(&row.name).map_err(|reason| broken("name", reason))?,
            email: row
                .email
                .parse()
                .map_err(|reason| broken("email", reason))?,
            extension: extensions::to_number(id, row.number)?,
            status: row
                .status
                .parse()
                .map_err(|reason| broken("status", reason))?,
            role: row.role.parse().map_err(|reason| broken("role", reason))?,
            calls: CallSettings {
                outbound_caller_id: number("outbound_caller_id", row.outbound_caller_id)?,
                voicemail_enabled: row.voicemail_enabled,
                voicemail_pin: row.voicemail_pin_hash.map(PinHash::new),
                dnd: row.dnd_enabled,
                forward: CallForward {
                    always: number("forward_always", row.forward_always)?,
                    busy: number("forward_busy", row.forward_busy)?,
                    no_answer: number("forward_no_answer", row.forward_no_answer)?,
                    unregistered: number("forward_unregistered", row.forward_unregistered)?,
                    delay: ForwardDelay::try_from(delay)
                        .map_err(|reason| broken("forward_delay_seconds", reason))?,
                },
            },
            metadata: Metadata::from_stored(row.metadata)
                .map_err(|reason| broken("metadata", reason))?,
            version: Version(row.version),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn text(number: Option<&DialNumber>) -> Option<&str> {
    number.map(DialNumber::as_str)
}

/// Inserts a user, who has no number yet.
pub async fn insert(
    connection: &mut PgConnection,
    (tenant, id): (TenantId, UserId),
    user: &NewUser,
    calls: &CallSettings,
    by: &AdminUser,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    let forward = &calls.forward;
    sqlx::query!(
        r#"insert into "user" (
            user_id, tenant_id, name, email, role, outbound_caller_id, voicemail_enabled,
            voicemail_pin_hash, dnd_enabled, forward_always, forward_busy, forward_no_answer,
            forward_unregistered, forward_delay_seconds, metadata, created_at, created_by,
            updated_at, status
        )
        values (
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $16, $18
        )"#,
        id.0,
        tenant.0,
        user.name.as_str(),
        user.email.as_str(),
        user.role.name(),
        text(calls.outbound_caller_id.as_ref()),
        calls.voicemail_enabled,
        calls.voicemail_pin.as_ref().map(PinHash::expose),
        calls.dnd,
        text(forward.always.as_ref()),
        text(forward.busy.as_ref()),
        text(forward.no_answer.as_ref()),
        text(forward.unregistered.as_ref()),
        i16::from(forward.delay.seconds()),
        user.metadata.clone().into_value(),
        at,
        by.as_str(),
        user.status.name(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes everything of a living user that can be changed, but for its number. To be called on what
/// was read under [`lock`].
pub async fn update(connection: &mut PgConnection, user: &User) -> Result<(), DbError> {
    let (calls, forward) = (&user.calls, &user.calls.forward);
    sqlx::query!(
        r#"update "user" set
            name = $3, email = $4, status = $5, role = $6, outbound_caller_id = $7,
            voicemail_enabled = $8, voicemail_pin_hash = $9, dnd_enabled = $10,
            forward_always = $11, forward_busy = $12, forward_no_answer = $13,
            forward_unregistered = $14, forward_delay_seconds = $15, metadata = $16, version = $17,
            updated_at = $18
        where tenant_id = $1 and user_id = $2"#,
        user.tenant.0,
        user.id.0,
        user.name.as_str(),
        user.email.as_str(),
        user.status.name(),
        user.role.name(),
        text(calls.outbound_caller_id.as_ref()),
        calls.voicemail_enabled,
        calls.voicemail_pin.as_ref().map(PinHash::expose),
        calls.dnd,
        text(forward.always.as_ref()),
        text(forward.busy.as_ref()),
        text(forward.no_answer.as_ref()),
        text(forward.unregistered.as_ref()),
        i16::from(forward.delay.seconds()),
        user.metadata.clone().into_value(),
        user.version.0,
        user.updated_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts in the place of living users' addresses what is no address, so that others may have them. Each of
/// these users gets another one by [`update`], or nothing of it counts.
pub async fn set_email_aside(
    connection: &mut PgConnection,
    tenant: TenantId,
    users: &[UserId],
) -> Result<(), DbError> {
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    sqlx::query!(
        r#"update "user" set email = user_id::text where tenant_id = $1 and user_id = any($2)"#,
        tenant.0,
        &users,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The tenants that users, living or deleted, belong to, by name.
pub async fn tenants(
    connection: &mut PgConnection,
    users: &[UserId],
) -> Result<Vec<TenantBrief>, DbError> {
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    let rows = sqlx::query!(
        r#"select tenant_id, name from tenant
           where tenant_id in (select tenant_id from "user" where user_id = any($1))
           order by name, tenant_id"#,
        &users,
    )
    .fetch_all(connection)
    .await?;
    let tenant = rows.into_iter().map(|row| TenantBrief {
        id: TenantId(row.tenant_id),
        name: row.name,
    });
    Ok(tenant.collect())
}

/// Keeps others from changing a living user until the transaction ends; `false` when there is none.
///
/// It must be a statement of its own, before the user is read: one that waits for a lock keeps the
/// snapshot it began with.
pub async fn lock(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: UserId,
) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"select user_id from "user"
           where tenant_id = $1 and user_id = $2 and deleted_at is null
           for no key update"#,
        tenant.0,
        id.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// One living user.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: UserId,
) -> Result<Option<User>, DbError> {
    sqlx::query_as!(
        UserRow,
        r#"select u.user_id, u.tenant_id, u.name, u.email, e.number, u.status, u.role,
            u.outbound_caller_id, u.voicemail_enabled, u.voicemail_pin_hash, u.dnd_enabled,
            u.forward_always, u.forward_busy, u.forward_no_answer, u.forward_unregistered,
            u.forward_delay_seconds, u.metadata, u.version, u.created_at, u.updated_at
           from "user" u
           join extension e on e.user_id = u.user_id
           where u.tenant_id = $1 and u.user_id = $2 and u.deleted_at is null"#,
        tenant.0,
        id.0,
    )
    .fetch_optional(connection)
    .await?
    .map(User::try_from)
    .transpose()
}

/// Living users with one of these ids or e-mail addresses, whatever the case of those.
pub async fn find_many(
    connection: &mut PgConnection,
    tenant: TenantId,
    ids: &[UserId],
    emails: &[&Email],
) -> Result<Vec<User>, DbError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let emails: Vec<String> = emails
        .iter()
        .map(|email| email.as_str().to_ascii_lowercase())
        .collect();
    sqlx::query_as!(
        UserRow,
        r#"select u.user_id, u.tenant_id, u.name, u.email, e.number, u.status, u.role,
            u.outbound_caller_id, u.voicemail_enabled, u.voicemail_pin_hash, u.dnd_enabled,
            u.forward_always, u.forward_busy, u.forward_no_answer, u.forward_unregistered,
            u.forward_delay_seconds, u.metadata, u.version, u.created_at, u.updated_at
           from "user" u
           join extension e on e.user_id = u.user_id
           where u.tenant_id = $1 and (u.user_id = any($2) or lower(u.email) = any($3))
              and u.deleted_at is null"#,
        tenant.0,
        &ids,
        &emails,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(User::try_from)
    .collect()
}

/// Marks a living user deleted, removes its devices and frees its number at once; the number, or
/// `None` when there is no such user.
pub async fn delete(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: UserId,
    by: &AdminUser,
    at: OffsetDateTime,
) -> Result<Option<ExtensionNumber>, DbError> {
    let number = sqlx::query_scalar!(
        r#"
        with gone as (
            delete from extension where tenant_id = $2 and user_id = $1 returning number
        ), freed as (
            update tenant set ext_free_from = least(ext_free_from, gone.number)
            from gone
            where tenant_id = $2 and gone.number between ext_min and ext_max
        ), without as (
            delete from device where tenant_id = $2 and user_id = $1
        ), marked as (
            update "user"
            set deleted_at = $3, deleted_by = $4, updated_at = $3, version = version + 1
            where tenant_id = $2 and user_id = $1 and deleted_at is null
            returning user_id
        )
        select gone.number from gone cross join marked
        "#,
        id.0,
        tenant.0,
        at,
        by.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    number
        .map(|number| extensions::to_number(id, number))
        .transpose()
}

sort_keys! {
    /// What users are listed by.
    pub enum UserSort of Id, default Extension ascending {
        Extension = "extension" Number,
        Name = "name" Text,
        Email = "email" Text,
        CreatedAt = "created_at" Time,
    }
}

/// Which users are wanted.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Those with this status.
    pub status: Option<String>,
    /// Those with this role.
    pub role: Option<String>,
    /// The one with this number.
    pub extension: Option<i32>,
    /// The one with this address, whatever its case.
    pub email: Option<String>,
    /// Those whose name or address holds this text; of digits alone, those whose number begins so.
    pub search: Option<String>,
}

/// Living users of a tenant.
pub async fn list(
    connection: &mut PgConnection,
    within: Within,
    page: &Page<UserSort>,
    filter: UserFilter,
) -> Result<Slice<User>, DbError> {
    let key = match page.order.key {
        UserSort::Extension => "e.number",
        UserSort::Name => "lower(u.name)",
        UserSort::Email => "lower(u.email)",
        UserSort::CreatedAt => "u.created_at",
    };
    // Key and id must be of one table: no index serves a comparison with a cursor of two.
    let id = match page.order.key {
        UserSort::Extension => "e.user_id",
        UserSort::Name | UserSort::Email | UserSort::CreatedAt => "u.user_id",
    };
    let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let search = filter.search.as_deref();
    let (of_numbers, of_users) = tenant_of(page.order.key, &filter, search.filter(is_number));
    let tenant = within.tenant().0;
    let listing = Listing::new(
        "u.user_id, u.tenant_id, u.name, u.email, e.number, u.status, u.role, \
         u.outbound_caller_id, u.voicemail_enabled, u.voicemail_pin_hash, u.dnd_enabled, \
         u.forward_always, u.forward_busy, u.forward_no_answer, u.forward_unregistered, \
         u.forward_delay_seconds, u.metadata, u.version, u.created_at, u.updated_at",
        r#""user" u join extension e on e.user_id = u.user_id"#,
        page,
        key,
        id,
    )
    .equal("e.tenant_id", of_numbers.then_some(tenant))
    .equal("u.tenant_id", of_users.then_some(tenant))
    .equal("u.user_id", within.user().map(|user| user.0))
    .only("u.deleted_at is null")
    .equal("u.status", filter.status)
    .equal("u.role", filter.role)
    .equal("e.number", filter.extension)
    .equal(
        "lower(u.email)",
        filter.email.map(|email| email.to_lowercase()),
    )
    .begins("e.number::text", search.filter(is_number))
    .search(
        &["(lower(u.name) || ' ' || lower(u.email))"],
        search.filter(|text| !is_number(text)),
    );
    listing
        .fetch::<UserRow>(connection)
        .await?
        .try_map(User::try_from)
}

/// Of which tables a list says the tenant: of `extension`, of `user`.
///
/// The indexes of both begin with it. But where it is said of both, PostgreSQL may look through all of a
/// tenant in the one table for each row of the other: until it has counted the rows of a tenant that has
/// just grown, it takes them for very few. So it is said of the table that the rows are found in, and the
/// other one is joined by the user alone, whose tenant a foreign key makes the same.
fn tenant_of(sorted_by: UserSort, filter: &UserFilter, number: Option<&str>) -> (bool, bool) {
    let by_number = filter.extension.is_some() || number.is_some();
    let by_text = filter.email.is_some() || filter.search.is_some() && number.is_none();
    let by_word = filter.status.is_some() || filter.role.is_some();
    match sorted_by {
        _ if by_number => (true, false),
        _ if by_text => (false, true),
        // Of how many users a word is true only PostgreSQL knows, and so where it is best to begin.
        UserSort::Extension => (true, by_word),
        UserSort::Name | UserSort::Email | UserSort::CreatedAt => (false, true),
    }
}
