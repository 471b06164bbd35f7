//! Table `audit_entry`.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use crate::clock::{os_rng, unix_ms};
use crate::domain::admin::Credential;
use crate::domain::audit::Entry;
use crate::domain::{Actor, Principal, uuid_v7};

/// Writes entries, in the transaction of what they tell of.
pub async fn append(
    connection: &mut PgConnection,
    actor: &Actor,
    at: OffsetDateTime,
    entries: &[Entry],
) -> Result<(), DbError> {
    let (kind, account, credential) = match &actor.principal {
        Principal::TrustedNetwork => ("trusted_network", None, None),
        Principal::CommandLine => ("portal", None, None),
        Principal::Unknown => ("unknown", None, None),
        Principal::Account(known) => {
            let credential = match &known.credential {
                Credential::Session(id) => id.0,
                Credential::ApiToken(id, _) => id.0,
            };
            ("account", Some(known.account.0), Some(credential))
        }
    };
    for entry in entries {
        let id: Uuid = uuid_v7(unix_ms(at), &mut os_rng());
        sqlx::query!(
            "insert into audit_entry (audit_entry_id, at, actor_kind, actor_id, actor_name,
                credential_id, action, entity_type, entity_id, tenant_id, pbx_id, before, after,
                source_address, request_id)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            id,
            at,
            kind,
            account,
            actor.admin.as_str(),
            credential,
            entry.action,
            entry.entity,
            entry.id,
            entry.tenant.map(|tenant| tenant.0),
            entry.pbx.map(|pbx| pbx.0),
            entry.before,
            entry.after,
            actor.source.to_string(),
            actor.request_id.as_str(),
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
