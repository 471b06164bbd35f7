//! Who may do what: roles, permissions, and the permission that each operation needs. These tables
//! are the single source: requests are judged by them, and the OpenAPI document, the README and
//! `api-server permissions` print them.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, TenantId, UserId};

/// What somebody may do in the portal. Each role has a reach: the whole portal, one tenant, or what
/// is one's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// See to oneself.
    #[default]
    User,
    /// Read all of the tenant, apply, diagnose.
    Operator,
    /// Everything within the tenant.
    TenantAdmin,
    /// Everything.
    PlatformAdmin,
}

impl Role {
    /// Each of them.
    pub const ALL: [Self; 4] = [
        Self::User,
        Self::Operator,
        Self::TenantAdmin,
        Self::PlatformAdmin,
    ];

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::TenantAdmin => "tenant_admin",
            Self::PlatformAdmin => "platform_admin",
        }
    }
}

impl FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|role| role.name() == text);
        known.ok_or(Invalid::new(
            "unknown_value",
            "must be \"user\", \"operator\", \"tenant_admin\" or \"platform_admin\"",
        ))
    }
}

/// How it is known who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Whoever asks has signed in.
    Login,
    /// Whoever reaches the address may do everything.
    TrustedNetwork,
}

/// How far somebody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The whole portal.
    Everything,
    /// One tenant, and the PBX that it is on as far as that is the tenant's.
    Tenant(TenantId),
    /// Oneself, a user of that tenant.
    Own(TenantId, UserId),
    /// Nothing: nobody that is known.
    Nothing,
}

impl Reach {
    /// What of a tenant is within it; `None`: nothing.
    pub fn within(self, tenant: TenantId) -> Option<Within> {
        let user = self.user();
        let reached = match self {
            Self::Everything => true,
            Self::Tenant(own) | Self::Own(own, _) => own == tenant,
            Self::Nothing => false,
        };
        reached.then_some(Within { tenant, user })
    }

    /// The one tenant that it is confined to.
    pub const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Everything | Self::Nothing => None,
            Self::Tenant(tenant) | Self::Own(tenant, _) => Some(tenant),
        }
    }

    /// The one user that it is confined to.
    pub const fn user(self) -> Option<UserId> {
        match self {
            Self::Everything | Self::Tenant(_) | Self::Nothing => None,
            Self::Own(_, user) => Some(user),
        }
    }
}

/// The part of a tenant that somebody reaches: what belongs to it is looked up within this part, so
/// that nothing else is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    tenant: TenantId,
    user: Option<UserId>,
}

impl Within {
    /// All of a tenant.
    pub const fn all_of(tenant: TenantId) -> Self {
        Self { tenant, user: None }
    }

    /// Which tenant.
    pub const fn tenant(self) -> TenantId {
        self.tenant
    }

    /// The one user that it is confined to; `None`: all of the tenant.
    pub const fn user(self) -> Option<UserId> {
        self.user
    }

    /// Whether a user of the tenant is within it, and so what is that user's.
    pub fn has(self, user: UserId) -> bool {
        self.user.is_none_or(|own| own == user)
    }
}

/// Declares [`Permission`]: name, meaning, and the roles that hold it beside platform administrators,
/// who hold all.
macro_rules! permissions {
    ($($name:ident = $text:literal, $meaning:literal, [$($role:ident),*];)+) => {
        /// What an operation needs. Its name is what an API token's scope says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Permission {
            $(#[doc = $meaning] $name,)+
        }

        impl Permission {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// As in `users.read`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it permits, in words.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }

            /// Who holds it beside platform administrators, each within its reach.
            pub const fn roles(self) -> &'static [Role] {
                match self { $(Self::$name => &[$(Role::$role),*],)+ }
            }
        }
    };
}

