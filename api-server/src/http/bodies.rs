//! The bodies of replies, for clients that are built with the portal: they read what it writes by
//! the same definitions.

pub use super::accounts::AccountBody;
pub use super::api_tokens::{ApiTokenBody, CreatedTokenBody};
pub use super::applies::{
    AppliedBody, ApplyBody, FailureBody, FileBody, IncludedUserBody, MismatchBody, PbxApplyBody,
    ShownApplyBody, StepBody,
};
pub use super::audit::{AppliedByBody, AuditEntryBody, CarriedBody, ChainBody};
pub use super::bulk::body::{
    ChangedFieldBody, CreatedAccountBody, ImportBody, ImportCountsBody, ImportLineBody,
    LineErrorBody,
};
pub use super::bulk::columns::guarded;
pub use super::changes::{
    CountsBody, FieldChangeBody, NamedObjectBody, ObjectChangeBody, RestoredFromBody, SummaryBody,
    UserChangeBody,
};
pub use super::declaration::{
    DeclarationBody, DeclaredDeviceBody, DeclaredTenantBody, DeclaredUserBody, ReconciledBody,
    ReconciledChangeBody, ReconciledCountsBody, RefusalBody,
};
pub use super::devices::{CredentialsBody, DeviceBody, NatBody, SipAccountBody};
pub use super::error::Problem;
pub use super::fields::FieldError;
pub use super::follow::StateBody;
pub use super::password_resets::IssuedBody;
pub use super::pbxes::PbxBody;
pub use super::pending::{InForceBody, PendingBody};
pub use super::preview::{
    AgentCheckBody, ComparedWithBody, DifferenceBody, FileDifferenceBody, FindingBody,
    ObjectChangesBody, PhoneBody, PhonesBody, PreviewBody, TenantOfPreviewBody, UserChangesBody,
};
pub use super::revisions::RevisionBody;
pub use super::sessions::{OpenedBody, SessionBody};
pub use super::status::{
    ActiveBody, AsteriskBody, AttemptBriefBody, CertificateBody, ContentBody, DriftBody,
    FileStatusBody, LastAppliedBody, LoadedBody, PbxStatusBody, RunningBody, WantedBody,
};
pub use super::tenants::TenantBody;
pub use super::users::{
    CallForwardBody, CreatedUserBody, FirstAccountBody, UserBody, VoicemailBody,
};
pub use super::warnings::WarningBody;
