//! `/apply/preview`.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::status::RegisteredPhone;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::changes::{CountsBody, ObjectChangeBody, RestoredFromBody, UserChangeBody};
use super::error::{ApiError, Problem};
use super::extract::{AsSeen, By};
use super::openapi::QueryProblems;
use super::query::{Query, pbx};
use super::warnings::WarningBody;
use crate::domain::revision::InForce;
use crate::domain::tenant::TenantBrief;
use crate::services::pbxes::{self, Pbx};
use crate::services::preview::{self, Difference, FileDifference, Finding, Preview};
use crate::services::{Portal, viewer};

/// Longest list of an answer: objects, users, phones, findings. Counts are of all.
const LIST_MAX: usize = 500;

/// What an apply would do. Whoever is confined to a tenant is told of users, objects and phones its
/// own; a text that is withheld says so.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PreviewBody {
    pub pbx_id: Uuid,
    #[schema(example = "default")]
    pub pbx: String,
    /// Whether nothing would keep an apply from succeeding, as far as that can be known before;
    /// `check` says what was looked at. Null when the agent, which must look as well, did not.
    pub would_apply: Option<bool>,
    /// Whether what the database says is in force already.
    pub changes_nothing: bool,
    /// SHA-256 of the bundle: an apply with this as its `expected_digest` does what is shown here,
    /// or nothing. Null when what the database says can be no bundle.
    pub digest: Option<String>,
    /// How many users it holds.
    pub user_count: Option<usize>,
    /// What it was compared with; null when nothing was ever proven.
    pub compared_with: Option<ComparedWithBody>,
    /// What would change; null when there is no bundle, or the two cannot be compared.
    pub changes: Option<DifferenceBody>,
    /// Why the two cannot be compared. Withheld from whoever is confined to a tenant.
    pub changes_unknown: Option<String>,
    /// What would keep the bundle from coming into force; the first 500.
    pub findings: Vec<FindingBody>,
    /// How many findings there are.
    pub finding_count: usize,
    /// What the agent looked at.
    pub check: AgentCheckBody,
    /// What an administrator should know besides. Withheld from whoever is confined to a tenant: that
    /// there is something is told.
    pub notes: Vec<String>,
    /// What an administrator should look at before: `drift` names each managed file that somebody
    /// else has changed, and that an apply overwrites; `agent_unreachable`: what the agent would
    /// have to say is not known. Whoever is confined to a tenant is told each code once.
    pub warnings: Vec<WarningBody>,
}

/// The revision that was proven last.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ComparedWithBody {
    pub apply_id: Uuid,
    #[schema(example = 7)]
    pub revision: u64,
    pub digest: String,
    /// Withheld from whoever is confined to a tenant, unless it was somebody of that tenant.
    pub requested_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub proven_at: OffsetDateTime,
    /// False when a later apply leaves open what is in force: by how it ended, or because it has
    /// not ended yet.
    pub certain: bool,
    /// Whose bundle it is, when it was brought back.
    pub restored_from: Option<RestoredFromBody>,
}

/// Something that would keep the bundle from coming into force.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FindingBody {
    /// `data`: what the database holds. `text`: what was rendered. `surroundings`: what lies beside
    /// the files on the PBX host. `preflight`: a throw-away Asterisk. `agent`: nothing can be applied
    /// now, because the agent is in safe mode or Asterisk does not answer.
    #[schema(value_type = String, example = "text")]
    pub source: Cow<'static, str>,
    /// The file, if it concerns one.
    #[schema(value_type = Option<String>, example = "pjsip_endpoints")]
    pub slot: Option<Cow<'static, str>>,
    /// From 1; 0 where it concerns the whole.
    pub line: u32,
    /// Withheld from whoever is confined to a tenant.
    pub message: String,
}

/// What the agent looked at.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentCheckBody {
    /// Whether the agent checked the bundle.
    pub by_agent: bool,
    /// Whether a throw-away Asterisk read it.
    pub preflight_ran: bool,
    /// What happened, or why it did not. Withheld from whoever is confined to a tenant.
    pub detail: String,
}

