//! The generated protobuf types and their conversions: nothing else names them.

use std::ops::RangeInclusive;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::bundle::{ApplyId, Digest, FileManifest, Manifest, Revision, Slot};
use crate::record::{
    ApplyRecord, Mismatch, MismatchKind, ObjectKind, OnReloadFailure, Outcome, Phase, Step,
    WrittenFile,
};

/// As generated from `proto/pbx/agent/v1/agent.proto`.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the .proto file holds the documentation"
)]
pub mod pb {
    tonic::include_proto!("pbx.agent.v1");
}

/// A message holds something that this version does not know or that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

/// Pairs the values of a protobuf enum with ours, both ways.
macro_rules! pair {
    ($pb:ident, $ours:ident, $what:literal, { $($theirs:ident = $mine:ident),+ $(,)? }) => {
        impl From<$ours> for pb::$pb {
            fn from(value: $ours) -> Self {
                match value { $($ours::$mine => Self::$theirs),+ }
            }
        }

        impl TryFrom<pb::$pb> for $ours {
            type Error = Malformed;

            fn try_from(value: pb::$pb) -> Result<Self, Malformed> {
                match value {
                    pb::$pb::Unspecified => Err(Malformed($what)),
                    $(pb::$pb::$theirs => Ok(Self::$mine)),+
                }
            }
        }
    };
}

mod status;

pair!(Slot, Slot, "unknown slot", {
    PjsipEndpoints = PjsipEndpoints, DialplanRouting = DialplanRouting,
});
pair!(OnReloadFailure, OnReloadFailure, "unknown policy for a failed reload", {
    RollBack = RollBack, KeepNewFiles = KeepNewFiles,
});
pair!(Outcome, Outcome, "unknown outcome", {
    Applied = Applied, Unchanged = Unchanged, Rejected = Rejected, WriteFailed = WriteFailed,
    ReloadFailedFilesKept = ReloadFailedFilesKept, RolledBack = RolledBack,
    RollbackFailed = RollbackFailed, ReloadUnknown = ReloadUnknown, Interrupted = Interrupted,
});
pair!(Phase, Phase, "unknown phase", {
    Staged = Staged, Validated = Validated, Prepared = Prepared, Switched = Switched,
    Preflight = Preflight, Reloading = Reloading, Verifying = Verifying, Contacts = Contacts, RollingBack = RollingBack,
    Recovered = Recovered,
});
pair!(MismatchKind, MismatchKind, "unknown kind of mismatch", {
    Missing = Missing, Extra = Extra, Different = Different,
});

/// Reads an apply id.
pub fn apply_id(text: &str) -> Result<ApplyId, Malformed> {
    Uuid::parse_str(text)
        .map(ApplyId)
        .map_err(|_| Malformed("the apply id is no UUID"))
}

/// Reads a digest.
pub fn digest(bytes: &[u8]) -> Result<Digest, Malformed> {
    Digest::try_from(bytes).map_err(|_| Malformed("a digest is not 32 bytes long"))
}

/// Milliseconds since 1970 UTC.
pub fn to_ms(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// The instant that `ms` milliseconds since 1970 UTC are.
pub fn from_ms(ms: i64) -> Result<OffsetDateTime, Malformed> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .map_err(|_| Malformed("a time out of range"))
}

impl From<&Manifest> for Vec<pb::FileManifest> {
    fn from(manifest: &Manifest) -> Self {
        manifest
            .files
            .iter()
            .copied()
            .map(pb::FileManifest::from)
            .collect()
    }
}

/// The ranges of a manifest as they travel.
pub fn ranges(manifest: &Manifest) -> Vec<pb::NumberRange> {
    let range = |range: &RangeInclusive<u32>| pb::NumberRange {
        first: *range.start(),
        last: *range.end(),
    };
    manifest.reserved_numbers.iter().map(range).collect()
}

impl TryFrom<&pb::StageHeader> for Manifest {
    type Error = Malformed;

