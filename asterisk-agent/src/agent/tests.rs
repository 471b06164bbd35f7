//! Whole applies on real files, with a stand-in for Asterisk that reads them when it is reloaded
//! and can be made to fail in every way in which a real one does.

mod damage;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, mknod};
use shared::bundle::{Digest, Slot};
use shared::model::Model;
use shared::record::{MismatchKind, OnReloadFailure, Outcome, Phase};
use uuid::Uuid;

use super::*;
use crate::asterisk::{AsteriskError, Command};
use crate::clock::SystemClock;
use crate::journal::{Direction, Generation, Intent, IntentPhase, Journal, Old, Owed};
use crate::validate;
use crate::verify::tests::{answer_as, bundle, directories};

/// How the stand-in misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    NotRunning,
    /// Accepts commands and never answers.
    Hung,
    /// Answers questions, and `pjsip reload` never.
    ReloadHangs,
    /// Says that it reloaded, and keeps its endpoints.
    KeepsEndpoints,
    /// As above, and somebody puts a socket in the place of the endpoints' file.
    BlocksFile,
    /// `dialplan reload` is not permitted.
    DialplanRefused,
}

struct Pbx {
    config_dir: PathBuf,
    held: Mutex<Model>,
    fault: Mutex<Fault>,
    contacts: Mutex<BTreeSet<String>>,
    asked: Mutex<Vec<Command>>,
    /// Held by a test that wants an apply to take long.
    gate: Mutex<()>,
}

impl Pbx {
    fn read_files(&self) -> Model {
        let files = Slot::ALL.map(|slot| {
            let path = self.config_dir.join(slot.relative_path());
            (slot, std::fs::read(path).unwrap_or_default())
        });
        let bundle = Bundle {
            files: files.into(),
            reserved_numbers: Vec::new(),
        };
        validate::text(&bundle).unwrap_or_default()
    }

    fn reloads(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|command| matches!(command, Command::PjsipReload))
            .count()
    }
}

impl Asterisk for Pbx {
    fn run(&self, command: &Command, deadline: Duration) -> Result<String, AsteriskError> {
        let _open = self.gate.lock().unwrap();
        self.asked.lock().unwrap().push(command.clone());
        let fault = *self.fault.lock().unwrap();
        let mut held = self.held.lock().unwrap();
        match (command, fault) {
            (_, Fault::NotRunning) => return Err(AsteriskError::NotRunning("no socket".into())),
            (_, Fault::Hung) | (Command::PjsipReload, Fault::ReloadHangs) => {
                return Err(AsteriskError::TimedOut(deadline));
            }
            (Command::DialplanReload, Fault::DialplanRefused) => {
                return Ok("You don't have permissions to run 'dialplan reload' command\n".into());
            }
            (Command::PjsipReload, _) => {
                let read = self.read_files();
                if fault == Fault::BlocksFile {
                    let path = self.config_dir.join(Slot::PjsipEndpoints.relative_path());
                    std::fs::remove_file(&path).unwrap();
                    mknod(&path, SFlag::S_IFSOCK, Mode::S_IRWXU, 0).unwrap();
                } else if fault != Fault::KeepsEndpoints {
                    held.endpoints = read.endpoints;
                }
                (held.auths, held.aors) = (read.auths, read.aors);
            }
            (Command::DialplanReload, _) => held.contexts = self.read_files().contexts,
            (Command::ShowContacts, _) => {
                let contacts = self.contacts.lock().unwrap();
                let line = |aor: &String| format!("/registrar/contact/{aor};@ab12: {{}}\n");
                let lines: String = contacts.iter().map(line).collect();
                return Ok(format!("{lines}{} results found.\n", contacts.len()));
            }
            (Command::DeleteContact { aor, .. }, _) => {
                self.contacts.lock().unwrap().remove(aor.as_str());
                return Ok("Database entry removed.\n".into());
            }
            _ => {}
        }
        Ok(answer_as(&held, command))
    }
}

/// A host with an agent on it.
struct Host {
    _dirs: (tempfile::TempDir, tempfile::TempDir),
    config: Config,
    pbx: Arc<Pbx>,
    agent: Arc<Agent>,
    next: Mutex<u64>,
}

async fn start(config: &Config, pbx: &Arc<Pbx>) -> Arc<Agent> {
    let asterisk = Arc::clone(pbx) as Arc<dyn Asterisk>;
    let started = Agent::start(config.clone(), asterisk, Arc::new(SystemClock)).await;
    started.map_err(|error| error.to_string()).unwrap().0
}

