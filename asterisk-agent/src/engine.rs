//! What one apply after another works on: the state directory and the ways to Asterisk. It lives on
//! one thread, so that applies cannot overlap and no two of their file operations can.

use std::sync::Arc;

use shared::bundle::{Bundle, GENERATION_MARKER, Manifest, Revision};
use shared::model::Model;
use shared::record::{ApplyRecord, Outcome};

use crate::asterisk::Asterisk;
use crate::clock::Clock;
use crate::config::Config;
use crate::drift;
use crate::durable::{Dir, FileError};
use crate::events::Events;
use crate::generations::{GenerationError, Generations};
use crate::journal::{Generation, Journal, JournalError, Ledger};
use crate::live::{Live, Stamps};
use crate::records::Records;
use crate::steps::{Log, chain};
use crate::validate;
use crate::verify::Questions;

/// How many sets of evidence stay under `failed/`.
const FAILED_KEPT: usize = 20;

/// A bundle that was read and checked, ready to be brought into force.
pub(crate) struct Target {
    pub(crate) generation: Generation,
    pub(crate) bundle: Bundle,
    pub(crate) manifest: Manifest,
    pub(crate) model: Arc<Model>,
}

/// The objects of a generation that was live.
#[derive(Clone)]
pub(crate) struct Earlier {
    pub(crate) revision: Revision,
    pub(crate) model: Arc<Model>,
}

/// What Asterisk may hold before it reads something new.
#[derive(Clone, Default)]
pub(crate) struct Past {
    /// The generations that were live or proven, the last first.
    pub(crate) known: Vec<Earlier>,
    /// Whether there may be more: files of another hand, or generations that cannot be read.
    pub(crate) more: bool,
    /// Whether somebody may have changed what Asterisk holds since it was proven.
    pub(crate) suspect: bool,
    /// Whether Asterisk has read the very PJSIP file that the apply brings, for all that is known.
    pub(crate) has_pjsip: bool,
}

/// The state that one thread owns.
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) asterisk: Arc<dyn Asterisk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Dir,
    pub(crate) drift: Dir,
    pub(crate) failed: Dir,
    pub(crate) journal: Journal,
    pub(crate) generations: Generations,
    pub(crate) ledger: Ledger,
    pub(crate) events: Arc<Events>,
    records: Records,
    /// The objects of the generations that were read last, so that the next apply need not.
    models: Vec<(Generation, Arc<Model>)>,
    /// The live files as they lay there when they were last proven, by this process.
    pub(crate) proven_stamps: Option<Stamps>,
    /// The last ledger could not be written.
    owes_ledger: bool,
}

impl Engine {
    /// Opens the state directory, made ready if it is new.
    pub(crate) fn open(
        config: Config,
        asterisk: Arc<dyn Asterisk>,
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
    ) -> Result<Self, JournalError> {
        let state = Dir::open(&config.state_dir)?;
        let mut journal = Journal::open(Dir::open(&config.state_dir)?)?;
        let ledger = journal.ledger()?;
        let records = Records::open(state.subdir("applies")?);
        if !journal.has_ledger()?
            && journal.read()?.is_none()
            && let Some(sign) = sign_of_a_ledger(&config, &records)?
        {
            return Err(JournalError::Lost(sign));
        }
        Ok(Self {
            drift: state.subdir("drift")?,
            failed: state.subdir("failed")?,
            generations: Generations::open(state.subdir("gen")?)?,
            records,
            models: Vec::new(),
            proven_stamps: None,
            owes_ledger: false,
            config,
            asterisk,
            clock,
            state,
            journal,
            ledger,
            events,
        })
    }

