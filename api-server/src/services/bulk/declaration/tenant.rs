//! The tenant itself.

use super::{DeclaredTenant, Entity, Run};
use crate::domain::tenant::{Tenant, TenantPatch};
use crate::domain::{ExtensionNumber, Permission, Within};
use crate::services::bulk::{Done, differences, settle};
use crate::services::work::Work;
use crate::services::{Error, denied, tenants};

/// Makes the tenant itself what it should be; the tenant as it is then, when its range became another one.
pub(super) async fn reconcile(
    work: &mut Work<'_>,
    within: Within,
    declared: DeclaredTenant,
    run: &mut Run,
) -> Result<Option<Tenant>, Error> {
    let before = tenants::locked(work, within.tenant()).await?;
    let savepoint = work.savepoint().await?;
    let result = change(work, &before, declared).await;
    let result = settle(work, savepoint, result).await?;
    let after = result.as_ref().ok().cloned();
    let result = result.map(|after| done(&before, &after));
    run.note(Entity::Tenant, || before.slug.as_str().to_owned(), result);
    Ok(after.filter(|after| after.extensions != before.extensions))
}

/// Only what differs is asked for: a tenant's administrator may say what the tenant is, and not what else
/// it should be.
async fn change(
    work: &mut Work<'_>,
    before: &Tenant,
    declared: DeclaredTenant,
) -> Result<Tenant, Error> {
    let other = |wanted: Option<ExtensionNumber>, now| wanted.filter(|wanted| *wanted != now);
    let metadata = declared
        .metadata
        .map(|all| before.metadata.difference(&all));
    let patch = TenantPatch {
        name: declared.name.filter(|name| *name != before.name),
        ext_min: other(declared.ext_min, before.extensions.min),
        ext_max: other(declared.ext_max, before.extensions.max),
        metadata: metadata.filter(|patch| !patch.is_empty()),
        ..TenantPatch::default()
    };
    let differs = patch.name.is_some()
        || patch.ext_min.is_some()
        || patch.ext_max.is_some()
        || patch.metadata.is_some();
    if !differs {
        return Ok(before.clone());
    }
    denied::must(work.actor, Permission::TenantsWrite)?;
    tenants::change_before_numbers(work, before.clone(), patch).await
}

fn done(before: &Tenant, after: &Tenant) -> Done {
    let (outcome, changes) = differences(&before.told(), &after.told());
    Done {
        outcome,
        id: after.id.0,
        key: after.slug.as_str().to_owned(),
        extension: None,
        changes,
        credentials: None,
    }
}