impl Host {
    async fn new() -> Self {
        let (configs, state) = (directories(), tempfile::tempdir().unwrap());
        let lookup = |name: &str| match name {
            "STATE_DIR" => Some(state.path().display().to_string()),
            "ASTERISK_CONFIG_DIR" => Some(configs.path().display().to_string()),
            "RELOAD_DEADLINE_MS" => Some("300".to_owned()),
            "PREFLIGHT" => Some("off".to_owned()),
            name => name.starts_with("TLS_").then(|| "/nowhere".to_owned()),
        };
        let config = Config::read(&lookup).unwrap();
        let pbx = Arc::new(Pbx {
            config_dir: configs.path().to_owned(),
            held: Mutex::default(),
            fault: Mutex::new(Fault::None),
            contacts: Mutex::default(),
            asked: Mutex::default(),
            gate: Mutex::default(),
        });
        let agent = start(&config, &pbx).await;
        Self {
            _dirs: (configs, state),
            config,
            pbx,
            agent,
            next: Mutex::new(1),
        }
    }

    fn fault(&self, fault: Fault) {
        *self.pbx.fault.lock().unwrap() = fault;
    }

    /// Uploads a bundle under the next revision.
    async fn stage(&self, bundle: &Bundle) -> Request {
        let revision = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            Revision(*next)
        };
        let manifest = bundle.manifest();
        let (apply_id, digest) = (ApplyId(Uuid::now_v7()), manifest.digest());
        let header = Header {
            force: false,
            apply_id,
            revision,
            digest,
            manifest,
        };
        self.agent.stage(header, bundle.clone()).await.unwrap();
        Request {
            apply_id,
            revision,
            digest,
            on_reload_failure: OnReloadFailure::RollBack,
        }
    }

    async fn apply_with(&self, bundle: &Bundle, policy: OnReloadFailure) -> ApplyRecord {
        let request = Request {
            on_reload_failure: policy,
            ..self.stage(bundle).await
        };
        ended(self.agent.apply(request).unwrap()).await
    }

    async fn apply(&self, numbers: &[u32]) -> ApplyRecord {
        self.apply_with(&bundle(numbers), OnReloadFailure::RollBack)
            .await
    }

    fn live(&self) -> BTreeMap<Slot, Vec<u8>> {
        crate::live::Live::open(&self.config.asterisk_config_dir)
            .unwrap()
            .read()
            .unwrap()
    }

    fn holds(&self, numbers: &[u32]) -> bool {
        let expected = validate::text(&bundle(numbers)).unwrap_or_default();
        let held = self.pbx.held.lock().unwrap();
        let pjsip = held.endpoints == expected.endpoints && held.auths == expected.auths;
        pjsip && held.contexts == expected.contexts && self.live() == bundle(numbers).files
    }

    /// Another life of the agent on the same state.
    async fn restart(&mut self) {
        self.agent.stop();
        self.agent = start(&self.config, &self.pbx).await;
    }
}

async fn ended(attached: Attached) -> ApplyRecord {
    match attached {
        Attached::Ended(record) => *record,
        Attached::Running(mut done) => {
            let record = done.wait_for(Option::is_some).await.unwrap().clone();
            record.unwrap()
        }
    }
}

fn outcome(record: &ApplyRecord) -> Outcome {
    record.outcome.unwrap()
}

#[tokio::test]
async fn an_apply_is_proven_and_the_same_content_again_is_unchanged() {
    let host = Host::new().await;
    let record = host.apply(&[1000, 1001]).await;
    assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
    assert!(host.holds(&[1000, 1001]));
    assert_eq!(record.files.len(), 2);
    assert!(record.steps.iter().all(|step| step.ok));
    let (before, live) = (host.pbx.reloads(), host.live());
    let record = host.apply(&[1000, 1001]).await;
    assert_eq!(outcome(&record), Outcome::Unchanged, "{record:?}");
    assert_eq!(record.live_revision, Some(record.revision));
    assert!(host.pbx.reloads() == before && host.live() == live);
    // The same files, but Asterisk has lost them: they are read again.
    host.pbx.held.lock().unwrap().endpoints.clear();
    let record = host.apply(&[1000, 1001]).await;
    assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
}

