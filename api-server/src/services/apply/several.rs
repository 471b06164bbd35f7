//! One wish for several PBXes: which of them it is for, and all of those at the same time.

use std::sync::Arc;

use super::{accept, run_to_the_end};
use crate::domain::apply::{Attempt, Wish};
use crate::domain::pbx::PbxRef;
use crate::domain::viewer::{Seen as _, Viewer};
use crate::domain::{Actor, Invalid, PbxId, PbxName};
use crate::services::at_once::at_once;
use crate::services::pbxes::{self, Pbx};
use crate::services::preview::{self, Pending};
use crate::services::{Error, Portal, viewer};

/// What a wish came to on one PBX.
#[derive(Debug)]
pub struct OfPbx {
    /// Which PBX.
    pub id: PbxId,
    /// What it is called.
    pub name: PbxName,
    /// The attempt; `None`: it was left alone, because what the database says is in force there.
    pub attempt: Option<Result<Attempt, Error>>,
}

impl From<Attempt> for OfPbx {
    fn from(attempt: Attempt) -> Self {
        Self {
            id: attempt.pbx_id,
            name: attempt.pbx_name.clone(),
            attempt: Some(Ok(attempt)),
        }
    }
}

/// Whether the end is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The attempts have ended.
    TheEnd,
    /// They stand in line.
    InLine,
}

/// Applies the PBX that is named, or every one that has changes; all of them when none has, so that
/// each is proven. What there is of several is answered by name; the failure of one is no failure of
/// another. A viewer who is confined to a tenant applies the PBX of that one.
///
/// # Errors
/// [`Error::PbxNotFound`]; [`Error::InvalidField`] when one digest is expected of several. Nothing
/// was begun then.
pub async fn run_several(
    portal: &Arc<Portal>,
    (actor, viewer): (&Actor, Viewer),
    wish: Wish,
    named: Option<PbxRef>,
    until: Until,
) -> Result<Vec<OfPbx>, Error> {
    let named = viewer::meant(portal, viewer, named).await?;
    let chosen = choose(portal, wish, named.as_ref()).await?;
    let all = chosen.into_iter().map(|(pbx, included)| async move {
        let attempt = if included {
            let (portal, own, actor) = (Arc::clone(portal), Arc::clone(&pbx), actor.clone());
            Some(match until {
                Until::TheEnd => run_to_the_end(portal, own, actor, wish).await,
                Until::InLine => accept(portal, own, actor, wish).await,
            })
        } else {
            None
        };
        OfPbx {
            id: pbx.id,
            name: pbx.name(),
            attempt,
        }
        .seen_by(viewer)
    });
    Ok(at_once(all).await)
}

/// The PBXes that the wish is about, by name, and whether it is carried out there.
async fn choose(
    portal: &Portal,
    wish: Wish,
    named: Option<&PbxRef>,
) -> Result<Vec<(Arc<Pbx>, bool)>, Error> {
    if let Some(named) = named {
        return Ok(vec![(pbxes::find(portal, named).await?, true)]);
    }
    // Another portal may have taken one into service.
    pbxes::refresh(portal).await?;
    let all = portal.pbxes.all();
    if all.len() == 1 {
        return Ok(all.into_iter().map(|pbx| (pbx, true)).collect());
    }
    if wish.expected_digest.is_some() {
        let reason = Invalid {
            code: "missing",
            message: "is required with expected_digest, because there are several PBXes",
        };
        return Err(Error::InvalidField {
            field: "pbx",
            reason,
        });
    }
    let pending = at_once(all.iter().map(|pbx| preview::pending(portal, pbx.id))).await;
    let pending: Vec<Pending> = pending.into_iter().collect::<Result<_, _>>()?;
    let none = !pending.iter().any(has_changes);
    let included = pending.iter().map(|pending| none || has_changes(pending));
    Ok(all.into_iter().zip(included).collect())
}

/// Whether what the database says is anything but proven and in force without doubt.
fn has_changes(pending: &Pending) -> bool {
    let certain = pending.in_force.as_ref().is_some_and(|i| i.doubt.is_none());
    !certain || pending.wanted.differs() != Some(false)
}
