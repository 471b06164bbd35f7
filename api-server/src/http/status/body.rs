//! What `/apply/status` says of a PBX.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::status::ActiveRevision;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::status::{
    AgentView, AttemptBrief, Content, Drift, FileState, LastApplied, LinkCertificate, PbxState,
    Verdict, WantedFile,
};
use crate::http::applies::FailureBody;
use crate::http::pending::PendingBody;
use crate::http::warnings::WarningBody;
use crate::services::status::Status;

/// What is wanted, applied, on disk and loaded on a PBX. Whoever is confined to a tenant is told of
/// users and changes its own; a text that is withheld says so.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PbxStatusBody {
    pub id: Uuid,
    #[schema(example = "default")]
    pub name: String,
    /// Whether something is wrong; `reasons` says what.
    pub degraded: bool,
    /// In words; empty when nothing is wrong. Withheld from whoever is confined to a tenant, as are
    /// `wanted_problem`, `foreign_files` and `safe_mode`, and the agent's own words: that there is
    /// something is told.
    pub reasons: Vec<String>,
    /// What else an administrator should look at. Whoever is confined to a tenant is told each code
    /// once.
    pub warnings: Vec<WarningBody>,
    /// `reachable` or `unreachable`. When it is unreachable, only what the database knows is told.
    #[schema(value_type = String, example = "reachable")]
    pub agent: Cow<'static, str>,
    /// Why it is unreachable; its version otherwise.
    pub agent_detail: String,
    /// Null when the agent is unreachable.
    pub asterisk: Option<AsteriskBody>,
    /// Digest of the bundle that the database would have now; null when it cannot be rendered.
    pub wanted_digest: Option<String>,
    /// Why it cannot be rendered.
    pub wanted_problem: Option<String>,
    pub files: Vec<FileStatusBody>,
    pub pending: PendingBody,
    /// The last apply that began, whatever came of it. One that was refused before anything was sent
    /// (409, 412, data that can be no configuration) stands in `GET /applies` only.
    pub last_attempt: Option<AttemptBriefBody>,
    /// The attempt that was proven last.
    pub last_proven: Option<AttemptBriefBody>,
    /// What the agent says to have proven last.
    pub active: Option<ActiveBody>,
    /// The apply that runs; null when none does.
    pub running: Option<RunningBody>,
    /// Attempts whose outcome is not known yet, the oldest first.
    pub open: Vec<AttemptBriefBody>,
    /// How many applies wait for their turn without anybody waiting for them.
    pub queued: usize,
    /// How the files are watched; null when the agent does not say.
    pub drift: Option<DriftBody>,
    /// `*.conf` that are not managed, but that Asterisk includes.
    pub foreign_files: Vec<String>,
    /// Why the agent touches nothing; null when it works.
    pub safe_mode: Option<String>,
    pub certificates: Vec<CertificateBody>,
    /// What was counted since the portal and the agent started, by metric name. Empty for whoever
    /// is confined to a tenant.
    pub counters: BTreeMap<String, u64>,
}

/// Asterisk, as the agent sees it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AsteriskBody {
    pub answering: bool,
    /// Its version, or why it does not answer.
    pub detail: String,
}

/// A managed file.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FileStatusBody {
    #[schema(value_type = String, example = "pjsip_endpoints")]
    pub slot: Cow<'static, str>,
    /// Null when the agent does not say.
    pub path: Option<String>,
    #[schema(value_type = VerdictBody)]
    pub verdict: Cow<'static, str>,
    /// As the database would have it now; null when it cannot be rendered. Size and hash of a file
    /// tell of every tenant, so that whoever is confined to one gets null here and in `on_disk`, and in
    /// `last_applied`.
    pub wanted: Option<WantedBody>,
    /// What was put there last; null before the first apply.
    pub last_applied: Option<LastAppliedBody>,
    /// What lies there; null when nothing does, or it is not known.
    pub on_disk: Option<ContentBody>,
    /// Why it cannot be read.
    pub problem: Option<String>,
    /// What Asterisk has read of it; null when it shows nothing of it.
    pub loaded: Option<LoadedBody>,
    /// Why `loaded` is null; null when it is not.
    #[schema(value_type = Option<String>)]
    pub loaded_detail: Option<Cow<'static, str>>,
}