/// A bundle whose PJSIP file is that of `bundle(&[1000])`, and whose dialplan is another each time.
fn ringing(seconds: u32) -> Bundle {
    let mut bundle = bundle(&[1000]);
    let dialplan = bundle.files.remove(&Slot::DialplanRouting).unwrap();
    let dialplan = String::from_utf8(dialplan).unwrap();
    let dialplan = dialplan.replace(",25)", &format!(",{seconds})"));
    bundle
        .files
        .insert(Slot::DialplanRouting, dialplan.into_bytes());
    bundle
}

/// Only what the markers of all three types confirm need not be read again.
#[tokio::test]
async fn a_pjsip_file_that_asterisk_holds_is_not_read_again() {
    let host = Host::new().await;
    let policy = OnReloadFailure::RollBack;
    assert_eq!(
        outcome(&host.apply_with(&ringing(25), policy).await),
        Outcome::Applied
    );
    let before = host.pbx.reloads();
    let record = host.apply_with(&ringing(26), policy).await;
    assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
    assert_eq!(host.pbx.reloads(), before);
    let says_so = |record: &ApplyRecord| {
        let mut steps = record.steps.iter();
        steps.any(|step| step.action == "asterisk -rx 'pjsip reload' not needed")
    };
    assert!(says_so(&record), "{record:?}");
    let spoil: [fn(&mut Model); 3] = [
        |held| {
            let marker = held.auths.get_mut("synergy-generation").unwrap();
            assert!(!marker.insert("username", "g-0"));
        },
        |held| drop(held.aors.remove("synergy-generation")),
        |held| held.endpoints.clear(),
    ];
    for (spoil, seconds) in spoil.into_iter().zip(27..) {
        spoil(&mut host.pbx.held.lock().unwrap());
        let before = host.pbx.reloads();
        let record = host.apply_with(&ringing(seconds), policy).await;
        assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
        assert_eq!(host.pbx.reloads(), before + 1);
        assert!(!says_so(&record), "{record:?}");
    }
    // The markers are right, a name is gone: the sets are read back after a reload that was left out.
    host.pbx.held.lock().unwrap().aors.remove("1000");
    let record = host.apply_with(&ringing(30), policy).await;
    assert_eq!(outcome(&record), Outcome::RolledBack, "{record:?}");
    assert!(says_so(&record), "{record:?}");
}

/// An apply under way, drift, a failed apply: each makes both reloads necessary.
#[tokio::test]
async fn whatever_casts_doubt_makes_the_reload_necessary() {
    let host = Host::new().await;
    let policy = OnReloadFailure::KeepNewFiles;
    assert_eq!(
        outcome(&host.apply_with(&ringing(25), policy).await),
        Outcome::Applied
    );
    host.fault(Fault::DialplanRefused);
    let record = host.apply_with(&ringing(26), policy).await;
    assert_eq!(
        outcome(&record),
        Outcome::ReloadFailedFilesKept,
        "{record:?}"
    );
    host.fault(Fault::None);
    let before = host.pbx.reloads();
    let record = host.apply_with(&ringing(27), policy).await;
    assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
    assert_eq!(host.pbx.reloads(), before + 1);
}

#[tokio::test]
async fn a_question_waits_for_nobody_and_refuses_while_an_apply_runs() {
    let host = Host::new().await;
    assert!(
        host.agent
            .ask(crate::inspect::verify)
            .await
            .unwrap()
            .is_none()
    );
    host.apply(&[1000]).await;
    let report = host
        .agent
        .ask(crate::inspect::verify)
        .await
        .unwrap()
        .unwrap();
    assert!(report.in_force, "{report:?}");
    let request = host.stage(&bundle(&[1001])).await;
    let closed = host.pbx.gate.lock().unwrap();
    let attached = host.agent.apply(request).unwrap();
    let refusal = host.agent.would_ask().unwrap_err();
    assert!(matches!(refusal, Refusal::Busy(id) if id == request.apply_id));
    drop(closed);
    assert_eq!(outcome(&ended(attached).await), Outcome::Applied);
}

#[tokio::test]
async fn asking_again_gives_the_same_record() {
    let mut host = Host::new().await;
    let request = host.stage(&bundle(&[1000])).await;
    let first = ended(host.agent.apply(request).unwrap()).await;
    let again = ended(host.agent.apply(request).unwrap()).await;
    assert_eq!(first, again);
    assert_eq!(
        host.agent.record(request.apply_id).unwrap(),
        Some(first.clone())
    );
    host.apply(&[1001]).await;
    host.restart().await;
    assert_eq!(host.agent.record(request.apply_id).unwrap(), Some(first));
    assert_eq!(host.agent.record(ApplyId(Uuid::now_v7())).unwrap(), None);
    let other = Request {
        revision: Revision(99),
        ..request
    };
    assert!(matches!(host.agent.apply(other), Err(Refusal::Conflict(_))));
}

