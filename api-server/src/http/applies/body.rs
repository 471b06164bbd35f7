//! The body of an apply: what `/apply` and everything else that tells of one answer.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::record::{ApplyRecord, Mismatch, Phase, Step, WrittenFile};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::PolicyBody;
use crate::domain::apply::Attempt;
use crate::http::audit::CarriedBody;
use crate::http::changes::{RestoredFromBody, SummaryBody};
use crate::http::described;
use crate::http::error::Description;
use crate::services::apply::OfPbx;

/// One attempt to bring what the database says into force. Whoever is confined to a tenant is told of
/// users, changes and mismatches its own; a text that is withheld says so.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ApplyBody {
    pub id: Uuid,
    pub pbx_id: Uuid,
    /// What the PBX is called now.
    #[schema(example = "default")]
    pub pbx: String,
    /// `applied` and `unchanged` are proven. `rejected`, `write_failed`,
    /// `reload_failed_files_kept`, `rolled_back`, `rollback_failed`, `reload_unknown` and
    /// `interrupted` ended on the PBX. `busy`, `render_failed`, `preview_outdated`,
    /// `restore_failed`, `agent_unreachable`, `agent_refused` and `never_started` changed nothing
    /// there. `queued`: accepted, waits for its turn. `started`: not known yet.
    #[schema(value_type = String, example = "applied")]
    pub outcome: Cow<'static, str>,
    /// The number of the bundle on its PBX; null when there was none.
    #[schema(example = 7)]
    pub revision: Option<u64>,
    /// SHA-256 of the bundle.
    pub digest: Option<String>,
    #[schema(value_type = PolicyBody)]
    pub on_reload_failure: Cow<'static, str>,
    /// Who asked. Withheld, as the next two, from whoever is confined to a tenant, unless it was
    /// somebody of that tenant.
    pub requested_by: String,
    pub request_id: String,
    /// Where the request came from.
    pub source_address: String,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// Why the outcome is neither `applied` nor `unchanged`.
    pub failure: Option<FailureBody>,
    /// What was done, in order.
    pub steps: Vec<StepBody>,
    /// The live files. Left out for whoever is confined to a tenant: their sizes tell of all.
    pub files: Vec<FileBody>,
    /// The steps in which Asterisk was told to reload.
    pub reloads: Vec<StepBody>,
    /// Each object that Asterisk holds otherwise than the files say.
    pub mismatches: Vec<MismatchBody>,
    /// What an administrator should know although the outcome stands; after a restore also how the
    /// database differs from the PBX, and whose accounts work or do not work because of it. Withheld
    /// from whoever is confined to a tenant: that there are any is told.
    pub notes: Vec<String>,
    /// The revision whose files are live since; null when there never was one, or it is not known.
    pub live_revision: Option<u64>,
    /// What it changes against the revision that was proven before: counts, and the first names.
    /// Null when it had no bundle, or the two could not be compared. Whoever is confined to a tenant
    /// is told its own counts, and its own of those names; null when they were not counted by tenant.
    pub changes: Option<SummaryBody>,
    /// Whose bundle it brought back; null when it rendered what the database said.
    pub restored_from: Option<RestoredFromBody>,
    /// Whether `POST /applies/{id}/restore` can bring it back: it was proven, and its bundle is
    /// still kept.
    pub restorable: bool,
    /// How many changes of the audit trail it carried: all that were made since the last one that
    /// was proven. `GET /audit?apply=…` lists them. A restore carries none. Null for
    /// whoever is confined to a tenant.
    pub change_count: Option<usize>,
    /// How many users the configuration holds.
    pub user_count: usize,
    /// Who they are; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub users: Option<Vec<IncludedUserBody>>,
}

/// One attempt, with what it carried.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ShownApplyBody {
    #[serde(flatten)]
    pub apply: ApplyBody,
    /// The first 500 changes that it carried, in their order.
    pub carried: Vec<CarriedBody>,
}

/// One attempt, and what became of each PBX.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AppliedBody {
    /// The first that failed, by name of the PBX; otherwise that of the default PBX, or the first.
    #[serde(flatten)]
    pub apply: ApplyBody,
    /// Each PBX that the request is about, by name.
    pub applies: Vec<PbxApplyBody>,
}