/// `in_sync`: wanted, applied, on disk and loaded are the same. `pending_changes`: the next apply
/// changes it. `drifted`: on disk is something else than what was applied. `not_loaded`: on disk is
/// what was applied, but Asterisk holds something else, or nothing of it. `unknown`: part of it is not known.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it; the domain has the names")]
enum VerdictBody {
    InSync,
    PendingChanges,
    Drifted,
    NotLoaded,
    Unknown,
}

/// The content of a file.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ContentBody {
    pub sha256: String,
    pub size: u64,
}

/// A file as the database would have it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WantedBody {
    pub sha256: String,
    pub size: u64,
    /// What its markers would carry.
    #[schema(example = "g-4bec415d2a4ff6af")]
    pub generation: String,
}

/// What was put in a file last.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LastAppliedBody {
    pub revision: u64,
    pub sha256: Option<String>,
    pub size: Option<u64>,
    /// The attempt that brought it; null, as the next two, when the database does not know it.
    pub apply_id: Option<Uuid>,
    pub requested_by: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub at: Option<OffsetDateTime>,
}

/// What the markers in Asterisk carry.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LoadedBody {
    /// Withheld from whoever is confined to a tenant.
    pub generation: String,
    /// The revision that has it; null when the agent does not know it any more.
    pub revision: Option<u64>,
}

/// An attempt in short.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptBriefBody {
    pub id: Uuid,
    /// As in `GET /applies/{id}`.
    #[schema(value_type = String, example = "applied")]
    pub outcome: Cow<'static, str>,
    pub revision: Option<u64>,
    /// Withheld from whoever is confined to a tenant, unless it was somebody of that tenant.
    pub requested_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    pub failure: Option<FailureBody>,
}

/// The apply that runs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RunningBody {
    pub id: Uuid,
    /// Who asked for it; null, as the next, when the database does not know it.
    pub requested_by: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
}

/// What was proven last.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ActiveBody {
    pub revision: u64,
    pub digest: String,
    pub apply_id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    pub proven_at: OffsetDateTime,
}

/// How the live files are watched.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DriftBody {
    /// How often they are hashed.
    pub period_seconds: f64,
    /// When they were hashed last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub checked_at: Option<OffsetDateTime>,
    /// Since when they are not what was applied; null while they are.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
}

/// A certificate or revocation list of the link.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificateBody {
    /// Where it lies: `portal` or `agent`.
    #[schema(value_type = String, example = "agent")]
    pub end: Cow<'static, str>,
    #[schema(example = "agent certificate")]
    pub name: String,
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
}

impl From<Status> for PbxStatusBody {
    fn from((state, pending): Status) -> Self {
        let running = running(&state);
        let (agent, agent_detail, view) = match state.agent {
            Ok(view) => ("reachable", format!("version {}", view.version), Some(view)),
            Err(reason) => ("unreachable", reason, None),
        };
        let (wanted, wanted_problem) = match state.wanted {
            Ok(wanted) => (Some(wanted), None),
            Err(reason) => (None, Some(reason)),
        };
        let told = view.as_ref();
        Self {
            id: state.id.0,
            name: state.name.to_string(),
            degraded: !state.reasons.is_empty(),
            reasons: state.reasons,
            warnings: state.warnings.into_iter().map(WarningBody::from).collect(),
            agent: agent.into(),
            agent_detail,
            asterisk: told.map(AsteriskBody::from),
            wanted_digest: wanted.map(|wanted| wanted.digest.to_string()),
            wanted_problem,
            files: state.files.into_iter().map(FileStatusBody::from).collect(),
            pending: pending.into(),
            last_attempt: state.last_attempt.map(AttemptBriefBody::from),
            last_proven: state.last_proven.map(AttemptBriefBody::from),
            active: told.and_then(|view| view.active.map(ActiveBody::from)),
            running,
            open: state.open.into_iter().map(AttemptBriefBody::from).collect(),
            queued: state.queued,
            drift: told.and_then(|view| view.drift.map(DriftBody::from)),
            safe_mode: told.and_then(|view| view.safe_mode.clone()),
            foreign_files: view.map(|view| view.foreign_files).unwrap_or_default(),
            certificates: state
                .certificates
                .into_iter()
                .map(CertificateBody::from)
                .collect(),
            counters: state.counters,
        }
    }
}

