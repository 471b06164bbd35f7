//! Who may sign in.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use super::tenant::ServiceStatus;
use super::{AdminUser, DisplayName, Invalid, Reach, Role, TenantId, UserId, Version, typed_id};

typed_id! {
    /// Which account.
    AccountId
}

typed_id! {
    /// Which session.
    SessionId
}

typed_id! {
    /// Which API token.
    ApiTokenId
}

/// What somebody types at sign-in: 2 to 254 of `a-z`, `0-9`, `.`, `_`, `@`, `+` and `-`, beginning
/// with a letter or digit. Capitals are taken as small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login(String);

impl Login {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the name of whoever asks.
    pub fn to_admin(&self) -> AdminUser {
        AdminUser::of_login(self)
    }
}

impl FromStr for Login {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.to_ascii_lowercase();
        let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let plain = |byte: u8| first(&byte) || b"._@+-".contains(&byte);
        let bytes = text.as_bytes();
        if (2..=254).contains(&bytes.len())
            && bytes.first().is_some_and(first)
            && text.bytes().all(plain)
        {
            Ok(Self(text))
        } else {
            Err(Invalid::new(
                "malformed",
                "a login is 2 to 254 of a-z, 0-9, '.', '_', '@', '+' and '-', and begins with a \
                 letter or digit",
            ))
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A role within a tenant that an account may have of its own, without being a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaffRole {
    /// Reads, applies, diagnoses.
    Operator,
    /// Administers the tenant.
    TenantAdmin,
}

impl StaffRole {
    /// The role.
    pub const fn get(self) -> Role {
        match self {
            Self::Operator => Role::Operator,
            Self::TenantAdmin => Role::TenantAdmin,
        }
    }
}

/// Whose an account is: its tenant and where its role comes from follow from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// A platform administrator's.
    Platform,
    /// Somebody's of a tenant who has no number there.
    Staff(TenantId, StaffRole),
    /// A user's, whose role and status count.
    User(TenantId, UserId),
}

impl Seat {
    /// The seat of an account that is no user's.
    ///
    /// # Errors
    /// A tenant's administrators need a tenant, those of the platform have none, and role `user` is
    /// that of users.
    pub const fn new(role: Role, tenant: Option<TenantId>) -> Result<Self, Invalid> {
        match (role, tenant) {
            (Role::PlatformAdmin, None) => Ok(Self::Platform),
            (Role::TenantAdmin, Some(tenant)) => Ok(Self::Staff(tenant, StaffRole::TenantAdmin)),
            (Role::Operator, Some(tenant)) => Ok(Self::Staff(tenant, StaffRole::Operator)),
            (Role::User, _) => Err(Invalid::new(
                "unknown_value",
                "of an account that is no user's: \"operator\", \"tenant_admin\" or \"platform_admin\"",
            )),
            (Role::PlatformAdmin, Some(_)) => Err(Invalid::new(
                "with_tenant",
                "a platform administrator belongs to no tenant",
            )),
            (Role::TenantAdmin | Role::Operator, None) => Err(Self::without_tenant()),
        }
    }

    /// What is wrong when nobody said of which tenant somebody is.
    pub const fn without_tenant() -> Invalid {
        Invalid::new(
            "without_tenant",
            "users, operators and tenants' administrators belong to a tenant: name it",
        )
    }