    /// How to ask Asterisk.
    pub(crate) fn questions(&self) -> Questions<'_> {
        let deadline = self.config.asterisk.query_deadline;
        Questions {
            asterisk: self.asterisk.as_ref(),
            deadline,
        }
    }

    /// Stores an upload. While the disk works, its text is read: the apply that follows then finds it
    /// read, or reads it again and says what is wrong.
    pub(crate) fn store(
        &mut self,
        generation: Generation,
        bundle: &Bundle,
    ) -> Result<(), FileError> {
        let Generation {
            revision, apply_id, ..
        } = generation;
        if self.remembered(&generation).is_some() {
            return self.generations.store(apply_id, revision, bundle);
        }
        self.forget_what_is_over();
        let (read, stored) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| validate::text(bundle).ok());
            let stored = self.generations.store(apply_id, revision, bundle);
            (reading.join(), stored)
        });
        if let (Ok(Some(model)), Ok(())) = (read, &stored) {
            self.remember(generation, &Arc::new(model));
        }
        stored
    }

    /// Reads and checks a stored generation.
    pub(crate) fn target(&mut self, generation: Generation) -> Result<Target, TargetError> {
        let (bundle, manifest) = self
            .generations
            .load(generation.revision, generation.digest)?;
        let model = if let Some(model) = self.remembered(&generation) {
            model
        } else {
            self.forget_what_is_over();
            Arc::new(validate::text(&bundle)?)
        };
        self.remember(generation, &model);
        Ok(Target {
            generation,
            bundle,
            manifest,
            model,
        })
    }

    /// The objects of the generations that are live and proven.
    pub(crate) fn past(&mut self) -> Past {
        let mut generations: Vec<_> = self.ledger.live.into_iter().collect();
        let proven = self.ledger.proven.map(|proven| proven.generation);
        generations.extend(proven.filter(|proven| Some(*proven) != self.ledger.live));
        let mut past = Past::default();
        for generation in generations {
            let revision = generation.revision;
            match self.model(generation) {
                Some(model) => past.known.push(Earlier { revision, model }),
                None => past.more = true,
            }
        }
        past
    }

    /// The objects of a stored generation, if it can still be read.
    pub(crate) fn model(&mut self, generation: Generation) -> Option<Arc<Model>> {
        if let Some(model) = self.remembered(&generation) {
            return Some(model);
        }
        self.target(generation).ok().map(|target| target.model)
    }

    fn remembered(&self, generation: &Generation) -> Option<Arc<Model>> {
        let same = |(known, _): &&(Generation, Arc<Model>)| known.digest == generation.digest;
        self.models
            .iter()
            .find(same)
            .map(|(_, model)| Arc::clone(model))
    }

    /// Largest bundles have large models: no more of them than are in use.
    fn forget_what_is_over(&mut self) {
        let live = self.ledger.live.map(|live| live.digest);
        let proven = self.ledger.proven.map(|proven| proven.generation.digest);
        self.models.retain(|(known, _)| {
            let digest = Some(known.digest);
            digest == live || digest == proven
        });
    }

    fn remember(&mut self, generation: Generation, model: &Arc<Model>) {
        const REMEMBERED_MAX: usize = 2;
        self.models
            .retain(|(known, _)| known.digest != generation.digest);
        self.models.insert(0, (generation, Arc::clone(model)));
        self.models.truncate(REMEMBERED_MAX);
    }

    /// Ends an apply: the ledger with its record is the commit.
    pub(crate) fn close(&mut self, outcome: Outcome, log: &Log) -> ApplyRecord {
        let live_revision = self.ledger.live.map(|live| live.revision);
        {
            let mut record = log.record();
            record.outcome = Some(outcome);
            record.live_revision = live_revision;
        }
        self.ledger.last = Some(log.snapshot());
        let written = self.journal.write_ledger(&self.ledger);
        self.owes_ledger = written.is_err();
        if let Err(error) = written {
            // The journal still tells how far it came: the next start finishes the books.
            log.note(format!(
                "the outcome could not be written down: {}",
                chain(&error)
            ));
        }
        let record = log.snapshot();
        if record.failure.is_empty() {
            tracing::info!(?outcome, "apply ended");
        } else {
            tracing::error!(?outcome, failure = record.failure, "apply ended");
        }
        record
    }

    /// What can wait until the caller has its answer: nothing here is needed for the truth.
    pub(crate) fn tidy_up(&mut self) {
        let tidied = self.try_tidy_up();
        if let Err(error) = tidied {
            tracing::warn!(error = chain(&error), "cannot tidy up the state directory");
        }
    }

    fn try_tidy_up(&mut self) -> Result<(), JournalError> {
        if let Some(record) = &self.ledger.last
            && self.records.read(record.apply_id)?.as_ref() != Some(record)
        {
            self.records.write(record)?;
        }
        if self.owes_ledger {
            // Until it lies there the intent must stay: it is what the next start goes by.
            self.journal.write_ledger(&self.ledger)?;
            self.owes_ledger = false;
        }
        self.journal.clear()?;
        let live = self.ledger.live.map(|live| live.revision);
        let proven = self.ledger.proven.map(|proven| proven.generation.revision);
        let used: Vec<_> = live.into_iter().chain(proven).collect();
        self.generations.prune(&used)?;
        self.records.prune()?;
        drift::prune(&self.drift)?;
        self.prune_failed()?;
        Ok(())
    }

    fn prune_failed(&self) -> Result<(), FileError> {
        // `<revision>-<apply id>`: the lowest revisions are the oldest.
        let mut names = self.failed.names()?;
        names.sort_by_key(|name| {
            let revision = name.split('-').next();
            revision
                .and_then(|revision| revision.parse::<u64>().ok())
                .unwrap_or(0)
        });
        let surplus = names.len().saturating_sub(FAILED_KEPT);
        names[..surplus]
            .iter()
            .try_for_each(|name| self.failed.remove_dir(name))
    }
}

/// What tells that something was applied here before, although nothing is known of it any more.
fn sign_of_a_ledger(config: &Config, records: &Records) -> Result<Option<&'static str>, FileError> {
    if !records.is_empty()? {
        return Ok(Some("there are records of applies"));
    }
    // Without the directories, there are no files of ours either.
    let Ok(live) = Live::open(&config.asterisk_config_dir) else {
        return Ok(None);
    };
    let marker = GENERATION_MARKER.as_bytes();
    let ours = |bytes: &Vec<u8>| bytes.windows(marker.len()).any(|part| part == marker);
    let found = live.read()?.values().any(ours);
    Ok(found.then_some("the live files are those of a portal"))
}

/// A stored generation cannot be brought into force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// It cannot be read.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// It must not be used.
    #[error(transparent)]
    Rejected(#[from] validate::Rejected),
}
