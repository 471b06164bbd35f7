//! Why the agent gave no answer, or a refusal.

use std::error::Error;
use std::io;

use shared::bundle::ApplyId;
use shared::tls::TlsError;
use shared::wire;
use tokio_rustls::rustls::{self, AlertDescription};
use tonic::Code;

/// What is wrong with the link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// No connection, or it was lost.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Connected, but no answer in time.
    #[error("it does not answer in time")]
    Silent,
    /// Under TLS 1.3 this is known with the first call only: connecting succeeds before it.
    #[error("it refuses the portal's certificate ({0})")]
    OurCertificateRefused(String),
    /// Wrong CA, identity, dates or usage, or revoked.
    #[error("the portal refuses its certificate ({0})")]
    TheirCertificateRefused(String),
    /// The portal's own certificate files.
    #[error("the portal's TLS files cannot be used: {0}")]
    OurFiles(String),
}

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The link failed; whether the agent received the call is not known.
    #[error("{0}")]
    Link(LinkFault),
    /// It runs another apply.
    #[error("it runs another apply")]
    Busy(Option<ApplyId>),
    /// It has seen a higher revision.
    #[error("it has seen a higher revision: {0}")]
    Stale(String),
    /// It never heard of that apply.
    #[error("it does not know that apply")]
    NotFound,
    /// It refuses the call for another reason.
    #[error("it refuses: {message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// What it says.
        message: String,
    },
    /// It answers what this portal does not understand.
    #[error("it answers what this portal does not understand")]
    Malformed(#[source] wire::Malformed),
}

impl AgentError {
    /// Whether nothing was ever applied there. Safe mode is another precondition.
    pub fn is_nothing_applied(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::FailedPrecondition,
                message,
            } if !message.contains("safe mode")
        )
    }

    /// Whether the agent is older than what it was asked for.
    pub const fn is_too_old(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::Unimplemented,
                ..
            }
        )
    }
}

impl From<tonic::Status> for AgentError {
    fn from(status: tonic::Status) -> Self {
        // A status that was made here, because the transport failed, has a source; one that the
        // agent sent has none.
        if let Some(source) = status.source() {
            return Self::Link(link_fault(source));
        }
        let message = status.message().to_owned();
        match status.code() {
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => {
                Self::Link(LinkFault::Unreachable(message))
            }
            Code::Aborted => Self::Busy(running_apply(&status)),
            // Its certificate was accepted once, and is not any more.
            Code::Unauthenticated => Self::Link(LinkFault::OurCertificateRefused(message)),
            Code::NotFound => Self::NotFound,
            Code::FailedPrecondition if message.contains("STALE_REVISION") => Self::Stale(message),
            code @ (Code::Ok
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss) => Self::Refused { code, message },
        }
    }
}

/// Walks the causes: the telling one lies deep, and `io::Error` hides what it wraps from `source`.
fn link_fault(error: &(dyn Error + 'static)) -> LinkFault {
    let mut last = error.to_string();
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if let Some(fault) =
            certificate_fault(error).or_else(|| inner.and_then(|e| certificate_fault(e)))
        {
            return fault;
        }
        last = error.to_string();
        next = error.source();
    }
    LinkFault::Unreachable(last)
}

/// Whether a stream ended because the peer refused our certificate.
pub(super) fn refusal_in(error: &io::Error) -> Option<LinkFault> {
    let fault = certificate_fault(error.get_ref()?)?;
    matches!(fault, LinkFault::OurCertificateRefused(_)).then_some(fault)
}

fn certificate_fault(error: &(dyn Error + 'static)) -> Option<LinkFault> {
    if let Some(files) = error.downcast_ref::<TlsError>() {
        return Some(LinkFault::OurFiles(files.to_string()));
    }
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) if is_about_certificates(*alert) => {
            Some(LinkFault::OurCertificateRefused(format!("{alert:?}")))
        }
        rustls::Error::InvalidCertificate(reason) => Some(LinkFault::TheirCertificateRefused(
            certificate_reason(reason),
        )),
        other => Some(LinkFault::Unreachable(other.to_string())),
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

fn certificate_reason(reason: &rustls::CertificateError) -> String {
    match reason {
        // What the pinned verifier of `shared::tls` answers.
        rustls::CertificateError::ApplicationVerificationFailure => {
            "it names somebody else".to_owned()
        }
        other => other.to_string(),
    }
}

/// The metadata in which a busy agent names the apply that runs.
const RUNNING_APPLY_ID: &str = "running-apply-id";

fn running_apply(status: &tonic::Status) -> Option<ApplyId> {
    let id = status.metadata().get(RUNNING_APPLY_ID)?;
    wire::apply_id(id.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::*;

    fn from_io(error: rustls::Error) -> AgentError {
        let io = io::Error::new(io::ErrorKind::InvalidData, error);
        tonic::Status::from_error(Box::new(io)).into()
    }

    #[test]
    fn certificate_faults_are_found_in_the_depth() {
        let ours = from_io(rustls::Error::AlertReceived(
            AlertDescription::CertificateExpired,
        ));
        assert!(
            matches!(ours, AgentError::Link(LinkFault::OurCertificateRefused(_))),
            "{ours}"
        );
        let theirs = from_io(CertificateError::Revoked.into());
        assert!(matches!(
            theirs,
            AgentError::Link(LinkFault::TheirCertificateRefused(_))
        ));
    }

    #[test]
    fn refusals_keep_their_kind() {
        let id = "01900000-0000-7000-8000-00000000000a";
        let mut busy = tonic::Status::aborted("another apply is running");
        busy.metadata_mut()
            .insert(RUNNING_APPLY_ID, id.parse().unwrap());
        let busy = AgentError::from(busy);
        assert!(matches!(busy, AgentError::Busy(Some(found)) if found.to_string() == id));
        let stale = tonic::Status::failed_precondition("STALE_REVISION: 4 was seen");
        assert!(matches!(AgentError::from(stale), AgentError::Stale(_)));
        let other = tonic::Status::invalid_argument("no");
        assert!(matches!(
            AgentError::from(other),
            AgentError::Refused { .. }
        ));
        let gone = tonic::Status::unavailable("recovering");
        assert!(matches!(AgentError::from(gone), AgentError::Link(_)));
    }
}
