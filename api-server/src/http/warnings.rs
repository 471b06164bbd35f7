//! Something that an administrator should look at, with a code for programs.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::status::Warning;

/// Something that an administrator should look at.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WarningBody {
    /// For programs. `pbx_in_doubt`: an apply ended in a way that leaves open what Asterisk holds.
    /// `database_differs`: an earlier revision was restored, and the database says something else.
    /// `safe_mode`: the agent touches nothing. `not_proven`: what is live was never proven.
    /// `drift`: managed files are not what was applied. `foreign_file`: Asterisk includes a file
    /// that is not managed. `link_certificate`: a certificate or revocation list of the portal ends
    /// soon or cannot be used. `agent_unreachable`: of a preview only. `pbx_unavailable`: one of several PBXes cannot be worked
    /// with now. `agent`: whatever else the agent has to say.
    #[schema(value_type = String, example = "pbx_in_doubt")]
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
}

impl From<Warning> for WarningBody {
    fn from(warning: Warning) -> Self {
        Self {
            code: warning.code.into(),
            message: warning.message,
        }
    }
}