/// What would change.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DifferenceBody {
    /// The generation markers, which change with everything, are left out.
    pub objects: ObjectChangesBody,
    pub users: UserChangesBody,
    /// Whose users these are.
    pub tenants: Vec<TenantOfPreviewBody>,
    /// Empty for whoever is confined to a tenant: they hold the lines of all.
    pub files: Vec<FileDifferenceBody>,
    /// The phones that are registered at an object that changes or goes; null when that is not
    /// known.
    pub phones: Option<PhonesBody>,
    /// Why it is not known. Withheld from whoever is confined to a tenant.
    pub phones_unknown: Option<String>,
}

/// Endpoints, auths, AORs and dialplan extensions that differ.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ObjectChangesBody {
    pub counts: CountsBody,
    /// By name; the first 500.
    pub list: Vec<ObjectChangeBody>,
    /// Whether some were left off the list.
    pub truncated: bool,
}

/// Users that differ.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserChangesBody {
    pub counts: CountsBody,
    /// By extension; the first 500.
    pub list: Vec<UserChangeBody>,
    /// Whether some were left off the list.
    pub truncated: bool,
}

/// A tenant.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TenantOfPreviewBody {
    pub id: Uuid,
    #[schema(example = "default")]
    pub name: String,
}

/// What would change in a file.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FileDifferenceBody {
    #[schema(value_type = String, example = "pjsip_endpoints")]
    pub slot: Cow<'static, str>,
    /// Below Asterisk's configuration directory.
    #[schema(value_type = String, example = "pjsip.d/synergycall/generated_endpoints.conf")]
    pub path: Cow<'static, str>,
    /// Null when there is none in force.
    pub old_size: Option<u64>,
    pub old_sha256: Option<String>,
    pub new_size: Option<u64>,
    pub new_sha256: Option<String>,
    /// How many lines are new; all of them.
    pub lines_added: usize,
    /// How many lines go; all of them.
    pub lines_removed: usize,
    /// A unified diff of at most 64 KiB; empty when nothing changes. Secrets read `<secret>`, and
    /// `<secret, changed>` when they change. `synergy-generation` is the mark of the bundle, which
    /// changes with everything.
    pub diff: String,
    /// Whether lines were left off the end of the diff.
    pub truncated: bool,
}

/// Registered phones.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PhonesBody {
    pub count: usize,
    /// The first 500.
    pub list: Vec<PhoneBody>,
    /// Whether some were left off the list.
    pub truncated: bool,
}

/// A registered phone.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PhoneBody {
    /// Where it is registered.
    #[schema(example = "1000")]
    pub aor: String,
    /// Its contact address.
    pub uri: String,
    /// What it calls itself; empty when it did not say.
    pub user_agent: String,
}

/// The head of a list, each item as its body, and whether more was there.
fn head<T, B: From<T>>(items: Vec<T>) -> (Vec<B>, bool) {
    let truncated = items.len() > LIST_MAX;
    let head = items.into_iter().take(LIST_MAX).map(B::from);
    (head.collect(), truncated)
}

impl PreviewBody {
    fn read(pbx: &Pbx, preview: Preview) -> Self {
        let (would_apply, changes_nothing) = (preview.would_apply(), preview.changes_nothing());
        let (changes, changes_unknown) = match preview.difference {
            None => (None, None),
            Some(Ok(difference)) => (Some(difference.into()), None),
            Some(Err(reason)) => (None, Some(reason)),
        };
        let check = match preview.checked {
            Ok(checked) => AgentCheckBody {
                by_agent: true,
                preflight_ran: checked.preflight_ran,
                detail: checked.preflight,
            },
            Err(detail) => AgentCheckBody {
                by_agent: false,
                preflight_ran: false,
                detail,
            },
        };
        let wanted = preview.wanted.as_ref();
        let finding_count = preview.findings.len();
        Self {
            pbx_id: pbx.id.0,
            pbx: pbx.name().to_string(),
            would_apply,
            changes_nothing,
            digest: wanted.map(|wanted| wanted.digest.to_string()),
            user_count: wanted.map(|wanted| wanted.user_counts.total()),
            compared_with: preview.in_force.map(ComparedWithBody::from),
            changes,
            changes_unknown,
            findings: head(preview.findings).0,
            finding_count,
            check,
            notes: preview.notes,
            warnings: head(preview.warnings).0,
        }
    }
}

