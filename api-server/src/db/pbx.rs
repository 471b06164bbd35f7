//! Table `pbx`.

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