permissions! {
    UsersRead = "users.read", "see users, living and deleted", [TenantAdmin, Operator, User];
    UsersWrite = "users.write", "create, change, delete and purge users", [TenantAdmin];
    UsersCalls = "users.calls", "change how a user's calls go: voicemail, do not disturb, forwarding",
        [TenantAdmin, User];
    DevicesRead = "devices.read", "see devices", [TenantAdmin, Operator, User];
    DevicesWrite = "devices.write", "create, change and delete devices", [TenantAdmin];
    DevicesPasswords = "devices.passwords", "make SIP passwords and see them once",
        [TenantAdmin, User];
    TenantsRead = "tenants.read", "see tenants", [TenantAdmin, Operator];
    TenantsWrite = "tenants.write", "create, change and delete tenants", [];
    PbxesRead = "pbxes.read", "see PBXes", [];
    PbxesWrite = "pbxes.write", "take PBXes into service, change them, take them out of it", [];
    AppliesRead = "applies.read", "see applies and what became of them", [TenantAdmin, Operator];
    AppliesRun = "applies.run", "bring changes into force", [TenantAdmin, Operator];
    AppliesForce = "applies.force",
        "go over an agent's safe mode, or leave files in place that Asterisk did not take", [];
    RevisionsRead = "revisions.read", "see the revisions of PBXes", [];
    RevisionsRestore = "revisions.restore", "bring an earlier revision back", [];
    Diagnostics = "diagnostics.run", "preview, compare what is in force, see the state of PBXes",
        [TenantAdmin, Operator];
    EventsRead = "events.read", "see what happened to PBXes apart from applies", [];
    AccountsRead = "accounts.read", "see who may sign in", [TenantAdmin];
    AccountsWrite = "accounts.write",
        "let people sign in, suspend them, reset passwords and second factors", [TenantAdmin];
    AuditRead = "audit.read", "see the audit trail", [TenantAdmin];
}

impl Permission {
    /// Whether a role holds it, within its reach.
    pub fn is_held_by(self, role: Role) -> bool {
        role == Role::PlatformAdmin || self.roles().contains(&role)
    }
}

impl FromStr for Permission {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL
            .iter()
            .find(|permission| permission.name() == text);
        known.copied().ok_or(Invalid::new(
            "unknown_value",
            "must be the name of a permission, such as \"users.read\"",
        ))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may carry out an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: whoever asks.
    Nothing,
    /// Nothing; but only somebody with a permission for the whole portal hears details.
    NothingOr(Permission),
    /// Somebody who has signed in, for what is one's own. API tokens do not suffice.
    Session,
    /// Likewise, or a permission for what is somebody else's.
    SessionOr(Permission),
    /// A permission.
    Permission(Permission),
}

