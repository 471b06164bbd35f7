//! The RPCs: messages in, values out. Only this file names [`Status`]; an error here always means
//! that nothing was started.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use shared::bundle::{ApplyId, Bundle, Manifest, Revision};
use shared::record::{ApplyRecord, Step};
use shared::telemetry::{TRACEPARENT, TraceContext};
use shared::wire::pb::agent_server::Agent as AgentRpc;
use shared::wire::pb::{self, stage_request::Part};
use shared::wire::{self, Malformed};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Span;
use tracing::field::Empty;
use uuid::Uuid;

use crate::agent::{Agent, Attached, Followed, Refusal};
use crate::apply;
use crate::contacts;
use crate::door::{Door, Peer};
use crate::engine::Engine;
use crate::events::Counter;
use crate::inspect;
use crate::stage::{Header, Upload, UploadError};
use crate::status;
use crate::steps::chain;

/// A whole upload: a slow sender must not keep others out.
const UPLOAD_DEADLINE: Duration = Duration::from_mins(2);

/// How long an upload waits for another one: most take milliseconds.
const UPLOAD_TURN_DEADLINE: Duration = Duration::from_secs(5);

/// Longest request id that is logged.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// How many RPCs may follow applies at the same time: they must leave streams for the others.
const FOLLOWERS_MAX: usize = 4;

/// The metadata key that names the running apply when the agent is busy.
const RUNNING_APPLY_ID: &str = "running-apply-id";

/// Answers RPCs.
pub(crate) struct Service {
    agent: Arc<Agent>,
    door: Arc<Door>,
    /// One bundle at a time is received, so that memory is bounded by the largest one.
    upload: Semaphore,
    followers: Arc<Semaphore>,
}

impl Service {
    /// On behalf of `agent`.
    pub(crate) fn new(agent: Arc<Agent>, door: Arc<Door>) -> Self {
        Self {
            agent,
            door,
            upload: Semaphore::new(1),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        }
    }

    /// Counts a refusal.
    fn counted<T>(&self, counter: Counter, result: Result<T, Status>) -> Result<T, Status> {
        if result.is_err() {
            self.agent.events.count(counter);
        }
        result
    }

    /// Receives a whole bundle, unless `admits` refuses its header.
    async fn receive(
        &self,
        mut parts: Streaming<pb::StageRequest>,
        read: impl FnOnce(&pb::StageHeader) -> Result<Header, Malformed>,
        admits: impl FnOnce(&Header) -> Result<(), Refusal>,
    ) -> Result<(Header, Bundle), Status> {
        let Some(Part::Header(header)) = next_part(&mut parts).await? else {
            return Err(Status::invalid_argument("an upload begins with a header"));
        };
        let header = read(&header).map_err(malformed)?;
        admits(&header).map_err(refused)?;
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
        ended
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(unusable)
    }

    async fn receive_and_stage(&self, parts: Streaming<pb::StageRequest>) -> Result<(), Status> {
        let admits = |header: &Header| self.agent.would_stage(header);
        let (header, bundle) = self.receive(parts, stage_header, admits).await?;
        let revision = header.revision;
        self.agent.stage(header, bundle).await.map_err(refused)?;
        tracing::info!(%revision, "bundle staged");
        Ok(())
    }

    async fn upload_permit(&self) -> Result<SemaphorePermit<'_>, Status> {
        match timeout(UPLOAD_TURN_DEADLINE, self.upload.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Status::aborted("another bundle is being uploaded")),
        }
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

