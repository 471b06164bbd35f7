//! Every route keeps the habits that `ARCHITECTURE.md` writes down ("REST habits"): by what the
//! OpenAPI document says of it, and by what it does. A route that is not known here fails, so that
//! nobody adds one without saying how it is to be judged.

mod audited;
mod behaviour;
mod documented;

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::create_user;
use tests::portal::{Client, Request};

/// Reads that are neither a list nor a single resource, and why.
const REPORTS: &[(&str, &str)] = &[
    ("/applies/{id}/events", "a stream"),
    ("/apply/preview", "what would be done at this moment"),
    (
        "/apply/status",
        "the state of this moment, an entry for each PBX",
    ),
    ("/health/live", "for supervisors"),
    ("/health/ready", "for supervisors"),
    ("/openapi.json", "this document"),
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
        "GET" if REPORTS.iter().any(|(report, _)| *report == path) => Kind::Report,
        "GET" if of_one => Kind::Single,
        "GET" if body["type"] == "array" => Kind::List,
        "POST" if item.get("get").is_some() && !of_one => Kind::Create,
        "POST" if !of_one => Kind::Action,
        "PATCH" if of_one => Kind::Change,
        "DELETE" if of_one => Kind::Delete,
        other => bail!("nothing is known of {other} here"),
    })
}

/// A request that a route takes.
pub(crate) struct Sample {
    method: Method,
    /// As in the document, without `/tenants/{tenant}` before it.
    path: &'static str,
    /// Its body; another one for another number.
    pub(crate) body: fn(usize) -> Value,
}

/// A sample for each POST and PATCH. A route under `/tenants/{tenant}` takes that of its twin. Where a
/// body says [`A_USER`], the id of a fresh user takes its place.
const SAMPLES: &[Sample] = &[
    Sample {
        method: Method::POST,
        path: "/users",
        body: |n| json!({ "name": "Habit", "email": format!("habit{n}@example.org") }),
    },
    Sample {
        method: Method::PATCH,
        path: "/users/{id}",
        body: |n| json!({ "name": format!("Changed {n}"), "metadata": { "n": n } }),
    },
    Sample {
        method: Method::POST,
        path: "/devices",
        body: |n| json!({ "user_id": A_USER, "label": format!("Habit {n}") }),
    },
    Sample {
        method: Method::PATCH,
        path: "/devices/{id}",
        body: |n| json!({ "label": format!("Changed {n}") }),
    },
    Sample {
        method: Method::POST,
        path: "/devices/{id}/rotate",
        body: |n| json!({ "overlap_seconds": n + 1 }),
    },
    Sample {
        method: Method::POST,
        path: "/devices/{id}/reveal",
        body: nothing_or_something,
    },
    Sample {
        method: Method::POST,
        path: "/tenants",
        body: |n| json!({ "slug": format!("habit{n}"), "name": "Habit", "ext_min": 100, "ext_max": 199 }),
    },
    Sample {
        method: Method::PATCH,
        path: "/tenants/{tenant}",
        body: |n| json!({ "name": format!("Changed {n}") }),
    },
    Sample {
        method: Method::POST,
        path: "/pbxes",
        body: |n| pbx(&format!("habit{n}"), 2 * n),
    },
    Sample {
        method: Method::PATCH,
        path: "/pbxes/{pbx}",
        body: |n| json!({ "name": format!("changed{n}") }),
    },
    Sample {
        method: Method::POST,
        path: "/apply",
        body: |n| json!({ "pbx": "default", "force": n % 2 == 1 }),
    },
    Sample {
        method: Method::POST,
        path: "/applies/{id}/restore",
        body: |n| json!({ "force": n % 2 == 1 }),
    },
    Sample {
        method: Method::POST,
        path: "/apply/verify",
        body: |n| {
            if n.is_multiple_of(2) {
                Value::Null
            } else {
                json!({ "pbx": "default" })
            }
        },
    },
];

/// What stands for the id of a user in a sample.
pub(crate) const A_USER: &str = "a user";

/// For routes that take no body: a key sees the difference all the same.
fn nothing_or_something(n: usize) -> Value {
    if n.is_multiple_of(2) {
        Value::Null
    } else {
        json!({})
    }
}

/// A PBX whose agent nobody has.
fn pbx(name: &str, number: usize) -> Value {
    json!({ "name": name, "agent_address": format!("127.0.0.1:{}", 1 + number) })
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

/// A path of a route that leads to something: a fresh resource wherever it names one. `number`
/// tells the resources of one test apart.
async fn place(client: &Client, path: &str, number: usize) -> anyhow::Result<String> {
    if let Some(rest) = path.strip_prefix("/tenants/{tenant}/") {
        let place = Box::pin(place(client, &format!("/{rest}"), number)).await?;
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
    Ok(bodies)
}

/// A request with a JSON body, if there is one.
pub(crate) fn request(client: &Client, method: &Method, path: &str, body: &Value) -> Request {
    let request = client.request(method.clone(), path);
    if body.is_null() {
        request
    } else if *method == Method::PATCH {
        request.body("application/merge-patch+json", body.to_string())
    } else {
        request.json(body)
    }
}
