//! Table `pbx`.

use shared::bundle::Revision;
use sqlx::PgConnection;

use super::DbError;
use crate::domain::{PbxId, SipRealm};

/// What the environment says about a PBX.
#[derive(Clone, Debug)]
pub struct PbxSettings {
    /// Which PBX.
    pub id: PbxId,
    /// Where its agent listens, `host:port`.
    pub agent_address: String,
    /// Whom its agent's certificate must name.
    pub agent_identity: String,
    /// The realm of its SIP digests.
    pub sip_realm: SipRealm,
}

/// Writes the settings into the PBX's row.
pub async fn configure(
    connection: &mut PgConnection,
    settings: &PbxSettings,
) -> Result<(), DbError> {
    sqlx::query!(
        "update pbx set agent_address = $2, agent_identity = $3, sip_realm = $4 where pbx_id = $1",
        settings.id.0,
        settings.agent_address,
        settings.agent_identity,
        settings.sip_realm.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Raises the last revision of a PBX to `revision` unless it is higher already.
pub async fn raise_last_revision(
    connection: &mut PgConnection,
    id: PbxId,
    revision: Revision,
) -> Result<(), DbError> {
    let revision = i64::try_from(revision.0).unwrap_or(i64::MAX);
    sqlx::query!(
        "update pbx set last_revision = $2 where pbx_id = $1 and last_revision < $2",
        id.0,
        revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}
