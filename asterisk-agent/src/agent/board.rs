//! What the engine has published, and what may start by it.

use std::collections::BTreeMap;

use shared::bundle::{ApplyId, Digest, Revision};
use shared::record::ApplyRecord;
use tokio::sync::watch;

use super::Refusal;
use crate::apply::Request;
use crate::journal::{Generation, Ledger};
use crate::stage::Header;
use crate::steps::Log;

/// The apply that runs.
pub(super) struct Running {
    pub(super) request: Request,
    pub(super) log: Log,
    pub(super) done: watch::Sender<Option<ApplyRecord>>,
}

/// What the engine has published.
#[derive(Default)]
pub(super) struct Board {
    pub(super) ledger: Option<Ledger>,
    pub(super) staged: BTreeMap<Revision, Option<Generation>>,
    pub(super) running: Option<Running>,
    pub(super) safe_mode: Option<String>,
    /// In safe mode: the apply that was under way, as far as it is known.
    pub(super) open_record: Option<ApplyRecord>,
    /// In safe mode: whether an apply was under way is not known.
    pub(super) is_blind: bool,
    /// How many applies have begun or ended.
    pub(super) applies: u64,
    pub(super) stopping: bool,
}

impl Board {
    /// A generation that is live counts as well: its directory may have been removed by hand.
    pub(super) fn highest(&self) -> Revision {
        let staged = self.staged.keys().next_back().copied();
        let live = self.ledger.as_ref().and_then(|ledger| ledger.live);
        staged
            .max(live.map(|live| live.revision))
            .unwrap_or_default()
    }

    pub(super) fn running_apply(&self, apply_id: ApplyId) -> Option<&Running> {
        let running = self.running.as_ref();
        running.filter(|running| running.request.apply_id == apply_id)
    }

    pub(super) fn admits_anything(&self, force: bool) -> Result<(), Refusal> {
        if let Some(reason) = &self.safe_mode
            && !force
        {
            return Err(Refusal::SafeMode(reason.clone()));
        }
        if self.stopping {
            Err(Refusal::Stopping)
        } else {
            Ok(())
        }
    }

    pub(super) fn admits_question(&self) -> Result<(), Refusal> {
        self.admits_anything(false)?;
        match &self.running {
            Some(running) => Err(Refusal::Busy(running.request.apply_id)),
            None => Ok(()),
        }
    }

    /// `true` when the very bundle is there already.
    pub(super) fn admits_stage(&self, header: &Header) -> Result<bool, Refusal> {
        self.admits_anything(header.force)?;
        let (revision, highest) = (header.revision, self.highest());
        match self.staged.get(&revision) {
            Some(Some(known)) if revision == highest && self.safe_mode.is_none() => {
                return same_bundle(known, revision, header.digest, header.apply_id).map(|()| true);
            }
            _ if revision <= highest => {
                return Err(Refusal::Stale {
                    offered: revision,
                    highest,
                });
            }
            _ => {}
        }
        match &self.running {
            Some(running) => Err(Refusal::Busy(running.request.apply_id)),
            None => Ok(false),
        }
    }

    pub(super) fn admits_apply(&self, request: &Request) -> Result<(), Refusal> {
        self.admits_anything(false)?;
        let highest = self.highest();
        if request.revision < highest {
            return Err(Refusal::Stale {
                offered: request.revision,
                highest,
            });
        }
        match self.staged.get(&request.revision) {
            Some(Some(known)) => {
                same_bundle(known, request.revision, request.digest, request.apply_id)
            }
            _ => Err(Refusal::NotStaged(request.revision)),
        }
    }
}

fn same_bundle(
    known: &Generation,
    revision: Revision,
    digest: Digest,
    apply_id: ApplyId,
) -> Result<(), Refusal> {
    if known.digest != digest {
        let text = format!("revision {revision} was staged with another digest");
        return Err(Refusal::Conflict(text));
    }
    if known.apply_id != apply_id {
        let text = format!("revision {revision} belongs to apply {}", known.apply_id);
        return Err(Refusal::Conflict(text));
    }
    Ok(())
}

/// Refuses an order that differs from the one of this record.
pub(super) fn same_apply(record: &ApplyRecord, request: &Request) -> Result<(), Refusal> {
    if (record.revision, record.digest) == (request.revision, request.digest) {
        return Ok(());
    }
    let text = format!(
        "apply {} was for revision {}",
        record.apply_id, record.revision
    );
    Err(Refusal::Conflict(text))
}
