//! Table `user`: the living ones, joined with their extension.

use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::page::Listing;
use super::{DbError, extensions};
use crate::domain::page::{Page, Slice};
use crate::domain::tenant::Tenant;
use crate::domain::user::{NewUser, User, UserSort};
use crate::domain::{AdminUser, ExtensionNumber, Invalid, Metadata, TenantId, UserId};

/// The index that keeps an address unique among the living users of a tenant.
pub const EMAIL_KEY: &str = "user_tenant_email_key";

#[derive(FromRow)]
struct UserRow {
    user_id: Uuid,
    name: String,
    email: String,
    metadata: Value,
    created_at: OffsetDateTime,
    number: i32,
}

impl TryFrom<UserRow> for User {
    type Error = DbError;

    fn try_from(row: UserRow) -> Result<Self, DbError> {
        let id = UserId(row.user_id);
        let broken = |column, reason: Invalid| DbError::inconsistent("user", column, &id, &reason);
        Ok(Self {
            id,
            name: row.name.parse().map_err(|reason| broken("name", reason))?,
            email: row
                .email
                .parse()
                .map_err(|reason| broken("email", reason))?,
            extension: extensions::to_number(id, row.number)?,
            metadata: Metadata::from_stored(row.metadata)
                .map_err(|reason| broken("metadata", reason))?,
            created_at: row.created_at,
        })
    }
}

/// Inserts a user, who has no extension yet.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: UserId,
    new: &NewUser,
    by: &AdminUser,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        r#"insert into "user" (user_id, tenant_id, name, email, metadata, created_at, created_by)
           values ($1, $2, $3, $4, $5, $6, $7)"#,
        id.0,
        tenant.0,
        new.name.as_str(),
        new.email.as_str(),
        new.metadata.clone().into_value(),
        at,
        by.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The tenants that users, living or deleted, belong to, by name.
pub async fn tenants(
    connection: &mut PgConnection,
    users: &[UserId],
) -> Result<Vec<Tenant>, DbError> {
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    let rows = sqlx::query!(
        r#"select tenant_id, name from tenant
           where tenant_id in (select tenant_id from "user" where user_id = any($1))
           order by name"#,
        &users,
    )
    .fetch_all(connection)
    .await?;
    let tenant = rows.into_iter().map(|row| Tenant {
        id: TenantId(row.tenant_id),
        name: row.name,
    });
    Ok(tenant.collect())
}

/// A part of the living users of a tenant.
pub async fn list(
    connection: &mut PgConnection,
    tenant: TenantId,
    search: Option<&str>,
    page: &Page<UserSort>,
) -> Result<Slice<User>, DbError> {
    let key = match page.order.key {
        UserSort::Extension => "e.number",
        UserSort::Name => "u.name",
        UserSort::CreatedAt => "u.created_at",
    };
    Listing::new(
        "u.user_id, u.name, u.email, u.metadata, u.created_at, e.number",
        r#"extension e join "user" u on u.user_id = e.user_id"#,
        page,
        key,
        "u.user_id",
    )
    .equal("e.tenant_id", Some(tenant.0))
    .search(&["u.name", "u.email"], search)
    .fetch::<UserRow>(connection)
    .await?
    .try_map(User::try_from)
}

/// One living user.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: UserId,
) -> Result<Option<User>, DbError> {
    sqlx::query_as!(
        UserRow,
        r#"select u.user_id, u.name, u.email, u.metadata, u.created_at, e.number
           from "user" u
           join extension e on e.user_id = u.user_id
           where u.user_id = $1 and u.tenant_id = $2 and u.deleted_at is null"#,
        id.0,
        tenant.0,
    )
    .fetch_optional(connection)
    .await?
    .map(User::try_from)
    .transpose()
}

/// Marks a living user deleted and frees its number at once; `None` when there is no such user,
/// otherwise the number.
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
            delete from extension where user_id = $1 and tenant_id = $2 returning number
        ), freed as (
            update tenant set ext_free_from = least(ext_free_from, gone.number)
            from gone
            where tenant_id = $2
        ), marked as (
            update "user" set deleted_at = $3, deleted_by = $4
            where user_id = $1 and tenant_id = $2 and deleted_at is null
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
