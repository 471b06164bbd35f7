//! When the agent's own books are damaged, it touches nothing until one explicit forced apply. Then
//! what is damaged is set aside under `damaged/<time>/`, and what is sound is kept.
//!
//! A kill in between leaves the agent in safe mode, or with its journal for the recovery: the
//! ledger is made trustworthy before the intent goes.

use std::collections::BTreeMap;

use shared::bundle::Revision;
use shared::record::{ApplyRecord, OnReloadFailure, Outcome};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::config::Config;
use crate::durable::{Dir, FileError};
use crate::generations::Generations;
use crate::journal::{Generation, Intent, Journal, JournalError, Ledger};
use crate::records::Records;

/// How many sets of damaged files stay.
const KEPT: usize = 20;

/// What can still be read.
#[derive(Default)]
pub(crate) struct Remains {
    pub(crate) ledger: Option<Ledger>,
    /// Of the apply that was under way.
    intent: Option<Intent>,
    pub(crate) staged: BTreeMap<Revision, Option<Generation>>,
    /// The journal cannot say whether an apply was under way.
    pub(crate) is_blind: bool,
}

impl Remains {
    /// Looks through the state directory and changes nothing.
    pub(crate) fn look(config: &Config) -> Self {
        let Ok(state) = Dir::open(&config.state_dir) else {
            return Self::default();
        };
        let gen_dir = state.existing_subdir("gen");
        // Without the ledger nobody knows what came after it.
        let ledger_is_there = matches!(state.stat(Journal::LEDGER), Ok(Some(_)));
        let journal = Journal::open(state);
        let (ledger, intent) = match journal {
            Ok(mut journal) => (journal.ledger(), journal.read()),
            Err(error) => (Err(error), Ok(None)),
        };
        let is_blind = intent.is_err() || ledger.is_err() || !ledger_is_there;
        Self {
            ledger: ledger.ok(),
            intent: intent.ok().flatten(),
            staged: gen_dir.and_then(Generations::list).unwrap_or_default(),
            is_blind,
        }
    }

    /// The record so far of the apply that was under way.
    pub(crate) fn open_record(&self) -> Option<&ApplyRecord> {
        let last = self.ledger.as_ref().and_then(|ledger| ledger.last.as_ref());
        let ended = last.map(|last| last.apply_id);
        let record = &self.intent.as_ref()?.record;
        (Some(record.apply_id) != ended).then_some(record)
    }
}

/// Sets aside what is damaged, so that the state can be opened again. Returns where it is now.
pub(crate) fn set_aside(
    config: &Config,
    forced: Revision,
    now: OffsetDateTime,
) -> Result<String, JournalError> {
    let remains = Remains::look(config);
    let state = Dir::open(&config.state_dir)?;
    let damaged = state.subdir("damaged")?;
    let name = free_name(&damaged, now)?;
    let aside = damaged.make_dir(&name)?;
    damaged.sync()?;
    let records = Records::open(state.subdir("applies")?);
    let journal = Journal::open(Dir::open(&config.state_dir)?)?;
    if remains.ledger.is_none() {
        move_aside(&state, Journal::LEDGER, &aside)?;
    }
    let mut ledger = journal.ledger()?;
    for record in interrupted(&remains, &records)? {
        records.write(&record)?;
    }
    // What the intent owed and what it may have told Asterisk is not known any more.
    ledger.owed.everything = true;
    ledger.unsettled = true;
    ledger.torn = false;
    if remains.is_blind {
        ledger.forgotten_before = Some(forced);
    }
    journal.write_ledger(&ledger)?;
    move_aside(&state, Journal::INTENT, &aside)?;
    prune(&damaged)?;
    Ok(format!("damaged/{name}"))
}

fn move_aside(state: &Dir, name: &str, aside: &Dir) -> Result<(), FileError> {
    if state.stat(name)?.is_none() {
        return Ok(());
    }
    state.move_to(name, aside)?;
    aside.sync()?;
    state.sync()
}

/// The records of applies of which nobody will ever know more.
fn interrupted(remains: &Remains, records: &Records) -> Result<Vec<ApplyRecord>, FileError> {
    let mut found = Vec::new();
    if let Some(record) = remains.open_record() {
        let failure = "the agent was stopped in the middle and could not put the files right by \
                       itself; a forced apply has set its journal aside";
        found.push(closed(record.clone(), failure));
    }
    if !remains.is_blind {
        return Ok(found);
    }
    // One of the bundles may have been on its way: nobody may say that it was never started.
    let last = remains
        .ledger
        .as_ref()
        .and_then(|ledger| ledger.last.as_ref());
    for generation in remains.staged.values().flatten() {
        let apply_id = generation.apply_id;
        let known = last.is_some_and(|last| last.apply_id == apply_id);
        if known || records.read(apply_id)?.is_some() {
            continue;
        }
        let record = ApplyRecord {
            apply_id,
            revision: generation.revision,
            digest: generation.digest,
            on_reload_failure: OnReloadFailure::RollBack,
            outcome: None,
            steps: Vec::new(),
            files: Vec::new(),
            failure: String::new(),
            mismatches: Vec::new(),
            live_revision: None,
            notes: Vec::new(),
        };
        let failure = "the agent's journal was damaged: it is not known whether and how far this \
                       apply came; a forced apply has followed";
        found.push(closed(record, failure));
    }
    Ok(found)
}

fn closed(record: ApplyRecord, failure: &str) -> ApplyRecord {
    ApplyRecord {
        outcome: Some(Outcome::Interrupted),
        failure: failure.to_owned(),
        ..record
    }
}

/// The time, and a number behind it when that is taken.
fn free_name(damaged: &Dir, now: OffsetDateTime) -> Result<String, FileError> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = now.format(format).unwrap_or_default();
    let mut name = time.clone();
    let mut count = 1;
    while damaged.stat(&name)?.is_some() {
        count += 1;
        name = format!("{time}-{count}");
    }
    Ok(name)
}

fn prune(damaged: &Dir) -> Result<(), FileError> {
    let names = damaged.names()?;
    for name in &names[..names.len().saturating_sub(KEPT)] {
        damaged.remove_dir(name)?;
    }
    Ok(())
}