/// What is only to be checked has no place in the order of applies.
fn check_header(header: &pb::StageHeader) -> Result<Header, Malformed> {
    Ok(Header {
        apply_id: ApplyId(Uuid::nil()),
        revision: Revision(0),
        digest: wire::digest(&header.digest)?,
        manifest: Manifest::try_from(header)?,
        force: false,
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
        request: Request<pb::FollowApplyRequest>,
    ) -> Result<Response<Progress>, Status> {
        let request = request.get_ref();
        let apply_id = wire::apply_id(&request.apply_id).map_err(malformed)?;
        let place = Arc::clone(&self.followers).try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("too many follow applies"))?;
        let followed = self.agent.follow(apply_id).map_err(refused)?;
        let followed = followed.ok_or_else(unknown)?;
        let (steps, stream) = mpsc::channel(1);
        let known = usize::try_from(request.known_steps).unwrap_or(usize::MAX);
        tokio::spawn(async move {
            tell_steps(followed, known, &steps).await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn check(
        &self,
        request: Request<Streaming<pb::StageRequest>>,
    ) -> Result<Response<pb::CheckReport>, Status> {
        let permit = self.upload_permit().await?;
        let parts = request.into_inner();
        let received = self.receive(parts, check_header, |_| self.agent.would_ask());
        let Ok(received) = timeout(UPLOAD_DEADLINE, received).await else {
            return Err(Status::deadline_exceeded("the upload took too long"));
        };
        let (_, bundle) = received?;
        // The check itself must keep no upload out.
        drop(permit);
        let question = move |engine: &mut Engine| inspect::check(engine, &bundle);
        let report = self.agent.ask(question).await.map_err(refused)?;
        Ok(Response::new(report.into()))
    }

    async fn verify(
        &self,
        _: Request<pb::VerifyRequest>,
    ) -> Result<Response<pb::VerifyReport>, Status> {
        let report = self.agent.ask(inspect::verify).await.map_err(refused)?;
        let report = report.ok_or(Refusal::NothingApplied).map_err(refused)?;
        Ok(Response::new(report.into()))
    }

    async fn list_contacts(
        &self,
        request: Request<pb::ListContactsRequest>,
    ) -> Result<Response<pb::ListContactsResponse>, Status> {
        let aors: BTreeSet<String> = request.into_inner().aors.into_iter().collect();
        let agent = Arc::clone(&self.agent);
        let listed = spawn_blocking(move || contacts::registered(agent.questions(), &aors)).await;
        let phones = listed
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::unavailable(chain(&error)))?;
        let contacts = phones.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListContactsResponse { contacts }))
    }

    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::AgentStatus>, Status> {
        let agent = Arc::clone(&self.agent);
        let status = spawn_blocking(move || status::read(&agent)).await;
        let mut status = status.map_err(|error| Status::internal(error.to_string()))?;
        status.warnings.extend(self.door.material().fault());
        Ok(Response::new(status.into()))
    }

    async fn stage(
        &self,
        request: Request<Streaming<pb::StageRequest>>,
    ) -> Result<Response<pb::StageResponse>, Status> {
        let _permit = self.upload_permit().await?;
        let staged = self.receive_and_stage(request.into_inner());
        let received = match timeout(UPLOAD_DEADLINE, staged).await {
            Ok(received) => received.map(|()| Response::new(pb::StageResponse {})),
            Err(_) => Err(Status::deadline_exceeded(
                "the upload took too long; nothing was staged",
            )),
        };
        self.counted(Counter::UploadsRefused, received)
    }

    async fn apply(
        &self,
        request: Request<pb::ApplyRequest>,
    ) -> Result<Response<pb::ApplyRecord>, Status> {
        let request = apply_request(request.get_ref()).map_err(malformed)?;
        let started = self.agent.apply(request).map_err(refused);
        let record = match self.counted(Counter::RpcsRefused, started)? {
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
        let found: Option<ApplyRecord> = self.agent.record(apply_id).map_err(refused)?;
        found
            .map(|record| Response::new(record.into()))
            .ok_or_else(unknown)
    }
}

fn unknown() -> Status {
    Status::not_found("this agent never started such an apply")
}

/// Lets an RPC in, if its peer would still be let in.
pub(crate) fn admit(door: &Door, request: Request<()>) -> Result<Request<()>, Status> {
    match door.refuses(request.extensions().get::<Peer>()) {
        None => Ok(request),
        Some(why) => Err(Status::unauthenticated(why)),
    }
}

/// The span of an RPC: a child of the span that the caller names in `traceparent`.
pub(crate) fn span(request: &tonic::codegen::http::Request<()>) -> Span {
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let caller = header(TRACEPARENT).and_then(TraceContext::parse);
    let own = TraceContext::below(caller, Uuid::now_v7());
    let span = tracing::info_span!(
        "rpc",
        method = request.uri().path().rsplit('/').next().unwrap_or_default(),
        trace_id = own.trace_id(),
        span_id = own.span_id(),
        parent_id = Empty,
        request_id = Empty
    );
    if let Some(caller) = caller {
        span.record("parent_id", caller.span_id());
    }
    // Whoever calls has been authenticated, but a line of a log has its limits.
    if let Some(id) = header("x-request-id").filter(|id| id.len() <= REQUEST_ID_BYTES_MAX) {
        span.record("request_id", id);
    }
    span
}

/// Sends the steps after the first `known`, each as it ends, until the apply has ended or nobody
/// listens any more.
async fn tell_steps(followed: Followed, mut known: usize, to: &StepSender) {
    let (log, mut done) = match followed {
        Followed::Ended(record) => {
            send_steps(&record.steps, &mut known, to).await.ok();
            return;
        }
        Followed::Running(log, done) => (log, done),
    };
    let mut progress = log.progress();
    loop {
        progress.borrow_and_update();
        let steps = log.snapshot_steps(known);
        if send_new(steps, &mut known, to).await.is_err() {
            return;
        }
        let ended = tokio::select! {
            // The log is held here, so that its sender lives.
            _ = progress.changed() => continue,
            ended = done.wait_for(Option::is_some) => ended.map(|record| record.clone()),
            () = to.closed() => return,
        };
        match ended {
            Ok(Some(record)) => send_steps(&record.steps, &mut known, to).await.ok(),
            Ok(None) | Err(_) => to.send(Err(lost())).await.ok(),
        };
        return;
    }
}

type StepSender = mpsc::Sender<Result<pb::ApplyProgress, Status>>;

async fn send_steps(steps: &[Step], known: &mut usize, to: &StepSender) -> Result<(), ()> {
    let new = steps.get(*known..).unwrap_or_default().to_vec();
    send_new(new, known, to).await
}

async fn send_new(steps: Vec<Step>, known: &mut usize, to: &StepSender) -> Result<(), ()> {
    for step in steps {
        let progress = pb::ApplyProgress {
            index: u32::try_from(*known).unwrap_or(u32::MAX),
            step: Some(step.into()),
        };
        to.send(Ok(progress)).await.map_err(drop)?;
        *known += 1;
    }
    Ok(())
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
        Refusal::Stale { .. }
        | Refusal::NotStaged(_)
        | Refusal::NothingApplied
        | Refusal::SafeMode(_) => Code::FailedPrecondition,
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
