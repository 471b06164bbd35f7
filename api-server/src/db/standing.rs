//! Whether somebody still is who it was when its request came, and the locks under which that is asked.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;
use super::sessions::ActingRow;
use crate::domain::AccountId;
use crate::domain::admin::{Credential, SignedIn};

/// First key of the advisory locks; the second one is made of an account's id.
const STANDING_LOCK: i32 = 0x0073_7464;

/// Whose standing a transaction relies on, and whose it lessens.
#[derive(Debug, Default)]
pub struct Standing(BTreeMap<i32, Lock>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    Shared,
    Exclusive,
}

impl Standing {
    /// It relies on what this account may do.
    pub fn relies_on(&mut self, account: AccountId) {
        self.needs(account, Lock::Shared);
    }

    /// It takes something from this account: its life, its role, a session, a token.
    pub fn lessens(&mut self, account: AccountId) {
        self.needs(account, Lock::Exclusive);
    }

    fn needs(&mut self, account: AccountId, lock: Lock) {
        // The end of a UUID is random. Two accounts that share a key wait for each other in vain, no more.
        let bytes = account.0.into_bytes();
        let key = i32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let held = self.0.entry(key).or_insert(lock);
        *held = lock.max(*held);
    }

    /// Takes the locks until the transaction ends: whoever relies on an account and whoever takes
    /// something from it come one after the other. To be called when nothing follows that waits for
    /// anybody, so that nobody waits for a transaction that waits for it; among each other they go by
    /// their order.
    pub async fn hold(&self, connection: &mut PgConnection) -> Result<(), DbError> {
        for (key, lock) in &self.0 {
            match lock {
                Lock::Shared => {
                    sqlx::query!(
                        "select pg_advisory_xact_lock_shared($1, $2)",
                        STANDING_LOCK,
                        key
                    )
                    .execute(&mut *connection)
                    .await?
                }
                Lock::Exclusive => {
                    sqlx::query!("select pg_advisory_xact_lock($1, $2)", STANDING_LOCK, key)
                        .execute(&mut *connection)
                        .await?
                }
            };
        }
        Ok(())
    }
}

struct Row {
    account_id: Uuid,
    login: String,
    role: String,
    tenant_id: Option<Uuid>,
    user_id: Option<Uuid>,
}

/// Whether what somebody was let in by counts, and for as much as then. That its time is over since is
/// no matter: it was good when the request came.
pub async fn stands(connection: &mut PgConnection, known: &SignedIn) -> Result<bool, DbError> {
    let row = match known.credential {
        Credential::Session(id) => {
            let row = sqlx::query_as!(
                Row,
                r#"select a.account_id as "account_id!", a.login as "login!", a.role as "role!",
                    a.tenant_id, a.user_id
                   from session s join acting_account a on a.account_id = s.account_id
                   where s.session_id = $1 and s.ended_at is null and a.is_active"#,
                id.0,
            );
            row.fetch_optional(connection).await?
        }
        Credential::ApiToken(id, _) => {
            let row = sqlx::query_as!(
                Row,
                r#"select a.account_id as "account_id!", a.login as "login!", a.role as "role!",
                    a.tenant_id, a.user_id
                   from api_token t join acting_account a on a.account_id = t.account_id
                   where t.api_token_id = $1 and t.revoked_at is null and a.is_active"#,
                id.0,
            );
            row.fetch_optional(connection).await?
        }
    };
    let Some(row) = row else { return Ok(false) };
    let now = ActingRow {
        account_id: row.account_id,
        login: row.login,
        role: row.role,
        tenant_id: row.tenant_id,
        user_id: row.user_id,
    };
    let now = now.signed_in(known.credential.clone())?;
    Ok(now.account == known.account && now.role == known.role && now.reach == known.reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_something_is_alone() {
        let (one, other) = (AccountId(Uuid::now_v7()), AccountId(Uuid::now_v7()));
        let mut standing = Standing::default();
        standing.lessens(one);
        standing.relies_on(one);
        standing.relies_on(other);
        let mut locks: Vec<Lock> = standing.0.into_values().collect();
        locks.sort_unstable();
        assert_eq!(locks, [Lock::Shared, Lock::Exclusive]);
    }
}
