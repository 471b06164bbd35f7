//! What the audit trail keeps of a change, or of something that was refused.

use serde_json::Value;

use super::{PbxId, TenantId};

/// One change, sign-in or refusal, as a service tells it. Who, when and from where are added by
/// whoever writes it down.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What happened, as in `user.created`.
    pub action: &'static str,
    /// What it happened to, as in `user`.
    pub entity: &'static str,
    /// Which one.
    pub id: String,
    /// Whose it is; `None`: of the whole portal.
    pub tenant: Option<TenantId>,
    /// The PBX whose next apply carries it; `None`: it concerns none.
    pub pbx: Option<PbxId>,
    /// What it was before, without secrets.
    pub before: Option<Value>,
    /// What it is now, without secrets.
    pub after: Option<Value>,
}

impl Entry {
    /// Something that happened to an entity.
    pub fn new(action: &'static str, entity: &'static str, id: &impl ToString) -> Self {
        Self {
            action,
            entity,
            id: id.to_string(),
            tenant: None,
            pbx: None,
            before: None,
            after: None,
        }
    }

    /// Of this tenant.
    #[must_use]
    pub fn of(mut self, tenant: Option<TenantId>) -> Self {
        self.tenant = tenant;
        self
    }

    /// Carried by the next apply of this PBX.
    #[must_use]
    pub const fn on(mut self, pbx: PbxId) -> Self {
        self.pbx = Some(pbx);
        self
    }

    /// From one state to another; `None` where there was none.
    #[must_use]
    pub fn changing(mut self, before: Option<Value>, after: Option<Value>) -> Self {
        self.before = before;
        self.after = after;
        self
    }
}
