//! What became of each line of an import.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Wish;
use super::columns::{Column, name_of};
use crate::domain::bulk::{FieldChange, Outcome};
use crate::domain::{ExtensionNumber, Permission};
use crate::http::error::{ApiError, Description, describe};
use crate::http::fields::FieldError;
use crate::services::Error;
use crate::services::bulk::Done;
use crate::services::denied::Denied;
use crate::services::devices::Credentials;

/// What an import did, or would do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportBody {
    /// `all_or_nothing` or `per_line`.
    #[schema(example = "all_or_nothing")]
    pub mode: String,
    /// `true`: nothing was done.
    pub preview: bool,
    /// How many lines became what.
    pub counts: ImportCountsBody,
    /// Each line that holds anything, in the order of the file.
    pub lines: Vec<ImportLineBody>,
}

/// How many lines became what.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ImportCountsBody {
    /// Something new.
    pub created: u64,
    /// What was otherwise before.
    pub changed: u64,
    /// What was so already.
    pub unchanged: u64,
    /// Nothing; the line says why.
    pub refused: u64,
}

/// What became of a line.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportLineBody {
    /// Where it begins in the file, the first line being 1.
    pub line: u64,
    /// `created`, `changed`, `unchanged` or `refused`.
    #[schema(example = "created")]
    pub outcome: String,
    /// Which user or device; null when there is none, as of what a preview would create.
    pub id: Option<Uuid>,
    /// The address of the user; that of the owner and the label of a device. Null when the line does not
    /// say it.
    #[schema(example = "ann@example.com")]
    pub key: Option<String>,
    /// The user's number, also the one that it would get.
    pub extension: Option<u32>,
    /// What was changed of what was there.
    pub changes: Vec<ChangedFieldBody>,
    /// Why it was refused.
    pub errors: Vec<LineErrorBody>,
    /// What a phone registers with that was created. The password is shown this once.
    pub sip: Option<CreatedAccountBody>,
}

/// A field that became something else.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangedFieldBody {
    /// The name of the column or field.
    #[schema(example = "name")]
    pub field: String,
    /// What it was.
    pub before: Value,
    /// What it is.
    pub after: Value,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineErrorBody {
    /// The name of the column or field that is to be mended.
    #[schema(example = "email")]
    pub field: String,
    /// For programs.
    #[schema(example = "email_taken")]
    pub code: String,
    /// For people.
    pub message: String,
}

/// What a device that was created registers with.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedAccountBody {
    /// The device.
    pub device_id: Uuid,
    /// What it registers as.
    #[schema(example = "1000")]
    pub username: String,
    /// Its password.
    pub password: String,
    /// The realm of the password.
    pub realm: String,
}

impl std::fmt::Debug for CreatedAccountBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreatedAccountBody({}, …)", self.username)
    }
}

impl CreatedAccountBody {
    /// Of what was created; nothing of what was undone again.
    pub(in crate::http) fn of(made: &Credentials, preview: bool) -> Option<Self> {
        let password = made.password.as_ref().filter(|_| !preview)?;
        Some(Self {
            device_id: made.device.id.0,
            username: made.device.endpoint_name().to_string(),
            password: password.expose().to_owned(),
            realm: made.realm.as_str().to_owned(),
        })
    }
}

/// The changes of something; its fields may be called like the columns of a table.
pub(in crate::http) fn changes(
    changes: Vec<FieldChange>,
    columns: &'static [Column],
) -> Vec<ChangedFieldBody> {
    let change = |FieldChange {
                      field,
                      before,
                      after,
                  }| ChangedFieldBody {
        field: name_of(columns, &field).to_owned(),
        before,
        after,
    };
    changes.into_iter().map(change).collect()
}

impl LineErrorBody {
    /// What was wrong with a field.
    pub(in crate::http) fn of_field(error: FieldError, columns: &'static [Column]) -> Self {
        Self {
            field: name_of(columns, &error.field).to_owned(),
            code: error.code.into(),
            message: error.message.into(),
        }
    }

    /// What a service refused.
    pub(in crate::http) fn of(error: Error, columns: &'static [Column]) -> Self {
        if let Error::InvalidField { field, reason } = error {
            return Self::of_field(FieldError::new(field, reason), columns);
        }
        let field = match &error {
            Error::EmailTaken => "email",
            Error::ExtensionTaken | Error::ExtensionPoolExhausted { .. } => "extension",
            Error::Denied(Denied::Forbidden(Permission::TenantsWrite)) => "tenant",
            Error::Denied(Denied::Forbidden(Permission::AccountsWrite) | Denied::RoleAboveOwn)
            | Error::Account(_) => "role",
            Error::TooManyDevices => "user_email",
            Error::RangeInUse | Error::DefaultTenantFixed => "ext_min",
            _ => "id",
        };
        let Description(_, code, _, detail) = describe(&ApiError::Service(error));
        Self {
            field: field.to_owned(),
            code: code.to_owned(),
            message: detail,
        }
    }
}

impl ImportLineBody {
    /// A line that was refused.
    pub(in crate::http) fn refused(
        line: u64,
        key: Option<String>,
        errors: Vec<LineErrorBody>,
    ) -> Self {
        Self {
            line,
            outcome: "refused".to_owned(),
            id: None,
            key,
            extension: None,
            changes: Vec::new(),
            errors,
            sip: None,
        }
    }

    /// A line that was done, or would be, or was `undone` again.
    pub(in crate::http) fn done(
        line: u64,
        done: Done,
        columns: &'static [Column],
        undone: bool,
    ) -> Self {
        let real = !(undone && done.outcome == Outcome::Created);
        let made = done.credentials.as_ref();
        Self {
            line,
            outcome: done.outcome.name().to_owned(),
            id: real.then_some(done.id),
            key: Some(done.key),
            extension: done.extension.map(ExtensionNumber::get),
            sip: made.and_then(|made| CreatedAccountBody::of(made, undone)),
            changes: match done.outcome {
                Outcome::Changed => changes(done.changes, columns),
                // The line says it.
                Outcome::Created | Outcome::Unchanged | Outcome::Deleted => Vec::new(),
            },
            errors: Vec::new(),
        }
    }
}

impl ImportBody {
    /// Of all lines.
    pub(in crate::http) fn of(wish: Wish, lines: Vec<ImportLineBody>) -> Self {
        let mut counts = ImportCountsBody::default();
        for line in &lines {
            let count = match line.outcome.as_str() {
                "created" => &mut counts.created,
                "changed" => &mut counts.changed,
                "unchanged" => &mut counts.unchanged,
                _ => &mut counts.refused,
            };
            *count += 1;
        }
        let mode = if wish.per_line {
            "per_line"
        } else {
            "all_or_nothing"
        };
        Self {
            mode: mode.to_owned(),
            preview: wish.preview,
            counts,
            lines,
        }
    }
}