    /// The tenant; `None`: the whole portal.
    pub const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Platform => None,
            Self::Staff(tenant, _) | Self::User(tenant, _) => Some(tenant),
        }
    }

    /// The user, if it is one's.
    pub const fn user(self) -> Option<UserId> {
        match self {
            Self::Platform | Self::Staff(..) => None,
            Self::User(_, user) => Some(user),
        }
    }

    /// The role that the account has of its own; `None`: that of its user.
    pub const fn own_role(self) -> Option<Role> {
        match self {
            Self::Platform => Some(Role::PlatformAdmin),
            Self::Staff(_, role) => Some(role.get()),
            Self::User(..) => None,
        }
    }

    /// How far somebody of this seat sees with a role.
    pub const fn reach(self, role: Role) -> Reach {
        match (self, role) {
            (Self::Platform, _) => Reach::Everything,
            (Self::User(tenant, user), Role::User) => Reach::Own(tenant, user),
            (Self::Staff(tenant, _) | Self::User(tenant, _), _) => Reach::Tenant(tenant),
        }
    }
}

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Which account.
    pub id: AccountId,
    /// Unique in the whole portal.
    pub login: Login,
    /// Who that is, in words.
    pub name: DisplayName,
    /// Whose it is.
    pub seat: Seat,
    /// What it may do: its own role or that of its user.
    pub role: Role,
    /// Whether it may be used.
    pub status: ServiceStatus,
    /// Whether it counts now: it is active, and so are its user and its tenant, if it has them.
    pub is_active: bool,
    /// When its password was set; `None`: it has none.
    pub password_set_at: Option<OffsetDateTime>,
    /// Since when a second factor is needed; `None`: it is not.
    pub second_factor_at: Option<OffsetDateTime>,
    /// When it was signed in to last.
    pub last_sign_in_at: Option<OffsetDateTime>,
    /// Raised by each change.
    pub version: Version,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub updated_at: OffsetDateTime,
}

/// What an account is created from.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// As of [`Account`].
    pub login: Login,
    /// As of [`Account`].
    pub name: DisplayName,
    /// As of [`Account`].
    pub seat: Seat,
}

/// A partial change of an account.
#[derive(Clone, Debug, Default)]
pub struct AccountPatch {
    /// As of [`Account`].
    pub login: Option<Login>,
    /// As of [`Account`].
    pub name: Option<DisplayName>,
    /// As of [`Account`].
    pub status: Option<ServiceStatus>,
    /// Of an account that is no user's.
    pub role: Option<Role>,
    /// Likewise.
    pub tenant: Option<TenantId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_plain_and_small() {
        for (text, login) in [
            ("Ann.Meier@Example.org", "ann.meier@example.org"),
            ("1000", "1000"),
            ("a+b_c-d", "a+b_c-d"),
            (&"a".repeat(254), &"a".repeat(254)),
        ] {
            assert_eq!(text.parse::<Login>().unwrap().as_str(), login);
        }
        for bad in [
            "",
            "a",
            " ann",
            "ann ",
            ".ann",
            "@ann",
            "-ann",
            "an n",
            "änn",
            "ann\n",
            "a\0",
            "a/b",
            "a'b",
            &"a".repeat(255),
        ] {
            assert_eq!(
                bad.parse::<Login>().unwrap_err().code,
                "malformed",
                "{bad:?}"
            );
        }
    }

    #[test]
    fn seats_follow_from_role_and_tenant() {
        let tenant = TenantId(uuid::Uuid::nil());
        let user = UserId(uuid::Uuid::nil());
        assert_eq!(Seat::new(Role::PlatformAdmin, None), Ok(Seat::Platform));
        for role in [Role::Operator, Role::TenantAdmin] {
            let seat = Seat::new(role, Some(tenant)).unwrap();
            assert_eq!((seat.own_role(), seat.tenant()), (Some(role), Some(tenant)));
            assert_eq!(seat.reach(role), Reach::Tenant(tenant));
            assert_eq!(Seat::new(role, None).unwrap_err().code, "without_tenant");
        }
        let refused = Seat::new(Role::PlatformAdmin, Some(tenant)).unwrap_err();
        assert_eq!(refused.code, "with_tenant");
        assert!(Seat::new(Role::User, Some(tenant)).is_err());
        let seat = Seat::User(tenant, user);
        assert_eq!(seat.reach(Role::User), Reach::Own(tenant, user));
        assert_eq!(seat.reach(Role::TenantAdmin), Reach::Tenant(tenant));
        assert_eq!(Seat::Platform.reach(Role::PlatformAdmin), Reach::Everything);
    }
}
