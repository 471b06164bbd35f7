//! What the portal can do, free of HTTP: a file for each entity.

pub mod access_tokens;
pub mod accounts;
pub mod api_tokens;
pub mod applies;
pub mod apply;
mod argon2id;
mod at_once;
pub mod audit;
pub mod authentication;
pub mod bulk;
pub mod bulkhead;
mod compare;
pub mod counters;
pub mod deleted_users;
pub mod denied;
pub mod devices;
pub mod events;
pub mod follow;
pub mod health;
pub mod idempotency;
pub mod live;
pub mod monitor;
pub mod password_resets;
pub mod passwords;
pub mod pbxes;
pub mod pins;
pub mod preview;
pub mod reconcile;
pub mod restore;
pub mod revisions;
pub mod rotation;
pub mod second_factor;
pub mod sessions;
pub mod sign_in;
pub mod status;
pub mod tenants;
pub mod users;
pub mod verify;
pub mod viewer;
mod warnings;
pub mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shared::bundle::ApplyId;
use shared::record::OnReloadFailure;

use self::denied::Denied;
use crate::agent::{AgentError, LinkFault};
use crate::clock::Clock;
use crate::db::{Database, DbError};
use crate::domain::Invalid;
use crate::domain::access::AuthMode;
use crate::domain::apply::Attempt;
use crate::domain::device::Transport;
use crate::domain::version::Moved;
use crate::https::Https;
use crate::vault::{OpenError, TooLarge, Vault};

/// What every service works with.
pub struct Portal {
    /// PostgreSQL.
    pub database: Database,
    /// Encryption at rest.
    pub vault: Vault,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The certificate that clients see; a proxy has it when `None`.
    pub https: Option<Arc<Https>>,
    /// The PBXes: what is kept apart for each.
    pub pbxes: pbxes::Pbxes,
    /// What the environment says.
    pub settings: Settings,
    /// How many applies of this process run.
    pub runs: apply::Runs,
    /// Where each of them stands.
    pub live: live::Live,
    /// What was counted.
    pub counters: counters::Counters,
    /// Who was refused something in the last minute.
    pub refusals: audit::Refusals,
    /// Who may render for a question: one at a time.
    pub rendering: tokio::sync::Semaphore,
    /// Who may change very many things in one transaction: one at a time.
    pub bulk: tokio::sync::Semaphore,
    /// How many connections the changes of each tenant may hold.
    pub bulkhead: bulkhead::Bulkhead,
    /// What sign-in and authentication keep in memory.
    pub gate: authentication::Gate,
}

/// What the environment says about the work of the services.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How it is known who asks.
    pub auth: AuthMode,
    /// Whether all clients come through a proxy on this machine.
    pub behind_proxy: bool,
    /// By which names the portal is served where nobody signs in.
    pub hosts: Vec<String>,
    /// For applies that name no policy.
    pub on_reload_failure: OnReloadFailure,
    /// How long an apply waits for another one.
    pub apply_lock_wait: Duration,
    /// How long the agent may take to bring a bundle into force.
    pub apply_deadline: Duration,
    /// How often the agent is asked how it is.
    pub monitor_period: Duration,
    /// How long before the end of a certificate to warn.
    pub cert_warning: time::Duration,
    /// How many bundles of proven revisions are kept, at least 1.
    pub bundles_kept: u32,
}