/// What the agent runs, with what the database knows of it.
fn running(state: &PbxState) -> Option<RunningBody> {
    let id = state.agent.as_ref().ok()?.running?;
    let attempt = state.open.iter().find(|attempt| attempt.id == id);
    Some(RunningBody {
        id: id.0,
        requested_by: attempt.map(|attempt| attempt.requested_by.clone()),
        since: attempt.map(|attempt| attempt.started_at),
    })
}

impl From<&AgentView> for AsteriskBody {
    fn from(view: &AgentView) -> Self {
        Self {
            answering: view.asterisk_answering,
            detail: view.asterisk_detail.clone(),
        }
    }
}

impl From<(FileState, Verdict)> for FileStatusBody {
    fn from((file, verdict): (FileState, Verdict)) -> Self {
        Self {
            loaded_detail: loaded_detail(&file).map(Cow::from),
            slot: file.slot.name().into(),
            path: file.path,
            verdict: verdict.name().into(),
            wanted: file.wanted.map(WantedBody::from),
            last_applied: file.last_applied.map(LastAppliedBody::from),
            on_disk: file.on_disk.map(ContentBody::from),
            problem: file.problem,
            loaded: file.loaded.map(|loaded| LoadedBody {
                generation: loaded.generation,
                revision: loaded.revision.map(|revision| revision.0),
            }),
        }
    }
}

fn loaded_detail(file: &FileState) -> Option<&'static str> {
    let detail = match file.asterisk_answers {
        None => "the agent does not say",
        Some(false) => "Asterisk does not answer",
        Some(true) => {
            "Asterisk shows no mark of this file: it holds nothing of it, or did not say in time"
        }
    };
    file.loaded.is_none().then_some(detail)
}

impl From<Content> for ContentBody {
    fn from(content: Content) -> Self {
        Self {
            sha256: content.sha256.to_string(),
            size: content.size,
        }
    }
}

impl From<WantedFile> for WantedBody {
    fn from(file: WantedFile) -> Self {
        Self {
            sha256: file.content.sha256.to_string(),
            size: file.content.size,
            generation: file.generation,
        }
    }
}

impl From<LastApplied> for LastAppliedBody {
    fn from(last: LastApplied) -> Self {
        let attempt = last.attempt;
        Self {
            revision: last.revision.0,
            sha256: last.content.map(|content| content.sha256.to_string()),
            size: last.content.map(|content| content.size),
            apply_id: attempt.as_ref().map(|attempt| attempt.id.0),
            at: attempt.as_ref().and_then(|attempt| attempt.ended_at),
            requested_by: attempt.map(|attempt| attempt.requested_by),
        }
    }
}

impl From<AttemptBrief> for AttemptBriefBody {
    fn from(attempt: AttemptBrief) -> Self {
        Self {
            id: attempt.id.0,
            outcome: attempt.outcome.name().into(),
            revision: attempt.revision.map(|revision| revision.0),
            requested_by: attempt.requested_by,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            failure: attempt.failure.map(|failure| FailureBody {
                code: failure.code,
                message: failure.message,
            }),
        }
    }
}

impl From<ActiveRevision> for ActiveBody {
    fn from(active: ActiveRevision) -> Self {
        Self {
            revision: active.revision.0,
            digest: active.digest.to_string(),
            apply_id: active.apply_id.0,
            proven_at: active.proven_at,
        }
    }
}

impl From<Drift> for DriftBody {
    fn from(drift: Drift) -> Self {
        Self {
            period_seconds: drift.period.as_secs_f64(),
            checked_at: drift.checked_at,
            since: drift.since,
        }
    }
}

impl From<LinkCertificate> for CertificateBody {
    fn from(certificate: LinkCertificate) -> Self {
        Self {
            end: if certificate.of_portal {
                "portal"
            } else {
                "agent"
            }
            .into(),
            name: certificate.status.name,
            not_after: certificate.status.not_after,
        }
    }
}
