//! What is wanted, applied, on disk and loaded on each PBX, and what that means in words.

mod judgement;

use std::collections::BTreeMap;

use shared::bundle::{Bundle, Revision, Slot};
use shared::status::{AgentStatus, FileStatus};

use super::at_once::at_once;
use super::counters::FOLLOWERS;
use super::pbxes::{self, Pbx};
use super::preview::{self, Pending};
use super::{Error, Portal, viewer, warnings};
use crate::db::status::Newest;
use crate::db::{self, DbError};
use crate::domain::apply::Attempt;
use crate::domain::pbx::PbxRef;
use crate::domain::revision::Doubt;
use crate::domain::snapshot::Snapshot;
use crate::domain::status::{
    AgentView, AttemptBrief, Content, Drift, FileState, LastApplied, LinkCertificate, Loaded,
    PbxState, Verdict, Wanted, WantedFile, Warning,
};
use crate::domain::viewer::{Seen as _, Viewer};
use crate::domain::{PbxId, PbxName};
use crate::render;

/// Most findings that an explanation quotes.
const FINDINGS_MAX: usize = 5;

/// Most attempts in line that are counted.
const QUEUED_MAX: u16 = 1000;

/// What is known of a PBX, and what the database wants beyond what is in force.
pub type Status = (PbxState, Pending);

/// Every PBX, by name, or the one that is named, as the viewer may see it. An agent that cannot be reached is no error: what
/// the database knows is answered. All agents are asked at once, each for as long as it may take.
///
/// # Errors
/// The database cannot be asked; [`Error::PbxNotFound`].
pub async fn read(
    portal: &Portal,
    viewer: Viewer,
    named: Option<PbxRef>,
) -> Result<Vec<Status>, Error> {
    let pbxes = match viewer::meant(portal, viewer, named).await? {
        Some(named) => vec![pbxes::find(portal, &named).await?],
        None => portal.pbxes.all(),
    };
    let states = at_once(pbxes.iter().map(|pbx| of(portal, pbx))).await;
    let seen = |(state, pending): Status| (state.seen_by(viewer), pending.seen_by(viewer));
    states.into_iter().map(|state| state.map(seen)).collect()
}

async fn of(portal: &Portal, pbx: &Pbx) -> Result<Status, Error> {
    let handle = pbx.agent();
    let (agent, rendered, known) = tokio::join!(
        handle.status(),
        render_all(portal, pbx.id),
        known(portal, pbx)
    );
    let (agent, (pending, wanted), known) = (agent.map_err(|e| e.to_string()), rendered?, known?);
    let applied = applied(portal, pbx.id, agent.as_ref().ok(), &known).await?;
    let tells = agent.as_ref().is_ok_and(|status| !status.files.is_empty());
    let running = agent.as_ref().is_ok_and(|status| status.running.is_some());
    let files: Vec<(FileState, Verdict)> = Slot::ALL
        .into_iter()
        .map(|slot| {
            let file = file(slot, agent.as_ref().ok(), wanted.as_ref().ok(), &applied);
            let verdict = file.verdict(tells).while_running(running);
            (file, verdict)
        })
        .collect();
    let certificates = certificates(portal, agent.as_ref().ok());
    let counters = counters(portal, agent.as_ref().ok());
    let unproven = agent.as_ref().ok().and_then(warnings::unproven);
    let warnings = warned(portal, agent.as_ref().ok(), &known, &pending);
    let state = PbxState {
        id: pbx.id,
        name: known.name,
        agent: agent.map(view),
        wanted,
        files,
        last_attempt: known.begun,
        last_proven: known.proven,
        open: known.open,
        queued: known.queued,
        certificates,
        counters,
        reasons: Vec::new(),
        warnings,
    };
    let reasons = judgement::reasons(&state, unproven, portal.clock.now());
    Ok((PbxState { reasons, ..state }, pending))
}

/// What the database wants beyond what is in force, and what it wants of each file.
async fn render_all(
    portal: &Portal,
    pbx: PbxId,
) -> Result<(Pending, Result<Wanted, String>), Error> {
    // Rendering everything for each of many callers at once would starve the applies.
    let _turn = portal.rendering.acquire().await;
    let pending = preview::pending(portal, pbx).await?;
    Ok((pending, wanted(portal, pbx).await?))
}

