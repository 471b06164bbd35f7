//! Table `password_reset`.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::DbError;
use crate::domain::token::Token;
use crate::domain::{AccountId, AdminUser};

/// Keeps a token, in place of all that the account had. To be called under the lock of the account.
pub async fn replace(
    connection: &mut PgConnection,
    account: AccountId,
    token: &Token,
    by: &AdminUser,
    at: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<(), DbError> {
    end(&mut *connection, account).await?;
    let hash = token.hash();
    sqlx::query!(
        "insert into password_reset (token_hash, account_id, created_at, created_by, expires_at)
         values ($1, $2, $3, $4, $5)",
        hash.as_slice(),
        account.0,
        at,
        by.as_str(),
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes every token of an account.
pub async fn end(connection: &mut PgConnection, account: AccountId) -> Result<(), DbError> {
    sqlx::query!(
        "delete from password_reset where account_id = $1",
        account.0
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whose password a token sets, while it does.
pub async fn find(
    connection: &mut PgConnection,
    token: &Token,
    now: OffsetDateTime,
) -> Result<Option<AccountId>, DbError> {
    let hash = token.hash();
    let account = sqlx::query_scalar!(
        "select account_id from password_reset
         where token_hash = $1 and used_at is null and expires_at > $2",
        hash.as_slice(),
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(account.map(AccountId))
}

/// Takes a token; `false` when it does not count any more. Of several at once, one takes it.
pub async fn take(
    connection: &mut PgConnection,
    token: &Token,
    now: OffsetDateTime,
) -> Result<bool, DbError> {
    let hash = token.hash();
    let used = sqlx::query!(
        "update password_reset set used_at = $2
         where token_hash = $1 and used_at is null and expires_at > $2",
        hash.as_slice(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(used.rows_affected() == 1)
}
