//! The client of a PBX's agent: gRPC over mutual TLS on a connector of our own, because tonic's own
//! TLS reads no CRL and pins no identity.
//!
//! The channel is cached and reconnects by itself; `connection` renews it when a certificate of
//! either end changes or ends, so that none of that needs a restart.

mod connection;
mod fault;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use shared::bundle::{ApplyId, Bundle, CHUNK_BYTES_MAX, Digest, Revision, Slot};
use shared::record::{ApplyRecord, OnReloadFailure, Step};
use shared::status::{AgentStatus, CertificateStatus, CheckReport, RegisteredPhone, VerifyReport};
use shared::telemetry::TRACEPARENT;
use shared::tls::validity::End;
use shared::tls::{Identity, TlsFiles};
use shared::wire::{self, pb};
use time::OffsetDateTime;
use tokio_stream::{Stream, StreamExt as _};

use crate::domain::RequestId;

pub use fault::{AgentError, LinkFault};

use connection::Connection;

/// How long status and record questions may take, in seconds.
const QUESTION_SECONDS: u64 = 5;

/// How long an upload may take, in seconds: 64 MiB at some 9 Mbit/s.
const STAGE_SECONDS: u64 = 60;

/// Largest record: thousands of mismatches.
const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What is to be brought into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which attempt.
    pub id: ApplyId,
    /// The number of its bundle.
    pub revision: Revision,
    /// The digest of its bundle.
    pub digest: Digest,
    /// What to do when Asterisk does not take it.
    pub on_reload_failure: OnReloadFailure,
    /// Whether the agent may set a damaged state directory aside.
    pub force: bool,
}

/// The agent of one PBX. Clones share the connection.
#[derive(Clone)]
pub struct Agent {
    connection: Arc<Connection>,
}

impl Agent {
    /// A client that connects when it is needed.
    pub fn new(address: String, identity: Identity, tls: TlsFiles) -> Self {
        Self {
            connection: Arc::new(Connection::new(address, identity, tls)),
        }
    }

    /// When the certificates of the portal's end of the link end, and what an administrator should
    /// know of them; `early` is how long before their end to warn. Reads a few small files.
    pub fn certificates(
        &self,
        now: OffsetDateTime,
        early: time::Duration,
    ) -> (Vec<CertificateStatus>, Vec<String>) {
        let material = self.connection.material();
        let files = material.files();
        let mut warnings = files.warnings(End::Portal, now, early);
        warnings.extend(material.fault());
        (files.ends(End::Portal).0, warnings)
    }

    /// How the agent and Asterisk are.
    pub async fn status(&self) -> Result<AgentStatus, AgentError> {
        let mut client = self.connection.client();
        let limit = Duration::from_secs(QUESTION_SECONDS);
        let status = self
            .in_time(limit, client.get_status(pb::GetStatusRequest {}))
            .await?;
        AgentStatus::try_from(status).map_err(AgentError::Malformed)
    }

    /// Uploads a bundle. Nothing live is touched by it, whatever it answers.
    pub async fn stage(
        &self,
        order: &Order,
        bundle: Bundle,
        request_id: &RequestId,
    ) -> Result<(), AgentError> {
        let limit = Duration::from_secs(STAGE_SECONDS);
        let mut client = self.connection.client();
        let parts = tokio_stream::iter(upload(order, bundle));
        let request = traced(tonic::Request::new(parts), request_id);
        self.in_time(limit, client.stage(request)).await.map(drop)
    }

    /// What would keep a bundle from coming into force. Nothing of it is kept; of `order`, only the
    /// digest matters.
    pub async fn check(
        &self,
        order: &Order,
        bundle: Bundle,
        request_id: &RequestId,
    ) -> Result<CheckReport, AgentError> {
        let limit = Duration::from_secs(STAGE_SECONDS);
        let mut client = self.connection.client();
        let parts = tokio_stream::iter(upload(order, bundle));
        let request = traced(tonic::Request::new(parts), request_id);
        let report = self.in_time(limit, client.check(request)).await?;
        CheckReport::try_from(report).map_err(AgentError::Malformed)
    }

    /// Compares everything that the live revision says with what Asterisk holds.
    ///
    /// # Errors
    /// [`AgentError::Refused`] when nothing was ever applied there.
    pub async fn verify(
        &self,
        limit: Duration,
        request_id: &RequestId,
    ) -> Result<VerifyReport, AgentError> {
        let mut client = self.connection.client();
        let request = traced(tonic::Request::new(pb::VerifyRequest {}), request_id);
        let report = self.in_time(limit, client.verify(request)).await?;
        VerifyReport::try_from(report).map_err(AgentError::Malformed)
    }

    /// The phones that are registered at `aors`; at any AOR when there are none.
    pub async fn registered(&self, aors: Vec<String>) -> Result<Vec<RegisteredPhone>, AgentError> {
        let mut client = self.connection.client();
        let limit = Duration::from_secs(QUESTION_SECONDS);
        let message = pb::ListContactsRequest { aors };
        let answer = self.in_time(limit, client.list_contacts(message)).await?;
        let contacts = answer.contacts.into_iter();
        Ok(contacts.map(RegisteredPhone::from).collect())
    }

