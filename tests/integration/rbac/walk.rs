//! Every route of the document, asked for by every role, for what is its own and what is others'.
//! What must come of it follows from the table of permissions alone.

use anyhow::{Context as _, ensure};
use api_server::domain::access::{self, Needs};
use api_server::domain::{Permission, Role};
use serde_json::Value;
use tests::portal::{Client, Reply};

use super::places::{Area, Place, Who, World, area};
use super::unchanged::state;
use crate::http::habits::{Route, request, routes};

/// What must come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is carried out, as far as it makes sense.
    Good,
    Unauthenticated,
    Forbidden,
    NotFound,
}

/// What a route may answer although it is carried out, and why.
const EXCUSED: &[(&str, u16, &str)] = &[
    ("POST /apply", 503, "there is no agent"),
    ("POST /apply/verify", 503, "there is no agent"),
    ("POST /applies/{id}/restore", 409, "it was never in force"),
    ("POST /password-resets", 403, "nobody made that token"),
    ("POST /password-resets", 429, "too often from one address"),
    ("POST /sessions", 401, "nobody has that password"),
    ("POST /sessions", 429, "too often from one address"),
    ("POST /sessions/refresh", 401, "nobody made that token"),
    (
        "POST /accounts/{account}/password",
        400,
        "it is not that password",
    ),
    (
        "POST /accounts/{account}/reset",
        409,
        "nobody resets its own",
    ),
    (
        "POST /accounts/{account}/recovery-codes",
        409,
        "there is no second factor",
    ),
    (
        "POST /accounts/{account}/totp",
        400,
        "it is not that password",
    ),
    (
        "POST /accounts/{account}/totp",
        429,
        "too often from one address",
    ),
    (
        "POST /accounts/{account}/totp/confirm",
        409,
        "no second factor was begun",
    ),
    (
        "POST /accounts/{account}/totp/confirm",
        400,
        "it is not that code",
    ),
    (
        "POST /accounts/{account}/totp/remove",
        400,
        "it is not that password",
    ),
    (
        "POST /accounts/{account}/totp/remove",
        429,
        "too often from one address",
    ),
    (
        "POST /accounts/{account}/totp/remove",
        409,
        "there is no second factor",
    ),
    ("GET /health/ready", 503, "there is no agent"),
    ("DELETE /accounts/{account}", 409, "nobody deletes its own"),
    (
        "PATCH /accounts/{account}",
        409,
        "of what is a user's, the user is changed",
    ),
];

const fn role(who: Who) -> Option<Role> {
    match who {
        Who::Nobody | Who::OtherScope => None,
        Who::User => Some(Role::User),
        Who::Operator => Some(Role::Operator),
        Who::TenantAdmin => Some(Role::TenantAdmin),
        Who::PlatformAdmin => Some(Role::PlatformAdmin),
    }
}

fn expected(needs: Needs, area: Area, who: Who, place: Place) -> End {
    let Some(role) = role(who) else {
        return match (needs, who) {
            (Needs::Nothing | Needs::NothingOr(_), _) => End::Good,
            (_, Who::Nobody) => End::Unauthenticated,
            _ => End::Forbidden,
        };
    };
    let held = |permission: Permission| permission.is_held_by(role);
    match needs {
        Needs::Nothing | Needs::NothingOr(_) => return End::Good,
        Needs::Session => {}
        Needs::SessionOr(permission) if place == Place::Mine || held(permission) => {}
        Needs::Permission(permission) if held(permission) => {}
        Needs::SessionOr(_) | Needs::Permission(_) => return End::Forbidden,
    }
    // What needs no permission is for one's own only.
    let only_own = needs == Needs::Session && matches!(area, Area::Account { one: true });
    let reached = match (area, place) {
        (_, Place::Everywhere) => true,
        (Area::Own { .. }, place) => place == Place::Mine,
        (Area::Account { .. }, place) if only_own => place == Place::Mine,
        (_, Place::Mine) => true,
        (_, _) if role == Role::PlatformAdmin => true,
        (_, Place::OtherTenant) => false,
        (Area::OfTenant { one } | Area::Account { one }, Place::OwnTenant) => {
            role != Role::User || !one
        }
        (Area::Tenant | Area::OfPbx | Area::Portal, Place::OwnTenant) => true,
    };
    if reached { End::Good } else { End::NotFound }
}