/// What is worth a look besides.
fn warned(
    portal: &Portal,
    agent: Option<&AgentStatus>,
    known: &Known,
    pending: &Pending,
) -> Vec<Warning> {
    let mut found = warnings::of_link(portal);
    found.extend(agent.map(warnings::of_agent).unwrap_or_default());
    found.extend(warnings::of_doubt(known.doubt.as_ref()));
    // Whoever has changed the data back since has ended the difference.
    if pending.wanted.differs() != Some(false) {
        found.extend(warnings::of_restore(pending.in_force.as_ref()));
    }
    found
}

/// What the database knows without rendering anything.
struct Known {
    name: PbxName,
    begun: Option<AttemptBrief>,
    proven: Option<AttemptBrief>,
    open: Vec<AttemptBrief>,
    queued: usize,
    doubt: Option<Doubt>,
}

async fn known(portal: &Portal, handle: &Pbx) -> Result<Known, DbError> {
    let pbx = handle.id;
    let mut connection = portal.database.acquire().await?;
    let open = db::applies::unsettled(&mut connection, pbx).await?;
    Ok(Known {
        name: handle.name(),
        begun: db::status::newest(&mut connection, pbx, Newest::Begun).await?,
        proven: db::status::newest(&mut connection, pbx, Newest::Proven).await?,
        doubt: db::revisions::doubt(&mut connection, pbx).await?,
        open: open.into_iter().map(brief).collect(),
        queued: db::queued::list(&mut connection, Some(pbx), None, QUEUED_MAX)
            .await?
            .len(),
    })
}

fn brief(attempt: Attempt) -> AttemptBrief {
    AttemptBrief {
        id: attempt.id,
        revision: attempt.revision,
        outcome: attempt.outcome,
        requested_by: attempt.requested_by,
        requested_tenant: attempt.requested_tenant,
        started_at: attempt.started_at,
        ended_at: attempt.ended_at,
        failure: attempt.failure,
        files: Vec::new(),
    }
}

