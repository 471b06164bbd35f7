//! The bodies of answers, for clients that are built from the same definitions.

pub use super::bulk::body::{
    ChangedFieldBody, CreatedAccountBody, ImportBody, ImportCountsBody, ImportLineBody,
    LineErrorBody,
};
pub use super::declaration::{
    DeclarationBody, DeclaredDeviceBody, DeclaredTenantBody, DeclaredUserBody, ReconciledBody,
    ReconciledChangeBody, ReconciledCountsBody, RefusalBody,
};
