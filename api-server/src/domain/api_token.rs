//! API tokens: what programs come with in place of a session.

use std::collections::BTreeSet;

use time::{Duration, OffsetDateTime};

use super::{AccountId, Invalid, Permission, Role, Version, name};

pub use super::account::ApiTokenId;

/// How long a token counts at most.
pub const LIFE_MAX: Duration = Duration::days(366);

/// How many tokens an account has at most.
pub const TOKENS_MAX: i64 = 100;

/// An API token, without what is presented.
#[derive(Clone, Debug)]
pub struct ApiToken {
    /// Which.
    pub id: ApiTokenId,
    /// Whose.
    pub account: AccountId,
    /// What people call it.
    pub name: TokenName,
    /// What it may be used for, as far as the account may do that.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Until when it counts.
    pub expires_at: OffsetDateTime,
    /// When it was used last, to a minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// From where.
    pub last_used_address: Option<String>,
    /// Raised by each change.
    pub version: Version,
}

/// What an API token is created from.
#[derive(Clone, Debug)]
pub struct NewApiToken {
    /// As of [`ApiToken`].
    pub name: TokenName,
    /// As of [`ApiToken`].
    pub scopes: Scopes,
    /// As of [`ApiToken`].
    pub expires_at: OffsetDateTime,
}

name! {
    /// What people call an API token: one line, 1 to 60 characters, trimmed.
    TokenName, 60, 240, "must be at most 60 characters long"
}

/// Permissions that a token may use: at least one, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(BTreeSet<Permission>);

impl Scopes {
    /// The permissions of those names.
    ///
    /// # Errors
    /// One is unknown or stands twice, or there is none.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut scopes = BTreeSet::new();
        for name in names {
            if !scopes.insert(name.parse()?) {
                return Err(Invalid::new("duplicate", "must name no permission twice"));
            }
        }
        if scopes.is_empty() {
            return Err(Invalid::new("empty", "must name at least one permission"));
        }
        Ok(Self(scopes))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|permission| permission.name())
    }

    /// Whether a role holds all of them.
    pub fn are_held_by(&self, role: Role) -> bool {
        self.0.iter().all(|permission| permission.is_held_by(role))
    }

    /// The permissions.
    pub fn into_set(self) -> BTreeSet<Permission> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_set_of_known_permissions() {
        let scopes = Scopes::from_names(["users.write", "users.read"]).unwrap();
        assert_eq!(
            scopes.names().collect::<Vec<_>>(),
            ["users.read", "users.write"]
        );
        assert!(scopes.are_held_by(Role::TenantAdmin));
        assert!(!scopes.are_held_by(Role::Operator));
        for (bad, code) in [
            (&[][..], "empty"),
            (&["users.read", "users.read"], "duplicate"),
            (&["users.*"], "unknown_value"),
            (&["Users.Read"], "unknown_value"),
        ] {
            let refused = Scopes::from_names(bad.iter().copied()).unwrap_err();
            assert_eq!(refused.code, code, "{bad:?}");
        }
    }

    #[test]
    fn names_are_one_line() {
        assert_eq!(" CI ".parse::<TokenName>().unwrap().as_str(), "CI");
        for bad in ["", " ", "a\nb", "a\u{2028}b", &"a".repeat(61)] {
            assert!(bad.parse::<TokenName>().is_err(), "{bad:?}");
        }
    }
}
