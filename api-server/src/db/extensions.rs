//! Table `extension`, and the range of a tenant.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::DbError;
use crate::domain::{ExtensionNumber, TenantId, UserId};

/// The primary key: it keeps a number from being given twice within a tenant.
pub const NUMBER_KEY: &str = "extension_pkey";

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

impl LockedRange {
    /// Whether a number may be given to a user.
    pub fn contains(&self, number: ExtensionNumber) -> bool {
        i32::try_from(number.get()).is_ok_and(|number| (self.first..=self.last).contains(&number))
    }
}

/// Locks the tenant's row, so that allocations of a tenant come one after another; `None` when the
/// tenant was deleted meanwhile.
///
/// It must be a statement of its own: one that waits for a lock keeps the snapshot it began with,
/// and would not see which numbers were taken while it waited.
pub async fn lock_range(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<Option<LockedRange>, DbError> {
    let row = sqlx::query!(
        "select ext_min, ext_max, ext_free_from from tenant
         where tenant_id = $1 and deleted_at is null
         for no key update",
        tenant.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| LockedRange {
        tenant,
        first: row.ext_min,
        last: row.ext_max,
        free_from: row.ext_free_from,
    }))
}

/// Takes the lowest free number; `None` when there is none.
///
/// `ext_free_from` is where the search begins. It is free itself unless somebody behind it was
/// deleted and replaced, or chose a number, so that the second half of `coalesce`, which walks the
/// index to the next gap, seldom runs. (A window function rather than `not exists`: without
/// statistics, as in a young database, the planner takes a quadratic plan for the anti-join.)
pub async fn take_lowest_free(
    connection: &mut PgConnection,
    range: LockedRange,
    user: UserId,
    at: OffsetDateTime,
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
            insert into extension (tenant_id, number, user_id, allocated_at)
            select $1, number, $4, $5
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
        user.0,
        at,
    )
    .fetch_optional(connection)
    .await?;
    number.map(|number| to_number(user, number)).transpose()
}

/// The lowest free numbers, as many as there are and at most `count`: for many allocations at once,
/// each of which [`take`]s one of them. (To move `ext_free_from` with each would make a version of the
/// tenant's row for each, and the transaction would read all of them again and again.)
pub async fn lowest_free(
    connection: &mut PgConnection,
    range: LockedRange,
    count: usize,
) -> Result<Vec<ExtensionNumber>, DbError> {
    let gaps = sqlx::query!(
        r#"
        with taken as (
            select ext_free_from - 1 as number from tenant where tenant_id = $1
            union all
            select number from extension
            where tenant_id = $1
               and number >= (select ext_free_from from tenant where tenant_id = $1)
        )
        select number + 1 as "first!", least(coalesce(next - 1, $2), $2) as "last!"
        from (select number, lead(number) over (order by number) as next from taken) as taken
        where next is distinct from number + 1 and number < $2
        order by number
        limit $3
        "#,
        range.tenant.0,
        range.last,
        i64::try_from(count).unwrap_or(i64::MAX),
    )
    .fetch_all(connection)
    .await?;
    let numbers = gaps.iter().flat_map(|gap| gap.first..=gap.last);
    let number = |number: i32| {
        let number = u32::try_from(number).ok();
        number.and_then(|number| ExtensionNumber::try_from(number).ok())
    };
    Ok(numbers.filter_map(number).take(count).collect())
}

/// Moves `ext_free_from` to the lowest free number, once many were taken.
pub async fn settle(connection: &mut PgConnection, range: LockedRange) -> Result<(), DbError> {
    let lowest = lowest_free(connection, range, 1).await?;
    let lowest = lowest
        .first()
        .map_or(range.last.saturating_add(1), |number| to_column(*number));
    sqlx::query!(
        "update tenant set ext_free_from = $2 where tenant_id = $1 and ext_free_from <> $2",
        range.tenant.0,
        lowest,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a number of the range that somebody chose. The constraint [`NUMBER_KEY`] is violated when
/// it is taken.
pub async fn take(
    connection: &mut PgConnection,
    range: LockedRange,
    user: UserId,
    number: ExtensionNumber,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into extension (tenant_id, number, user_id, allocated_at) values ($1, $2, $3, $4)",
        range.tenant.0,
        to_column(number),
        user.0,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives a user another number of the range; the old one is free at once. The constraint
/// [`NUMBER_KEY`] is violated when it is taken.
pub async fn change(
    connection: &mut PgConnection,
    range: LockedRange,
    user: UserId,
    number: ExtensionNumber,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "with before as materialized (
            select number from extension where tenant_id = $1 and user_id = $2
        ), changed as (
            update extension set number = $3, allocated_at = $4
            where tenant_id = $1 and user_id = $2
        )
        update tenant set ext_free_from = least(ext_free_from, before.number)
        from before
        where tenant_id = $1 and before.number between ext_min and ext_max",
        range.tenant.0,
        user.0,
        to_column(number),
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves users' numbers to where no number is, so that others may have them: below zero. Each of these
/// users gets another one by [`change`], or nothing of it counts.
pub async fn set_aside(
    connection: &mut PgConnection,
    tenant: TenantId,
    users: &[UserId],
) -> Result<(), DbError> {
    let users: Vec<_> = users.iter().map(|user| user.0).collect();
    sqlx::query!(
        "with aside as (
            update extension set number = -number
            where tenant_id = $1 and user_id = any($2)
            returning -number as number
        )
        update tenant set ext_free_from = least(
            ext_free_from,
            (select min(number) from aside where number between ext_min and ext_max)
        )
        where tenant_id = $1",
        tenant.0,
        &users,
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn to_column(number: ExtensionNumber) -> i32 {
    // At most eight digits.
    i32::try_from(number.get()).unwrap_or(i32::MAX)
}

/// Reads a number of a user's row.
pub(super) fn to_number(user: UserId, number: i32) -> Result<ExtensionNumber, DbError> {
    u32::try_from(number)
        .ok()
        .and_then(|number| ExtensionNumber::try_from(number).ok())
        .ok_or_else(|| DbError::inconsistent("extension", "number", &user, &"out of range"))
}
