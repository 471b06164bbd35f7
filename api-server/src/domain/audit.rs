//! What the audit trail keeps of a change, or of something that was refused.

use std::net::IpAddr;

use serde_json::Value;
use shared::bundle::{ApplyId, Revision};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::admin::Credential;
use super::page::sort_keys;
use super::{AccountId, Actor, PbxId, Principal, TenantId, typed_id};

typed_id! {
    /// Which entry.
    AuditEntryId
}

/// What stands for a secret.
pub const SECRET: &str = "<secret>";

/// Likewise for one that is another than before.
pub const SECRET_CHANGED: &str = "<secret, changed>";

/// Longest id and name that an entry keeps, in characters: indexes hold them.
const TEXT_CHARS_MAX: usize = 256;

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
    /// What that is called.
    pub name: Option<String>,
    /// Whose it is; `None`: of the whole portal.
    pub tenant: Option<TenantId>,
    /// The PBXes whose next apply carries it; none: it concerns none.
    pub pbxes: Vec<PbxId>,
    /// Likewise the PBX that the tenant is on.
    pub on_pbx_of_tenant: bool,
    /// What it was before, without secrets.
    pub before: Option<Value>,
    /// What it is now, without secrets.
    pub after: Option<Value>,
    /// Who, if not whoever the unit of work is for.
    pub author: Option<Author>,
}

impl Entry {
    /// Something that happened to an entity.
    pub fn new(action: &'static str, entity: &'static str, id: &impl ToString) -> Self {
        Self {
            action,
            entity,
            id: shortened(&id.to_string()),
            name: None,
            tenant: None,
            pbxes: Vec::new(),
            on_pbx_of_tenant: false,
            before: None,
            after: None,
            author: None,
        }
    }

    /// Of something that is called so.
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        self.name = Some(shortened(name));
        self
    }

    /// Of this tenant.
    #[must_use]
    pub fn of(mut self, tenant: impl Into<Option<TenantId>>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Carried by the next apply of this PBX. A change may concern several.
    #[must_use]
    pub fn on(mut self, pbx: PbxId) -> Self {
        if !self.pbxes.contains(&pbx) {
            self.pbxes.push(pbx);
        }
        self
    }

    /// Carried by the next apply of the PBX that its tenant is on.
    #[must_use]
    pub const fn on_pbx_of_tenant(mut self) -> Self {
        self.on_pbx_of_tenant = true;
        self
    }

    /// From one state to another; `None` where there was none.
    #[must_use]
    pub fn changing(mut self, before: Option<Value>, after: Option<Value>) -> Self {
        self.before = before;
        self.after = after;
        self
    }

    /// Done by somebody else than whoever the unit of work is for.
    #[must_use]
    pub fn by(mut self, author: Author) -> Self {
        self.author = Some(author);
        self
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// A time as entries tell it.
pub fn told_time(at: OffsetDateTime) -> Value {
    at.format(&Rfc3339).map_or(Value::Null, Value::String)
}

/// Says of a secret in `after`, at a place such as `/voicemail/pin`, that it is another one than
/// before.
pub fn mark_changed(after: &mut Value, pointer: &str) {
    if let Some(secret) = after
        .pointer_mut(pointer)
        .filter(|secret| *secret == SECRET)
    {
        *secret = Value::from(SECRET_CHANGED);
    }
}

/// What kind of somebody an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorKind {
    /// An account.
    Account,
    /// Whoever reaches the portal in a trusted network.
    TrustedNetwork,
    /// Nobody that is known.
    Unknown,
    /// The portal itself, or somebody at its command line.
    Portal,
}

impl AuthorKind {
    /// Each of them.
    pub const ALL: [Self; 4] = [
        Self::Account,
        Self::TrustedNetwork,
        Self::Unknown,
        Self::Portal,
    ];

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::TrustedNetwork => "trusted_network",
            Self::Unknown => "unknown",
            Self::Portal => "portal",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Who stands in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// What kind of somebody.
    pub kind: AuthorKind,
    /// The account, if it is one.
    pub account: Option<AccountId>,
    /// What it is called.
    pub name: String,
    /// Its session or API token.
    pub credential: Option<Uuid>,
    /// From where; `None`: from within.
    pub source: Option<IpAddr>,
    /// By which request.
    pub request_id: Option<String>,
}

impl Author {
    /// The portal, of its own accord.
    pub fn portal() -> Self {
        Self::within("portal")
    }

    /// Whoever runs a subcommand of `api-server`.
    pub fn command_line() -> Self {
        Self::within("command-line")
    }

    /// For a request of somebody else, which has ended or goes on without it.
    #[must_use]
    pub fn for_request(mut self, request_id: &str) -> Self {
        self.request_id = Some(request_id.to_owned());
        self
    }

    fn within(name: &str) -> Self {
        Self {
            kind: AuthorKind::Portal,
            account: None,
            name: name.to_owned(),
            credential: None,
            source: None,
            request_id: None,
        }
    }
}

impl From<&Actor> for Author {
    fn from(actor: &Actor) -> Self {
        let (kind, account) = match &actor.principal {
            Principal::TrustedNetwork => (AuthorKind::TrustedNetwork, None),
            Principal::CommandLine => (AuthorKind::Portal, None),
            Principal::Unknown => (AuthorKind::Unknown, None),
            Principal::Account(known) => (AuthorKind::Account, Some(known)),
        };
        let credential = account.map(|known| match &known.credential {
            Credential::Session(id) => id.0,
            Credential::ApiToken(id, _) => id.0,
        });
        Self {
            kind,
            account: account.map(|known| known.account),
            name: actor.admin.as_str().to_owned(),
            credential,
            source: Some(actor.source),
            request_id: Some(actor.request_id.as_str().to_owned()),
        }
    }
}

/// An entry as it was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Which entry.
    pub id: AuditEntryId,
    /// When.
    pub at: OffsetDateTime,
    /// Who.
    pub author_kind: AuthorKind,
    /// The account, if it was one.
    pub account: Option<AccountId>,
    /// What whoever it was is called.
    pub author: String,
    /// The session or API token.
    pub credential: Option<Uuid>,
    /// What happened.
    pub action: String,
    /// To what.
    pub entity: String,
    /// Which one.
    pub entity_id: String,
    /// What that was called.
    pub entity_name: Option<String>,
    /// Whose it is.
    pub tenant: Option<TenantId>,
    /// What it was before.
    pub before: Option<Value>,
    /// What it became.
    pub after: Option<Value>,
    /// From where.
    pub source: Option<String>,
    /// By which request.
    pub request_id: Option<String>,
    /// Its place in the chain.
    pub place: Place,
    /// The first apply that brought it into force.
    pub applied_by: Option<AppliedBy>,
    /// The PBXes that it is not in force on yet.
    pub pending_on: Vec<PbxId>,
}

