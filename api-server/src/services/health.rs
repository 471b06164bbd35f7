//! Whether the portal can do its work: the database, and on each PBX the agent and Asterisk, each by
//! itself.

use super::at_once::at_once;
use super::pbxes::Pbx;
use super::{Error, Portal, warnings};
use crate::agent::AgentError;
use crate::db::{self, DbError, State};
use crate::domain::status::Warning;
use crate::domain::{PbxId, PbxName};

use shared::status::AgentStatus;

/// One thing that the portal needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whether it works.
    pub ok: bool,
    /// In words for an administrator, without secrets.
    pub detail: String,
}

impl Check {
    fn good(detail: impl Into<String>) -> Self {
        Self {
            ok: true,
            detail: detail.into(),
        }
    }

    fn bad(detail: impl Into<String>) -> Self {
        Self {
            ok: false,
            detail: detail.into(),
        }
    }
}

/// One PBX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PbxCheck {
    /// Which.
    pub id: PbxId,
    /// What it is called.
    pub name: PbxName,
    /// The agent on its host.
    pub agent: Check,
    /// Asterisk, as the agent sees it.
    pub asterisk: Check,
}

impl PbxCheck {
    const fn ok(&self) -> bool {
        self.agent.ok && self.asterisk.ok
    }
}

/// Everything that the portal needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// PostgreSQL.
    pub database: Check,
    /// Each PBX, by name.
    pub pbxes: Vec<PbxCheck>,
    /// What portal and agents want an administrator to look at.
    pub warnings: Vec<Warning>,
}

impl Readiness {
    /// Whether the portal can do its work: the database works, and a PBX does. One of several that
    /// does not is a warning, because the others can be worked with. What is in force on a PBX is no
    /// part of that: a portal whose PBX is in doubt is what an administrator needs to mend it, so it
    /// warns and stays ready.
    pub fn ok(&self) -> bool {
        self.database.ok && self.pbxes.iter().any(PbxCheck::ok)
    }

    /// The agents in one: of several, one that answers is enough.
    pub fn agent(&self) -> Check {
        self.summary("answer", |pbx| &pbx.agent)
    }

    /// Asterisk on all PBXes in one, likewise.
    pub fn asterisk(&self) -> Check {
        self.summary("work", |pbx| &pbx.asterisk)
    }

    fn summary(&self, works: &str, of: impl Fn(&PbxCheck) -> &Check) -> Check {
        if let [only] = self.pbxes.as_slice() {
            return of(only).clone();
        }
        let failed = self.pbxes.iter().filter(|pbx| !of(pbx).ok);
        let failed: Vec<String> = failed
            .map(|pbx| format!("{}: {}", pbx.name, of(pbx).detail))
            .collect();
        let (all, good) = (self.pbxes.len(), self.pbxes.len() - failed.len());
        let mut detail = format!("{good} of {all} {works}");
        if !failed.is_empty() {
            detail = format!("{detail}; {}", failed.join("; "));
        }
        Check {
            ok: good > 0,
            detail,
        }
    }
}

/// Asks each of them, all at once.
pub async fn readiness(portal: &Portal) -> Readiness {
    let pbxes = portal.pbxes.all();
    let agents = at_once(pbxes.iter().map(|pbx| async { pbx.agent().status().await }));
    let (database, agents) = tokio::join!(database(portal), agents);
    let several = pbxes.len() > 1;
    let mut warnings = warnings::of_entrance(portal);
    warnings.extend(warnings::of_link(portal));
    let mut checks = Vec::new();
    for (pbx, agent) in pbxes.iter().zip(agents) {
        let mut found = match &agent {
            Ok(status) => warnings::of_agent(status),
            Err(_) => Vec::new(),
        };
        found.extend(history(portal, pbx.id, &database).await);
        let check = check(pbx, agent);
        if several {
            found.extend(unavailable(&check));
            for warning in &mut found {
                warning.message = format!("PBX {}: {}", check.name, warning.message);
            }
        }
        warnings.extend(found);
        checks.push(check);
    }
    Readiness {
        database,
        pbxes: checks,
        warnings,
    }
}

fn check(pbx: &Pbx, agent: Result<AgentStatus, AgentError>) -> PbxCheck {
    let (agent, asterisk) = match agent {
        Ok(status) => {
            let revision = status.active.map_or_else(
                || "no revision proven yet".to_owned(),
                |active| format!("revision {} in force", active.revision),
            );
            let asterisk = Check {
                ok: status.asterisk_answering,
                detail: status.asterisk_detail,
            };
            let agent = Check::good(format!("version {}, {revision}", status.version));
            (agent, asterisk)
        }
        Err(error) => (
            Check::bad(error.to_string()),
            Check::bad("not known, because the agent does not say"),
        ),
    };
    PbxCheck {
        id: pbx.id,
        name: pbx.name(),
        agent,
        asterisk,
    }
}

/// That a PBX cannot be worked with now.
fn unavailable(pbx: &PbxCheck) -> Option<Warning> {
    let reason = match (pbx.agent.ok, pbx.asterisk.ok) {
        (true, true) => return None,
        (false, _) => format!("the agent: {}", pbx.agent.detail),
        (true, false) => format!("Asterisk: {}", pbx.asterisk.detail),
    };
    Some(Warning::new("pbx_unavailable", reason))
}

/// What the audit trail gives reason for.
async fn history(portal: &Portal, pbx: PbxId, database: &Check) -> Vec<Warning> {
    // What is known to be down is not waited for.
    if !database.ok {
        return Vec::new();
    }
    asked(portal, pbx).await.unwrap_or_default()
}

async fn asked(portal: &Portal, pbx: PbxId) -> Result<Vec<Warning>, Error> {
    let mut connection = portal.database.acquire().await?;
    let doubt = db::revisions::doubt(&mut connection, pbx).await?;
    let in_force = db::revisions::in_force(&mut connection, pbx).await?;
    let mut found: Vec<Warning> = warnings::of_doubt(doubt.as_ref()).into_iter().collect();
    found.extend(warnings::of_restore(in_force.as_ref()));
    Ok(found)
}

/// Whether `SECRET_KEY` is still one that opens the database: after `secret-key retire` a portal
/// works on with the data keys that it knows, but not past its next start.
async fn opened(portal: &Portal, connection: &mut sqlx::PgConnection) -> Check {
    match db::data_keys::is_opened_by(connection, &portal.vault).await {
        Ok(true) => Check::good("answers, schema up to date"),
        Ok(false) => Check::bad(
            "is sealed with another SECRET_KEY, because this one was retired: set SECRET_KEY or \
             SECRET_KEY_FILE to the new one and restart",
        ),
        Err(_) => Check::bad("does not answer a query"),
    }
}

async fn database(portal: &Portal) -> Check {
    // What is known to be down is not waited for.
    if let State::Down(reason) = portal.database.state() {
        return Check::bad(reason);
    }
    match portal.database.acquire().await {
        Ok(mut connection) => opened(portal, &mut connection).await,
        Err(DbError::Busy) => Check::good("answers, but every connection is in use"),
        Err(_) => Check::bad(match portal.database.state() {
            State::Down(reason) => reason,
            State::Ready => "cannot be reached",
        }),
    }
}
