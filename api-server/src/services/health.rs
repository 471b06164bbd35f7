//! Whether the portal can do its work: the database, the agent and Asterisk, each by itself.

use super::status::foreign;
use super::{Portal, restore};
use crate::db::{DbError, State};

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

/// Everything that the portal needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// PostgreSQL.
    pub database: Check,
    /// The agent on the PBX host.
    pub agent: Check,
    /// Asterisk, as the agent sees it.
    pub asterisk: Check,
    /// What portal and agent want an administrator to look at.
    pub warnings: Vec<String>,
}

impl Readiness {
    /// Whether all of it works.
    pub const fn ok(&self) -> bool {
        self.database.ok && self.agent.ok && self.asterisk.ok
    }
}

/// Asks each of them, all at once.
pub async fn readiness(portal: &Portal) -> Readiness {
    let (database, agent) = tokio::join!(database(portal), portal.agent.status());
    let restored = restored(portal, &database).await;
    let early = portal.settings.cert_warning;
    let (_, mut warnings) = portal.agent.certificates(portal.clock.now(), early);
    let mut readiness = match agent {
        Ok(status) => {
            warnings.extend(foreign(&status.foreign_files));
            warnings.extend(status.warnings);
            let revision = status.active.map_or_else(
                || "no revision proven yet".to_owned(),
                |active| format!("revision {} in force", active.revision),
            );
            Readiness {
                database,
                agent: Check::good(format!("version {}, {revision}", status.version)),
                asterisk: Check {
                    ok: status.asterisk_answering,
                    detail: status.asterisk_detail,
                },
                warnings,
            }
        }
        Err(error) => Readiness {
            database,
            agent: Check::bad(error.to_string()),
            asterisk: Check::bad("not known, because the agent does not say"),
            warnings,
        },
    };
    readiness.warnings.extend(restored);
    readiness
}

/// That an earlier bundle is in force, if it is.
async fn restored(portal: &Portal, database: &Check) -> Vec<String> {
    // What is known to be down is not waited for.
    if !database.ok {
        return Vec::new();
    }
    restore::warnings(portal).await.unwrap_or_default()
}

async fn database(portal: &Portal) -> Check {
    // What is known to be down is not waited for.
    if let State::Down(reason) = portal.database.state() {
        return Check::bad(reason);
    }
    match portal.database.acquire().await {
        Ok(_) => Check::good("answers, schema up to date"),
        Err(DbError::Busy) => Check::good("answers, but every connection is in use"),
        Err(_) => Check::bad(match portal.database.state() {
            State::Down(reason) => reason,
            State::Ready => "cannot be reached",
        }),
    }
}
