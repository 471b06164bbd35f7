//! The conversions of [`crate::status`].

use std::time::Duration;

use time::OffsetDateTime;

use super::{Malformed, apply_id, digest, from_ms, pb, to_ms};
use crate::bundle::{FileManifest, Revision, Slot};
use crate::record::Mismatch;
use crate::status::{
    ActiveRevision, AgentStatus, CertificateStatus, CheckFinding, CheckReport, DriftStatus, Event,
    EventKind, FileStatus, FindingSource, RegisteredPhone, VerifyReport,
};

pair!(EventKind, EventKind, "unknown kind of event", {
    DriftFound = DriftFound, DriftEnded = DriftEnded, DriftOverwritten = DriftOverwritten,
    ForeignFileFound = ForeignFileFound, ForeignFileGone = ForeignFileGone,
    SafeModeEntered = SafeModeEntered, SafeModeLeft = SafeModeLeft,
    CertificateExpiring = CertificateExpiring, PeerRefused = PeerRefused,
});
pair!(FindingSource, FindingSource, "unknown source of a finding", {
    Text = Text, Surroundings = Surroundings, Preflight = Preflight,
});

fn instants(ms: Option<i64>) -> Result<Option<OffsetDateTime>, Malformed> {
    ms.map(from_ms).transpose()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn all<T, U>(values: Vec<T>) -> Vec<U>
where
    U: From<T>,
{
    values.into_iter().map(U::from).collect()
}

fn try_all<T, U>(values: Vec<T>) -> Result<Vec<U>, Malformed>
where
    U: TryFrom<T, Error = Malformed>,
{
    values.into_iter().map(U::try_from).collect()
}

impl From<FileManifest> for pb::FileManifest {
    fn from(file: FileManifest) -> Self {
        Self {
            slot: pb::Slot::from(file.slot).into(),
            size: file.size,
            sha256: file.sha256.0.to_vec(),
        }
    }
}

impl TryFrom<pb::FileManifest> for FileManifest {
    type Error = Malformed;

    fn try_from(file: pb::FileManifest) -> Result<Self, Malformed> {
        Ok(Self {
            slot: file.slot().try_into()?,
            size: file.size,
            sha256: digest(&file.sha256)?,
        })
    }
}

impl From<AgentStatus> for pb::AgentStatus {
    fn from(status: AgentStatus) -> Self {
        Self {
            agent_version: status.version,
            active: status.active.map(pb::ActiveRevision::from),
            highest_revision: status.highest_revision.0,
            forgotten_before: status.forgotten_before.map(|revision| revision.0),
            running_apply_id: status.running.map(|id| id.to_string()),
            asterisk: Some(pb::AsteriskStatus {
                answering: status.asterisk_answering,
                detail: status.asterisk_detail,
            }),
            foreign_files: status.foreign_files,
            warnings: status.warnings,
            files: all(status.files),
            drift: Some(status.drift.into()),
            certificates: all(status.certificates),
            counters: status.counters.into_iter().collect(),
            safe_mode: status.safe_mode,
            instance: status.instance,
            events: all(status.events),
        }
    }
}

impl TryFrom<pb::AgentStatus> for AgentStatus {
    type Error = Malformed;

    fn try_from(status: pb::AgentStatus) -> Result<Self, Malformed> {
        let asterisk = status.asterisk.unwrap_or_default();
        let running = status.running_apply_id.as_deref();
        Ok(Self {
            version: status.agent_version,
            active: status.active.map(ActiveRevision::try_from).transpose()?,
            highest_revision: Revision(status.highest_revision),
            forgotten_before: status.forgotten_before.map(Revision),
            running: running.map(apply_id).transpose()?,
            asterisk_answering: asterisk.answering,
            asterisk_detail: asterisk.detail,
            foreign_files: status.foreign_files,
            warnings: status.warnings,
            files: try_all(status.files)?,
            drift: status.drift.unwrap_or_default().try_into()?,
            certificates: try_all(status.certificates)?,
            counters: status.counters.into_iter().collect(),
            safe_mode: status.safe_mode,
            instance: status.instance,
            events: try_all(status.events)?,
        })
    }
}

impl From<ActiveRevision> for pb::ActiveRevision {
    fn from(active: ActiveRevision) -> Self {
        Self {
            revision: active.revision.0,
            digest: active.digest.0.to_vec(),
            apply_id: active.apply_id.to_string(),
            proven_at_ms: to_ms(active.proven_at),
        }
    }
}

impl TryFrom<pb::ActiveRevision> for ActiveRevision {
    type Error = Malformed;

    fn try_from(active: pb::ActiveRevision) -> Result<Self, Malformed> {
        Ok(Self {
            revision: Revision(active.revision),
            digest: digest(&active.digest)?,
            apply_id: apply_id(&active.apply_id)?,
            proven_at: from_ms(active.proven_at_ms)?,
        })
    }
}

impl From<FileStatus> for pb::FileStatus {
    fn from(file: FileStatus) -> Self {
        Self {
            slot: pb::Slot::from(file.slot).into(),
            path: file.path,
            applied_revision: file.applied_revision.map(|revision| revision.0),
            applied: file.applied.map(pb::FileManifest::from),
            on_disk: file.on_disk.map(pb::FileManifest::from),
            problem: file.problem,
            loaded_generation: file.loaded_generation,
            loaded_revision: file.loaded_revision.map(|revision| revision.0),
        }
    }
}

impl TryFrom<pb::FileStatus> for FileStatus {
    type Error = Malformed;

    fn try_from(file: pb::FileStatus) -> Result<Self, Malformed> {
        Ok(Self {
            slot: file.slot().try_into()?,
            path: file.path,
            applied_revision: file.applied_revision.map(Revision),
            applied: file.applied.map(FileManifest::try_from).transpose()?,
            on_disk: file.on_disk.map(FileManifest::try_from).transpose()?,
            problem: file.problem,
            loaded_generation: file.loaded_generation,
            loaded_revision: file.loaded_revision.map(Revision),
        })
    }
}

impl From<DriftStatus> for pb::DriftStatus {
    fn from(drift: DriftStatus) -> Self {
        Self {
            period_ms: u64::try_from(drift.period.as_millis()).unwrap_or(u64::MAX),
            checked_at_ms: drift.checked_at.map(to_ms),
            since_ms: drift.since.map(to_ms),
        }
    }
}

impl TryFrom<pb::DriftStatus> for DriftStatus {
    type Error = Malformed;

    fn try_from(drift: pb::DriftStatus) -> Result<Self, Malformed> {
        Ok(Self {
            period: Duration::from_millis(drift.period_ms),
            checked_at: instants(drift.checked_at_ms)?,
            since: instants(drift.since_ms)?,
        })
    }
}

impl From<CertificateStatus> for pb::CertificateStatus {
    fn from(certificate: CertificateStatus) -> Self {
        Self {
            name: certificate.name,
            not_after_ms: to_ms(certificate.not_after),
        }
    }
}

impl TryFrom<pb::CertificateStatus> for CertificateStatus {
    type Error = Malformed;

    fn try_from(certificate: pb::CertificateStatus) -> Result<Self, Malformed> {
        Ok(Self {
            name: certificate.name,
            not_after: from_ms(certificate.not_after_ms)?,
        })
    }
}

impl From<Event> for pb::Event {
    fn from(event: Event) -> Self {
        Self {
            sequence: event.sequence,
            at_ms: to_ms(event.at),
            kind: pb::EventKind::from(event.kind).into(),
            detail: event.detail,
        }
    }
}

impl TryFrom<pb::Event> for Event {
    type Error = Malformed;

    fn try_from(event: pb::Event) -> Result<Self, Malformed> {
        Ok(Self {
            sequence: event.sequence,
            at: from_ms(event.at_ms)?,
            kind: event.kind().try_into()?,
            detail: event.detail,
        })
    }
}

impl From<CheckReport> for pb::CheckReport {
    fn from(report: CheckReport) -> Self {
        Self {
            findings: all(report.findings),
            preflight: report.preflight,
            preflight_ran: report.preflight_ran,
        }
    }
}

impl TryFrom<pb::CheckReport> for CheckReport {
    type Error = Malformed;

    fn try_from(report: pb::CheckReport) -> Result<Self, Malformed> {
        Ok(Self {
            findings: try_all(report.findings)?,
            preflight: report.preflight,
            preflight_ran: report.preflight_ran,
        })
    }
}

impl From<CheckFinding> for pb::CheckFinding {
    fn from(finding: CheckFinding) -> Self {
        Self {
            source: pb::FindingSource::from(finding.source).into(),
            slot: finding.slot.map(|slot| pb::Slot::from(slot).into()),
            line: finding.line,
            message: finding.message,
        }
    }
}

impl TryFrom<pb::CheckFinding> for CheckFinding {
    type Error = Malformed;

    fn try_from(finding: pb::CheckFinding) -> Result<Self, Malformed> {
        let slot = finding.slot.is_some().then(|| finding.slot());
        Ok(Self {
            source: finding.source().try_into()?,
            slot: slot.map(Slot::try_from).transpose()?,
            line: finding.line,
            message: finding.message,
        })
    }
}

impl From<VerifyReport> for pb::VerifyReport {
    fn from(report: VerifyReport) -> Self {
        Self {
            revision: report.revision.0,
            digest: report.digest.0.to_vec(),
            in_force: report.in_force,
            compared: report.compared,
            mismatches: all(report.mismatches),
            failure: report.failure,
            duration_us: micros(report.duration),
        }
    }
}

impl TryFrom<pb::VerifyReport> for VerifyReport {
    type Error = Malformed;

    fn try_from(report: pb::VerifyReport) -> Result<Self, Malformed> {
        Ok(Self {
            revision: Revision(report.revision),
            digest: digest(&report.digest)?,
            in_force: report.in_force,
            compared: report.compared,
            mismatches: try_all::<pb::Mismatch, Mismatch>(report.mismatches)?,
            failure: report.failure,
            duration: Duration::from_micros(report.duration_us),
        })
    }
}

impl From<RegisteredPhone> for pb::Contact {
    fn from(phone: RegisteredPhone) -> Self {
        Self {
            aor: phone.aor,
            uri: phone.uri,
            user_agent: phone.user_agent,
        }
    }
}

impl From<pb::Contact> for RegisteredPhone {
    fn from(contact: pb::Contact) -> Self {
        Self {
            aor: contact.aor,
            uri: contact.uri,
            user_agent: contact.user_agent,
        }
    }
}