    fn try_from(header: &pb::StageHeader) -> Result<Self, Malformed> {
        let mut files = header
            .files
            .iter()
            .cloned()
            .map(FileManifest::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        files.sort_unstable();
        let reserved_numbers = header
            .reserved_numbers
            .iter()
            .map(|range| range.first..=range.last)
            .collect();
        Ok(Self {
            files,
            reserved_numbers,
        })
    }
}

impl From<ApplyRecord> for pb::ApplyRecord {
    fn from(record: ApplyRecord) -> Self {
        Self {
            apply_id: record.apply_id.to_string(),
            revision: record.revision.0,
            digest: record.digest.0.to_vec(),
            on_reload_failure: pb::OnReloadFailure::from(record.on_reload_failure).into(),
            outcome: record
                .outcome
                .map_or(pb::Outcome::Unspecified, pb::Outcome::from)
                .into(),
            steps: record.steps.into_iter().map(pb::Step::from).collect(),
            files: record
                .files
                .into_iter()
                .map(pb::WrittenFile::from)
                .collect(),
            failure: record.failure,
            mismatches: record
                .mismatches
                .into_iter()
                .map(pb::Mismatch::from)
                .collect(),
            live_revision: record.live_revision.map(|revision| revision.0),
            notes: record.notes,
        }
    }
}

impl TryFrom<pb::ApplyRecord> for ApplyRecord {
    type Error = Malformed;

    fn try_from(record: pb::ApplyRecord) -> Result<Self, Malformed> {
        let outcome = match record.outcome() {
            pb::Outcome::Unspecified => None,
            outcome => Some(outcome.try_into()?),
        };
        Ok(Self {
            apply_id: apply_id(&record.apply_id)?,
            revision: Revision(record.revision),
            digest: digest(&record.digest)?,
            on_reload_failure: record.on_reload_failure().try_into()?,
            outcome,
            steps: record
                .steps
                .into_iter()
                .map(Step::try_from)
                .collect::<Result<_, _>>()?,
            files: record
                .files
                .into_iter()
                .map(WrittenFile::try_from)
                .collect::<Result<_, _>>()?,
            failure: record.failure,
            mismatches: record
                .mismatches
                .into_iter()
                .map(Mismatch::try_from)
                .collect::<Result<_, _>>()?,
            live_revision: record.live_revision.map(Revision),
            notes: record.notes,
        })
    }
}

impl From<Step> for pb::Step {
    fn from(step: Step) -> Self {
        Self {
            phase: Self::phase_of(step.phase),
            action: step.action,
            started_at_ms: to_ms(step.started_at),
            duration_us: step.duration_us,
            ok: step.ok,
            said: step.said,
        }
    }
}

impl pb::Step {
    fn phase_of(phase: Phase) -> i32 {
        pb::Phase::from(phase).into()
    }
}

impl TryFrom<pb::Step> for Step {
    type Error = Malformed;

    fn try_from(step: pb::Step) -> Result<Self, Malformed> {
        Ok(Self {
            phase: step.phase().try_into()?,
            action: step.action,
            started_at: from_ms(step.started_at_ms)?,
            duration_us: step.duration_us,
            ok: step.ok,
            said: step.said,
        })
    }
}

impl From<WrittenFile> for pb::WrittenFile {
    fn from(file: WrittenFile) -> Self {
        Self {
            slot: pb::Slot::from(file.slot).into(),
            path: file.path,
            size: file.size,
            sha256: file.sha256.0.to_vec(),
        }
    }
}

impl TryFrom<pb::WrittenFile> for WrittenFile {
    type Error = Malformed;

    fn try_from(file: pb::WrittenFile) -> Result<Self, Malformed> {
        Ok(Self {
            slot: file.slot().try_into()?,
            path: file.path,
            size: file.size,
            sha256: digest(&file.sha256)?,
        })
    }
}

impl From<Mismatch> for pb::Mismatch {
    fn from(mismatch: Mismatch) -> Self {
        Self {
            object: mismatch.object.name().to_owned(),
            name: mismatch.name,
            kind: pb::MismatchKind::from(mismatch.kind).into(),
            detail: mismatch.detail,
        }
    }
}

impl TryFrom<pb::Mismatch> for Mismatch {
    type Error = Malformed;

    fn try_from(mismatch: pb::Mismatch) -> Result<Self, Malformed> {
        let object = [
            ObjectKind::Endpoint,
            ObjectKind::Auth,
            ObjectKind::Aor,
            ObjectKind::Extension,
            ObjectKind::Marker,
            ObjectKind::Contact,
            ObjectKind::File,
        ]
        .into_iter()
        .find(|kind| kind.name() == mismatch.object)
        .ok_or(Malformed("unknown kind of object"))?;
        Ok(Self {
            object,
            kind: mismatch.kind().try_into()?,
            name: mismatch.name,
            detail: mismatch.detail,
        })
    }
}
