//! The second factor: columns `totp_…` of `account`, and table `recovery_code`.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::DbError;
use crate::domain::AccountId;
use crate::domain::recovery::RecoveryCode;

/// The secret of an account's app, sealed; `None` when there is none.
pub async fn totp_secret(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Option<Vec<u8>>, DbError> {
    let sealed = sqlx::query_scalar!(
        "select totp_secret_encrypted from account where account_id = $1",
        account.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(sealed.flatten())
}

/// Keeps a fresh secret, which counts for nothing before it is confirmed. To be called under the lock
/// of an account whose second factor is not confirmed.
pub async fn begin_totp(
    connection: &mut PgConnection,
    account: AccountId,
    sealed: &[u8],
) -> Result<(), DbError> {
    sqlx::query!(
        "update account set totp_secret_encrypted = $2, totp_last_step = 0
         where account_id = $1 and totp_confirmed_at is null",
        account.0,
        sealed,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a time step; `false` when it, or a later one, was taken before. Of several at once, one
/// takes it.
pub async fn take_step(
    connection: &mut PgConnection,
    account: AccountId,
    step: i64,
) -> Result<bool, DbError> {
    let taken = sqlx::query!(
        "update account set totp_last_step = $2 where account_id = $1 and totp_last_step < $2",
        account.0,
        step,
    )
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// From now on a second factor is needed. To be called under the lock of the account.
pub async fn confirm_totp(
    connection: &mut PgConnection,
    account: AccountId,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update account set totp_confirmed_at = $2, version = version + 1, updated_at = $2
         where account_id = $1",
        account.0,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the secret and all recovery codes. To be called under the lock of the account.
pub async fn remove_totp(
    connection: &mut PgConnection,
    account: AccountId,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "with without as (delete from recovery_code where account_id = $1)
         update account set totp_secret_encrypted = null, totp_confirmed_at = null,
            totp_last_step = 0, version = version + 1, updated_at = $2
         where account_id = $1",
        account.0,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts a set of codes in place of the one before. To be called under the lock of the account.
pub async fn replace(
    connection: &mut PgConnection,
    account: AccountId,
    codes: &[RecoveryCode],
) -> Result<(), DbError> {
    sqlx::query!("delete from recovery_code where account_id = $1", account.0)
        .execute(&mut *connection)
        .await?;
    let hashes: Vec<Vec<u8>> = codes.iter().map(|code| code.hash().to_vec()).collect();
    sqlx::query!(
        "insert into recovery_code (account_id, code_hash) select $1, unnest($2::bytea[])",
        account.0,
        &hashes,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a code; `false` when there is none such, or it was taken before. Of several at once, one
/// takes it.
pub async fn take(
    connection: &mut PgConnection,
    account: AccountId,
    code: &RecoveryCode,
    at: OffsetDateTime,
) -> Result<bool, DbError> {
    let hash = code.hash();
    let taken = sqlx::query!(
        "update recovery_code set used_at = $3
         where account_id = $1 and code_hash = $2 and used_at is null",
        account.0,
        hash.as_slice(),
        at,
    )
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// How many codes are left.
pub async fn left(connection: &mut PgConnection, account: AccountId) -> Result<i64, DbError> {
    let left = sqlx::query_scalar!(
        r#"select count(*) as "left!" from recovery_code where account_id = $1 and used_at is null"#,
        account.0,
    )
    .fetch_one(connection)
    .await?;
    Ok(left)
}
