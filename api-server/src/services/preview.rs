//! What an apply would do, without doing any of it: nothing is written, locked or taken.

mod agent;
mod pending;

use std::borrow::Cow;

use shared::bundle::{Bundle, Digest, FileManifest, Slot};
use shared::status::{AgentStatus, CheckReport, FindingSource, RegisteredPhone};

use super::compare::{Content, Instant, Unrenderable};
use super::pbxes::Pbx;
use super::{Error, Portal};
use crate::db;
use crate::domain::apply::{RestoredFrom, UserCounts};
use crate::domain::change::Changes;
use crate::domain::diff::{Diff, unified};
use crate::domain::revision::InForce;
use crate::domain::status::Warning;
use crate::domain::tenant::TenantBrief;
use crate::domain::viewer::{Seen as _, Viewer};
use crate::domain::{RequestId, UserId};

pub use pending::{Pending, Wanted, pending};

/// Largest diff of a file, in bytes.
const DIFF_BYTES_MAX: usize = 64 * 1024;

/// What an apply would do.
#[derive(Debug)]
pub struct Preview {
    /// What it was compared with; `None`: nothing was ever in force.
    pub in_force: Option<InForce>,
    /// What would be applied; `None` when what the database says can be no bundle.
    pub wanted: Option<WantedBundle>,
    /// What would change; `None` when there is no bundle, or the reason why the two cannot be
    /// compared.
    pub difference: Option<Result<Difference, String>>,
    /// Everything that would keep the bundle from coming into force, as far as it was looked for.
    pub findings: Vec<Finding>,
    /// The agent's part of that; the error is why there is none.
    pub checked: Result<Checked, String>,
    /// Whether the agent told how it is.
    pub agent_told: bool,
    /// What an administrator should know besides.
    pub notes: Vec<String>,
    /// What an administrator should look at before an apply.
    pub warnings: Vec<Warning>,
}

/// What would be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBundle {
    /// What `expected_digest` of an apply names.
    pub digest: Digest,
    /// How many users it holds.
    pub user_counts: UserCounts,
}

/// What would change.
#[derive(Debug)]
pub struct Difference {
    /// Objects and users.
    pub changes: Changes,
    /// Each file, in the order in which they are switched.
    pub files: Vec<FileDifference>,
    /// Whose users change.
    pub tenants: Vec<TenantBrief>,
    /// The phones that are registered at an object that changes or goes; the error is why that is
    /// not known.
    pub phones: Result<Vec<RegisteredPhone>, String>,
}

/// What would change in a file.
#[derive(Debug)]
pub struct FileDifference {
    /// Which file.
    pub slot: Slot,
    /// What is in force; `None` when nothing is.
    pub old: Option<FileManifest>,
    /// What would be.
    pub new: Option<FileManifest>,
    /// Line by line, without secrets.
    pub diff: Diff,
}

/// Something that would keep the bundle from coming into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Who found it: `data`, `text`, `surroundings`, `preflight` or `agent`.
    pub source: &'static str,
    /// In which file, if in one.
    pub slot: Option<Slot>,
    /// From 1; 0 where it concerns the file, or the bundle, as a whole.
    pub line: u32,
    /// What is wrong; never a secret.
    pub message: String,
}

/// What the agent looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether a throw-away Asterisk read the files.
    pub preflight_ran: bool,
    /// What it did, or why there was none.
    pub preflight: String,
}

impl Preview {
    /// Whether nothing would keep an apply from succeeding, as far as that can be known before;
    /// `None` when the agent did not look.
    pub const fn would_apply(&self) -> Option<bool> {
        if self.wanted.is_none() || !self.findings.is_empty() {
            return Some(false);
        }
        if self.checked.is_ok() && self.agent_told {
            Some(true)
        } else {
            None
        }
    }

    /// Whether it is in force already.
    pub fn changes_nothing(&self) -> bool {
        let wanted = self.wanted.as_ref().map(|wanted| wanted.digest);
        let in_force = self.in_force.as_ref().map(|in_force| in_force.digest);
        wanted.is_some() && wanted == in_force
    }
}

/// What an apply of a PBX would do now, as the viewer may see it.
///
/// # Errors
/// The database cannot be asked. An agent that cannot be asked is no error, nor is data that can be
/// no configuration.
pub async fn preview(
    portal: &Portal,
    viewer: Viewer,
    pbx: &Pbx,
    request_id: &RequestId,
) -> Result<Preview, Error> {
    // Several questions at once make a large future.
    let preview = Box::pin(whole(portal, pbx, request_id)).await?;
    Ok(preview.seen_by(viewer))
}

async fn whole(portal: &Portal, pbx: &Pbx, request_id: &RequestId) -> Result<Preview, Error> {
    let instant = Instant::read(portal, pbx.id).await?;
    let look = move || Look::at(instant);
    let mut look = tokio::task::spawn_blocking(look).await?;
    let Some(content) = look.content.take() else {
        let reason = "there is no bundle to check".to_owned();
        return Ok(look.preview(Err(reason)));
    };
    let aors = match &look.difference {
        Some(Ok(difference)) => difference.changes.touched_aors(),
        Some(Err(_)) | None => Vec::new(),
    };
    let agent = pbx.agent();
    let in_force = look.in_force.as_ref();
    let (checked, phones, status, tenants) = tokio::join!(
        agent::check(portal, &agent, in_force, content.bundle, request_id),
        agent::phones(&agent, aors),
        agent::status(&agent),
        tenants(portal, &look),
    );
    if let Some(Ok(difference)) = &mut look.difference {
        difference.phones = phones;
        difference.tenants = tenants?;
    }
    look.hear(status);
    Ok(look.preview(checked))
}