#[tokio::test]
async fn a_second_apply_is_refused_while_one_runs_and_the_same_one_attaches() {
    let host = Host::new().await;
    let (first, second) = (
        host.stage(&bundle(&[1000])).await,
        host.stage(&bundle(&[1001])).await,
    );
    let gate = host.pbx.gate.lock().unwrap();
    let running = host.agent.apply(second).unwrap();
    let busy = host.agent.apply(first);
    assert!(matches!(busy, Err(Refusal::Busy(id)) if id == second.apply_id));
    let attached = host.agent.apply(second).unwrap();
    assert_eq!(
        host.agent.record(second.apply_id).unwrap().unwrap().outcome,
        None
    );
    drop(gate);
    assert_eq!(ended(running).await, ended(attached).await);
    assert_eq!(host.pbx.reloads(), 1);
}

#[tokio::test]
async fn what_is_older_or_other_than_what_was_seen_is_refused() {
    let mut host = Host::new().await;
    let old = host.stage(&bundle(&[1000])).await;
    let new = host.stage(&bundle(&[1001])).await;
    host.restart().await;
    let refused = host.agent.apply(old);
    assert!(matches!(refused, Err(Refusal::Stale { highest, .. }) if highest == new.revision));
    let other = Request {
        digest: old.digest,
        ..new
    };
    assert!(matches!(host.agent.apply(other), Err(Refusal::Conflict(_))));
    let other = Request {
        apply_id: old.apply_id,
        ..new
    };
    assert!(matches!(host.agent.apply(other), Err(Refusal::Conflict(_))));
    let missing = Request {
        revision: Revision(99),
        ..new
    };
    assert!(matches!(
        host.agent.apply(missing),
        Err(Refusal::NotStaged(_))
    ));
    let header = |request: &Request, bundle: &Bundle| Header {
        force: false,
        apply_id: request.apply_id,
        revision: request.revision,
        digest: request.digest,
        manifest: bundle.manifest(),
    };
    let stale = host
        .agent
        .stage(header(&old, &bundle(&[1000])), bundle(&[1000]))
        .await;
    assert!(matches!(stale, Err(Refusal::Stale { .. })));
    host.agent
        .stage(header(&new, &bundle(&[1001])), bundle(&[1001]))
        .await
        .unwrap();
    let other = Request {
        digest: old.digest,
        ..new
    };
    let conflict = host
        .agent
        .stage(header(&other, &bundle(&[1000])), bundle(&[1000]))
        .await;
    assert!(matches!(conflict, Err(Refusal::Conflict(_))));
}

#[tokio::test]
async fn a_refused_bundle_touches_nothing() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    let mut broken = bundle(&[1000, 1001]);
    let file = broken.files.get_mut(&Slot::PjsipEndpoints).unwrap();
    file.extend_from_slice(b"[1001]\ntype = aor\nmax_contacts = 1\n");
    let record = host.apply_with(&broken, OnReloadFailure::RollBack).await;
    assert_eq!(outcome(&record), Outcome::Rejected);
    assert!(
        record.failure.contains("stands twice"),
        "{}",
        record.failure
    );
    assert!(host.holds(&[1000]) && host.pbx.reloads() == 1);
}

/// MVP story 2.3.
#[tokio::test]
async fn files_that_cannot_be_written_leave_everything_as_it_was() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    let (live, path) = (
        host.live(),
        host.config.asterisk_config_dir.join("extensions.d"),
    );
    std::fs::create_dir(path.join("elsewhere")).unwrap();
    let dir = Dir::open(&path).unwrap();
    dir.rename("synergycall", "moved").unwrap();
    let record = host.apply(&[1000, 1001]).await;
    assert_eq!(outcome(&record), Outcome::WriteFailed);
    assert!(record.failure.contains("synergycall"), "{}", record.failure);
    dir.rename("moved", "synergycall").unwrap();
    assert!(host.live() == live && host.pbx.reloads() == 1);
}