/// What the database would have now, or in words why it cannot be rendered.
async fn wanted(portal: &Portal, pbx: PbxId) -> Result<Result<Wanted, String>, Error> {
    let now = portal.clock.now();
    let snapshot = match db::snapshot::read(&portal.database, pbx, &portal.vault, now).await {
        Ok(snapshot) => snapshot,
        Err(error @ DbError::Inconsistent { .. }) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    Ok(tokio::task::spawn_blocking(move || rendered(&snapshot)).await?)
}

fn rendered(snapshot: &Snapshot) -> Result<Wanted, String> {
    let bundle = render::render(snapshot).map_err(|error| error.to_string())?;
    let manifest = bundle.manifest();
    let files = manifest.files.iter().map(|file| {
        let content = Content {
            sha256: file.sha256,
            size: file.size,
        };
        (file.slot, content)
    });
    let files: BTreeMap<Slot, Content> = files.collect();
    let generations = generations(&bundle)?;
    let file = |(slot, content): (Slot, Content)| {
        let generation = generations.get(&slot).cloned().unwrap_or_default();
        (
            slot,
            WantedFile {
                content,
                generation,
            },
        )
    };
    Ok(Wanted {
        digest: manifest.digest(),
        files: files.into_iter().map(file).collect(),
    })
}

fn generations(bundle: &Bundle) -> Result<BTreeMap<Slot, String>, String> {
    let model = shared::model::read(bundle).map_err(|findings| {
        let lines = findings.iter().take(FINDINGS_MAX).map(ToString::to_string);
        lines.collect::<Vec<_>>().join("; ")
    })?;
    let of = |slot| (slot, model.generation(slot).to_owned());
    Ok(Slot::ALL.into_iter().map(of).collect())
}

/// Who brought the revisions that the agent names.
async fn applied(
    portal: &Portal,
    pbx: PbxId,
    agent: Option<&AgentStatus>,
    known: &Known,
) -> Result<BTreeMap<Slot, LastApplied>, Error> {
    let Some(agent) = agent.filter(|agent| !agent.files.is_empty()) else {
        return Ok(as_proven(known.proven.as_ref()));
    };
    let named: Vec<Revision> = agent
        .files
        .iter()
        .filter_map(|file| file.applied_revision)
        .collect();
    let mut connection = portal.database.acquire().await?;
    let attempts = db::status::of_revisions(&mut connection, pbx, &named).await?;
    let last = |file: &FileStatus| {
        let (revision, manifest) = file.applied_revision.zip(file.applied.as_ref())?;
        let attempt = attempts.iter().find(|a| a.revision == Some(revision));
        let last = LastApplied {
            revision,
            content: Some(Content {
                sha256: manifest.sha256,
                size: manifest.size,
            }),
            attempt: attempt.cloned(),
        };
        Some((file.slot, last))
    };
    Ok(agent.files.iter().filter_map(last).collect())
}

/// What was proven last, as far as the database knows.
fn as_proven(proven: Option<&AttemptBrief>) -> BTreeMap<Slot, LastApplied> {
    let files = proven.iter().flat_map(|proven| {
        let revision = proven.revision;
        proven.files.iter().filter_map(move |file| {
            let last = LastApplied {
                revision: revision?,
                content: Some(Content {
                    sha256: file.sha256,
                    size: file.size,
                }),
                attempt: Some((*proven).clone()),
            };
            Some((file.slot, last))
        })
    });
    files.collect()
}

fn file(
    slot: Slot,
    agent: Option<&AgentStatus>,
    wanted: Option<&Wanted>,
    applied: &BTreeMap<Slot, LastApplied>,
) -> FileState {
    let told = agent.and_then(|agent| agent.files.iter().find(|file| file.slot == slot));
    let on_disk = told.and_then(|told| told.on_disk.as_ref());
    FileState {
        slot,
        path: told.map(|told| told.path.clone()),
        wanted: wanted.and_then(|wanted| wanted.files.get(&slot).cloned()),
        last_applied: applied.get(&slot).cloned(),
        on_disk: on_disk.map(|file| Content {
            sha256: file.sha256,
            size: file.size,
        }),
        problem: told
            .map(|told| told.problem.clone())
            .filter(|problem| !problem.is_empty()),
        loaded: told.and_then(|told| {
            let generation = told.loaded_generation.clone()?;
            let revision = told.loaded_revision;
            Some(Loaded {
                generation,
                revision,
            })
        }),
        asterisk_answers: told.and(agent).map(|agent| agent.asterisk_answering),
    }
}

fn view(status: AgentStatus) -> AgentView {
    let drift = status.drift;
    AgentView {
        version: status.version,
        asterisk_answering: status.asterisk_answering,
        asterisk_detail: status.asterisk_detail,
        active: status.active,
        running: status.running,
        // An agent without a period is too old to watch.
        drift: (!drift.period.is_zero()).then_some(Drift {
            period: drift.period,
            checked_at: drift.checked_at,
            since: drift.since,
        }),
        foreign_files: status.foreign_files,
        safe_mode: status.safe_mode,
    }
}

fn certificates(portal: &Portal, agent: Option<&AgentStatus>) -> Vec<LinkCertificate> {
    // What cannot be read or used is told by readiness.
    let (now, early) = (portal.clock.now(), portal.settings.cert_warning);
    let (own, _) = portal.pbxes.default().agent().certificates(now, early);
    let of_agent = agent.map(|agent| agent.certificates.clone());
    let certificate = |of_portal| move |status| LinkCertificate { of_portal, status };
    own.into_iter()
        .map(certificate(true))
        .chain(
            of_agent
                .unwrap_or_default()
                .into_iter()
                .map(certificate(false)),
        )
        .collect()
}

fn counters(portal: &Portal, agent: Option<&AgentStatus>) -> BTreeMap<String, u64> {
    let mut counters = portal.counters.read();
    let followers = u64::try_from(portal.live.followers()).unwrap_or_default();
    counters.insert(FOLLOWERS.to_owned(), followers);
    counters.extend(agent.into_iter().flat_map(|agent| agent.counters.clone()));
    counters
}