/// What a request to apply came to on one PBX.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PbxApplyBody {
    pub pbx_id: Uuid,
    #[schema(example = "default")]
    pub pbx: String,
    /// The attempt; null when it was left alone, or the portal failed before there was one.
    pub apply_id: Option<Uuid>,
    /// The number of its bundle; null when there was none.
    pub revision: Option<u64>,
    /// As of the attempt; null when there is none.
    #[schema(value_type = Option<String>, example = "applied")]
    pub outcome: Option<Cow<'static, str>>,
    /// Why it is not proven; null when it is, or waits.
    pub failure: Option<FailureBody>,
    /// `no_changes`: what the database says is proven and in force there already; null when it was
    /// not left alone.
    #[schema(value_type = Option<String>, example = "no_changes")]
    pub skipped: Option<Cow<'static, str>>,
}

impl From<&OfPbx> for PbxApplyBody {
    fn from(of: &OfPbx) -> Self {
        let (attempt, failure) = match &of.attempt {
            None => (None, None),
            Some(Ok(attempt)) => {
                let failure = attempt.failure.as_ref().map(|failure| FailureBody {
                    code: failure.code.clone(),
                    message: failure.message.clone(),
                });
                (Some(attempt), failure)
            }
            Some(Err(error)) => {
                let Description(_, code, _, message) = described::describe(error);
                let code = code.to_owned();
                (error.attempt(), Some(FailureBody { code, message }))
            }
        };
        Self {
            pbx_id: of.id.0,
            pbx: of.name.to_string(),
            apply_id: attempt.map(|attempt| attempt.id.0),
            revision: attempt.and_then(|attempt| Some(attempt.revision?.0)),
            outcome: attempt.map(|attempt| attempt.outcome.name().into()),
            failure,
            skipped: of.attempt.is_none().then_some("no_changes".into()),
        }
    }
}

/// Why an apply did not come into force.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FailureBody {
    /// For programs.
    pub code: String,
    /// For people. Withheld from whoever is confined to a tenant where it may name others.
    pub message: String,
}

/// One thing that was done.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepBody {
    /// `staged`, `validated`, `preflight`, `prepared`, `switched`, `reloading`, `verifying`, `contacts`,
    /// `rolling_back` or `recovered`.
    #[schema(value_type = String, example = "reloading")]
    pub phase: Cow<'static, str>,
    #[schema(example = "asterisk -rx 'pjsip reload'")]
    pub action: String,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// To a tenth.
    pub duration_ms: f64,
    pub ok: bool,
    /// What Asterisk or the operating system said. Withheld from whoever is confined to a tenant.
    pub said: String,
}

/// A live file.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FileBody {
    #[schema(value_type = String, example = "pjsip_endpoints")]
    pub slot: Cow<'static, str>,
    pub path: String,
    pub size: u64,
    pub sha256: String,
}

/// An object that Asterisk holds otherwise than the files say.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MismatchBody {
    #[schema(value_type = String, example = "endpoint")]
    pub object: Cow<'static, str>,
    pub name: String,
    /// `missing`, `extra` or `different`.
    #[schema(value_type = String, example = "missing")]
    pub kind: Cow<'static, str>,
    pub detail: String,
}

/// A user as it was applied.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct IncludedUserBody {
    pub id: Uuid,
    pub name: String,
    /// The `number` of the user's tenant.
    #[schema(example = 1)]
    pub tenant_number: u32,
    #[schema(example = 1000)]
    pub extension: u32,
}

/// A duration as the API tells it: in milliseconds, to a tenth.
pub(in crate::http) fn milliseconds(duration: Duration) -> f64 {
    let tenths = (duration.as_micros() + 50) / 100;
    f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
}

impl From<Step> for StepBody {
    fn from(step: Step) -> Self {
        Self {
            phase: step.phase.name().into(),
            action: step.action,
            started_at: step.started_at,
            duration_ms: milliseconds(Duration::from_micros(step.duration_us)),
            ok: step.ok,
            said: step.said,
        }
    }
}

impl From<WrittenFile> for FileBody {
    fn from(file: WrittenFile) -> Self {
        Self {
            slot: file.slot.name().into(),
            path: file.path,
            size: file.size,
            sha256: file.sha256.to_string(),
        }
    }
}

