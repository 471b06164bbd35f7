//! Every route keeps the habits that `ARCHITECTURE.md` writes down ("REST habits"): by what the
//! OpenAPI document says of it, and by what it does. A route that is not known here fails, so that
//! nobody adds one without saying how it is to be judged.

mod audited;
mod behaviour;
mod documented;
mod samples;

pub(crate) use self::samples::A_USER;

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::{Lab, create_user};
use tests::portal::{Client, Request};

use self::samples::{A_CODE, A_RECOVERY_CODE, SAMPLES, Sample, pbx, soon};
use crate::accounts::newcomer;
use crate::accounts::second_factor::{begun, code, enrolled};

/// Reads that are neither a list nor a single resource, and why.
const REPORTS: &[(&str, &str)] = &[
    ("/applies/{id}/events", "a stream"),
    ("/apply/preview", "what would be done at this moment"),
    ("/declaration", "a tenant as a whole"),
    ("/exports/devices", "a table, streamed"),
    ("/exports/users", "a table, streamed"),
    (
        "/apply/status",
        "the state of this moment, an entry for each PBX",
    ),
    ("/health/live", "for supervisors"),
    ("/health/ready", "for supervisors"),
    ("/openapi.json", "this document"),
];

/// POSTs that take no `Idempotency-Key`, and why.
const KEYLESS: &[(&str, &str)] = &[
    (
        "/sessions",
        "its answer would be kept, which lets somebody in",
    ),
    ("/sessions/refresh", "likewise"),
    (
        "/password-resets",
        "a fast hash of the password would be kept",
    ),
    ("/accounts/{account}/password", "likewise"),
    ("/accounts/{account}/totp", "likewise"),
    ("/accounts/{account}/totp/remove", "likewise"),
];

/// Routes of what is the own of whoever asks, and of nobody else.
const OWN: &[&str] = &[
    "/accounts/{account}/recovery-codes",
    "/accounts/{account}/totp",
    "/accounts/{account}/totp/confirm",
    "/sessions/{session}",
];

/// What a route is, which says what it must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `GET` of a collection.
    List,
    /// `GET` of one resource.
    Single,
    /// `GET` of neither.
    Report,
    /// `POST` to a collection.
    Create,
    /// `POST` of anything else.
    Action,
    /// `PATCH` of one resource.
    Change,
    /// `DELETE` of one resource.
    Delete,
}

/// A route of the document.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) operation: Value,
    kind: Kind,
}

impl Route {
    /// As in `GET /users`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The documented parameters of a place, by name.
    fn parameters(&self, place: &str) -> Vec<(&str, &Value)> {
        let parameters = self.operation["parameters"].as_array();
        let parameters = parameters.map_or(&[][..], Vec::as_slice).iter();
        let there = parameters.filter(|parameter| parameter["in"] == place);
        there
            .filter_map(|parameter| Some((parameter["name"].as_str()?, &parameter["schema"])))
            .collect()
    }

    pub(crate) fn parameter(&self, place: &str, name: &str) -> Option<&Value> {
        let parameters = self.parameters(place);
        let found = parameters.into_iter().find(|(given, _)| *given == name);
        found.map(|(_, schema)| schema)
    }

    /// Whether the same may be sent again under a key.
    fn is_keyed(&self) -> bool {
        let posts = matches!(self.kind, Kind::Create | Kind::Action);
        posts && KEYLESS.iter().all(|(path, _)| *path != self.path)
    }

    pub(crate) fn has_response(&self, status: u16) -> bool {
        self.operation["responses"]
            .get(status.to_string())
            .is_some()
    }
}

/// Every route of the document; fails on one that cannot be judged.
pub(crate) fn routes(document: &Value) -> anyhow::Result<Vec<Route>> {
    let paths = document["paths"].as_object().context("no paths")?;
    let mut routes = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().context("no operations")? {
            let method: Method = method.to_uppercase().parse()?;
            let kind = kind(&method, path, operation, item)
                .with_context(|| format!("{method} {path}: how is it to be judged?"))?;
            routes.push(Route {
                method,
                path: path.clone(),
                operation: operation.clone(),
                kind,
            });
        }
    }
    Ok(routes)
}

fn kind(method: &Method, path: &str, operation: &Value, item: &Value) -> anyhow::Result<Kind> {
    let of_one = path.ends_with('}');
    let body = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    Ok(match method.as_str() {
        "GET"
            if REPORTS
                .iter()
                .any(|(report, _)| *report == in_default_tenant(path)) =>
        {
            Kind::Report
        }
        "GET" if of_one => Kind::Single,
        "GET" if body["type"] == "array" => Kind::List,
        "POST" if item.get("get").is_some() && !of_one => Kind::Create,
        "POST" if !of_one => Kind::Action,
        "PATCH" if of_one => Kind::Change,
        "DELETE" if of_one => Kind::Delete,
        other => bail!("nothing is known of {other} here"),
    })
}

/// The sample of a route.
pub(crate) fn sample(route: &Route) -> anyhow::Result<&'static Sample> {
    let path = in_default_tenant(&route.path);
    let mut samples = SAMPLES.iter();
    let found = samples.find(|sample| sample.path == path && sample.method == route.method);
    found.with_context(|| format!("{}: no sample of it in this test", route.name()))
}

