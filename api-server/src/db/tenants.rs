//! Table `tenant`.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use super::page::Listing;
use crate::domain::page::{Page, Slice, sort_keys};
use crate::domain::tenant::{ExtensionRange, NewTenant, Slug, Tenant};
use crate::domain::{
    AdminUser, DisplayName, ExtensionNumber, Invalid, Metadata, PbxId, TenantId, TenantNumber,
    Version,
};

/// The index that keeps a slug unique among the living tenants.
pub const SLUG_KEY: &str = "tenant_slug_key";

/// The foreign key to the PBX.
pub const PBX_KEY: &str = "tenant_pbx_id_fkey";

#[derive(sqlx::FromRow)]
struct TenantRow {
    tenant_id: Uuid,
    number: i32,
    pbx_id: Uuid,
    slug: String,
    name: String,
    ext_min: i32,
    ext_max: i32,
    status: String,
    metadata: Value,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<TenantRow> for Tenant {
    type Error = DbError;

    fn try_from(row: TenantRow) -> Result<Self, DbError> {
        let id = TenantId(row.tenant_id);
        let broken =
            |column, reason: Invalid| DbError::inconsistent("tenant", column, &id, &reason);
        let number = |column, number: i32| {
            ExtensionNumber::try_from(u32::try_from(number).unwrap_or_default())
                .map_err(|reason| broken(column, reason))
        };
        let (min, max) = (
            number("ext_min", row.ext_min)?,
            number("ext_max", row.ext_max)?,
        );
        Ok(Self {
            id,
            number: to_number(row.number)?,
            slug: row.slug.parse().map_err(|reason| broken("slug", reason))?,
            name: DisplayName::from_stored(&row.name).map_err(|reason| broken("name", reason))?,
            pbx: PbxId(row.pbx_id),
            extensions: ExtensionRange::new(min, max)
                .map_err(|reason| broken("ext_max", reason))?,
            status: row
                .status
                .parse()
                .map_err(|reason| broken("status", reason))?,
            metadata: Metadata::from_stored(row.metadata)
                .map_err(|reason| broken("metadata", reason))?,
            version: Version(row.version),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Inserts a tenant; the number that it gets. The constraints [`SLUG_KEY`] and [`PBX_KEY`] may be
/// violated.
pub async fn insert(
    connection: &mut PgConnection,
    id: TenantId,
    new: &NewTenant,
    at: OffsetDateTime,
) -> Result<TenantNumber, DbError> {
    let (min, max) = range(new.extensions);
    let number = sqlx::query_scalar!(
        "insert into tenant (
            tenant_id, pbx_id, slug, name, ext_min, ext_max, ext_free_from, metadata, created_at,
            updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $5, $7, $8, $8)
        returning number",
        id.0,
        new.pbx.0,
        new.slug.as_str(),
        new.name.as_str(),
        min,
        max,
        new.metadata.clone().into_value(),
        at,
    )
    .fetch_one(connection)
    .await?;
    to_number(number)
}

/// Reads a tenant's number.
pub(super) fn to_number(number: i32) -> Result<TenantNumber, DbError> {
    u32::try_from(number)
        .ok()
        .and_then(|number| TenantNumber::try_from(number).ok())
        .ok_or_else(|| DbError::inconsistent("tenant", "number", &number, &"out of range"))
}

/// Writes everything of a living tenant that can be changed. To be called on what was read under
/// [`lock`]. The search for the lowest free number begins anew where the range has grown.
pub async fn update(connection: &mut PgConnection, tenant: &Tenant) -> Result<(), DbError> {
    let (min, max) = range(tenant.extensions);
    sqlx::query!(
        "update tenant set
            pbx_id = $2, slug = $3, name = $4, ext_min = $5, ext_max = $6,
            ext_free_from = case
                when $5 < ext_min then $5
                else least(greatest(ext_free_from, $5), $6 + 1)
            end,
            status = $7, metadata = $8, version = $9, updated_at = $10
         where tenant_id = $1",
        tenant.id.0,
        tenant.pbx.0,
        tenant.slug.as_str(),
        tenant.name.as_str(),
        min,
        max,
        tenant.status.name(),
        tenant.metadata.clone().into_value(),
        tenant.version.0,
        tenant.updated_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn range(ExtensionRange { min, max }: ExtensionRange) -> (i32, i32) {
    let column = |number: ExtensionNumber| i32::try_from(number.get()).unwrap_or(i32::MAX);
    (column(min), column(max))
}

/// Keeps others from changing a living tenant, and from giving out its numbers, until the
/// transaction ends; `false` when there is none. It must be a statement of its own, before the
/// tenant is read.
pub async fn lock(connection: &mut PgConnection, id: TenantId) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        "select tenant_id from tenant where tenant_id = $1 and deleted_at is null for no key update",
        id.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// One living tenant.
pub async fn find(connection: &mut PgConnection, id: TenantId) -> Result<Option<Tenant>, DbError> {
    sqlx::query_as!(
        TenantRow,
        "select tenant_id, number, pbx_id, slug, name, ext_min, ext_max, status, metadata, version,
            created_at, updated_at
         from tenant where tenant_id = $1 and deleted_at is null",
        id.0,
    )
    .fetch_optional(connection)
    .await?
    .map(Tenant::try_from)
    .transpose()
}

/// Which living tenant a slug names.
pub async fn by_slug(
    connection: &mut PgConnection,
    slug: &Slug,
) -> Result<Option<TenantId>, DbError> {
    let id = sqlx::query_scalar!(
        "select tenant_id from tenant where slug = $1 and deleted_at is null",
        slug.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(TenantId))
}

/// Whether a tenant has a number outside its range.
pub async fn has_number_outside(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<bool, DbError> {
    let (min, max) = range(tenant.extensions);
    let outside = sqlx::query_scalar!(
        r#"select exists (select from extension where tenant_id = $1 and number < $2)
            or exists (select from extension where tenant_id = $1 and number > $3) as "outside!""#,
        tenant.id.0,
        min,
        max,
    )
    .fetch_one(connection)
    .await?;
    Ok(outside)
}

/// Whether a tenant has living users.
pub async fn has_users(connection: &mut PgConnection, id: TenantId) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"select exists (
            select from "user" where tenant_id = $1 and deleted_at is null
        ) as "found!""#,
        id.0,
    )
    .fetch_one(connection)
    .await?;
    Ok(found)
}

/// Marks a tenant deleted. To be called under [`lock`].
pub async fn delete(
    connection: &mut PgConnection,
    id: TenantId,
    by: &AdminUser,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update tenant
         set deleted_at = $2, deleted_by = $3, updated_at = $2, version = version + 1
         where tenant_id = $1",
        id.0,
        at,
        by.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

sort_keys! {
    /// What tenants are listed by.
    pub enum TenantSort of Id, default Name ascending {
        Name = "name" Text,
        Slug = "slug" Text,
    }
}

/// Which tenants are wanted.
#[derive(Clone, Debug, Default)]
pub struct TenantFilter {
    /// This one alone.
    pub only: Option<TenantId>,
    /// Those with this status.
    pub status: Option<String>,
    /// Those that this PBX serves.
    pub pbx: Option<PbxId>,
    /// Those whose name holds this text.
    pub search: Option<String>,
}

/// Living tenants.
pub async fn list(
    connection: &mut PgConnection,
    page: &Page<TenantSort>,
    filter: TenantFilter,
) -> Result<Slice<Tenant>, DbError> {
    let key = match page.order.key {
        TenantSort::Name => "lower(t.name)",
        TenantSort::Slug => "t.slug",
    };
    Listing::new(
        "t.tenant_id, t.number, t.pbx_id, t.slug, t.name, t.ext_min, t.ext_max, t.status, t.metadata, \
         t.version, t.created_at, t.updated_at",
        "tenant t",
        page,
        key,
        "t.tenant_id",
    )
    .only("t.deleted_at is null")
    .equal("t.tenant_id", filter.only.map(|tenant| tenant.0))
    .equal("t.status", filter.status)
    .equal("t.pbx_id", filter.pbx.map(|pbx| pbx.0))
    .search(&["lower(t.name)"], filter.search.as_deref())
    .fetch::<TenantRow>(connection)
    .await?
    .try_map(Tenant::try_from)
}
