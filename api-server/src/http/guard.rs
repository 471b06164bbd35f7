//! Who asks, and whether it may: before any handler, by the table of `domain::access`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::OpenApi;

use super::budget::Sender;
use super::error::ApiError;
use super::{client_address, cookie};
use crate::domain::access::{self, AuthMode, Needs};
use crate::domain::admin::Credential;
use crate::domain::{Actor, AdminUser, Principal, RequestId};
use crate::services::authentication::{self, Presented};
use crate::services::denied::Denied;
use crate::services::{Error, Portal, audit};

/// In trusted-network mode: who says to ask.
const ADMIN_HEADER: &str = "x-admin-user";

/// An operation, and what it needs, if the table knows it.
#[derive(Clone)]
struct Rule {
    operation: String,
    needs: Option<Needs>,
}

/// The rule of each operation, by method and path.
pub(super) struct Rules(HashMap<(Method, String), Rule>);

impl Rules {
    /// Those of the operations of a document. One that the table does not know is refused to
    /// everybody.
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut rules = HashMap::new();
        for (path, item) in &document.paths.paths {
            for (method, operation) in [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ] {
                if let Some(operation) = operation {
                    let operation = operation.operation_id.clone().unwrap_or_default();
                    let needs = access::needs(&operation);
                    rules.insert((method, path.clone()), Rule { operation, needs });
                }
            }
        }
        Self(rules)
    }

    /// The operation that a request is for, and what it needs; `None` when it is none.
    fn of_request(&self, request: &Parts) -> Option<Rule> {
        let path = request.extensions.get::<MatchedPath>()?.as_str();
        let method = match &request.method {
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        self.0.get(&(method, path.to_owned())).cloned()
    }
}

/// What the guard works with.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) portal: Arc<Portal>,
    pub(super) rules: Arc<Rules>,
}

/// Lets a request through to its handler, with the [`Actor`] that it comes from, or refuses it.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match admit(&guard, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn admit(guard: &Guard, request: Request) -> Result<Request, ApiError> {
    let (mut parts, body) = request.into_parts();
    let Some(Rule { operation, needs }) = guard.rules.of_request(&parts) else {
        // The router has a better word for a method that the path does not take.
        return Ok(Request::from_parts(parts, body));
    };
    let needs = needs.ok_or(ApiError::Panicked)?;
    let stranger = stranger(guard, &parts)?;
    let behind_proxy = guard.portal.settings.behind_proxy;
    if let Err(denied) = cookie::same_site(&parts, behind_proxy) {
        // Whose browser it is stays open: to look that up is more than such a request is owed.
        return Err(refuse(guard, &stranger, &operation, denied).await);
    }
    let presented = presented(&parts.headers);
    let presenting = (&parts.headers, presented.as_ref());
    let actor = actor(guard, (&operation, needs), stranger, presenting).await?;
    if let (Some(Presented::Cookie(secret)), Some(_)) = (&presented, actor.account()) {
        if let Err(denied) = cookie::knows_token(&parts, secret) {
            return Err(refuse(guard, &actor, &operation, denied).await);
        }
        parts.extensions.insert(secret.csrf_token());
    }
    if let Err(denied) = permitted(needs, &actor) {
        return Err(refuse(guard, &actor, &operation, denied).await);
    }
    if !matches!(actor.principal, Principal::Unknown)
        && let Some(sender) = parts.extensions.get::<Sender>()
    {
        sender.is_known();
    }
    parts.extensions.insert(actor);
    Ok(Request::from_parts(parts, body))
}

/// Refuses a request, and writes that down.
async fn refuse(guard: &Guard, actor: &Actor, operation: &str, denied: Denied) -> ApiError {
    audit::refused(&guard.portal, actor, operation, &denied).await;
    Error::from(denied).into()
}

/// Whoever sent a request, before it is known who that is.
fn stranger(guard: &Guard, request: &Parts) -> Result<Actor, ApiError> {
    // The envelope gave the request its id.
    let request_id = request.extensions.get::<RequestId>().cloned();
    let behind_proxy = guard.portal.settings.behind_proxy;
    Ok(Actor {
        admin: AdminUser::unknown(),
        principal: Principal::Unknown,
        request_id: request_id.ok_or(ApiError::Panicked)?,
        source: client_address::of_request(request, behind_proxy),
    })
}

async fn actor(
    guard: &Guard,
    (operation, needs): (&str, Needs),
    stranger: Actor,
    (headers, presented): (&HeaderMap, Option<&Presented>),
) -> Result<Actor, ApiError> {
    let source = stranger.source;
    let (admin, principal) = match (guard.portal.settings.auth, needs) {
        (AuthMode::TrustedNetwork, _) => (trusted_name(headers)?, Principal::TrustedNetwork),
        (AuthMode::Login, Needs::Nothing) => (AdminUser::unknown(), Principal::Unknown),
        (AuthMode::Login, Needs::NothingOr(_)) => by_chance(guard, presented, source).await,
        (AuthMode::Login, _) => {
            let presented = presented.ok_or(Error::from(Denied::Unauthenticated))?;
            let known = authentication::authenticate(&guard.portal, presented, source).await;
            if let Err(Error::Denied(denied @ Denied::Unauthenticated)) = &known {
                audit::refused(&guard.portal, &stranger, operation, denied).await;
            }
            let known = known?;
            (known.login.clone(), Principal::Account(known))
        }
    };
    Ok(Actor {
        admin,
        principal,
        ..stranger
    })
}

/// Who asks for what nobody needs to sign in for, if that can be known: a supervisor is answered
/// also when the database is down.
async fn by_chance(
    guard: &Guard,
    presented: Option<&Presented>,
    source: IpAddr,
) -> (AdminUser, Principal) {
    let known = match presented {
        Some(presented) => authentication::authenticate(&guard.portal, presented, source)
            .await
            .ok(),
        None => None,
    };
    known.map_or((AdminUser::unknown(), Principal::Unknown), |known| {
        (known.login.clone(), Principal::Account(known))
    })
}

/// What a request shows of who sent it; what cannot be read is nothing. Beside `Authorization` a
/// cookie says nothing.
fn presented(headers: &HeaderMap) -> Option<Presented> {
    if !headers.contains_key(AUTHORIZATION) {
        return cookie::read(headers).map(Presented::Cookie);
    }
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .then(|| Presented::Bearer(token.into()))
}

fn permitted(needs: Needs, actor: &Actor) -> Result<(), Denied> {
    let by_session = actor
        .account()
        .is_none_or(|known| matches!(known.credential, Credential::Session(_)));
    match needs {
        Needs::Nothing | Needs::NothingOr(_) => Ok(()),
        Needs::Session | Needs::SessionOr(_) if by_session => Ok(()),
        Needs::Session => Err(Denied::SessionNeeded),
        Needs::SessionOr(permission) | Needs::Permission(permission) => {
            let permitted = actor.may(permission);
            permitted.then_some(()).ok_or(Denied::Forbidden(permission))
        }
    }
}

fn trusted_name(headers: &HeaderMap) -> Result<AdminUser, ApiError> {
    let mut values = headers.get_all(ADMIN_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(AdminUser::trusted_network()),
        (Some(value), None) => std::str::from_utf8(value.as_bytes())
            .map_err(|_| ApiError::InvalidHeader("X-Admin-User", "must be UTF-8"))?
            .parse()
            .map_err(|_| {
                ApiError::InvalidHeader("X-Admin-User", "must be 1 to 100 printable characters")
            }),
        (Some(_), Some(_)) => Err(ApiError::InvalidHeader(
            "X-Admin-User",
            "must be given only once",
        )),
    }
}
