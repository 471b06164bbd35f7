//! What is sent to each route that takes something.

use api_server::clock::{Clock as _, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;
use time::format_description::well_known::Rfc3339;

/// A request that a route takes.
pub(crate) struct Sample {
    pub(crate) method: Method,
    /// As in the document, without `/tenants/{tenant}` before it.
    pub(crate) path: &'static str,
    /// Its body; another one for another number.
    pub(crate) body: fn(usize) -> Value,
}

/// A sample for each POST and PATCH. A route under `/tenants/{tenant}` takes that of its twin. Where a
/// body says [`A_USER`], the id of a fresh user takes its place.
pub(super) const SAMPLES: &[Sample] = &[
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
        method: Method::POST,
        path: "/imports/users",
        body: |n| json!(format!("name,email\nHabit,imported{n}@example.org\n")),
    },
    Sample {
        method: Method::POST,
        path: "/imports/devices",
        body: |n| json!(format!("user_email,label\n{A_USER},Imported {n}\n")),
    },
    Sample {
        method: Method::POST,
        path: "/declaration/reconcile",
        body: |n| json!({ "users": [{ "email": format!("declared{n}@example.org"), "name": "Habit" }] }),
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
        path: "/accounts",
        body: |n| json!({ "login": format!("habit{n}"), "name": "Habit", "role": "platform_admin" }),
    },
    Sample {
        method: Method::PATCH,
        path: "/accounts/{account}",
        body: |n| json!({ "name": format!("Changed {n}") }),
    },
    Sample {
        method: Method::POST,
        path: "/accounts/{account}/reset",
        body: nothing_or_something,
    },
    Sample {
        method: Method::POST,
        path: "/accounts/{account}/unlock",
        body: nothing_or_something,
    },
    Sample {
        method: Method::POST,
        path: "/accounts/{account}/totp/confirm",
        body: |_| json!({ "code": A_CODE }),
    },
    Sample {
        method: Method::POST,
        path: "/accounts/{account}/recovery-codes",
        body: |_| json!({ "code": A_RECOVERY_CODE }),
    },
    Sample {
        method: Method::POST,
        path: "/api-tokens",
        body: |n| {
            let name = format!("Habit {n}");
            json!({ "name": name, "scopes": ["users.read"], "expires_at": soon() })
        },
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

/// What stands for a code of the app that somebody has begun with.
pub(super) const A_CODE: &str = "a code";

/// What stands for a recovery code of somebody who has some.
pub(super) const A_RECOVERY_CODE: &str = "a recovery code";

/// In a month.
pub(super) fn soon() -> Value {
    let at = SystemClock.now() + Duration::days(30);
    json!(at.format(&Rfc3339).unwrap_or_default())
}

/// For routes that take no body: a key sees the difference all the same.
fn nothing_or_something(n: usize) -> Value {
    if n.is_multiple_of(2) {
        Value::Null
    } else {
        json!({})
    }
}

/// A PBX whose agent nobody has.
pub(super) fn pbx(name: &str, number: usize) -> Value {
    json!({ "name": name, "agent_address": format!("127.0.0.1:{}", 1 + number) })
}