    /// The steps of an apply after the first `known`, each as it ends, with its position; the
    /// stream ends with the apply.
    ///
    /// # Errors
    /// [`AgentError::NotFound`] when the agent never heard of it.
    pub async fn follow(
        &self,
        id: ApplyId,
        known: u32,
    ) -> Result<impl Stream<Item = Result<(u32, Step), AgentError>> + use<>, AgentError> {
        let message = pb::FollowApplyRequest {
            apply_id: id.to_string(),
            known_steps: known,
        };
        let mut client = self.connection.client();
        let limit = Duration::from_secs(QUESTION_SECONDS);
        let steps = self.in_time(limit, client.follow_apply(message)).await?;
        Ok(steps.map(|progress| {
            let progress = progress.map_err(AgentError::from)?;
            let missing = wire::Malformed("progress without a step");
            let step = progress.step.ok_or(AgentError::Malformed(missing))?;
            let step = Step::try_from(step).map_err(AgentError::Malformed)?;
            Ok((progress.index, step))
        }))
    }

    /// Brings a staged revision into force, or attaches to that apply when it runs, or answers its
    /// record when it has ended.
    ///
    /// # Errors
    /// [`AgentError::Link`] leaves open whether the apply runs; every other error means that this
    /// call did not start it.
    pub async fn apply(
        &self,
        order: &Order,
        limit: Duration,
        request_id: &RequestId,
    ) -> Result<ApplyRecord, AgentError> {
        let message = pb::ApplyRequest {
            apply_id: order.id.to_string(),
            revision: order.revision.0,
            digest: order.digest.0.to_vec(),
            on_reload_failure: pb::OnReloadFailure::from(order.on_reload_failure).into(),
        };
        let mut client = self.connection.client();
        let request = traced(tonic::Request::new(message), request_id);
        let record = self.in_time(limit, client.apply(request)).await?;
        to_record(record, order.id)
    }

    /// The record of an apply that ended or runs; `None` when the agent never heard of it.
    pub async fn find_apply(&self, id: ApplyId) -> Result<Option<ApplyRecord>, AgentError> {
        let message = pb::GetApplyRequest {
            apply_id: id.to_string(),
        };
        let mut client = self.connection.client();
        let limit = Duration::from_secs(QUESTION_SECONDS);
        match self.in_time(limit, client.get_apply(message)).await {
            Ok(record) => to_record(record, id).map(Some),
            Err(AgentError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, AgentError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(status.into())),
            Err(_) => Err(AgentError::Link(LinkFault::Silent)),
        }
    }

    /// Says why a connection was lost, where the stream knows better than the call.
    fn explain(&self, error: AgentError) -> AgentError {
        let error = match (error, self.connection.refusal().get()) {
            (AgentError::Link(LinkFault::Unreachable(_)), Some(fault)) => AgentError::Link(fault),
            (error, _) => error,
        };
        if let AgentError::Link(LinkFault::OurCertificateRefused(_)) = &error {
            // It ends this connection; the next one may be made with a renewed certificate.
            self.connection.renew();
        }
        error
    }
}

fn to_record(record: pb::ApplyRecord, id: ApplyId) -> Result<ApplyRecord, AgentError> {
    let record = ApplyRecord::try_from(record).map_err(AgentError::Malformed)?;
    if record.apply_id == id {
        Ok(record)
    } else {
        Err(AgentError::Malformed(wire::Malformed(
            "the record of another apply",
        )))
    }
}

/// A header, then chunks.
fn upload(order: &Order, bundle: Bundle) -> impl Iterator<Item = pb::StageRequest> + Send + use<> {
    let manifest = bundle.manifest();
    let header = pb::StageHeader {
        apply_id: order.id.to_string(),
        revision: order.revision.0,
        digest: order.digest.0.to_vec(),
        files: Vec::from(&manifest),
        reserved_numbers: wire::ranges(&manifest),
        force: order.force,
    };
    let header = std::iter::once(pb::stage_request::Part::Header(header));
    let chunks = bundle
        .files
        .into_iter()
        .flat_map(|(slot, bytes)| chunks(slot, bytes));
    header
        .chain(chunks)
        .map(|part| pb::StageRequest { part: Some(part) })
}

fn chunks(slot: Slot, bytes: Vec<u8>) -> impl Iterator<Item = pb::stage_request::Part> + Send {
    (0..bytes.len()).step_by(CHUNK_BYTES_MAX).map(move |at| {
        let end = bytes.len().min(at + CHUNK_BYTES_MAX);
        pb::stage_request::Part::Chunk(pb::StageChunk {
            slot: pb::Slot::from(slot).into(),
            data: bytes[at..end].to_vec(),
        })
    })
}

/// Carries the request id and the trace, so that the agent's log can be matched with the portal's.
fn traced<T>(mut request: tonic::Request<T>, id: &RequestId) -> tonic::Request<T> {
    if let Ok(value) = id.as_str().parse() {
        request.metadata_mut().insert("x-request-id", value);
    }
    if let Some(Ok(value)) = id.trace().map(|trace| trace.header().parse()) {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_file_in_order() {
        for length in [
            0,
            1,
            CHUNK_BYTES_MAX,
            CHUNK_BYTES_MAX + 1,
            3 * CHUNK_BYTES_MAX - 1,
        ] {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            let parts: Vec<Vec<u8>> = chunks(Slot::PjsipEndpoints, bytes.clone())
                .filter_map(|part| match part {
                    pb::stage_request::Part::Chunk(chunk) => Some(chunk.data),
                    pb::stage_request::Part::Header(_) => None,
                })
                .collect();
            assert!(
                parts
                    .iter()
                    .all(|part| (1..=CHUNK_BYTES_MAX).contains(&part.len()))
            );
            assert_eq!(parts.concat(), bytes);
        }
    }
}