/// The place of an entry in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which lane.
    pub lane: i32,
    /// Its number there.
    pub position: i64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// The apply that brought a change into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedBy {
    /// Which apply.
    pub apply: ApplyId,
    /// Its number on its PBX.
    pub revision: Option<Revision>,
    /// When that was known.
    pub at: OffsetDateTime,
}

/// A change that waits for an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// The entry of the change.
    pub id: AuditEntryId,
    /// When it was made.
    pub at: OffsetDateTime,
}

/// A change that an apply carried, in brief.
#[derive(Clone, Debug)]
pub struct CarriedChange {
    /// The entry of the change.
    pub id: AuditEntryId,
    /// When it was made.
    pub at: OffsetDateTime,
    /// By whom.
    pub author: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub entity: String,
    /// Which one.
    pub entity_id: String,
    /// What that was called.
    pub entity_name: Option<String>,
}

sort_keys! {
    /// What entries are listed by.
    pub enum AuditSort of Id, default At descending {
        At = "at" Time,
    }
}

/// Which entries are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only what somebody of this name did.
    pub actor: Option<String>,
    /// Only this.
    pub action: Option<String>,
    /// Only what happened to entities of this kind.
    pub entity: Option<String>,
    /// Only what happened to this one.
    pub entity_id: Option<String>,
    /// Only what is of this tenant.
    pub tenant: Option<TenantId>,
    /// Only what this request did.
    pub request_id: Option<String>,
    /// Only what this apply carried.
    pub apply: Option<ApplyId>,
    /// Nothing that was earlier.
    pub since: Option<OffsetDateTime>,
    /// Only what was earlier.
    pub until: Option<OffsetDateTime>,
    /// Only entries that hold this text.
    pub search: Option<String>,
}
