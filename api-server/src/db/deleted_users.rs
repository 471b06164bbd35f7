//! Table `user`: what is left of those that were deleted.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use super::page::Listing;
use crate::domain::page::{Page, Slice, sort_keys};
use crate::domain::user::DeletedUser;
use crate::domain::{DisplayName, Invalid, TenantId, UserId, Version, Within};

sort_keys! {
    /// What deleted users are listed by.
    pub enum DeletedUserSort of Id, default DeletedAt descending {
        DeletedAt = "deleted_at" Time,
    }
}

#[derive(sqlx::FromRow)]
struct DeletedUserRow {
    user_id: Uuid,
    tenant_id: Uuid,
    name: String,
    email: String,
    version: i64,
    created_at: OffsetDateTime,
    deleted_at: OffsetDateTime,
    deleted_by: String,
}

impl TryFrom<DeletedUserRow> for DeletedUser {
    type Error = DbError;

    fn try_from(row: DeletedUserRow) -> Result<Self, DbError> {
        let id = UserId(row.user_id);
        let broken = |column, reason: Invalid| DbError::inconsistent("user", column, &id, &reason);
        Ok(Self {
            id,
            tenant: TenantId(row.tenant_id),
            name: DisplayName::from_stored(&row.name).map_err(|reason| broken("name", reason))?,
            email: row
                .email
                .parse()
                .map_err(|reason| broken("email", reason))?,
            version: Version(row.version),
            created_at: row.created_at,
            deleted_at: row.deleted_at,
            deleted_by: row.deleted_by,
        })
    }
}

/// Deleted users of a tenant.
pub async fn list(
    connection: &mut PgConnection,
    within: Within,
    page: &Page<DeletedUserSort>,
    search: Option<&str>,
) -> Result<Slice<DeletedUser>, DbError> {
    let DeletedUserSort::DeletedAt = page.order.key;
    Listing::new(
        "u.user_id, u.tenant_id, u.name, u.email, u.version, u.created_at, u.deleted_at, \
         u.deleted_by",
        r#""user" u"#,
        page,
        "u.deleted_at",
        "u.user_id",
    )
    .equal("u.tenant_id", Some(within.tenant().0))
    .equal("u.user_id", within.user().map(|user| user.0))
    .only("u.deleted_at is not null")
    .search(&["(lower(u.name) || ' ' || lower(u.email))"], search)
    .fetch::<DeletedUserRow>(connection)
    .await?
    .try_map(DeletedUser::try_from)
}

/// One deleted user.
pub async fn find(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: UserId,
) -> Result<Option<DeletedUser>, DbError> {
    sqlx::query_as!(
        DeletedUserRow,
        r#"select user_id, tenant_id, name, email, version, created_at,
            deleted_at as "deleted_at!", deleted_by as "deleted_by!"
           from "user"
           where tenant_id = $1 and user_id = $2 and deleted_at is not null"#,
        tenant.0,
        id.0,
    )
    .fetch_optional(connection)
    .await?
    .map(DeletedUser::try_from)
    .transpose()
}

/// Removes the row of a deleted user; `false` when there is none.
pub async fn purge(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: UserId,
) -> Result<bool, DbError> {
    let purged = sqlx::query!(
        r#"delete from "user"
           where tenant_id = $1 and user_id = $2 and deleted_at is not null"#,
        tenant.0,
        id.0,
    )
    .execute(connection)
    .await?;
    Ok(purged.rows_affected() == 1)
}
