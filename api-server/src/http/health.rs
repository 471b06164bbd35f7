//! `/health`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::By;
use super::openapi::PanicProblem;
use super::warnings::WarningBody;
use crate::domain::{Permission, Reach};
use crate::services::Portal;
use crate::services::health::{Check, PbxCheck, Readiness, readiness};

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LiveBody {
    /// Always `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
    /// The portal's version.
    #[schema(value_type = String, example = "0.1.0")]
    version: &'static str,
}

/// Whether the portal can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReadyBody {
    /// `ready` or `not_ready`.
    #[schema(value_type = String, example = "ready")]
    status: &'static str,
    /// PostgreSQL.
    database: CheckBody,
    /// The agent on the PBX host; of several PBXes, whether any agent answers.
    agent: CheckBody,
    /// Asterisk, as the agent sees it; of several PBXes, whether it works on any.
    asterisk: CheckBody,
    /// Each PBX, by name. One of several that does not work is a warning and leaves the status as it
    /// is. Empty for whoever is not told details.
    pbxes: Vec<PbxCheckBody>,
    /// What an administrator should look at although all of it works. Doubt about what is in force
    /// on the PBX stands here and leaves the status as it is: the portal is what it is mended with.
    /// Empty for whoever is not told details.
    warnings: Vec<WarningBody>,
}

/// One thing that the portal needs.
#[derive(Debug, Serialize, ToSchema)]
struct CheckBody {
    ok: bool,
    /// `withheld` for whoever is not told details.
    detail: String,
}

impl From<Readiness> for ReadyBody {
    fn from(readiness: Readiness) -> Self {
        let (pbxes, warnings) = (readiness.pbxes.iter(), readiness.warnings.iter());
        Self {
            status: if readiness.ok() { "ready" } else { "not_ready" },
            agent: readiness.agent().into(),
            asterisk: readiness.asterisk().into(),
            pbxes: pbxes.cloned().map(PbxCheckBody::from).collect(),
            warnings: warnings.cloned().map(WarningBody::from).collect(),
            database: readiness.database.into(),
        }
    }
}

impl ReadyBody {
    /// What a supervisor needs, without names, addresses and versions.
    fn in_short(mut self) -> Self {
        for check in [&mut self.database, &mut self.agent, &mut self.asterisk] {
            "withheld".clone_into(&mut check.detail);
        }
        self.pbxes.clear();
        self.warnings.clear();
        self
    }
}

/// A PBX.
#[derive(Debug, Serialize, ToSchema)]
struct PbxCheckBody {
    id: Uuid,
    #[schema(example = "default")]
    name: String,
    /// The agent on its host.
    agent: CheckBody,
    /// Asterisk, as the agent sees it.
    asterisk: CheckBody,
}

impl From<PbxCheck> for PbxCheckBody {
    fn from(pbx: PbxCheck) -> Self {
        Self {
            id: pbx.id.0,
            name: pbx.name.to_string(),
            agent: pbx.agent.into(),
            asterisk: pbx.asterisk.into(),
        }
    }
}

impl From<Check> for CheckBody {
    fn from(check: Check) -> Self {
        Self {
            ok: check.ok,
            detail: check.detail,
        }
    }
}

/// Whether the process answers
#[utoipa::path(
    get, path = "/health/live", tag = "health", operation_id = "live",
    responses((status = 200, description = "It does", body = LiveBody), PanicProblem)
)]
pub(super) async fn live() -> Json<LiveBody> {
    Json(LiveBody {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Whether the portal can do its work
///
/// The database, and of each PBX the agent and Asterisk, each by itself. The database and one PBX
/// are enough. Warnings do not change the status. Details are told to whoever has signed in as
/// somebody who may see the whole portal; an API token with `diagnostics.run` suffices.
#[utoipa::path(
    get, path = "/health/ready", tag = "health", operation_id = "ready",
    responses(
        (status = 200, description = "All of it works", body = ReadyBody),
        (status = 503, description = "Something does not", body = ReadyBody),
        PanicProblem,
    )
)]
pub(super) async fn ready(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
) -> (StatusCode, Json<ReadyBody>) {
    let readiness = readiness(&portal).await;
    let status = if readiness.ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = ReadyBody::from(readiness);
    let in_full = actor.reach() == Reach::Everything && actor.may(Permission::Diagnostics);
    (status, Json(if in_full { body } else { body.in_short() }))
}
