//! The document says of each field of a body what it may be: the portal takes what the document takes,
//! null included, and refuses what it does not.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::contract::Contract;
use tests::lab::PortalLab;
use tests::portal::{Client, Reply};
use tests::schema;

use super::hostile::values::hostile;

/// Longer values show nothing more here.
const LENGTH_MAX: usize = 8_192;

/// What nobody must have signed in for takes only short bodies, whatever is in them, in bytes.
const OF_STRANGERS: (&[&str], usize) = (
    &["/sessions", "/sessions/refresh", "/password-resets"],
    8_192,
);

/// What a schema cannot say of a field: the portal refuses some of what the document takes.
const UNSAID: &[(&str, &str)] = &[
    (
        "agent_address",
        "blanks within, and how many bytes and which ports there are",
    ),
    ("email", "at most 64 bytes before the @"),
    ("metadata", "bytes and depth"),
    ("name", "bytes"),
];

/// What is refused only once it is known whose it would be, which is not so far here.
const REFUSED_LATER: &[(&str, &str)] = &[
    ("new_password", "is read as any password, then looked at"),
    ("password", "likewise, where one is chosen"),
    (
        "role",
        "is read as any role, then whether such an account may have it",
    ),
];

/// Decent values and the ones next to them.
const EDGES: &str = r#"[
    "a@b", "a.b@c.example", "a..b@c.example", ".a@b", "a@b-", "a|b@c", "a@[127.0.0.1]", "A-b.c_D+e@f",
    "a-", "-a", "a-b", "+7", "++7", "7+", "12 34 56", "abcd-efgh ijkl MNOP", "abcd-efgh-ijkl-mno1",
    "h:1", "h:0", "h:65535", "h:+1", "h:007", "h h:1", "[::1]:1", "::1:1", ":1", "h",
    "spiffe://d/agent/p", "spiffe://d/portal", "spiffe://D/agent/p", "spiffe://d/agent/p/q",
    "01900000-0000-7000-8000-000000000001", "01900000000070008000000000000001",
    "01900000-0000-7000-8000-00000000000X", "active", "suspended", "user", "operator",
    "tenant_admin", "platform_admin", "roll_back", "keep_new_files", "bearer", "cookie", "udp", "md5",
    "sha256", "sha512_256", "2030-12-31T23:59:59Z", "2030-12-31", "transport-udp", "A_b", "_a",
    "pbxr_Yn2u0yJ3n8w1b5kqv4T7mZc6xR9sD2fGhJkLpQaWeEr",
    " pbxp_Yn2u0yJ3n8w1b5kqv4T7mZc6xR9sD2fGhJkLpQaWeEr\n",
    "0123456789abcdefABCDEF0123456789abcdefABCDEF0123456789abcdefABCD",
    4, 5, 9, 10, 120, 121, 99999999, 100000000, 2592000, 2592001,
    ["alaw"], ["alaw", "ulaw", "g722", "opus"], ["gsm"],
    ["users.read"], ["users.read", "users.read"], ["nothing"],
    { "udp": "t" }, { "udp": null }, { "enabled": true },
    { "busy": "7", "delay_seconds": 5 }, { "rtp_symmetric": false }
]"#;

/// Texts that are repeated, and how often: at the ends of how long something may be.
const LONG: &[(&str, &[usize])] = &[
    (
        "a",
        &[
            1, 2, 31, 32, 33, 60, 61, 63, 64, 100, 101, 128, 129, 253, 254, 255,
        ],
    ),
    ("7", &[3, 4, 6, 7, 10, 11, 20, 21]),
    ("+f", &[32]),
];

/// Likewise, with something before and behind them.
const FRAMED: &[(&str, &str, &str, &[usize])] = &[
    ("\u{a0} ", "b", " \n", &[60, 61, 100, 101, 254, 255]),
    ("", "a", "@b", &[64, 65]),
    ("a@b", ".b", "", &[125, 126]),
    ("spiffe://d/agent/", "a", "", &[183, 184]),
];

