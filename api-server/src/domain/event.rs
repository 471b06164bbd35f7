//! Something that happened to a PBX apart from an apply.

use shared::status::EventKind;
use time::OffsetDateTime;

use super::page::sort_keys;
use super::{Actor, PbxId, PbxName};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PbxEventKind {
    /// As the agent noticed it.
    OfAgent(EventKind),
    /// A portal cannot reach the agent.
    AgentUnreachable,
    /// It can again.
    AgentBack,
    /// An administrator had what is in force compared in full.
    VerifyRequested,
}

impl PbxEventKind {
    /// Each of them.
    pub const ALL: [Self; 12] = [
        Self::OfAgent(EventKind::DriftFound),
        Self::OfAgent(EventKind::DriftEnded),
        Self::OfAgent(EventKind::DriftOverwritten),
        Self::OfAgent(EventKind::ForeignFileFound),
        Self::OfAgent(EventKind::ForeignFileGone),
        Self::OfAgent(EventKind::SafeModeEntered),
        Self::OfAgent(EventKind::SafeModeLeft),
        Self::OfAgent(EventKind::CertificateExpiring),
        Self::OfAgent(EventKind::PeerRefused),
        Self::AgentUnreachable,
        Self::AgentBack,
        Self::VerifyRequested,
    ];

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OfAgent(kind) => kind.name(),
            Self::AgentUnreachable => "agent_unreachable",
            Self::AgentBack => "agent_back",
            Self::VerifyRequested => "verify_requested",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

sort_keys! {
    /// What events are listed by.
    pub enum EventSort of Number, default Id descending {
        Id = "id" Number,
        At = "at" Time,
    }
}

/// Which events are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only of this PBX.
    pub pbx: Option<PbxId>,
    /// Only of this kind.
    pub kind: Option<PbxEventKind>,
    /// Only those that this administrator asked for.
    pub requested_by: Option<String>,
    /// Only those that hold this text.
    pub search: Option<String>,
}

/// The place of an event among those of whoever numbers them: recorded once, however often it is
/// seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Within what it is numbered: one life of the agent, or one certificate.
    pub instance: String,
    /// The number.
    pub sequence: i64,
}

/// An event that is to be recorded.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// What happened.
    pub kind: PbxEventKind,
    /// In plain words, never a secret.
    pub detail: String,
    /// When it was noticed.
    pub at: OffsetDateTime,
    /// `None`: every call records one more.
    pub numbered: Option<Numbered>,
    /// Who asked for it; `None` when it happened by itself.
    pub actor: Option<Actor>,
}

/// An event as it is kept.
#[derive(Clone, Debug)]
pub struct PbxEvent {
    /// Rises in the order of recording.
    pub id: i64,
    /// Where.
    pub pbx_id: PbxId,
    /// What that is called now.
    pub pbx_name: PbxName,
    /// What happened.
    pub kind: PbxEventKind,
    /// In plain words.
    pub detail: String,
    /// When it was noticed.
    pub at: OffsetDateTime,
    /// When a portal wrote it down.
    pub recorded_at: OffsetDateTime,
    /// Who asked for it; `None` when it happened by itself.
    pub requested_by: Option<String>,
    /// The request that asked for it.
    pub request_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_name() {
        for kind in PbxEventKind::ALL {
            assert_eq!(PbxEventKind::from_name(kind.name()), Some(kind));
        }
        for kind in EventKind::ALL {
            assert!(PbxEventKind::from_name(kind.name()).is_some(), "{kind:?}");
        }
        assert_eq!(PbxEventKind::from_name("nonsense"), None);
    }
}
