//! Table `api_token`.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use super::page::Listing;
use super::sessions::ActingRow;
use crate::domain::admin::{Credential, SignedIn};
use crate::domain::api_token::{ApiToken, ApiTokenId, Scopes, TokenName};
use crate::domain::page::{Page, Slice, sort_keys};
use crate::domain::token::Token;
use crate::domain::{AccountId, Version};

/// The index that keeps a name unique among the tokens of an account.
pub const NAME_KEY: &str = "api_token_account_name_key";

#[derive(sqlx::FromRow)]
struct ApiTokenRow {
    api_token_id: Uuid,
    account_id: Uuid,
    name: String,
    scopes: Vec<String>,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    last_used_at: Option<OffsetDateTime>,
    last_used_address: Option<String>,
    version: i64,
}

impl TryFrom<ApiTokenRow> for ApiToken {
    type Error = DbError;

    fn try_from(row: ApiTokenRow) -> Result<Self, DbError> {
        let id = ApiTokenId(row.api_token_id);
        let name = TokenName::from_stored(&row.name)
            .map_err(|reason| DbError::inconsistent("api_token", "name", &id, &reason))?;
        Ok(Self {
            id,
            account: AccountId(row.account_id),
            name,
            scopes: to_scopes(id, &row.scopes)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            last_used_address: row.last_used_address,
            version: Version(row.version),
        })
    }
}

fn to_scopes(id: ApiTokenId, names: &[String]) -> Result<Scopes, DbError> {
    Scopes::from_names(names.iter().map(String::as_str))
        .map_err(|reason| DbError::inconsistent("api_token", "scopes", &id, &reason))
}

/// Inserts a token. The index [`NAME_KEY`] may be violated.
pub async fn insert(
    connection: &mut PgConnection,
    new: &ApiToken,
    token: &Token,
) -> Result<(), DbError> {
    let scopes: Vec<String> = new.scopes.names().map(str::to_owned).collect();
    let hash = token.hash();
    sqlx::query!(
        "insert into api_token (
            api_token_id, account_id, name, token_hash, scopes, created_at, expires_at
        )
        values ($1, $2, $3, $4, $5, $6, $7)",
        new.id.0,
        new.account.0,
        new.name.as_str(),
        hash.as_slice(),
        &scopes,
        new.created_at,
        new.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many tokens an account has that were not revoked.
pub async fn count(connection: &mut PgConnection, account: AccountId) -> Result<i64, DbError> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from api_token
           where account_id = $1 and revoked_at is null"#,
        account.0,
    )
    .fetch_one(connection)
    .await?;
    Ok(count)
}

/// Who comes with a token, and when it was used last.
pub struct Known {
    /// Who.
    pub who: SignedIn,
    /// Which token.
    pub id: ApiTokenId,
    /// When it was used last, to a minute.
    pub last_used_at: Option<OffsetDateTime>,
}

/// Who comes with a token, if it and its account count.
pub async fn known(
    connection: &mut PgConnection,
    token: &Token,
    now: OffsetDateTime,
) -> Result<Option<Known>, DbError> {
    let hash = token.hash();
    let row = sqlx::query!(
        r#"select t.api_token_id, t.scopes, t.last_used_at, t.account_id, a.login as "login!",
            a.role as "role!", a.tenant_id, a.user_id
           from api_token t join acting_account a on a.account_id = t.account_id
           where t.token_hash = $1 and t.revoked_at is null and t.expires_at > $2 and a.is_active"#,
        hash.as_slice(),
        now,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id = ApiTokenId(row.api_token_id);
    let scopes = to_scopes(id, &row.scopes)?;
    let acting = ActingRow {
        account_id: row.account_id,
        login: row.login,
        role: row.role,
        tenant_id: row.tenant_id,
        user_id: row.user_id,
    };
    Ok(Some(Known {
        who: acting.signed_in(Credential::ApiToken(id, scopes.into_set()))?,
        id,
        last_used_at: row.last_used_at,
    }))
}

/// Notes that a token is used, unless somebody else did since `since`. What is shown of it changes, so
/// its version does.
pub async fn note_use(
    connection: &mut PgConnection,
    id: ApiTokenId,
    address: &str,
    now: OffsetDateTime,
    since: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update api_token set last_used_at = $2, last_used_address = $3, version = version + 1
         where api_token_id = $1 and (last_used_at is null or last_used_at <= $4)",
        id.0,
        now,
        address,
        since,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps others from changing a token until the transaction ends; `false` when there is none. It must
/// be a statement of its own, before the token is read.
pub async fn lock(
    connection: &mut PgConnection,
    account: AccountId,
    id: ApiTokenId,
) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        "select api_token_id from api_token
         where account_id = $1 and api_token_id = $2 and revoked_at is null
         for no key update",
        account.0,
        id.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// A token of an account that was not revoked.
pub async fn find(
    connection: &mut PgConnection,
    account: AccountId,
    id: ApiTokenId,
) -> Result<Option<ApiToken>, DbError> {
    sqlx::query_as!(
        ApiTokenRow,
        "select api_token_id, account_id, name, scopes, created_at, expires_at, last_used_at,
            last_used_address, version
         from api_token
         where account_id = $1 and api_token_id = $2 and revoked_at is null",
        account.0,
        id.0,
    )
    .fetch_optional(connection)
    .await?
    .map(ApiToken::try_from)
    .transpose()
}

/// Ends a token. To be called under [`lock`].
pub async fn revoke(
    connection: &mut PgConnection,
    id: ApiTokenId,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "update api_token set revoked_at = $2, version = version + 1 where api_token_id = $1",
        id.0,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends every token of an account that was not revoked: which those are. To be called under the lock of
/// the account.
pub async fn revoke_all(
    connection: &mut PgConnection,
    account: AccountId,
    at: OffsetDateTime,
) -> Result<Vec<ApiToken>, DbError> {
    sqlx::query_as!(
        ApiTokenRow,
        "update api_token set revoked_at = $2, version = version + 1
         where account_id = $1 and revoked_at is null
         returning api_token_id, account_id, name, scopes, created_at, expires_at, last_used_at,
            last_used_address, version",
        account.0,
        at,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(ApiToken::try_from)
    .collect()
}

sort_keys! {
    /// What API tokens are listed by.
    pub enum ApiTokenSort of Id, default CreatedAt ascending {
        CreatedAt = "created_at" Time,
    }
}

/// The tokens of an account that were not revoked.
pub async fn list(
    connection: &mut PgConnection,
    account: AccountId,
    page: &Page<ApiTokenSort>,
) -> Result<Slice<ApiToken>, DbError> {
    let ApiTokenSort::CreatedAt = page.order.key;
    Listing::new(
        "api_token_id, account_id, name, scopes, created_at, expires_at, last_used_at, \
         last_used_address, version",
        "api_token",
        page,
        "created_at",
        "api_token_id",
    )
    .equal("account_id", Some(account.0))
    .only("revoked_at is null")
    .fetch::<ApiTokenRow>(connection)
    .await?
    .try_map(ApiToken::try_from)
}