#[tokio::test]
async fn a_configuration_that_asterisk_does_not_take_is_rolled_back() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    let request = host.stage(&bundle(&[1000, 1001])).await;
    host.fault(Fault::KeepsEndpoints);
    let record = ended(host.agent.apply(request).unwrap()).await;
    assert_eq!(outcome(&record), Outcome::RolledBack, "{record:?}");
    assert!(host.holds(&[1000]));
    assert!(
        record
            .mismatches
            .iter()
            .any(|m| m.name == "1001" && m.kind == MismatchKind::Missing)
    );
    assert_ne!(record.live_revision, Some(record.revision));
    let evidence = format!(
        "failed/{}-{}/pjsip_endpoints",
        request.revision, request.apply_id
    );
    let kept = std::fs::read(host.config.state_dir.join(evidence)).unwrap();
    assert_eq!(kept, bundle(&[1000, 1001]).files[&Slot::PjsipEndpoints]);
}

#[tokio::test]
async fn without_a_proven_revision_the_files_stay() {
    let host = Host::new().await;
    host.fault(Fault::KeepsEndpoints);
    let record = host.apply(&[1000]).await;
    assert_eq!(outcome(&record), Outcome::ReloadFailedFilesKept);
    assert!(
        record
            .notes
            .iter()
            .any(|note| note.contains("no proven revision"))
    );
    assert_eq!(record.live_revision, Some(record.revision));
}

/// MVP story 2.4, and the edge case of a partial failure.
#[tokio::test]
async fn files_are_kept_and_both_reloads_are_told() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    host.fault(Fault::DialplanRefused);
    let record = host
        .apply_with(&bundle(&[1001]), OnReloadFailure::KeepNewFiles)
        .await;
    assert_eq!(outcome(&record), Outcome::ReloadFailedFilesKept);
    assert!(host.live() == bundle(&[1001]).files);
    let failure = &record.failure;
    assert!(
        failure.contains("PJSIP: was reloaded") && failure.contains("permissions"),
        "{failure}"
    );
    let standing = host.agent.standing().ledger.unwrap();
    assert_ne!(
        standing.live,
        standing.proven.map(|proven| proven.generation)
    );
}

#[tokio::test]
async fn an_asterisk_that_is_not_running_gets_its_files_and_no_roll_back() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    host.fault(Fault::NotRunning);
    let record = host.apply(&[1001]).await;
    assert_eq!(outcome(&record), Outcome::ReloadFailedFilesKept);
    assert!(record.failure.contains("not running") && record.failure.contains("when it starts"));
    assert!(host.live() == bundle(&[1001]).files);
    host.fault(Fault::None);
    assert_eq!(outcome(&host.apply(&[1001]).await), Outcome::Applied);
}

#[tokio::test]
async fn without_an_answer_the_result_is_unknown_and_nothing_is_renamed_again() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    for fault in [Fault::Hung, Fault::ReloadHangs] {
        host.fault(fault);
        let record = host.apply(&[1001]).await;
        assert_eq!(outcome(&record), Outcome::ReloadUnknown, "{record:?}");
        assert!(host.live() == bundle(&[1001]).files);
    }
    assert!(host.agent.standing().ledger.unwrap().unsettled);
    host.fault(Fault::None);
    let record = host.apply(&[1002]).await;
    assert_eq!(outcome(&record), Outcome::Applied);
    assert!(
        record.notes.iter().any(|note| note.contains("given up")),
        "{:?}",
        record.notes
    );
    assert!(!host.agent.standing().ledger.unwrap().unsettled);
}

#[tokio::test]
async fn the_phone_of_a_former_owner_goes_even_after_failures() {
    let mut host = Host::new().await;
    host.apply(&[1000, 1001]).await;
    let registered = BTreeSet::from(["1000", "1001", "trunk"].map(str::to_owned));
    *host.pbx.contacts.lock().unwrap() = registered;
    host.fault(Fault::NotRunning);
    assert_eq!(
        outcome(&host.apply(&[1000]).await),
        Outcome::ReloadFailedFilesKept
    );
    host.restart().await;
    host.fault(Fault::None);
    // 1001 belongs to somebody else by now; nobody ever saw it gone in a proven revision.
    assert_eq!(outcome(&host.apply(&[1000, 1001]).await), Outcome::Applied);
    let left = host.pbx.contacts.lock().unwrap().clone();
    assert_eq!(left, BTreeSet::from(["1000", "trunk"].map(str::to_owned)));
    assert!(host.agent.standing().ledger.unwrap().owed.is_empty());
}

