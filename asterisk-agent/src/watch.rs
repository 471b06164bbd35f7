//! Watches the live files: hashed at the start, for every status, and each `DRIFT_PERIOD_SECONDS`.
//!
//! A look costs a `stat` per file unless something about the file changed; every tenth of the
//! periodic ones hashes in any case. Nothing is judged while an apply runs, and no lock that the
//! engine takes is held while a file is read, so that an apply never waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use nix::sys::stat::FileStat;
use shared::bundle::{Digest, FileManifest, Manifest, Slot};
use shared::status::{CertificateStatus, DriftStatus, EventKind};
use shared::tls::validity::End;
use time::{Date, OffsetDateTime};

use crate::agent::{Agent, Standing};
use crate::config::Config;
use crate::durable::{Dir, FileError};
use crate::events::{Counter, Events};
use crate::foreign;
use crate::generations::Generations;
use crate::journal::Generation;
use crate::live::{Live, Place};
use crate::steps::chain;

/// Every how many periodic looks a file is hashed whatever its times say.
const THOROUGH_EVERY: u64 = 10;
/// A file that changed this shortly before it was hashed may change again within the same tick of
/// the file system's clock, in seconds.
const FRESH_SECONDS: i64 = 2;
/// How many paths an event or a warning names.
const NAMED: usize = 5;

/// What lies in the place of one managed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnDisk {
    pub(crate) slot: Slot,
    pub(crate) path: String,
    pub(crate) found: Option<FileManifest>,
    /// Why it cannot be read.
    pub(crate) problem: String,
}

/// What one look found.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) files: Vec<OnDisk>,
    pub(crate) drift: DriftStatus,
    /// The files of the live generation.
    pub(crate) applied: Option<(Generation, Manifest)>,
    pub(crate) foreign: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Everything that shows that a file may have changed: size, inode, times of its last change.
type Stamp = (i64, u64, i64, i64, i64, i64);

fn stamp(stat: &FileStat) -> Stamp {
    let modified = (stat.st_mtime, stat.st_mtime_nsec);
    let changed = (stat.st_ctime, stat.st_ctime_nsec);
    (
        stat.st_size,
        stat.st_ino,
        modified.0,
        modified.1,
        changed.0,
        changed.1,
    )
}

/// What is known from earlier looks.
#[derive(Default)]
struct Known {
    checked_at: Option<OffsetDateTime>,
    since: Option<OffsetDateTime>,
    /// What the drift was found against.
    generation: Option<Generation>,
    drifted: BTreeMap<Slot, Option<Digest>>,
    foreign: BTreeSet<String>,
    hashes: BTreeMap<Slot, (Stamp, FileManifest)>,
    /// When each certificate was warned of last.
    told: BTreeMap<String, Date>,
}

/// See the module's text.
pub(crate) struct Watch {
    events: Arc<Events>,
    known: Mutex<Known>,
}

impl Watch {
    /// Has seen nothing yet.
    pub(crate) fn new(events: Arc<Events>) -> Self {
        let known = Mutex::default();
        Self { events, known }
    }

    /// Looks at the live files, and tells of what has changed since the last look.
    pub(crate) fn look(&self, agent: &Agent, thorough: bool) -> View {
        let standing = agent.standing();
        let now = agent.now();
        let mut known = self.known();
        if thorough {
            known.hashes.clear();
        }
        let mut warnings = Vec::new();
        let applied = applied(&agent.config, &standing, &mut warnings);
        let (files, foreign) = match Live::open(&agent.config.asterisk_config_dir) {
            Ok(live) => {
                let files = known.files(&live, now);
                let foreign = foreign::list(&live).unwrap_or_else(|error| {
                    warnings.push(chain(&error));
                    Vec::new()
                });
                (files, foreign)
            }
            Err(error) => {
                warnings.push(format!("files cannot be written: {}", chain(&error)));
                (Vec::new(), Vec::new())
            }
        };
        for file in files.iter().filter(|file| !file.problem.is_empty()) {
            let OnDisk { path, problem, .. } = file;
            warnings.push(format!("{path} cannot be read: {problem}"));
        }
        // While an apply runs, or when one ran since the look began, the files mean nothing.
        let settled = standing.running.is_none() && agent.standing().applies == standing.applies;
        if settled && !files.is_empty() {
            self.events.count(Counter::DriftChecks);
            known.checked_at = Some(now);
            self.judge(&mut known, applied.as_ref(), &files, now);
            self.compare_foreign(&mut known, &foreign);
        }
        if let (Some(_), Some((generation, _))) = (known.since, &applied) {
            let paths: Vec<_> = known
                .drifted
                .keys()
                .map(|slot| slot.relative_path())
                .collect();
            let (revision, paths) = (generation.revision, paths.join(", "));
            warnings.push(format!(
                "changed since revision {revision} was applied: {paths}"
            ));
        }
        View {
            files,
            drift: DriftStatus {
                period: agent.config.drift_period,
                checked_at: known.checked_at,
                since: known.since,
            },
            applied,
            foreign,
            warnings,
        }
    }

