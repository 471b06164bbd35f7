//! Tenants: who they are, their numbers, whether they are in service.

use rand::CryptoRng;

use super::work::Work;
use super::{Error, Portal, accounts};
use crate::clock::unix_ms;
use crate::db::{self, DbError};
use crate::domain::audit::Entry;
use crate::domain::page::{Page, Slice};
use crate::domain::patch::set;
use crate::domain::tenant::{
    DEFAULT_TENANT, ExtensionRange, NewTenant, ServiceStatus, Slug, Tenant, TenantPatch,
};
use crate::domain::{Invalid, PbxId, TenantId, Version, uuid_v7};

pub use crate::db::tenants::{TenantFilter, TenantSort};

/// What a URL names a tenant by.
#[derive(Clone, Debug)]
pub enum TenantRef {
    /// Its id.
    Id(TenantId),
    /// Its slug.
    Slug(Slug),
}

/// Which living tenant is meant.
///
/// # Errors
/// [`Error::TenantNotFound`].
pub async fn resolve(portal: &Portal, tenant: &TenantRef) -> Result<TenantId, Error> {
    let mut connection = portal.database.acquire().await?;
    let found = match tenant {
        TenantRef::Id(id) => db::tenants::find(&mut connection, *id)
            .await?
            .map(|tenant| tenant.id),
        TenantRef::Slug(slug) => db::tenants::by_slug(&mut connection, slug).await?,
    };
    found.ok_or(Error::TenantNotFound)
}

/// One living tenant.
///
/// # Errors
/// [`Error::TenantNotFound`].
pub async fn get(portal: &Portal, id: TenantId) -> Result<Tenant, Error> {
    let mut connection = portal.database.acquire().await?;
    db::tenants::find(&mut connection, id)
        .await?
        .ok_or(Error::TenantNotFound)
}