/// Why a service could not do what was asked. Free of transport: `http::error` maps each to its
/// status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Whoever asks may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Something is not done to an account or its tokens.
    #[error(transparent)]
    Account(#[from] accounts::Refused),
    /// The portal has too much to do: the same will work later.
    #[error("{0}")]
    Overloaded(&'static str),
    /// The database is down: the same may work later.
    #[error("the database is unavailable")]
    DatabaseUnavailable(#[source] DbError),
    /// The database holds or says what it should not: a bug.
    #[error("the database gave no usable answer")]
    Database(#[source] DbError),
    /// A secret could not be encrypted.
    #[error("a secret could not be encrypted")]
    Sealing(#[from] TooLarge),
    /// A stored answer cannot be decrypted.
    #[error("a stored answer cannot be decrypted")]
    Unsealing(#[from] OpenError),
    /// A task of the portal itself died.
    #[error("a task of the portal died")]
    Task(#[from] tokio::task::JoinError),
    /// What is to be changed is not in the state that the caller expects.
    #[error("changed meanwhile")]
    PreconditionFailed(Moved),
    /// The caller must say which state it means to change.
    #[error("no state was named")]
    PreconditionRequired,
    /// A value that only the service can judge.
    #[error("{field}: {reason}")]
    InvalidField {
        /// The name in the request.
        field: &'static str,
        /// What is wrong.
        reason: Invalid,
    },
    /// Something else would be done than what the caller has seen.
    #[error("something else would be done now")]
    PlanOutdated,
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The first request of this key still runs.
    #[error("a request with the same idempotency key still runs")]
    KeyInUse,
    /// No living tenant is called so.
    #[error("no such tenant")]
    TenantNotFound,
    /// A living tenant is called so.
    #[error("the slug is taken")]
    SlugTaken,
    /// The tenant has living users.
    #[error("the tenant has users")]
    TenantInUse,
    /// A user has a number that the range would leave out.
    #[error("a number in use lies outside the range")]
    RangeInUse,
    /// What cannot be said of the default tenant.
    #[error("the default tenant stays what it is")]
    DefaultTenantFixed,
    /// Devices of the tenant use a transport that the PBX does not offer.
    #[error("the PBX offers no transport {kind}")]
    TransportNotOffered {
        /// Which.
        kind: String,
    },
    /// A living user of the tenant has that number.
    #[error("the extension is taken")]
    ExtensionTaken,
    /// No device of the tenant has that id.
    #[error("no such device")]
    DeviceNotFound,
    /// The user has as many devices as there are letters.
    #[error("the user has too many devices")]
    TooManyDevices,
    /// The password was shown already.
    #[error("the password was shown already")]
    PasswordRevealed,
    /// A password or PIN could not be hashed.
    #[error("hashing failed")]
    Hashing,
    /// An access token could not be signed.
    #[error("an access token could not be signed")]
    Signing,
    /// No living session of whoever asks has that id.
    #[error("no such session")]
    SessionNotFound,
    /// No living user has that id.
    #[error("no such user")]
    UserNotFound,
    /// A living user of the tenant has that address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// Every number of the tenant is taken (FR-015).
    #[error("every extension from {first} to {last} is taken")]
    ExtensionPoolExhausted {
        /// The lowest number of the range.
        first: i32,
        /// The highest.
        last: i32,
    },
    /// The agent cannot be reached.
    #[error("the agent: {0}")]
    AgentUnreachable(LinkFault),
    /// The agent does not do what it is asked for.
    #[error("the agent: {0}")]
    AgentRefused(#[source] AgentError),
    /// The agent is busy with an apply.
    #[error("an apply runs")]
    ApplyRuns(Option<ApplyId>),
    /// Nothing was ever applied on that PBX.
    #[error("nothing was ever applied")]
    NothingApplied,
    /// No PBX in service has that id or name.
    #[error("no such PBX")]
    PbxNotFound,
    /// A PBX in service has that name.
    #[error("the name is taken")]
    PbxNameTaken,
    /// A PBX in service has that agent.
    #[error("another PBX has this {field}")]
    AgentTaken {
        /// What they would share.
        field: &'static str,
    },
    /// The portal's environment says it.
    #[error("set by the portal's environment: {}", fields.join(", "))]
    SetByEnvironment {
        /// What.
        fields: Vec<&'static str>,
    },
    /// Devices are reached by these transports.
    #[error("devices use a transport")]
    TransportsInUse {
        /// Which.
        transports: BTreeSet<Transport>,
    },
    /// A tenant is on the PBX.
    #[error("a tenant is on the PBX")]
    PbxInUse,
    /// The default PBX cannot be taken out of service.
    #[error("the default PBX stays")]
    DefaultPbxStays,
    /// No entry of the audit trail has that id.
    #[error("no such entry of the audit trail")]
    AuditEntryNotFound,
    /// No attempt has that id.
    #[error("no such apply")]
    ApplyNotFound,
    /// The attempt waits or runs, so it proved nothing yet.
    #[error("the apply has not ended")]
    ApplyNotEnded(ApplyId),
    /// The attempt never had a bundle, or it is no longer kept.
    #[error("the apply has no bundle")]
    NothingToRestore,
    /// The attempt's bundle was never proven to be in force.
    #[error("the revision was never proven")]
    NeverProven {
        /// How the attempt ended.
        outcome: &'static str,
    },
    /// The agent has the order, but its answer was lost; the reconciler will close the row.
    #[error("the outcome of the apply is not known: {reason}")]
    ApplyOutcomeUnknown {
        /// The attempt, still open.
        attempt: Box<Attempt>,
        /// What became of the link.
        reason: String,
    },
    /// The outcome is known, but the database did not take it; the reconciler will write it.
    #[error("the outcome of the apply could not be recorded")]
    ApplyNotRecorded {
        /// The attempt with its outcome.
        attempt: Box<Attempt>,
        /// What the database said.
        #[source]
        source: DbError,
    },
}

impl From<Moved> for Error {
    fn from(moved: Moved) -> Self {
        Self::PreconditionFailed(moved)
    }
}

impl Error {
    /// The attempt that it is about, if there is one.
    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::ApplyOutcomeUnknown { attempt, .. } | Self::ApplyNotRecorded { attempt, .. } => {
                Some(attempt)
            }
            _ => None,
        }
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(_) | DbError::OtherKey => Self::DatabaseUnavailable(error),
            DbError::Busy => Self::Overloaded("every connection to the database is in use"),
            DbError::InTheWay(_) => Self::Overloaded("another change was in the way"),
            DbError::Constraint { .. } | DbError::Inconsistent { .. } | DbError::Query(_) => {
                Self::Database(error)
            }
        }
    }
}
