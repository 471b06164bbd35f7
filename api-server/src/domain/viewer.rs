//! What somebody may see of what is kept of a whole PBX: applies, previews, states.
//!
//! Several tenants share a PBX. Whoever is confined to one of them sees what an apply did as a whole,
//! and of its content what is the own tenant's. Texts of Asterisk, of the agent and of other
//! administrators cannot be told apart by tenant: they are [`WITHHELD`]. [`Seen`] says of each value
//! what is left of it, and services answer no other.

use std::collections::BTreeMap;

use shared::names;
use shared::record::{ApplyRecord, Mismatch, ObjectKind, Step};
use shared::status::{RegisteredPhone, VerifyReport};

use super::apply::{Attempt, Failure, IncludedUser};
use super::revision::InForce;
use super::status::{AgentView, AttemptBrief, FileState, LastApplied, PbxState, Warning};
use super::{PbxId, TenantId, TenantNumber};

/// What stands in place of a text that may tell of other tenants.
pub const WITHHELD: &str = "withheld: it may tell of other tenants";

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody who may see everything.
    Everything,
    /// Somebody who is confined to a tenant.
    Confined(Confined),
}

/// A tenant, as what is kept of its PBX knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confined {
    /// Which tenant.
    pub tenant: TenantId,
    /// Its number, which stands in the names of its objects.
    pub number: TenantNumber,
    /// The PBX that serves it.
    pub pbx: PbxId,
}

impl Viewer {
    /// The one tenant that it sees.
    pub const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Everything => None,
            Self::Confined(to) => Some(to.tenant),
        }
    }

    /// Whether it sees anything of a PBX.
    pub fn sees(self, pbx: PbxId) -> bool {
        match self {
            Self::Everything => true,
            Self::Confined(to) => to.pbx == pbx,
        }
    }
}

impl Confined {
    /// Whether an endpoint, auth or AOR is the tenant's.
    pub fn has_object(self, name: &str) -> bool {
        names::owner_of_object(name).is_some_and(|owner| owner.tenant == self.number.get())
    }

    /// Whether a dialplan context is.
    pub fn has_context(self, name: &str) -> bool {
        names::tenant_of_context(name) == Some(self.number.get())
    }

    /// Whether a user of a bundle is.
    pub fn has_user(self, user: &IncludedUser) -> bool {
        user.tenant == self.number.get()
    }

    fn has_mismatch(self, mismatch: &Mismatch) -> bool {
        let Mismatch { object, name, .. } = mismatch;
        match object {
            ObjectKind::Endpoint | ObjectKind::Auth | ObjectKind::Aor | ObjectKind::Contact => {
                self.has_object(name)
            }
            ObjectKind::Extension => {
                let context = name.split_once('@').map(|(_, context)| context);
                context.is_some_and(|context| self.has_context(context))
            }
            // They are everybody's.
            ObjectKind::Marker | ObjectKind::File => false,
        }
    }

    /// Who asked for something, and where: told when it was somebody of the tenant.
    fn asked<const N: usize>(self, of: Option<TenantId>, told: [&mut String; N]) {
        if of != Some(self.tenant) {
            for text in told {
                withhold(text);
            }
        }
    }
}

/// What is kept of a whole PBX.
pub trait Seen: Sized {
    /// What somebody who is confined to a tenant sees of it.
    #[must_use]
    fn confined(self, to: Confined) -> Self;

    /// What somebody sees of it.
    #[must_use]
    fn seen_by(self, viewer: Viewer) -> Self {
        match viewer {
            Viewer::Everything => self,
            Viewer::Confined(to) => self.confined(to),
        }
    }
}

impl<T: Seen> Seen for Option<T> {
    fn confined(self, to: Confined) -> Self {
        self.map(|value| value.confined(to))
    }
}

impl<T: Seen> Seen for Box<T> {
    fn confined(self, to: Confined) -> Self {
        Self::new((*self).confined(to))
    }
}

/// Of things that anybody may know of, what each looks like.
fn each<T: Seen>(values: Vec<T>, to: Confined) -> Vec<T> {
    values.into_iter().map(|value| value.confined(to)).collect()
}

/// Puts [`WITHHELD`] in the place of a text, unless there is none.
pub fn withhold(text: &mut String) {
    if !text.is_empty() {
        WITHHELD.clone_into(text);
    }
}

/// Likewise of a list: that there was something is told, not how much.
pub fn withhold_all(texts: &mut Vec<String>) {
    texts.truncate(1);
    texts.iter_mut().for_each(withhold);
}

impl Seen for Failure {
    fn confined(mut self, _: Confined) -> Self {
        if !self.names_nobody() {
            withhold(&mut self.message);
        }
        self
    }
}

impl Seen for Step {
    fn confined(mut self, _: Confined) -> Self {
        withhold(&mut self.said);
        self
    }
}

impl Seen for ApplyRecord {
    fn confined(mut self, to: Confined) -> Self {
        self.steps = each(self.steps, to);
        // By their sizes one would see others come and go.
        self.files.clear();
        self.mismatches.retain(|mismatch| to.has_mismatch(mismatch));
        withhold(&mut self.failure);
        withhold_all(&mut self.notes);
        self
    }
}