/// What each operation of the API needs, by its id. What stands below `/tenants/{tenant}` has the
/// id of its twin with `tenant_` in it and needs the same.
pub const OPERATIONS: &[(&str, Needs)] = {
    use Needs::{Nothing, NothingOr, Permission as Of, Session, SessionOr};
    use Permission as P;
    &[
        ("sign_in", Nothing),
        ("refresh_session", Nothing),
        ("list_sessions", Session),
        ("get_session", Session),
        ("end_session", Session),
        ("list_accounts", Of(P::AccountsRead)),
        ("create_account", Of(P::AccountsWrite)),
        ("get_account", SessionOr(P::AccountsRead)),
        ("update_account", SessionOr(P::AccountsWrite)),
        ("delete_account", Of(P::AccountsWrite)),
        ("unlock_account", Of(P::AccountsWrite)),
        ("change_password", Session),
        ("issue_password_reset", Of(P::AccountsWrite)),
        ("use_password_reset", Nothing),
        ("begin_totp", Session),
        ("confirm_totp", Session),
        ("remove_totp", SessionOr(P::AccountsWrite)),
        ("replace_recovery_codes", Session),
        ("list_api_tokens", Session),
        ("create_api_token", Session),
        ("get_api_token", Session),
        ("revoke_api_token", Session),
        ("list_users", Of(P::UsersRead)),
        ("create_user", Of(P::UsersWrite)),
        ("get_user", Of(P::UsersRead)),
        ("update_user", Of(P::UsersCalls)),
        ("delete_user", Of(P::UsersWrite)),
        ("import_users", Of(P::UsersWrite)),
        ("export_users", Of(P::UsersRead)),
        ("list_deleted_users", Of(P::UsersRead)),
        ("get_deleted_user", Of(P::UsersRead)),
        ("purge_user", Of(P::UsersWrite)),
        ("list_devices", Of(P::DevicesRead)),
        ("create_device", Of(P::DevicesWrite)),
        ("import_devices", Of(P::DevicesWrite)),
        ("export_devices", Of(P::DevicesRead)),
        ("get_device", Of(P::DevicesRead)),
        ("update_device", Of(P::DevicesWrite)),
        ("delete_device", Of(P::DevicesWrite)),
        ("rotate_device_password", Of(P::DevicesPasswords)),
        ("reveal_device_password", Of(P::DevicesPasswords)),
        ("list_tenants", Of(P::TenantsRead)),
        ("create_tenant", Of(P::TenantsWrite)),
        ("get_tenant", Of(P::TenantsRead)),
        ("export_declaration", Of(P::TenantsRead)),
        ("reconcile_declaration", Of(P::UsersWrite)),
        ("update_tenant", Of(P::TenantsWrite)),
        ("delete_tenant", Of(P::TenantsWrite)),
        ("list_pbxes", Of(P::PbxesRead)),
        ("create_pbx", Of(P::PbxesWrite)),
        ("get_pbx", Of(P::PbxesRead)),
        ("update_pbx", Of(P::PbxesWrite)),
        ("delete_pbx", Of(P::PbxesWrite)),
        ("apply", Of(P::AppliesRun)),
        ("list_applies", Of(P::AppliesRead)),
        ("get_apply", Of(P::AppliesRead)),
        ("follow_apply", Of(P::AppliesRead)),
        ("restore_apply", Of(P::RevisionsRestore)),
        ("list_revisions", Of(P::RevisionsRead)),
        ("preview_apply", Of(P::Diagnostics)),
        ("status", Of(P::Diagnostics)),
        ("verify", Of(P::Diagnostics)),
        ("list_events", Of(P::EventsRead)),
        ("list_audit", Of(P::AuditRead)),
        ("get_audit_entry", Of(P::AuditRead)),
        ("live", Nothing),
        ("ready", NothingOr(P::Diagnostics)),
        ("get_openapi", Nothing),
    ]
};

/// What an operation needs; `None` when it is not in the table.
pub fn needs(operation_id: &str) -> Option<Needs> {
    let by_id = |id: &str| OPERATIONS.iter().find(|(known, _)| *known == id);
    let found = by_id(operation_id).or_else(|| {
        let twin = operation_id.replacen("_tenant_", "_", 1);
        by_id(&twin)
    });
    found.map(|(_, needs)| *needs)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nobody_reaches_beyond_what_is_within() {
        let [own, other] = [1, 2].map(|n| TenantId(Uuid::from_u128(n)));
        let [ann, bob] = [3, 4].map(|n| UserId(Uuid::from_u128(n)));
        for (reach, in_own, in_other) in [
            (Reach::Everything, Some([true, true]), Some([true, true])),
            (Reach::Tenant(own), Some([true, true]), None),
            (Reach::Own(own, ann), Some([true, false]), None),
            (Reach::Nothing, None, None),
        ] {
            let users = |within: Within| [ann, bob].map(|user| within.has(user));
            assert_eq!(reach.within(own).map(users), in_own, "{reach:?}");
            assert_eq!(reach.within(other).map(users), in_other, "{reach:?}");
        }
    }

    #[test]
    fn each_name_is_used_once() {
        for (index, permission) in Permission::ALL.iter().enumerate() {
            assert_eq!(permission.name().parse::<Permission>(), Ok(*permission));
            let again = &Permission::ALL[index + 1..];
            assert!(again.iter().all(|other| other.name() != permission.name()));
        }
        for (index, (id, _)) in OPERATIONS.iter().enumerate() {
            assert!(OPERATIONS[index + 1..].iter().all(|(other, _)| other != id));
        }
    }
}