/// Creates a tenant.
///
/// # Errors
/// [`Error::SlugTaken`], [`Error::PbxNotFound`]; then nothing was stored.
pub async fn create(
    work: &mut Work<'_>,
    new: NewTenant,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Tenant, Error> {
    let now = work.now;
    let id = TenantId(uuid_v7(unix_ms(now), rng));
    stays(work, new.pbx).await?;
    let number = db::tenants::insert(work.connection(), id, &new, now)
        .await
        .map_err(refused)?;
    let tenant = Tenant {
        id,
        number,
        slug: new.slug,
        name: new.name,
        pbx: new.pbx,
        extensions: new.extensions,
        status: ServiceStatus::Active,
        metadata: new.metadata,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let entry = told("tenant.created", &tenant);
    work.record(entry.changing(None, Some(tenant.told())));
    let by = work.actor.admin.clone();
    work.afterwards(move || tracing::info!(tenant = %id, by = by.as_str(), "tenant created"));
    Ok(tenant)
}

/// An entry of the audit trail about a tenant, which the next apply of its PBX carries.
fn told(action: &'static str, tenant: &Tenant) -> Entry {
    Entry::new(action, "tenant", &tenant.id)
        .called(tenant.name.as_str())
        .of(tenant.id)
        .on(tenant.pbx)
}

/// A living tenant that nobody else changes until the work is done.
///
/// # Errors
/// [`Error::TenantNotFound`].
pub async fn locked(work: &mut Work<'_>, id: TenantId) -> Result<Tenant, Error> {
    if !db::tenants::lock(work.connection(), id).await? {
        return Err(Error::TenantNotFound);
    }
    db::tenants::find(work.connection(), id)
        .await?
        .ok_or(Error::TenantNotFound)
}

/// Changes what `patch` names of a tenant of [`locked`].
///
/// # Errors
/// [`Error::SlugTaken`], [`Error::PbxNotFound`], [`Error::RangeInUse`],
/// [`Error::DefaultTenantFixed`], [`Error::InvalidField`].
pub async fn change(
    work: &mut Work<'_>,
    tenant: Tenant,
    patch: TenantPatch,
) -> Result<Tenant, Error> {
    let range = tenant.extensions;
    let changed = change_before_numbers(work, tenant, patch).await?;
    if changed.extensions != range {
        holds_its_numbers(work, &changed).await?;
    }
    Ok(changed)
}

/// Likewise where the numbers of its users follow: [`holds_its_numbers`] must be asked then.
pub(super) async fn change_before_numbers(
    work: &mut Work<'_>,
    mut tenant: Tenant,
    patch: TenantPatch,
) -> Result<Tenant, Error> {
    let fixed = patch.slug.is_some() || patch.pbx.is_some() || has_range(&patch);
    if tenant.id == DEFAULT_TENANT && fixed {
        return Err(Error::DefaultTenantFixed);
    }
    let before = tenant.clone();
    set(&mut tenant.slug, patch.slug);
    set(&mut tenant.name, patch.name);
    set(&mut tenant.pbx, patch.pbx);
    set(&mut tenant.status, patch.status);
    let ExtensionRange { mut min, mut max } = tenant.extensions;
    set(&mut min, patch.ext_min);
    set(&mut max, patch.ext_max);
    tenant.extensions =
        ExtensionRange::new(min, max).map_err(|reason| refused_field("ext_max", reason))?;
    if let Some(metadata) = patch.metadata {
        let merged = tenant.metadata.merged(metadata);
        tenant.metadata = merged.map_err(|reason| refused_field("metadata", reason))?;
    }
    if tenant.pbx != before.pbx {
        moves(work, tenant.id, tenant.pbx).await?;
    }
    if tenant == before {
        return Ok(tenant);
    }
    tenant.version = tenant.version.next();
    tenant.updated_at = work.now;
    db::tenants::update(work.connection(), &tenant)
        .await
        .map_err(refused)?;
    // One that moves leaves a PBX as well.
    let entry = told("tenant.changed", &tenant).on(before.pbx);
    work.record(entry.changing(Some(before.told()), Some(tenant.told())));
    let (id, by) = (tenant.id, work.actor.admin.clone());
    let status = tenant.status.name();
    work.afterwards(
        move || tracing::info!(tenant = %id, status, by = by.as_str(), "tenant changed"),
    );
    Ok(tenant)
}

/// Whether every number of a tenant lies in its range.
///
/// # Errors
/// [`Error::RangeInUse`].
pub(super) async fn holds_its_numbers(work: &mut Work<'_>, tenant: &Tenant) -> Result<(), Error> {
    let outside = db::tenants::has_number_outside(work.connection(), tenant).await?;
    if outside {
        Err(Error::RangeInUse)
    } else {
        Ok(())
    }
}

/// A PBX that is taken out of service meanwhile gets no tenant.
async fn stays(work: &mut Work<'_>, pbx: PbxId) -> Result<(), Error> {
    let stays = db::pbxes::stays(work.connection(), pbx).await?;
    stays.then_some(()).ok_or(Error::PbxNotFound)
}

const fn has_range(patch: &TenantPatch) -> bool {
    patch.ext_min.is_some() || patch.ext_max.is_some()
}

/// Whether a tenant may move to a PBX: it is there, and offers what the tenant's devices use.
async fn moves(work: &mut Work<'_>, id: TenantId, to: PbxId) -> Result<(), Error> {
    stays(work, to).await?;
    let missing = db::devices::transport_not_offered(work.connection(), id, to).await?;
    missing.map_or(Ok(()), |kind| Err(Error::TransportNotOffered { kind }))
}

/// Ends a tenant of [`locked`] that has no living users, and the accounts of its staff.
///
/// # Errors
/// [`Error::TenantInUse`], [`Error::DefaultTenantFixed`], [`accounts::Refused::OwnAccount`].
pub async fn delete(work: &mut Work<'_>, tenant: &Tenant) -> Result<(), Error> {
    if tenant.id == DEFAULT_TENANT {
        return Err(Error::DefaultTenantFixed);
    }
    if db::tenants::has_users(work.connection(), tenant.id).await? {
        return Err(Error::TenantInUse);
    }
    accounts::end_of_tenant(work, tenant.id).await?;
    let (id, now, by) = (tenant.id, work.now, work.actor.admin.clone());
    db::tenants::delete(work.connection(), id, &by, now).await?;
    work.record(told("tenant.deleted", tenant).changing(Some(tenant.told()), None));
    work.afterwards(move || tracing::info!(tenant = %id, by = by.as_str(), "tenant deleted"));
    Ok(())
}

fn refused(error: DbError) -> Error {
    match error.constraint() {
        Some(db::tenants::SLUG_KEY) => Error::SlugTaken,
        Some(db::tenants::PBX_KEY) => Error::PbxNotFound,
        Some(_) | None => error.into(),
    }
}

pub(super) const fn refused_field(field: &'static str, reason: Invalid) -> Error {
    Error::InvalidField { field, reason }
}

/// Living tenants.
pub async fn list(
    portal: &Portal,
    page: &Page<TenantSort>,
    filter: TenantFilter,
) -> Result<Slice<Tenant>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::tenants::list(&mut connection, page, filter).await?)
}