/// Fails unless the reply is what must come of the request.
fn judge(route: &Route, reply: &Reply, end: End) -> anyhow::Result<()> {
    match end {
        End::Unauthenticated => ensure!(reply.problem(401)? == "unauthenticated"),
        End::Forbidden => {
            ensure!(["forbidden", "session_needed"].contains(&reply.problem(403)?.as_str()));
        }
        End::NotFound => ensure!(reply.problem(404)?.ends_with("_not_found")),
        End::Good if (200..300).contains(&reply.status) => {}
        End::Good => {
            let name = route.name();
            let excused = EXCUSED.iter().any(|(known, status, _)| {
                let twin = known.replacen(" /", " /tenants/{tenant}/", 1);
                (*known == name || twin == name) && *status == reply.status
            });
            ensure!(excused);
            if reply.content_type() == "application/problem+json" {
                let refused = ["unauthenticated", "forbidden", "session_needed"];
                ensure!(!refused.contains(&reply.problem(reply.status)?.as_str()));
            }
        }
    }
    Ok(())
}

async fn ask(client: &Client, route: &Route, path: &str, body: &Value) -> anyhow::Result<Reply> {
    let request = request(client, &route.method, path, body);
    let request = if route.parameter("header", "If-Match").is_some() {
        request.header("If-Match", "*")
    } else {
        request
    };
    request.send().await
}

/// One route, by everybody, everywhere. First what must be refused, after which the database is as it
/// was; then what must not.
async fn walk(world: &World, route: &Route, tried: &mut usize) -> anyhow::Result<()> {
    let id = route.operation["operationId"].as_str().context("no id")?;
    let needs = access::needs(id).with_context(|| format!("{id} is in no table"))?;
    let permission = route.operation["x-permission"].as_str();
    let area = area(&route.path)?;
    let (mut refused, mut good) = (Vec::new(), Vec::new());
    for who in Who::ALL {
        for place in area.places(&route.path) {
            let end = expected(needs, area, who, *place);
            if end == End::Good {
                good.push((who, *place));
            } else {
                let target = world.target(route, who, *place).await?;
                refused.push((who, *place, end, target));
            }
        }
    }
    let pool = world.lab.database.pool().await?;
    let before = state(&pool).await?;
    for (who, place, end, (path, body)) in &refused {
        let reply = ask(&world.client(*who, permission), route, path, body).await?;
        let what = || format!("{who:?}, {place:?}: must end as {end:?}, but {reply}");
        judge(route, &reply, *end).with_context(what)?;
    }
    ensure!(
        state(&pool).await? == before,
        "a refused request changed something"
    );
    for (who, place) in &good {
        let (path, body) = world.target(route, *who, *place).await?;
        let reply = ask(&world.client(*who, permission), route, &path, &body).await?;
        let what = || format!("{who:?}, {place:?}: must be carried out, but {reply}");
        judge(route, &reply, End::Good).with_context(what)?;
    }
    *tried += refused.len() + good.len();
    Ok(())
}

#[tokio::test]
async fn every_route_by_every_role_for_ones_own_and_for_others() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mut tried = 0;
    let routes = routes(world.lab.client.openapi())?;
    let mut failed = Vec::new();
    for route in &routes {
        if let Err(error) = walk(&world, route, &mut tried).await {
            failed.push(format!("{}: {error:#}", route.name()));
        }
    }
    ensure!(
        failed.is_empty(),
        "{} routes:\n{}",
        failed.len(),
        failed.join("\n")
    );
    println!("rbac: {tried} requests by {} routes", routes.len());
    ensure!(tried > 400, "only {tried} requests were tried");
    Ok(())
}

/// The document names what each operation needs as the table does.
#[tokio::test]
async fn the_document_says_what_the_guard_asks_for() -> anyhow::Result<()> {
    let lab = tests::lab::PortalLab::start().await?;
    for route in routes(lab.client.openapi())? {
        let id = route.operation["operationId"].as_str().unwrap_or_default();
        let needs = access::needs(id).with_context(|| format!("{id} is in no table"))?;
        let named = route.operation["x-permission"].as_str();
        let (permission, open) = match needs {
            Needs::Nothing => (None, true),
            Needs::NothingOr(permission) => (Some(permission), true),
            Needs::Session => (None, false),
            Needs::SessionOr(permission) | Needs::Permission(permission) => {
                (Some(permission), false)
            }
        };
        assert_eq!(named, permission.map(Permission::name), "{}", route.name());
        let responses = [route.has_response(401), route.has_response(403)];
        ensure!(
            open || responses == [true; 2],
            "{}: {responses:?}",
            route.name()
        );
    }
    Ok(())
}