/// All of them.
fn edges() -> anyhow::Result<Vec<Value>> {
    let mut edges: Vec<Value> = serde_json::from_str(EDGES)?;
    let long = LONG.iter().map(|(text, lengths)| ("", *text, "", *lengths));
    for (before, text, behind, lengths) in long.chain(FRAMED.iter().copied()) {
        let texts = lengths.iter().map(|length| text.repeat(*length));
        edges.extend(texts.map(|text| Value::from(format!("{before}{text}{behind}"))));
    }
    Ok(edges)
}

/// A request that has a body.
struct Request {
    method: Method,
    path: String,
    /// What it is announced as.
    content_type: String,
    schema: Value,
}

/// Every request of the document that has a body: of what is there where that is looked up before the
/// body is read, otherwise of what is not, so that nothing comes of it.
fn requests(document: &Value) -> anyhow::Result<Vec<Request>> {
    let mut requests = Vec::new();
    for (path, item) in document["paths"].as_object().context("no paths")? {
        // What is below a tenant has a twin without it.
        if path.starts_with("/tenants/{tenant}/") {
            continue;
        }
        for (method, operation) in item.as_object().context("no operations")? {
            let Some(content) = operation["requestBody"]["content"].as_object() else {
                continue;
            };
            let (content_type, content) = content.iter().next().context("no content")?;
            if !content_type.ends_with("json") {
                // A table has no fields.
                continue;
            }
            let nobody = "00000000-0000-7000-8000-000000000007";
            requests.push(Request {
                method: Method::from_bytes(method.to_uppercase().as_bytes())?,
                path: path
                    .replace("{id}", nobody)
                    .replace("{account}", nobody)
                    .replace("{pbx}", nobody)
                    .replace("{tenant}", "default"),
                content_type: content_type.clone(),
                schema: content["schema"].clone(),
            });
        }
    }
    Ok(requests)
}

impl Request {
    async fn send(&self, client: &Client, body: &Value) -> anyhow::Result<Reply> {
        let request = client.request(self.method.clone(), &self.path);
        let request = request.header("If-Match", "*");
        let reply = request
            .body(&self.content_type, body.to_string())
            .send()
            .await?;
        ensure!(reply.status != 429, "{reply}");
        Ok(reply)
    }

    /// What the portal finds wrong with the fields of a body.
    async fn faults(&self, client: &Client, body: &Value) -> anyhow::Result<Vec<Value>> {
        let reply = self.send(client, body).await?;
        if reply.status != 400 {
            return Ok(Vec::new());
        }
        let errors = reply.json()?["errors"].as_array().cloned();
        errors.with_context(|| format!("no errors: {reply}"))
    }
}

/// A field of a body.
struct Field {
    /// Within objects perhaps, as in `call_forward.busy`.
    path: String,
    schema: Value,
    /// Whether it is an object with fields of its own.
    has_fields: bool,
}

impl Field {
    /// Puts a value into the place of the field.
    fn set(&self, body: &mut Value, value: &Value) {
        let mut place = body;
        for name in self.path.split('.') {
            if place.is_null() {
                *place = json!({});
            }
            place = &mut place[name];
        }
        *place = value.clone();
    }

    /// What of all that is wrong is wrong with it.
    fn faults<'a>(&self, all: &'a [Value]) -> Vec<&'a Value> {
        let within = [".", "["].map(|next| format!("{}{next}", self.path));
        let of_it = all.iter().filter(|error| {
            let name = error["field"].as_str().unwrap_or_default();
            // Whose account it is does not matter here.
            (name == self.path || within.iter().any(|within| name.starts_with(within)))
                && error["code"] != "not_wanted"
        });
        of_it.collect()
    }
}

/// The fields of a schema.
fn fields(contract: &Contract, schema: &Value, above: &str) -> Vec<Field> {
    let schema = contract.resolve(schema);
    let mut found = Vec::new();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{above}{name}");
        let within = fields(contract, inner, &format!("{path}."));
        let (schema, has_fields) = (inner.clone(), !within.is_empty());
        found.extend(within);
        found.push(Field {
            path,
            schema,
            has_fields,
        });
    }
    found
}

