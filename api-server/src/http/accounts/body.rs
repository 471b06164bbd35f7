//! What an account looks like, and how the fields of one are read.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::account::{Account, AccountPatch};
use crate::domain::{DisplayName, Invalid, Login, Role, UserId};
use crate::http::fields::{FieldError, Fields, text};
use crate::http::texts::{LoginText, NameText};

/// What is shown and cannot be set.
const READ_ONLY: [&str; 8] = [
    "id",
    "tenant_id",
    "user_id",
    "second_factor",
    "password_set_at",
    "last_sign_in_at",
    "created_at",
    "updated_at",
];

/// Somebody who may sign in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountBody {
    pub id: Uuid,
    /// What is typed at sign-in.
    #[schema(example = "ann@example.org")]
    pub login: String,
    #[schema(example = "Ann Meier")]
    pub name: String,
    /// Null: of the whole portal.
    pub tenant_id: Option<Uuid>,
    /// Whose it is. Null: nobody's who has a number.
    pub user_id: Option<Uuid>,
    /// What it may do: `platform_admin`, `tenant_admin`, `operator` or `user`. That of the user, if it
    /// is one's.
    #[schema(value_type = String, example = "operator")]
    pub role: Cow<'static, str>,
    /// `active` or `suspended`. It counts only while its user and its tenant are active as well.
    #[schema(value_type = String, example = "active")]
    pub status: Cow<'static, str>,
    /// Whether a second factor is needed to sign in.
    pub second_factor: bool,
    /// Null: it has no password yet, and nobody signs in.
    #[serde(with = "time::serde::rfc3339::option")]
    pub password_set_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_sign_in_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

impl From<Account> for AccountBody {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.0,
            login: account.login.as_str().to_owned(),
            name: account.name.as_str().to_owned(),
            tenant_id: account.seat.tenant().map(|tenant| tenant.0),
            user_id: account.seat.user().map(|user| user.0),
            role: account.role.name().into(),
            status: account.status.name().into(),
            second_factor: account.second_factor_at.is_some(),
            password_set_at: account.password_set_at,
            last_sign_in_at: account.last_sign_in_at,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}

/// A role of an account that is no user's.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
pub(super) enum AccountRoleBody {
    PlatformAdmin,
    TenantAdmin,
    Operator,
}

/// Whether an account may be used.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it")]
pub(super) enum AccountStatusBody {
    Active,
    Suspended,
}

/// What an account is created from. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document shows it; `wanted` reads the fields")]
pub(super) struct NewAccountBody {
    /// What is typed at sign-in, unique in the whole portal.
    login: LoginText,
    /// Who that is, in words.
    name: NameText,
    /// Whose it is. Role and service status are the user's then. Null: nobody's who has a number.
    user_id: Option<Uuid>,
    /// Of an account that is no user's, which needs one. Nobody gives a role above its own.
    role: Option<AccountRoleBody>,
    /// Id or slug of the tenant; that of a tenant's administrator when absent. A platform administrator
    /// has none, everybody else needs one.
    #[schema(example = "default")]
    tenant: Option<String>,
}

/// What is changed of an account: only what is named. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `changes` reads the fields"
)]
pub(super) struct AccountPatchBody {
    /// As of a new account.
    #[schema(nullable = false)]
    login: Option<LoginText>,
    /// As of a new account.
    #[schema(nullable = false)]
    name: Option<NameText>,
    /// `suspended` ends its sessions.
    #[schema(nullable = false)]
    status: Option<AccountStatusBody>,
    /// Of an account that is no user's. Whoever comes to administer the platform leaves its tenant.
    #[schema(nullable = false)]
    role: Option<AccountRoleBody>,
    /// Id or slug of another tenant. Of an account that is no user's.
    #[schema(nullable = false)]
    tenant: Option<String>,
}

/// What somebody wants to create.
pub(super) struct Wanted {
    pub(super) login: Login,
    pub(super) name: DisplayName,
    pub(super) whose: Whose,
    pub(super) tenant: Option<TenantName>,
}

/// Whose an account is to be.
pub(super) enum Whose {
    User(UserId),
    Staff(Role),
}

/// Id or slug of a tenant, not yet looked at.
pub(super) struct TenantName(pub(super) String);

impl std::str::FromStr for TenantName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self(text.to_owned()))
    }
}

pub(super) fn wanted(mut fields: Fields) -> Result<Wanted, Vec<FieldError>> {
    let login = fields.required_text("login");
    let name = fields.required_text("name");
    let user = fields.optional("user_id", user_id);
    let role = fields.optional("role", text::<Role>);
    let tenant = fields.optional("tenant", text);
    let whose = match (user, role) {
        (Some(Some(_)), Some(Some(_))) => {
            fields.refuse("role", "not_wanted", "is that of the user: leave it out");
            None
        }
        (Some(Some(user)), Some(None)) => Some(Whose::User(user)),
        (Some(None), Some(Some(role))) => Some(Whose::Staff(role)),
        (Some(None), Some(None)) => {
            fields.refuse("role", "missing", "is required unless there is a user_id");
            None
        }
        (None, _) | (_, None) => None,
    };
    let wanted = (|| {
        Some(Wanted {
            login: login?,
            name: name?,
            whose: whose?,
            tenant: tenant?,
        })
    })();
    fields.finish(wanted)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn user_id(value: serde_json::Value) -> Result<UserId, Invalid> {
    let id = value.as_str().filter(|text| text.len() == 36);
    let id = id.and_then(|text| Uuid::try_parse(text).ok());
    id.map(UserId).ok_or(Invalid {
        code: "malformed",
        message: "must be the id of a user",
    })
}

pub(super) fn changes(
    mut fields: Fields,
) -> Result<(AccountPatch, Option<TenantName>), Vec<FieldError>> {
    fields.read_only(&READ_ONLY);
    let login = fields.patch("login", text);
    let name = fields.patch("name", text);
    let status = fields.patch("status", text);
    let role = fields.patch("role", text);
    let tenant = fields.patch("tenant", text);
    let changes = (|| {
        let patch = AccountPatch {
            login: login?,
            name: name?,
            status: status?,
            role: role?,
            tenant: None,
        };
        Some((patch, tenant?))
    })();
    fields.finish(changes)
}