/// The path of the same for the default tenant.
fn in_default_tenant(path: &str) -> &str {
    let twin = path.strip_prefix("/tenants/{tenant}");
    twin.filter(|twin| !twin.is_empty()).unwrap_or(path)
}

/// A path of a route that leads to something, and who asks for it: a fresh resource wherever it names
/// one, and somebody new where it is one's own. `number` tells the resources of one test apart.
async fn place(lab: &Lab, route: &Route, number: usize) -> anyhow::Result<(Client, String)> {
    if OWN.contains(&route.path.as_str()) {
        let own = route.path.replace("{account}", "me");
        let client = newcomer(&lab.client, &format!("own{number}")).await?;
        return Ok((client, own.replace("{session}", "current")));
    }
    let path = resource(&lab.client, &route.path, number).await?;
    Ok((lab.client.clone(), path))
}

async fn resource(client: &Client, path: &str, number: usize) -> anyhow::Result<String> {
    if let Some(rest) = path.strip_prefix("/tenants/{tenant}/") {
        let place = Box::pin(resource(client, &format!("/{rest}"), number)).await?;
        return Ok(format!("/tenants/default{place}"));
    }
    let Some((collection, rest)) = path.split_once("/{") else {
        return Ok(path.to_owned());
    };
    if collection == "/audit" {
        // Nobody makes one; there is one of everything.
        let all = client.get("/audit?limit=1").await?.expect(200)?.json()?;
        let id = all[0]["id"].as_str().context("no entry")?;
        return Ok(format!("/audit/{id}"));
    }
    let (_, rest) = rest.split_once('}').context("a parameter without an end")?;
    let (path, body) = match collection {
        "/users" | "/deleted-users" => {
            let email = format!("place{number}@example.org");
            ("/users", json!({ "name": "Place", "email": email }))
        }
        "/devices" => {
            let user = user(client, &format!("of-place{number}")).await?;
            let body = json!({ "user_id": user, "label": "Place", "reveal": false });
            ("/devices", body)
        }
        "/tenants" => {
            let slug = format!("place{number}");
            let body = json!({ "slug": slug, "name": slug, "ext_min": 100, "ext_max": 199 });
            ("/tenants", body)
        }
        "/accounts" => {
            let login = format!("place{number}");
            let body = json!({ "login": login, "name": login, "role": "platform_admin" });
            ("/accounts", body)
        }
        "/api-tokens" => {
            let name = format!("Place {number}");
            let body = json!({ "name": name, "scopes": ["users.read"], "expires_at": soon() });
            ("/api-tokens", body)
        }
        "/pbxes" => ("/pbxes", pbx(&format!("place{number}"), 2 * number + 1)),
        "/applies" => ("/apply", json!({ "pbx": "default" })),
        other => bail!("how is something made in {other}?"),
    };
    let reply = client.post(path, &body).await?;
    anyhow::ensure!([200, 201].contains(&reply.status), "{reply}");
    let made = reply.json()?;
    let id = made["id"].as_str().context("no id")?;
    if collection == "/deleted-users" {
        client.delete(&format!("/users/{id}")).await?.expect(204)?;
    }
    Ok(format!("{collection}/{id}{rest}"))
}

/// The id of a fresh user.
async fn user(client: &Client, name: &str) -> anyhow::Result<String> {
    Ok(create_user(client, name, &format!("{name}@example.org"))
        .await?
        .id)
}

/// Bodies of a route's sample, by number.
async fn bodies(client: &Client, route: &Route, numbers: [usize; 2]) -> anyhow::Result<[Value; 2]> {
    let mut bodies = numbers.map(sample(route)?.body);
    if bodies[0]["user_id"] == A_USER {
        let user = user(client, &format!("of-sample{}", numbers[0])).await?;
        for body in &mut bodies {
            body["user_id"] = Value::String(user.clone());
        }
    }
    if bodies[0]
        .as_str()
        .is_some_and(|table| table.contains(A_USER))
    {
        let name = format!("of-sample{}", numbers[0]);
        user(client, &name).await?;
        for body in &mut bodies {
            let table = body.as_str().unwrap_or_default();
            *body = Value::String(table.replace(A_USER, &format!("{name}@example.org")));
        }
    }
    if bodies[0]["code"] == A_CODE {
        let secret = begun(client).await?;
        for (steps, body) in (0..).zip(&mut bodies) {
            body["code"] = Value::String(code(&secret, steps)?);
        }
    }
    if bodies[0]["code"] == A_RECOVERY_CODE {
        let (_, codes) = enrolled(client).await?;
        for (code, body) in codes.into_iter().zip(&mut bodies) {
            body["code"] = Value::String(code);
        }
    }
    Ok(bodies)
}

/// A request with a JSON body, if there is one.
pub(crate) fn request(client: &Client, method: &Method, path: &str, body: &Value) -> Request {
    let request = client.request(method.clone(), path);
    if body.is_null() {
        request
    } else if let Value::String(table) = body {
        request.body("text/csv", table.clone())
    } else if *method == Method::PATCH {
        request.body("application/merge-patch+json", body.to_string())
    } else {
        request.json(body)
    }
}