impl From<InForce> for ComparedWithBody {
    fn from(in_force: InForce) -> Self {
        Self {
            apply_id: in_force.apply_id.0,
            revision: in_force.revision.0,
            digest: in_force.digest.to_string(),
            requested_by: in_force.requested_by,
            proven_at: in_force.proven_at,
            certain: in_force.doubt.is_none(),
            restored_from: in_force.restored_from.map(RestoredFromBody::from),
        }
    }
}

impl From<Finding> for FindingBody {
    fn from(finding: Finding) -> Self {
        Self {
            source: finding.source.into(),
            slot: finding.slot.map(|slot| slot.name().into()),
            line: finding.line,
            message: finding.message,
        }
    }
}

impl From<Difference> for DifferenceBody {
    fn from(difference: Difference) -> Self {
        let object_counts = difference.changes.object_counts().into();
        let user_counts = difference.changes.user_counts().into();
        let (objects, objects_truncated) = head(difference.changes.objects);
        let (users, users_truncated) = head(difference.changes.users);
        let (phones, phones_unknown) = match difference.phones {
            Ok(phones) => (Some(PhonesBody::from(phones)), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            objects: ObjectChangesBody {
                counts: object_counts,
                list: objects,
                truncated: objects_truncated,
            },
            users: UserChangesBody {
                counts: user_counts,
                list: users,
                truncated: users_truncated,
            },
            tenants: head(difference.tenants).0,
            files: head(difference.files).0,
            phones,
            phones_unknown,
        }
    }
}

impl From<TenantBrief> for TenantOfPreviewBody {
    fn from(tenant: TenantBrief) -> Self {
        Self {
            id: tenant.id.0,
            name: tenant.name,
        }
    }
}

impl From<FileDifference> for FileDifferenceBody {
    fn from(file: FileDifference) -> Self {
        Self {
            slot: file.slot.name().into(),
            path: file.slot.relative_path().into(),
            old_size: file.old.map(|old| old.size),
            old_sha256: file.old.map(|old| old.sha256.to_string()),
            new_size: file.new.map(|new| new.size),
            new_sha256: file.new.map(|new| new.sha256.to_string()),
            lines_added: file.diff.added,
            lines_removed: file.diff.removed,
            diff: file.diff.text,
            truncated: file.diff.truncated,
        }
    }
}

impl From<Vec<RegisteredPhone>> for PhonesBody {
    fn from(phones: Vec<RegisteredPhone>) -> Self {
        let count = phones.len();
        let (list, truncated) = head(phones);
        Self {
            count,
            list,
            truncated,
        }
    }
}

impl From<RegisteredPhone> for PhoneBody {
    fn from(phone: RegisteredPhone) -> Self {
        Self {
            aor: phone.aor,
            uri: phone.uri,
            user_agent: phone.user_agent,
        }
    }
}

/// Show what an apply of a PBX would do
///
/// Renders what the database says and compares it with what is in force. Nothing is written and no
/// apply is held up. What the agent does not say within 10 s is answered as not known. Counts are
/// always of all, lists and diffs have an end. Whoever is confined to a tenant sees the PBX of that
/// one.
#[utoipa::path(
    get, path = "/apply/preview", tag = "applies", operation_id = "preview_apply",
    params(
        ("pbx" = Option<String>, Query, description = "On the PBX of this id or name; the default one when absent"),
    ),
    responses(
        (status = 200, description = "What an apply would do; also when it could not be done",
            body = PreviewBody),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn show(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    AsSeen(viewer): AsSeen,
    Query(mut fields): Query,
) -> Result<Json<PreviewBody>, ApiError> {
    let pbx = fields.or_default("pbx", pbx);
    let pbx = fields.finish(pbx).map_err(ApiError::InvalidFields)?;
    let pbx = viewer::meant(&portal, viewer, pbx).await?;
    let pbx = pbxes::named_or_default(&portal, pbx.as_ref()).await?;
    let preview = preview::preview(&portal, viewer, &pbx, &actor.request_id).await?;
    Ok(Json(PreviewBody::read(&pbx, preview)))
}