/// Everything that needs no question to anybody.
struct Look {
    in_force: Option<InForce>,
    content: Option<Content>,
    wanted: Option<WantedBundle>,
    difference: Option<Result<Difference, String>>,
    findings: Vec<Finding>,
    agent_told: bool,
    notes: Vec<String>,
    warnings: Vec<Warning>,
}

impl Look {
    fn at(instant: Instant) -> Self {
        let (content, findings) = match instant.render() {
            Ok(content) => (Some(content), Vec::new()),
            Err(unrenderable) => (None, findings(unrenderable)),
        };
        let baseline = &instant.baseline;
        let wanted = content.as_ref().map(|content| WantedBundle {
            digest: content.digest(),
            user_counts: UserCounts::of(&content.users),
        });
        let difference = content.as_ref().map(|content| {
            let known = baseline.open(&instant.opener)?;
            difference(known.as_ref(), content)
        });
        let in_force = instant.baseline.in_force;
        Self {
            notes: in_force.as_ref().map_or_else(Vec::new, standing_notes),
            in_force,
            content,
            wanted,
            difference,
            findings,
            agent_told: false,
            warnings: Vec::new(),
        }
    }

    fn hear(&mut self, status: Result<AgentStatus, String>) {
        match status {
            Ok(status) => {
                self.agent_told = true;
                self.findings.extend(agent::findings(&status));
                self.warnings.extend(agent::overwritten(&status));
                self.notes
                    .extend(agent::other_history(&status, self.in_force.as_ref()));
            }
            Err(reason) => self.warnings.push(agent::silent(&reason)),
        }
    }

    fn preview(mut self, checked: Result<CheckReport, String>) -> Preview {
        let checked = checked.map(|report| {
            let found = report.findings.into_iter().map(|finding| Finding {
                source: finding.source.name(),
                slot: finding.slot,
                line: finding.line,
                message: finding.message,
            });
            self.findings.extend(found);
            Checked {
                preflight_ran: report.preflight_ran,
                preflight: report.preflight,
            }
        });
        Preview {
            in_force: self.in_force,
            wanted: self.wanted,
            difference: self.difference,
            findings: self.findings,
            checked,
            agent_told: self.agent_told,
            notes: self.notes,
            warnings: self.warnings,
        }
    }
}

fn findings(unrenderable: Unrenderable) -> Vec<Finding> {
    match unrenderable {
        Unrenderable::Data(message) => vec![Finding {
            source: "data",
            slot: None,
            line: 0,
            message,
        }],
        Unrenderable::Text(findings) => findings
            .into_iter()
            .map(|finding| Finding {
                source: FindingSource::Text.name(),
                slot: Some(finding.slot),
                line: u32::try_from(finding.line).unwrap_or(u32::MAX),
                message: finding.message,
            })
            .collect(),
    }
}

fn difference(old: Option<&Content>, new: &Content) -> Result<Difference, String> {
    let manifest = |content: &Content| content.bundle.manifest().files;
    let (before, after) = (old.map_or_else(Vec::new, manifest), manifest(new));
    let file = |slot| {
        let found = |files: &[FileManifest]| files.iter().find(|file| file.slot == slot).copied();
        let old = old.map_or(Cow::Borrowed(""), |old| text(&old.bundle, slot));
        FileDifference {
            slot,
            old: found(&before),
            new: found(&after),
            diff: unified(
                slot.relative_path(),
                &old,
                &text(&new.bundle, slot),
                DIFF_BYTES_MAX,
            ),
        }
    };
    Ok(Difference {
        changes: super::compare::changes(old, new)?,
        files: Slot::ALL.map(file).into(),
        tenants: Vec::new(),
        phones: Err("nobody was asked".to_owned()),
    })
}

fn text(bundle: &Bundle, slot: Slot) -> Cow<'_, str> {
    let bytes = bundle.files.get(&slot).map_or(&[][..], Vec::as_slice);
    String::from_utf8_lossy(bytes)
}

fn standing_notes(in_force: &InForce) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(doubt) = &in_force.doubt {
        notes.push(format!(
            "Revision {} was proven last, but since then {doubt}: GET /applies/{} shows it.",
            in_force.revision, doubt.apply_id
        ));
    }
    if let Some(source) = in_force.restored_from {
        notes.push(restored_note(in_force, source));
    }
    notes
}

/// That what is in force is an earlier bundle.
pub(super) fn restored_note(in_force: &InForce, source: RestoredFrom) -> String {
    format!(
        "The PBX runs revision {} again: {} brought it back as revision {}.",
        source.revision, in_force.requested_by, in_force.revision
    )
}

async fn tenants(portal: &Portal, look: &Look) -> Result<Vec<TenantBrief>, Error> {
    let Some(Ok(difference)) = &look.difference else {
        return Ok(Vec::new());
    };
    let users = difference.changes.users.iter();
    let users: Vec<UserId> = users.map(|change| change.user.id).collect();
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = portal.database.acquire().await?;
    Ok(db::users::tenants(&mut connection, &users).await?)
}

#[cfg(test)]
mod tests;