/// What the journal and the files look like when the agent is killed in the middle of a switch.
async fn killed(host: &Host, phase: IntentPhase, direction: Direction, renamed: usize) -> Request {
    let request = host.stage(&bundle(&[1001])).await;
    let ledger = host.agent.standing().ledger.unwrap();
    let live = ledger.live.unwrap();
    let new = match direction {
        Direction::Forward => {
            let Request {
                revision,
                digest,
                apply_id,
                ..
            } = request;
            Generation {
                revision,
                digest,
                apply_id,
            }
        }
        Direction::RollBack => live,
    };
    let digest = |slot: Slot| Digest::of(&bundle(&[1000]).files[&slot]);
    let old = Slot::ALL
        .map(|slot| (slot, Old::Generation(live.revision, digest(slot))))
        .into();
    let owed = Owed {
        everything: false,
        aors: BTreeSet::from(["1000".to_owned()]),
    };
    let record = request.record();
    let intent = Intent {
        phase,
        direction,
        new,
        old,
        owed,
        record,
    };
    host.agent.stop();
    let state = Dir::open(&host.config.state_dir).unwrap();
    Journal::open(state).unwrap().write(&intent).unwrap();
    let places = crate::live::Live::open(&host.config.asterisk_config_dir).unwrap();
    for (slot, place) in places.places().take(renamed) {
        let bytes = &bundle(&[1001]).files[&slot];
        place.dir.replace(place.name, bytes).unwrap();
        let temporary = place.temporary(request.revision);
        place
            .dir
            .write_new(&temporary, crate::durable::PRIVATE, b"half")
            .unwrap();
    }
    request
}

#[tokio::test]
async fn killed_before_the_switch_was_done_the_old_files_come_back() {
    for renamed in 0..=2 {
        let mut host = Host::new().await;
        host.apply(&[1000]).await;
        let request = killed(&host, IntentPhase::Prepared, Direction::Forward, renamed).await;
        host.agent = start(&host.config, &host.pbx).await;
        assert!(host.holds(&[1000]), "{renamed} files were renamed");
        let record = host.agent.record(request.apply_id).unwrap().unwrap();
        assert_eq!(outcome(&record), Outcome::Interrupted);
        assert!(
            record
                .steps
                .iter()
                .any(|step| step.phase == Phase::Recovered)
        );
        let leftovers =
            std::fs::read_dir(host.config.asterisk_config_dir.join("pjsip.d/synergycall"));
        assert_eq!(leftovers.unwrap().count(), 1);
        assert_eq!(outcome(&host.apply(&[1002]).await), Outcome::Applied);
    }
}

#[tokio::test]
async fn killed_after_the_switch_the_new_files_are_completed_and_proven() {
    for renamed in 0..=2 {
        let mut host = Host::new().await;
        host.apply(&[1000]).await;
        host.pbx.contacts.lock().unwrap().insert("1000".to_owned());
        let request = killed(&host, IntentPhase::Switched, Direction::Forward, renamed).await;
        host.agent = start(&host.config, &host.pbx).await;
        let record = ended(host.agent.apply(request).unwrap()).await;
        assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
        assert!(
            record
                .steps
                .iter()
                .any(|step| step.phase == Phase::Recovered)
        );
        assert!(host.holds(&[1001]));
        assert!(host.pbx.contacts.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn killed_while_rolling_back_the_proven_files_are_completed() {
    for phase in [IntentPhase::Prepared, IntentPhase::Switched] {
        let mut host = Host::new().await;
        host.apply(&[1000]).await;
        let request = killed(&host, phase, Direction::RollBack, 1).await;
        host.agent = start(&host.config, &host.pbx).await;
        let record = ended(host.agent.apply(request).unwrap()).await;
        assert_eq!(outcome(&record), Outcome::RolledBack, "{record:?}");
        assert!(host.holds(&[1000]));
    }
}

#[tokio::test]
async fn an_intent_whose_apply_has_ended_is_over() {
    let mut host = Host::new().await;
    host.apply(&[1000]).await;
    let request = killed(&host, IntentPhase::Prepared, Direction::Forward, 0).await;
    let state = || Dir::open(&host.config.state_dir).unwrap();
    let journal = Journal::open(state()).unwrap();
    let mut ledger = journal.ledger().unwrap();
    let mut record = request.record();
    record.outcome = Some(Outcome::Applied);
    ledger.last = Some(record.clone());
    journal.write_ledger(&ledger).unwrap();
    host.agent = start(&host.config, &host.pbx).await;
    // The record is found although its own file was never written.
    assert_eq!(host.agent.record(request.apply_id).unwrap(), Some(record));
    assert!(state().read("intent", 100).unwrap().unwrap().is_empty());
}
