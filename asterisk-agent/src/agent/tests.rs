//! Whole applies on real files, with a stand-in for Asterisk that reads them when it is reloaded
//! and can be made to fail in every way in which a real one does.

mod admission;
mod damage;
mod failing;
mod killed;
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
