//! Who asks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use shared::telemetry::TraceContext;

use super::account::{ApiTokenId, Login, SessionId};
use super::{AccountId, Invalid, Permission, Reach, Role, legible};

/// The name in the audit trail of whoever asks in a trusted network without giving one.
const TRUSTED_NETWORK: &str = "trusted-network";

/// The name in the audit trail of whoever runs the portal's commands on its host.
const COMMAND_LINE: &str = "command-line";

/// The name in the audit trail of somebody who is not signed in.
const UNKNOWN: &str = "unknown";

/// Who asks (FR-013): the login of an account, or in trusted-network mode whoever the header names,
/// without proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUser(String);

impl AdminUser {
    /// Whoever reaches the portal in a trusted network.
    pub fn trusted_network() -> Self {
        Self(TRUSTED_NETWORK.to_owned())
    }

    /// Whoever runs the portal's commands on its host.
    pub fn command_line() -> Self {
        Self(COMMAND_LINE.to_owned())
    }

    /// Whose login that is.
    pub fn of_login(login: &Login) -> Self {
        Self(login.as_str().to_owned())
    }

    /// Somebody who is not signed in.
    pub fn unknown() -> Self {
        Self(UNKNOWN.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AdminUser {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if text.chars().count() > 100 || legible(text).is_err() {
            Err(Invalid::new(
                "malformed",
                "the name of an administrator is 1 to 100 printable characters",
            ))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// What tells actors apart: their idempotency keys, for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorKey(String);

impl ActorKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id under which a request stands in logs, replies and the audit trail, and its place in the
/// trace that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    text: String,
    trace: Option<TraceContext>,
}

impl RequestId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The span of the request.
    pub const fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// With the span of the request.
    #[must_use]
    pub fn in_trace(self, trace: TraceContext) -> Self {
        let trace = Some(trace);
        Self { trace, ..self }
    }

    const fn new(text: String) -> Self {
        let trace = None;
        Self { text, trace }
    }
}

impl FromStr for RequestId {
    type Err = Invalid;

    /// 1 to 64 of `[A-Za-z0-9._-]`, so that a caller's own id cannot forge log lines.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self::new(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "a request id is 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'",
            ))
        }
    }
}

impl From<uuid::Uuid> for RequestId {
    fn from(id: uuid::Uuid) -> Self {
        Self::new(id.to_string())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// By what somebody is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A session, by access token or cookie.
    Session(SessionId),
    /// An API token with the permissions that it may use.
    ApiToken(ApiTokenId, BTreeSet<Permission>),
}

/// Somebody who has shown who it is. Looked up with each request.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Whose account it is.
    pub account: AccountId,
    /// Its login.
    pub login: AdminUser,
    /// What it may do.
    pub role: Role,
    /// How far.
    pub reach: Reach,
    /// By what it is known.
    pub credential: Credential,
}

/// Who somebody is to the portal.
#[derive(Clone, Debug)]
pub enum Principal {
    /// Whoever reaches the address, in trusted-network mode: it may do everything.
    TrustedNetwork,
    /// Whoever runs the portal's commands on its host, and so has its keys: it may do everything.
    CommandLine,
    /// Nobody that is known: whoever signs in.
    Unknown,
    /// An account.
    Account(SignedIn),
}

/// Who asked for something, from where, under which request.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The name: of the administrator, or what stands for it.
    pub admin: AdminUser,
    /// Who that is.
    pub principal: Principal,
    /// The request.
    pub request_id: RequestId,
    /// The peer of the TCP connection, or the client that a proxy names.
    pub source: IpAddr,
}

impl Actor {
    /// Whoever runs a command of the portal on its host.
    pub fn command_line(request_id: RequestId) -> Self {
        Self {
            admin: AdminUser::command_line(),
            principal: Principal::CommandLine,
            request_id,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// Whether it holds a permission, within its reach.
    pub fn may(&self, permission: Permission) -> bool {
        match &self.principal {
            Principal::TrustedNetwork | Principal::CommandLine => true,
            Principal::Unknown => false,
            Principal::Account(known) => {
                let within = match &known.credential {
                    Credential::Session(_) => true,
                    Credential::ApiToken(_, scopes) => scopes.contains(&permission),
                };
                within && permission.is_held_by(known.role)
            }
        }
    }

    /// The role up to which it gives roles.
    pub const fn role(&self) -> Option<Role> {
        match &self.principal {
            Principal::TrustedNetwork | Principal::CommandLine => Some(Role::PlatformAdmin),
            Principal::Unknown => None,
            Principal::Account(known) => Some(known.role),
        }
    }

    /// Whether it has signed in, and does not come with an API token.
    pub fn has_session(&self) -> bool {
        self.account()
            .is_some_and(|known| matches!(known.credential, Credential::Session(_)))
    }

    /// How far it sees.
    pub const fn reach(&self) -> Reach {
        match &self.principal {
            Principal::TrustedNetwork | Principal::CommandLine => Reach::Everything,
            Principal::Unknown => Reach::Nothing,
            Principal::Account(known) => known.reach,
        }
    }

    /// The account, if it is one.
    pub const fn account(&self) -> Option<&SignedIn> {
        match &self.principal {
            Principal::TrustedNetwork | Principal::CommandLine | Principal::Unknown => None,
            Principal::Account(known) => Some(known),
        }
    }

    /// What tells it from everybody else, also when its login is somebody else's later.
    pub fn key(&self) -> ActorKey {
        ActorKey(match &self.principal {
            Principal::TrustedNetwork | Principal::CommandLine | Principal::Unknown => {
                self.admin.as_str().to_owned()
            }
            Principal::Account(known) => format!("account:{}", known.account),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_request_ids_cannot_forge_a_line() {
        assert_eq!(" Ann Ö. ".parse::<AdminUser>().unwrap().as_str(), "Ann Ö.");
        for bad in ["", "  ", "a\nb", "a\u{85}b", "a\u{2028}b", &"a".repeat(101)] {
            assert!(bad.parse::<AdminUser>().is_err(), "{bad:?}");
        }
        assert!("a-Z_0.9".parse::<RequestId>().is_ok());
        for bad in ["", "a b", "a\n", "é", &"a".repeat(65)] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?}");
        }
    }
}
