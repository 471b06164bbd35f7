//! API tokens: what programs come with in place of a session.

use rand::CryptoRng;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::accounts::Refused;
use super::tenants::refused_field;
use super::work::Work;
use super::{Error, Portal};
use crate::clock::unix_ms;
use crate::db::{self, DbError};
use crate::domain::account::Account;
use crate::domain::api_token::{ApiToken, ApiTokenId, LIFE_MAX, NewApiToken, TOKENS_MAX};
use crate::domain::audit::Entry;
use crate::domain::page::{Page, Slice};
use crate::domain::token::{Token, TokenKind};
use crate::domain::{AccountId, Invalid, TenantId, Version, uuid_v7};

pub use crate::db::api_tokens::ApiTokenSort;

/// Makes a token of an account that is locked.
///
/// # Errors
/// [`Refused::TokenNameTaken`], [`Refused::TooManyTokens`], [`Error::InvalidField`].
pub async fn create(
    work: &mut Work<'_>,
    account: &Account,
    new: NewApiToken,
    rng: &mut (impl CryptoRng + Send),
) -> Result<(ApiToken, Token), Error> {
    let now = work.now;
    if new.expires_at <= now || new.expires_at > now + LIFE_MAX {
        let message = "must be in the future, and within 366 days";
        let code = "out_of_range";
        return Err(refused_field("expires_at", Invalid { code, message }));
    }
    if !new.scopes.are_held_by(account.role) {
        let message = "must be permissions that the account's role holds";
        let code = "not_held";
        return Err(refused_field("scopes", Invalid { code, message }));
    }
    if db::api_tokens::count(work.connection(), account.id).await? >= TOKENS_MAX {
        return Err(Refused::TooManyTokens.into());
    }
    let token = Token::generate(TokenKind::Api, rng);
    let made = ApiToken {
        id: ApiTokenId(uuid_v7(unix_ms(now), rng)),
        account: account.id,
        name: new.name,
        scopes: new.scopes,
        created_at: now,
        expires_at: new.expires_at,
        last_used_at: None,
        last_used_address: None,
        version: Version::FIRST,
    };
    db::api_tokens::insert(work.connection(), &made, &token)
        .await
        .map_err(taken)?;
    record(work, "api_token.created", (&made, account.seat.tenant()));
    Ok((made, token))
}

/// A token of an account that was not revoked.
///
/// # Errors
/// [`Refused::TokenNotFound`].
pub async fn get(portal: &Portal, account: AccountId, id: ApiTokenId) -> Result<ApiToken, Error> {
    let mut connection = portal.database.acquire().await?;
    let token = db::api_tokens::find(&mut connection, account, id).await?;
    Ok(token.ok_or(Refused::TokenNotFound)?)
}

/// The tokens of an account that were not revoked.
pub async fn list(
    portal: &Portal,
    account: AccountId,
    page: &Page<ApiTokenSort>,
) -> Result<Slice<ApiToken>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::api_tokens::list(&mut connection, account, page).await?)
}

/// A token that nobody else changes until the work is done.
///
/// # Errors
/// [`Refused::TokenNotFound`].
pub async fn locked(
    work: &mut Work<'_>,
    account: AccountId,
    id: ApiTokenId,
) -> Result<ApiToken, Error> {
    if !db::api_tokens::lock(work.connection(), account, id).await? {
        return Err(Refused::TokenNotFound.into());
    }
    let token = db::api_tokens::find(work.connection(), account, id).await?;
    Ok(token.ok_or(Refused::TokenNotFound)?)
}

/// Ends a token of [`locked`], of whoever asks: from the commit on nobody is let in with it.
pub async fn revoke(work: &mut Work<'_>, token: &ApiToken) -> Result<(), Error> {
    let now = work.now;
    work.lessens(token.account);
    db::api_tokens::revoke(work.connection(), token.id, now).await?;
    let tenant = work.actor.reach().tenant();
    record(work, "api_token.revoked", (token, tenant));
    Ok(())
}

/// Ends every token of an account that is locked.
pub(super) async fn revoke_all(work: &mut Work<'_>, account: &Account) -> Result<(), Error> {
    work.lessens(account.id);
    let now = work.now;
    let revoked = db::api_tokens::revoke_all(work.connection(), account.id, now).await?;
    for token in &revoked {
        record(work, "api_token.revoked", (token, account.seat.tenant()));
    }
    Ok(())
}

/// Notes what became of a token, of an account of which tenant.
fn record(
    work: &mut Work<'_>,
    action: &'static str,
    (token, tenant): (&ApiToken, Option<TenantId>),
) {
    let told = json!({
        "account_id": token.account.0,
        "name": token.name.as_str(),
        "scopes": token.scopes.names().collect::<Vec<_>>(),
        "expires_at": token.expires_at.format(&Rfc3339).ok(),
    });
    let entry = Entry::new(action, "api_token", &token.id).of(tenant);
    work.record(match action {
        "api_token.created" => entry.changing(None, Some(told)),
        _ => entry.changing(Some(told), None),
    });
    let (id, by) = (token.id, work.actor.admin.clone());
    work.afterwards(move || tracing::info!(token = %id, by = by.as_str(), "{action}"));
}

fn taken(error: DbError) -> Error {
    match error.constraint() {
        Some(db::api_tokens::NAME_KEY) => Refused::TokenNameTaken.into(),
        Some(_) | None => error.into(),
    }
}