impl Seen for Attempt {
    fn confined(self, to: Confined) -> Self {
        // Each field by name, so that nobody adds one without a decision.
        let Self {
            id,
            pbx_id,
            pbx_name,
            revision,
            digest,
            on_reload_failure,
            outcome,
            mut requested_by,
            mut request_id,
            mut source_address,
            requested_tenant,
            started_at,
            ended_at,
            failure,
            record,
            mut user_counts,
            mut users,
            changes,
            restored_from,
            mut notes,
            bundle_kept,
            // Of all tenants together.
            change_count: _,
        } = self;
        let asked = [&mut requested_by, &mut request_id, &mut source_address];
        to.asked(requested_tenant, asked);
        user_counts.keep(to.number);
        users.retain(|user| to.has_user(user));
        withhold_all(&mut notes);
        Self {
            id,
            pbx_id,
            pbx_name,
            revision,
            digest,
            on_reload_failure,
            outcome,
            requested_by,
            request_id,
            source_address,
            requested_tenant,
            started_at,
            ended_at,
            failure: failure.confined(to),
            record: record.confined(to),
            user_counts,
            users,
            changes: changes.and_then(|changes| changes.of_tenant(to)),
            restored_from,
            notes,
            bundle_kept,
            change_count: None,
        }
    }
}

impl Seen for AttemptBrief {
    fn confined(mut self, to: Confined) -> Self {
        to.asked(self.requested_tenant, [&mut self.requested_by]);
        self.failure = self.failure.confined(to);
        self
    }
}

impl Seen for InForce {
    fn confined(mut self, to: Confined) -> Self {
        to.asked(self.requested_tenant, [&mut self.requested_by]);
        withhold_all(&mut self.notes);
        self
    }
}

impl Seen for Warning {
    fn confined(mut self, _: Confined) -> Self {
        withhold(&mut self.message);
        self
    }
}

/// Of warnings only their codes, each once.
pub fn withhold_warnings(mut warnings: Vec<Warning>, to: Confined) -> Vec<Warning> {
    warnings.sort_by_key(|warning| warning.code);
    warnings.dedup_by_key(|warning| warning.code);
    each(warnings, to)
}

impl Seen for AgentView {
    fn confined(mut self, _: Confined) -> Self {
        // While Asterisk answers, its version.
        if !self.asterisk_answering {
            withhold(&mut self.asterisk_detail);
        }
        withhold_all(&mut self.foreign_files);
        self.safe_mode.iter_mut().for_each(withhold);
        self
    }
}

impl Seen for LastApplied {
    fn confined(mut self, to: Confined) -> Self {
        self.content = None;
        self.attempt = self.attempt.confined(to);
        self
    }
}

impl Seen for FileState {
    fn confined(self, to: Confined) -> Self {
        // Each field by name, so that nobody adds one without a decision.
        let Self {
            slot,
            path,
            // By size and hash of what is everybody's one would see others come and go.
            wanted: _,
            last_applied,
            on_disk: _,
            mut problem,
            mut loaded,
            asterisk_answers,
        } = self;
        problem.iter_mut().for_each(withhold);
        if let Some(loaded) = &mut loaded {
            withhold(&mut loaded.generation);
        }
        Self {
            slot,
            path,
            wanted: None,
            last_applied: last_applied.confined(to),
            on_disk: None,
            problem,
            loaded,
            asterisk_answers,
        }
    }
}

impl Seen for PbxState {
    fn confined(self, to: Confined) -> Self {
        // Each field by name, so that nobody adds one without a decision.
        let Self {
            id,
            name,
            agent,
            wanted,
            files,
            last_attempt,
            last_proven,
            open,
            queued,
            certificates,
            counters: _,
            mut reasons,
            warnings,
        } = self;
        withhold_all(&mut reasons);
        let files = files.into_iter();
        let files = files.map(|(file, verdict)| (file.confined(to), verdict));
        let agent = agent.map(|view| view.confined(to));
        Self {
            id,
            name,
            agent: agent.map_err(|_| WITHHELD.to_owned()),
            wanted: wanted.map_err(|_| WITHHELD.to_owned()),
            files: files.collect(),
            last_attempt: last_attempt.confined(to),
            last_proven: last_proven.confined(to),
            open: each(open, to),
            queued,
            certificates,
            counters: BTreeMap::new(),
            reasons,
            warnings: withhold_warnings(warnings, to),
        }
    }
}

impl Seen for VerifyReport {
    fn confined(mut self, to: Confined) -> Self {
        self.mismatches.retain(|mismatch| to.has_mismatch(mismatch));
        withhold(&mut self.failure);
        self
    }
}

impl Seen for Vec<RegisteredPhone> {
    fn confined(mut self, to: Confined) -> Self {
        self.retain(|phone| to.has_object(&phone.aor));
        self
    }
}

#[cfg(test)]
mod tests;
