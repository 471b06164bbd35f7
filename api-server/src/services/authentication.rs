//! Who a request comes from, by its credentials: one statement for each request, so that a sign-out, a
//! suspension or another role counts with the next one.

use std::net::IpAddr;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::access_tokens::{self, Keys};
use super::denied::Denied;
use super::sign_in::Attempts;
use super::{Error, Portal};
use crate::causes::causes;
use crate::db;
use crate::db::DbError;
use crate::db::sessions::Known;
use crate::domain::account::{ApiTokenId, SessionId};
use crate::domain::admin::SignedIn;
use crate::domain::session::{CookieSecret, SessionKind, USE_NOTED_EVERY};
use crate::domain::token::{Token, TokenKind};

/// What a request shows of who sent it.
#[derive(Clone)]
pub enum Presented {
    /// `Authorization: Bearer`: an access token or an API token.
    Bearer(SecretString),
    /// The cookie of a browser's session.
    Cookie(CookieSecret),
}

/// What sign-in and authentication keep in memory.
pub struct Gate {
    /// What access tokens are signed with.
    pub(super) keys: Keys,
    /// How often each address tried to sign in.
    pub(super) attempts: Attempts,
    noting: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            attempts: Attempts::default(),
            noting: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Looks up who has these credentials, now.
///
/// # Errors
/// [`Denied::Unauthenticated`].
pub async fn authenticate(
    portal: &Portal,
    presented: &Presented,
    source: IpAddr,
) -> Result<SignedIn, Error> {
    let now = portal.clock.now();
    let (who, used, last_used_at) = match presented {
        Presented::Bearer(text) if text.expose_secret().starts_with(TokenKind::Api.prefix()) => {
            let token = Token::read(TokenKind::Api, text.expose_secret());
            let token = token.ok_or(Denied::Unauthenticated)?;
            let mut connection = portal.database.acquire().await?;
            let known = db::api_tokens::known(&mut connection, &token, now).await?;
            let known = known.ok_or(Denied::Unauthenticated)?;
            let used = Used::ApiToken(known.id, source);
            (known.who, used, known.last_used_at)
        }
        Presented::Bearer(text) => {
            let (session, account) = access_tokens::verify(portal, text.expose_secret()).await?;
            let mut connection = portal.database.acquire().await?;
            let known = db::sessions::known_by_id(&mut connection, session, now).await?;
            of_session(known.filter(|known| known.who.account == account))?
        }
        Presented::Cookie(cookie) => {
            let mut connection = portal.database.acquire().await?;
            let hash = cookie.hash();
            of_session(db::sessions::known_by_cookie(&mut connection, &hash, now).await?)?
        }
    };
    if last_used_at.is_none_or(|last| now - last >= USE_NOTED_EVERY) {
        note(portal, used, now);
    }
    Ok(who)
}

fn of_session(known: Option<Known>) -> Result<(SignedIn, Used, Option<OffsetDateTime>), Denied> {
    let known = known.ok_or(Denied::Unauthenticated)?;
    let used = Used::Session(known.session, known.kind);
    Ok((known.who, used, Some(known.last_used_at)))
}

/// What a request was let in by.
#[derive(Clone, Copy)]
enum Used {
    Session(SessionId, SessionKind),
    ApiToken(ApiTokenId, IpAddr),
}

/// Writes down that something was used, apart from the request. One is written at a time: what comes
/// meanwhile is left to the next request by the same.
fn note(portal: &Portal, used: Used, now: OffsetDateTime) {
    let Ok(turn) = Arc::clone(&portal.gate.noting).try_acquire_owned() else {
        return;
    };
    let database = portal.database.clone();
    tokio::spawn(async move {
        let _turn = turn;
        let since = now - USE_NOTED_EVERY;
        let written: Result<(), DbError> = async {
            let mut connection = database.acquire().await?;
            match used {
                Used::Session(id, kind) => {
                    db::sessions::note_use(&mut connection, id, kind, now, since).await
                }
                Used::ApiToken(id, address) => {
                    let address = address.to_string();
                    db::api_tokens::note_use(&mut connection, id, &address, now, since).await
                }
            }
        }
        .await;
        if let Err(error) = written {
            tracing::warn!(
                error = causes(&error),
                "the use of a credential is not noted"
            );
        }
    });
}
