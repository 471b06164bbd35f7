//! Who looks at what is kept of a whole PBX, and what is left for them of what services answer.

use std::sync::Arc;

use super::apply::OfPbx;
use super::denied::Denied;
use super::follow::Heard;
use super::preview::{Checked, Difference, Finding, Pending, Preview, Wanted, WantedBundle};
use super::{Error, Portal, pbxes, tenants};
use crate::domain::pbx::PbxRef;
use crate::domain::viewer::{
    Confined, Seen, Viewer, WITHHELD, withhold, withhold_all, withhold_warnings,
};
use crate::domain::{Actor, Reach};

/// As whom somebody looks.
///
/// # Errors
/// [`Error::TenantNotFound`] when the tenant is no more.
pub async fn of(portal: &Portal, actor: &Actor) -> Result<Viewer, Error> {
    match actor.reach() {
        Reach::Everything => Ok(Viewer::Everything),
        Reach::Tenant(tenant) | Reach::Own(tenant, _) => {
            let tenant = tenants::get(portal, tenant).await?;
            Ok(Viewer::Confined(Confined {
                tenant: tenant.id,
                number: tenant.number,
                pbx: tenant.pbx,
            }))
        }
        Reach::Nothing => Err(Denied::Unauthenticated.into()),
    }
}

/// The PBX that somebody means who may have named one: whoever is confined to a tenant means the one
/// that serves it, and there is no other.
///
/// # Errors
/// [`Error::PbxNotFound`].
pub async fn meant(
    portal: &Portal,
    viewer: Viewer,
    named: Option<PbxRef>,
) -> Result<Option<PbxRef>, Error> {
    let Viewer::Confined(to) = viewer else {
        return Ok(named);
    };
    if let Some(named) = named
        && pbxes::find(portal, &named).await?.id != to.pbx
    {
        return Err(Error::PbxNotFound);
    }
    Ok(Some(to.pbx.into()))
}

impl Seen for OfPbx {
    fn confined(mut self, to: Confined) -> Self {
        self.attempt = self.attempt.map(|attempt| match attempt {
            Ok(attempt) => Ok(attempt.confined(to)),
            Err(error) => Err(error.confined(to)),
        });
        self
    }
}

impl Seen for Error {
    fn confined(self, to: Confined) -> Self {
        match self {
            Self::ApplyOutcomeUnknown {
                attempt,
                mut reason,
            } => {
                withhold(&mut reason);
                let attempt = attempt.confined(to);
                Self::ApplyOutcomeUnknown { attempt, reason }
            }
            Self::ApplyNotRecorded { attempt, source } => {
                let attempt = attempt.confined(to);
                Self::ApplyNotRecorded { attempt, source }
            }
            other => other,
        }
    }
}

impl Seen for Heard {
    fn confined(self, to: Confined) -> Self {
        match self {
            Self::State(told) => Self::State(told),
            Self::Step(index, step) => Self::Step(index, step.confined(to)),
            Self::Ended(attempt) => {
                Self::Ended(Arc::new(Arc::unwrap_or_clone(attempt).confined(to)))
            }
        }
    }
}

impl Seen for Pending {
    fn confined(mut self, to: Confined) -> Self {
        self.in_force = self.in_force.confined(to);
        match &mut self.wanted {
            Wanted::Bundle {
                user_counts,
                changes,
                ..
            } => {
                user_counts.keep(to.number);
                *changes = changes.take().and_then(|changes| changes.of_tenant(to));
            }
            Wanted::Unrenderable(reason) => withhold(reason),
        }
        self
    }
}

impl Seen for WantedBundle {
    fn confined(mut self, to: Confined) -> Self {
        self.user_counts.keep(to.number);
        self
    }
}

impl Seen for Difference {
    fn confined(mut self, to: Confined) -> Self {
        self.changes = self.changes.of_tenant(to);
        // They hold the lines of every tenant.
        self.files.clear();
        self.tenants.retain(|tenant| tenant.id == to.tenant);
        let phones = self.phones.map(|phones| phones.confined(to));
        self.phones = phones.map_err(|_| WITHHELD.to_owned());
        self
    }
}

impl Seen for Finding {
    fn confined(mut self, _: Confined) -> Self {
        withhold(&mut self.message);
        self
    }
}

impl Seen for Checked {
    fn confined(mut self, _: Confined) -> Self {
        withhold(&mut self.preflight);
        self
    }
}

impl Seen for Preview {
    fn confined(self, to: Confined) -> Self {
        // Each field by name, so that nobody adds one without a decision.
        let Self {
            in_force,
            wanted,
            difference,
            findings,
            checked,
            agent_told,
            mut notes,
            warnings,
        } = self;
        withhold_all(&mut notes);
        let findings = findings.into_iter().map(|finding| finding.confined(to));
        let difference = difference.map(|difference| {
            let difference = difference.map(|difference| difference.confined(to));
            difference.map_err(|_| WITHHELD.to_owned())
        });
        let checked = checked.map(|checked| checked.confined(to));
        Self {
            in_force: in_force.confined(to),
            wanted: wanted.confined(to),
            difference,
            findings: findings.collect(),
            checked: checked.map_err(|_| WITHHELD.to_owned()),
            agent_told,
            notes,
            warnings: withhold_warnings(warnings, to),
        }
    }
}
