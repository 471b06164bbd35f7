//! The RPCs: messages in, values out. Only this file names [`Status`]; an error here always means
//! that nothing was started.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use shared::bundle::Manifest;
use shared::bundle::Revision;
use shared::record::ApplyRecord;
use shared::wire::pb::agent_server::Agent as AgentRpc;
use shared::wire::pb::{self, stage_request::Part};
use shared::wire::{self, Malformed};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::agent::{Agent, Attached, Refusal};
use crate::apply;
use crate::stage::{Header, Upload, UploadError};
use crate::status;
use crate::steps::chain;

/// A whole upload: a slow sender must not keep others out.
const UPLOAD_DEADLINE: Duration = Duration::from_mins(2);

/// The metadata key that names the running apply when the agent is busy.
const RUNNING_APPLY_ID: &str = "running-apply-id";

/// Answers RPCs.
pub(crate) struct Service {
    agent: Arc<Agent>,
    /// One bundle at a time is received, so that memory is bounded by the largest one.
    upload: Semaphore,
}

impl Service {
    /// On behalf of `agent`.
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self {
            agent,
            upload: Semaphore::new(1),
        }
    }

    async fn receive(&self, mut parts: Streaming<pb::StageRequest>) -> Result<(), Status> {
        let Some(Part::Header(header)) = next_part(&mut parts).await? else {
            return Err(Status::invalid_argument("an upload begins with a header"));
        };
        let header = stage_header(&header).map_err(malformed)?;
        self.agent.would_stage(&header).map_err(refused)?;
        let mut upload = Upload::begin(header).map_err(unusable)?;
        while let Some(part) = next_part(&mut parts).await? {
            let Part::Chunk(chunk) = part else {
                return Err(Status::invalid_argument("an upload has one header"));
            };
            let slot = chunk.slot().try_into().map_err(malformed)?;
            upload.take(slot, &chunk.data).map_err(unusable)?;
        }
        // Hashing some megabytes would hold up other connections.
        let ended = spawn_blocking(|| upload.end()).await;
        let (header, bundle) = ended
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(unusable)?;
        let revision = header.revision;
        self.agent.stage(header, bundle).await.map_err(refused)?;
        tracing::info!(%revision, "bundle staged");
        Ok(())
    }
}

async fn next_part(parts: &mut Streaming<pb::StageRequest>) -> Result<Option<Part>, Status> {
    match parts.message().await? {
        None => Ok(None),
        Some(pb::StageRequest { part: Some(part) }) => Ok(Some(part)),
        Some(pb::StageRequest { part: None }) => {
            Err(Status::invalid_argument("a part of the upload is empty"))
        }
    }
}

fn stage_header(header: &pb::StageHeader) -> Result<Header, Malformed> {
    Ok(Header {
        apply_id: wire::apply_id(&header.apply_id)?,
        revision: revision(header.revision)?,
        digest: wire::digest(&header.digest)?,
        manifest: Manifest::try_from(header)?,
        force: header.force,
    })
}

fn apply_request(request: &pb::ApplyRequest) -> Result<apply::Request, Malformed> {
    Ok(apply::Request {
        apply_id: wire::apply_id(&request.apply_id)?,
        revision: revision(request.revision)?,
        digest: wire::digest(&request.digest)?,
        on_reload_failure: request.on_reload_failure().try_into()?,
    })
}

fn revision(number: u64) -> Result<Revision, Malformed> {
    if number == 0 {
        Err(Malformed("revisions begin with 1"))
    } else {
        Ok(Revision(number))
    }
}

type Progress = Pin<Box<dyn Stream<Item = Result<pb::ApplyProgress, Status>> + Send>>;

#[tonic::async_trait]
impl AgentRpc for Service {
    type FollowApplyStream = Progress;

    async fn follow_apply(
        &self,
        _: Request<pb::FollowApplyRequest>,
    ) -> Result<Response<Progress>, Status> {
        Err(Status::unimplemented("FollowApply"))
    }