impl From<Mismatch> for MismatchBody {
    fn from(mismatch: Mismatch) -> Self {
        Self {
            object: mismatch.object.name().into(),
            name: mismatch.name,
            kind: mismatch.kind.name().into(),
            detail: mismatch.detail,
        }
    }
}

impl From<Attempt> for ApplyBody {
    fn from(attempt: Attempt) -> Self {
        let restorable = attempt.is_restorable();
        // They say what holds since it is in force.
        let notes = if attempt.outcome.is_proven() {
            attempt.notes
        } else {
            Vec::new()
        };
        let users = attempt.users.into_iter().map(|user| IncludedUserBody {
            id: user.id.0,
            name: user.name,
            tenant_number: user.tenant,
            extension: user.extension,
        });
        let mut body = Self {
            id: attempt.id.0,
            pbx_id: attempt.pbx_id.0,
            pbx: attempt.pbx_name.to_string(),
            outcome: attempt.outcome.name().into(),
            revision: attempt.revision.map(|revision| revision.0),
            digest: attempt.digest.map(|digest| digest.to_string()),
            on_reload_failure: attempt.on_reload_failure.name().into(),
            requested_by: attempt.requested_by,
            request_id: attempt.request_id,
            source_address: attempt.source_address,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            failure: attempt.failure.map(|failure| FailureBody {
                code: failure.code,
                message: failure.message,
            }),
            steps: Vec::new(),
            files: Vec::new(),
            reloads: Vec::new(),
            mismatches: Vec::new(),
            notes,
            live_revision: None,
            changes: attempt.changes.map(SummaryBody::from),
            restored_from: attempt.restored_from.map(RestoredFromBody::from),
            restorable,
            change_count: attempt.change_count,
            user_count: attempt.user_counts.total(),
            users: Some(users.collect()),
        };
        if let Some(record) = attempt.record {
            body.tell(record);
        }
        body
    }
}

impl ApplyBody {
    fn tell(&mut self, record: ApplyRecord) {
        self.steps = record.steps.into_iter().map(StepBody::from).collect();
        let reloads = self
            .steps
            .iter()
            .filter(|step| step.phase == Phase::Reloading.name());
        self.reloads = reloads.cloned().collect();
        self.files = record.files.into_iter().map(FileBody::from).collect();
        self.mismatches = record
            .mismatches
            .into_iter()
            .map(MismatchBody::from)
            .collect();
        self.notes.extend(record.notes);
        self.live_revision = record.live_revision.map(|revision| revision.0);
    }

    pub(in crate::http) fn in_list(attempt: Attempt) -> Self {
        Self {
            users: None,
            ..Self::from(attempt)
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::record::{MismatchKind, OnReloadFailure};

    use super::*;

    #[test]
    fn durations_are_told_to_a_tenth_of_a_millisecond() {
        for (micros, told) in [
            (0, "0.0"),
            (49, "0.0"),
            (50, "0.1"),
            (30_505, "30.5"),
            (7_880, "7.9"),
        ] {
            let value = serde_json::json!(milliseconds(Duration::from_micros(micros)));
            assert_eq!(value.to_string(), told);
        }
    }

    fn words<T: Copy + Serialize>(all: &[T], name: impl Fn(T) -> &'static str) {
        for one in all {
            assert_eq!(serde_json::to_value(one).unwrap(), name(*one));
        }
    }

    #[test]
    fn words_are_those_that_records_keep() {
        words(
            &[
                Phase::Staged,
                Phase::Validated,
                Phase::Preflight,
                Phase::Prepared,
                Phase::Switched,
                Phase::Reloading,
                Phase::Verifying,
                Phase::Contacts,
                Phase::RollingBack,
                Phase::Recovered,
            ],
            Phase::name,
        );
        let kinds = [
            MismatchKind::Missing,
            MismatchKind::Extra,
            MismatchKind::Different,
        ];
        words(&kinds, MismatchKind::name);
        let policies = [OnReloadFailure::RollBack, OnReloadFailure::KeepNewFiles];
        words(&policies, OnReloadFailure::name);
    }
}
