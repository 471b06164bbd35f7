//! Table `extension`, and the range of a tenant.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::DbError;
use crate::domain::{ExtensionNumber, TenantId, UserId};

/// The range of a tenant, whose row is locked until the transaction ends.
#[derive(Clone, Copy, Debug)]
pub struct LockedRange {
    tenant: TenantId,
    /// The lowest number of the tenant.
    pub first: i32,
    /// The highest.
    pub last: i32,
    free_from: i32,
}

/// A number to take and the account behind it.
#[derive(Debug)]
pub struct NewExtension<'a> {
    /// Whom it is for.
    pub user: UserId,
    /// The SIP password, encrypted.
    pub sip_password_encrypted: &'a [u8],
    /// When.
    pub allocated_at: OffsetDateTime,
}

/// Locks the tenant's row, so that allocations of a tenant come one after another.
///
/// It must be a statement of its own: one that waits for a lock keeps the snapshot it began with,
/// and would not see which numbers were taken while it waited.
pub async fn lock_range(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<LockedRange, DbError> {
    let row = sqlx::query!(
        "select ext_min, ext_max, ext_free_from from tenant where tenant_id = $1 for no key update",
        tenant.0,
    )
    .fetch_one(connection)
    .await?;
    Ok(LockedRange {
        tenant,
        first: row.ext_min,
        last: row.ext_max,
        free_from: row.ext_free_from,
    })
}

/// Takes the lowest free number; `None` when there is none.
///
/// `ext_free_from` is where the search begins. It is free itself unless somebody behind it was
/// deleted and replaced, so that the second half of `coalesce`, which walks the index to the next
/// gap, seldom runs. (A window function rather than `not exists`: without statistics, as in a young
/// database, the planner takes a quadratic plan for the anti-join.)
pub async fn take_lowest_free(
    connection: &mut PgConnection,
    range: LockedRange,
    new: NewExtension<'_>,
) -> Result<Option<ExtensionNumber>, DbError> {
    let number = sqlx::query_scalar!(
        r#"
        with free as materialized (
            select coalesce(
                (select $2::integer where not exists (
                    select from extension where tenant_id = $1 and number = $2
                )),
                (select number + 1
                 from (
                    select number, lead(number) over (order by number) as next
                    from extension
                    where tenant_id = $1 and number >= $2
                 ) as taken
                 where next is distinct from number + 1
                 order by number
                 limit 1)
            ) as number
        ), taken as (
            insert into extension
                (tenant_id, number, user_id, allocated_at, sip_username, sip_password_encrypted)
            select $1, number, $4, $5, number::text, $6
            from free
            where number <= $3
            returning number
        ), moved as (
            update tenant set ext_free_from = taken.number + 1
            from taken
            where tenant_id = $1
        )
        select number from taken
        "#,
        range.tenant.0,
        range.free_from,
        range.last,
        new.user.0,
        new.allocated_at,
        new.sip_password_encrypted,
    )
    .fetch_optional(connection)
    .await?;
    number.map(|number| to_number(new.user, number)).transpose()
}

/// Reads a number of a user's row.
pub(super) fn to_number(user: UserId, number: i32) -> Result<ExtensionNumber, DbError> {
    u32::try_from(number)
        .ok()
        .and_then(|number| ExtensionNumber::try_from(number).ok())
        .ok_or_else(|| DbError::inconsistent("extension", "number", &user, &"out of range"))
}