    async fn check(
        &self,
        _: Request<Streaming<pb::StageRequest>>,
    ) -> Result<Response<pb::CheckReport>, Status> {
        Err(Status::unimplemented("Check"))
    }

    async fn verify(
        &self,
        _: Request<pb::VerifyRequest>,
    ) -> Result<Response<pb::VerifyReport>, Status> {
        Err(Status::unimplemented("Verify"))
    }

    async fn list_contacts(
        &self,
        _: Request<pb::ListContactsRequest>,
    ) -> Result<Response<pb::ListContactsResponse>, Status> {
        Err(Status::unimplemented("ListContacts"))
    }

    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::AgentStatus>, Status> {
        let agent = Arc::clone(&self.agent);
        let status = spawn_blocking(move || status::read(&agent)).await;
        status
            .map(|status| Response::new(status.into()))
            .map_err(|error| Status::internal(error.to_string()))
    }

    async fn stage(
        &self,
        request: Request<Streaming<pb::StageRequest>>,
    ) -> Result<Response<pb::StageResponse>, Status> {
        let _permit = self
            .upload
            .try_acquire()
            .map_err(|_| Status::aborted("another bundle is being uploaded"))?;
        match timeout(UPLOAD_DEADLINE, self.receive(request.into_inner())).await {
            Ok(received) => received.map(|()| Response::new(pb::StageResponse {})),
            Err(_) => Err(Status::deadline_exceeded(
                "the upload took too long; nothing was staged",
            )),
        }
    }

    async fn apply(
        &self,
        request: Request<pb::ApplyRequest>,
    ) -> Result<Response<pb::ApplyRecord>, Status> {
        let request = apply_request(request.get_ref()).map_err(malformed)?;
        let record = match self.agent.apply(request).map_err(refused)? {
            Attached::Ended(record) => *record,
            Attached::Running(mut done) => match done.wait_for(Option::is_some).await {
                Ok(record) => record.clone().ok_or_else(lost)?,
                Err(_) => return Err(lost()),
            },
        };
        Ok(Response::new(record.into()))
    }

    async fn get_apply(
        &self,
        request: Request<pb::GetApplyRequest>,
    ) -> Result<Response<pb::ApplyRecord>, Status> {
        let apply_id = wire::apply_id(&request.get_ref().apply_id).map_err(malformed)?;
        let found: Option<ApplyRecord> = self
            .agent
            .record(apply_id)
            .map_err(|error| Status::internal(chain(&error)))?;
        let unknown = || Status::not_found("this agent never started such an apply");
        found
            .map(|record| Response::new(record.into()))
            .ok_or_else(unknown)
    }
}

/// The one exception to "nothing was started": the engine died under an apply. The process ends,
/// and its next life closes the record; `GetApply` then tells.
fn lost() -> Status {
    Status::unknown("the agent lost its engine during the apply; ask for its record again")
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
fn malformed(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
fn unusable(error: UploadError) -> Status {
    let code = match error {
        UploadError::TooLarge => Code::ResourceExhausted,
        UploadError::WrongSlots
        | UploadError::WrongRanges
        | UploadError::WrongDigest
        | UploadError::WrongChunk
        | UploadError::WrongSize(_)
        | UploadError::WrongHash(_) => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
fn refused(refusal: Refusal) -> Status {
    let code = match &refusal {
        Refusal::Busy(_) => Code::Aborted,
        Refusal::Stale { .. } | Refusal::NotStaged(_) | Refusal::SafeMode(_) => {
            Code::FailedPrecondition
        }
        Refusal::Conflict(_) => Code::AlreadyExists,
        Refusal::Stopping => Code::Unavailable,
        Refusal::Storage(error) if error.is_full() => Code::ResourceExhausted,
        Refusal::Storage(_) => Code::Internal,
    };
    let mut status = Status::new(code, chain(&refusal));
    if let Refusal::Busy(running) = &refusal
        && let Ok(value) = running.to_string().parse()
    {
        status.metadata_mut().insert(RUNNING_APPLY_ID, value);
    }
    tracing::warn!(?code, refusal = chain(&refusal), "refused");
    status
}
