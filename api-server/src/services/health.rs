//! Whether the portal can do its work: the database, the agent and Asterisk, each by itself.

use super::{Error, Portal, warnings};
use crate::db::{self, DbError, State};
use crate::domain::status::Warning;

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
    pub warnings: Vec<Warning>,
}

impl Readiness {
    /// Whether all of it works. What is in force on the PBX is no part of that: a portal whose PBX is
    /// in doubt is what an administrator needs to mend it, so it warns and stays ready.
    pub const fn ok(&self) -> bool {
        self.database.ok && self.agent.ok && self.asterisk.ok
    }
}

/// Asks each of them, all at once.
pub async fn readiness(portal: &Portal) -> Readiness {
    let (database, agent) = tokio::join!(database(portal), portal.agent.status());
    let history = history(portal, &database).await;
    let mut warnings = warnings::of_link(portal);
    let mut readiness = match agent {
        Ok(status) => {
            warnings.extend(warnings::of_agent(&status));
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
    readiness.warnings.extend(history);
    readiness
}

/// What the audit trail gives reason for.
async fn history(portal: &Portal, database: &Check) -> Vec<Warning> {
    // What is known to be down is not waited for.
    if !database.ok {
        return Vec::new();
    }
    asked(portal).await.unwrap_or_default()
}

async fn asked(portal: &Portal) -> Result<Vec<Warning>, Error> {
    let pbx = portal.settings.pbx;
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
