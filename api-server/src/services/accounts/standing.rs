//! What an account may do, and what follows when that changes.

use serde_json::json;

use super::{Refused, delete, found, is_own};
use crate::db;
use crate::domain::account::{Account, SessionId};
use crate::domain::audit::Entry;
use crate::domain::session::EndReason;
use crate::domain::tenant::ServiceStatus;
use crate::domain::user::User;
use crate::domain::{AccountId, Role, TenantId, UserId};
use crate::services::work::Work;
use crate::services::{Error, api_tokens};

/// As what an account acts: by its role, and in which tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Post {
    role: Role,
    tenant: Option<TenantId>,
}

impl Post {
    pub(super) fn of(account: &Account) -> Self {
        Self {
            role: account.role,
            tenant: account.seat.tenant(),
        }
    }

    /// Whether somebody may do there what it could not do `before`.
    fn exceeds(self, before: Self) -> bool {
        let elsewhere = self.tenant.is_some() && before.tenant.is_some();
        self.role > before.role || (elsewhere && self.tenant != before.tenant)
    }

    /// What follows when an account acts as something else. Others than now could set its password, and
    /// may have come to its sessions and tokens by that: no reset of before counts, and of who comes to
    /// do more nothing of before.
    pub(super) async fn left(self, work: &mut Work<'_>, account: &Account) -> Result<(), Error> {
        let now = Self::of(account);
        if now == self {
            return Ok(());
        }
        work.lessens(account.id);
        db::password_resets::end(work.connection(), account.id).await?;
        if now.exceeds(self) {
            end_sessions(work, account.id, EndReason::AccountChanged).await?;
            api_tokens::revoke_all(work, account).await?;
        }
        Ok(())
    }
}

/// Ends every session of an account, and tells the audit trail.
pub(in crate::services) async fn end_sessions(
    work: &mut Work<'_>,
    id: AccountId,
    reason: EndReason,
) -> Result<(), Error> {
    end_sessions_but(work, id, None, reason).await
}

/// Likewise, but one.
pub(in crate::services) async fn end_sessions_but(
    work: &mut Work<'_>,
    id: AccountId,
    but: Option<SessionId>,
    reason: EndReason,
) -> Result<(), Error> {
    work.lessens(id);
    let now = work.now;
    let ended = db::sessions::end_all(work.connection(), id, but, reason, now).await?;
    for session in ended {
        let after = json!({ "account_id": session.account.0, "reason": reason.name() });
        let entry = Entry::new("session.ended", "session", &session.id).of(session.tenant);
        work.record(entry.changing(None, Some(after)));
    }
    Ok(())
}

/// What follows for the account of a user whose role or status has changed.
///
/// # Errors
/// [`Refused::OwnAccount`].
pub(in crate::services) async fn follow_user(
    work: &mut Work<'_>,
    (role, status): (Role, ServiceStatus),
    user: &User,
) -> Result<(), Error> {
    if (role, status) == (user.role.get(), user.status) {
        return Ok(());
    }
    let now = work.now;
    let account = db::accounts::user_changed(work.connection(), user.tenant, user.id, now).await?;
    let Some(account) = account else {
        return Ok(());
    };
    if is_own(work.actor, account) {
        return Err(Refused::OwnAccount.into());
    }
    if user.status == ServiceStatus::Suspended {
        end_sessions(work, account, EndReason::AccountChanged).await?;
    }
    let tenant = Some(user.tenant);
    let account = found(work, account).await?;
    Post { role, tenant }.left(work, &account).await
}

/// Removes the account of a user that ends.
///
/// # Errors
/// [`Refused::OwnAccount`].
pub(in crate::services) async fn end_of_user(
    work: &mut Work<'_>,
    tenant: TenantId,
    user: UserId,
) -> Result<(), Error> {
    match db::accounts::of_user(work.connection(), tenant, user).await? {
        Some(id) => end(work, id).await,
        None => Ok(()),
    }
}

/// Removes the accounts of a tenant that ends: its staff's, as it has no users.
///
/// # Errors
/// [`Refused::OwnAccount`].
pub(in crate::services) async fn end_of_tenant(
    work: &mut Work<'_>,
    tenant: TenantId,
) -> Result<(), Error> {
    for id in db::accounts::of_tenant(work.connection(), tenant).await? {
        end(work, id).await?;
    }
    Ok(())
}

async fn end(work: &mut Work<'_>, id: AccountId) -> Result<(), Error> {
    if !db::accounts::lock(work.connection(), id).await? {
        return Ok(());
    }
    let account = found(work, id).await?;
    delete(work, &account).await
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_higher_role_or_another_tenant_is_more() {
        let [one, other] = [1, 2].map(|n| Some(TenantId(Uuid::from_u128(n))));
        let post = |role, tenant| Post { role, tenant };
        let operator = post(Role::Operator, one);
        let platform = post(Role::PlatformAdmin, None);
        for more in [
            post(Role::TenantAdmin, one),
            post(Role::Operator, other),
            post(Role::User, other),
            platform,
        ] {
            assert!(more.exceeds(operator), "{more:?}");
        }
        for less in [operator, post(Role::User, one)] {
            assert!(!less.exceeds(operator), "{less:?}");
        }
        assert!(!operator.exceeds(platform));
    }
}