    fn judge(
        &self,
        known: &mut Known,
        applied: Option<&(Generation, Manifest)>,
        files: &[OnDisk],
        now: OffsetDateTime,
    ) {
        let generation = applied.map(|(generation, _)| *generation);
        if known.generation != generation {
            // An apply replaced what was found, and has told so.
            known.generation = generation;
            known.drifted.clear();
            known.since = None;
        }
        let Some((generation, manifest)) = applied else {
            return;
        };
        let found = drifted(files, manifest);
        if found == known.drifted {
            return;
        }
        let revision = generation.revision;
        if found.is_empty() {
            known.since = None;
            let detail = format!("the files of revision {revision} are in place again");
            self.events.tell(EventKind::DriftEnded, detail);
        } else {
            known.since.get_or_insert(now);
            let paths: Vec<_> = found.keys().map(|slot| slot.relative_path()).collect();
            let paths = paths.join(", ");
            let detail = format!("changed since revision {revision} was applied: {paths}");
            self.events.tell(EventKind::DriftFound, detail);
            self.events.count(Counter::DriftFound);
        }
        known.drifted = found;
    }

    fn compare_foreign(&self, known: &mut Known, foreign: &[String]) {
        let foreign: BTreeSet<_> = foreign.iter().cloned().collect();
        let tell = |kind, paths: Vec<&String>| {
            if !paths.is_empty() {
                self.events.tell(kind, listed(&paths));
            }
        };
        tell(
            EventKind::ForeignFileFound,
            foreign.difference(&known.foreign).collect(),
        );
        tell(
            EventKind::ForeignFileGone,
            known.foreign.difference(&foreign).collect(),
        );
        known.foreign = foreign;
    }

    /// Warns of what ends soon, once a day each.
    pub(crate) fn look_at_certificates(&self, config: &Config, now: OffsetDateTime) {
        let (ends, faults) = config.tls.ends(End::Agent);
        let ending = |status: CertificateStatus| {
            let warning = status.warning(now, config.cert_warning)?;
            Some((status.name, warning))
        };
        let faults = faults.into_iter().map(|fault| (fault.clone(), fault));
        let found: Vec<_> = ends.into_iter().filter_map(ending).chain(faults).collect();
        let mut known = self.known();
        for (name, warning) in found {
            if known.told.insert(name, now.date()) != Some(now.date()) {
                self.events.tell(EventKind::CertificateExpiring, warning);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn files(&mut self, live: &Live, now: OffsetDateTime) -> Vec<OnDisk> {
        let look = |(slot, place): (Slot, &Place)| {
            let found = self.hashed(slot, place, now);
            OnDisk {
                slot,
                path: place.dir.join(place.name).display().to_string(),
                problem: found
                    .as_ref()
                    .err()
                    .map(|error| chain(error))
                    .unwrap_or_default(),
                found: found.unwrap_or_default(),
            }
        };
        live.places().map(look).collect()
    }

    fn hashed(
        &mut self,
        slot: Slot,
        place: &Place,
        now: OffsetDateTime,
    ) -> Result<Option<FileManifest>, FileError> {
        let stat = place.dir.stat(place.name)?;
        if let (Some(stat), Some((known, hashed))) = (&stat, self.hashes.get(&slot))
            && *known == stamp(stat)
        {
            return Ok(Some(*hashed));
        }
        self.hashes.remove(&slot);
        let Some((sha256, size, stat)) = place.dir.digest(place.name)? else {
            return Ok(None);
        };
        let hashed = FileManifest { slot, size, sha256 };
        if stat.st_ctime < now.unix_timestamp() - FRESH_SECONDS {
            self.hashes.insert(slot, (stamp(&stat), hashed));
        }
        Ok(Some(hashed))
    }
}

/// The files of the live generation, as they were staged.
fn applied(
    config: &Config,
    standing: &Standing,
    warnings: &mut Vec<String>,
) -> Option<(Generation, Manifest)> {
    let generation = standing.ledger.as_ref()?.live?;
    let manifest = Dir::open(&config.state_dir)
        .and_then(|state| state.existing_subdir("gen"))
        .ok()
        .and_then(|dir| Generations::looking(dir).manifest(generation.revision).ok())
        .filter(|manifest| manifest.digest() == generation.digest);
    if manifest.is_none() {
        let revision = generation.revision;
        warnings.push(format!(
            "revision {revision}, which is live, is not in the state directory"
        ));
    }
    Some((generation, manifest?))
}

/// The slots whose file is not the one of `manifest`, with what lies there.
fn drifted(files: &[OnDisk], manifest: &Manifest) -> BTreeMap<Slot, Option<Digest>> {
    let mut drifted = BTreeMap::new();
    for file in files {
        let expected = manifest.files.iter().find(|known| known.slot == file.slot);
        let found = file.found.map(|found| found.sha256);
        if found != expected.map(|expected| expected.sha256) {
            drifted.insert(file.slot, found);
        }
    }
    drifted
}

fn listed(paths: &[&String]) -> String {
    let named: Vec<_> = paths.iter().take(NAMED).map(|path| path.as_str()).collect();
    match paths.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The body of the thread that looks at the start and then every so often, until the agent is gone
/// or `stop` is.
pub(crate) fn run(agent: &Weak<Agent>, stop: &mpsc::Receiver<()>, period: Duration) {
    for count in 0.. {
        let Some(agent) = agent.upgrade() else {
            return;
        };
        if agent.standing().running.is_none() {
            agent.watch.look(&agent, count % THOROUGH_EVERY == 0);
        }
        agent.watch.look_at_certificates(&agent.config, agent.now());
        drop(agent);
        match stop.recv_timeout(period) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}