/// Compares what document and portal say of values.
struct Comparison {
    client: Client,
    contract: Contract,
    asked: usize,
    wrong: Vec<String>,
    /// Which of [`UNSAID`] and [`REFUSED_LATER`] are so.
    excused: BTreeSet<&'static str>,
}

impl Comparison {
    /// All fields have the value at once: the portal tells of everything that is wrong.
    async fn compare(
        &mut self,
        request: &Request,
        fields: &[Field],
        value: &Value,
    ) -> anyhow::Result<()> {
        let mut body = json!({});
        for field in fields {
            field.set(&mut body, value);
        }
        let (paths, most) = OF_STRANGERS;
        if paths.contains(&request.path.as_str()) && body.to_string().len() > most {
            return Ok(());
        }
        let faults = request.faults(&self.client, &body).await?;
        // Where null is taken, it is as good as nothing; of some fields nothing is too little.
        let absent = match value {
            Value::Null => request.faults(&self.client, &json!({})).await?,
            _ => Vec::new(),
        };
        for field in fields {
            self.asked += 1;
            let taken = field.faults(&faults) == field.faults(&absent);
            self.judge(request, field, value, taken);
        }
        Ok(())
    }

    fn judge(&mut self, request: &Request, field: &Field, value: &Value, taken: bool) {
        let documented = schema::check(self.contract.document(), &field.schema, value).is_ok();
        if taken == documented {
            return;
        }
        let excuses = if taken { REFUSED_LATER } else { UNSAID };
        if let Some((name, _)) = excuses
            .iter()
            .find(|(name, _)| field.path.rsplit('.').next() == Some(*name))
        {
            self.excused.insert(name);
            return;
        }
        let Request { method, path, .. } = request;
        let whether = if taken { "takes" } else { "refuses" };
        let start: String = value.to_string().chars().take(60).collect();
        self.wrong
            .push(format!("{method} {path} {whether} {}: {start}", field.path));
    }
}

#[tokio::test]
async fn the_portal_takes_what_the_document_says_and_nothing_else() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let mut comparison = Comparison {
        contract: Contract::new(lab.client.openapi().clone())?,
        client: lab.client.clone(),
        asked: 0,
        wrong: Vec::new(),
        excused: BTreeSet::new(),
    };
    let hostile = hostile()
        .into_iter()
        .filter(|value| value.text.len() < LENGTH_MAX);
    let mut values = edges()?;
    values.extend(hostile.filter_map(|value| value.json));
    for request in requests(comparison.contract.document())? {
        let fields = fields(&comparison.contract, &request.schema, "");
        ensure!(!fields.is_empty(), "{}: no fields", request.path);
        let (objects, others): (Vec<Field>, Vec<Field>) =
            fields.into_iter().partition(|field| field.has_fields);
        for value in &values {
            for fields in [&objects, &others]
                .into_iter()
                .filter(|fields| !fields.is_empty())
            {
                comparison.compare(&request, fields, value).await?;
            }
        }
        // No body is null.
        let reply = request.send(&lab.client, &Value::Null).await?.expect(400)?;
        ensure!(reply.json()?["code"] == "not_an_object", "{reply}");
        let documented = schema::check(
            comparison.contract.document(),
            &request.schema,
            &Value::Null,
        );
        ensure!(
            documented.is_err(),
            "{} {}: null",
            request.method,
            request.path
        );
    }
    let Comparison {
        asked,
        wrong,
        excused,
        ..
    } = comparison;
    ensure!(
        wrong.is_empty(),
        "{} of {asked}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let excuses = UNSAID.iter().chain(REFUSED_LATER).map(|(name, _)| *name);
    assert_eq!(excused, excuses.collect(), "others need no excuse");
    ensure!(asked > 10_000, "only {asked}");
    Ok(())
}
