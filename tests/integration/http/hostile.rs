//! Hostile values in every field of every body that makes or changes something, as the OpenAPI
//! document has them: each is refused and the field is named, or it is stored, reads back as it was
//! sent and changes nothing else. What was stored is applied, and Asterisk holds exactly that.

pub(super) mod values;

use anyhow::{Context as _, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::Lab;
use tests::portal::{Client, Reply};

use self::values::Hostile;
use crate::audit::applied;

/// Bodies that order something to be done and store nothing of what they say.
const ORDERS: &[&str] = &[
    "/apply",
    "/applies/{id}/restore",
    "/apply/verify",
    "/declaration/reconcile",
    "/accounts/{account}/password",
    "/accounts/{account}/recovery-codes",
    "/accounts/{account}/totp",
    "/accounts/{account}/totp/confirm",
    "/accounts/{account}/totp/remove",
    "/password-resets",
    "/sessions",
    "/sessions/refresh",
];

/// What is one's own, in a network where nobody signs in: `accounts` sends what is hostile there.
const OWN: &[&str] = &["/api-tokens"];

/// What no answer shows.
const WRITE_ONLY: &[&str] = &[
    "voicemail.pin",
    "reveal",
    "overlap_seconds",
    "pbx",
    "tenant",
];

/// Longer bodies are not read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What every change changes.
const ALWAYS: &[&str] = &["updated_at"];

/// A request whose body is attacked.
struct Target {
    method: Method,
    path: String,
    fields: Vec<String>,
}

/// Each POST and PATCH of the document, with every field of its body.
fn targets(document: &Value) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for (path, item) in document["paths"].as_object().context("no paths")? {
        // What is below a tenant has a twin without it.
        if path.starts_with("/tenants/{tenant}/")
            || ORDERS.contains(&path.as_str())
            || OWN.contains(&path.as_str())
        {
            continue;
        }
        for method in [Method::POST, Method::PATCH] {
            let name = method.as_str().to_ascii_lowercase();
            let content = item[&name]["requestBody"]["content"].as_object();
            let Some((kind, body)) = content.and_then(|content| content.iter().next()) else {
                continue;
            };
            if !kind.ends_with("json") {
                // A table has no fields.
                continue;
            }
            let mut fields = Vec::new();
            collect(document, &body["schema"], "", &mut fields);
            ensure!(!fields.is_empty(), "{method} {path}: no fields");
            let path = path.clone();
            targets.push(Target {
                method,
                path,
                fields,
            });
        }
    }
    Ok(targets)
}

/// The names of the fields of a schema, those of objects within it as in `call_forward.busy`.
fn collect(document: &Value, schema: &Value, prefix: &str, fields: &mut Vec<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        let target = target
            .strip_prefix('#')
            .and_then(|path| document.pointer(path));
        collect(document, target.unwrap_or(&Value::Null), prefix, fields);
    }
    for key in ["allOf", "oneOf"] {
        for part in schema[key].as_array().into_iter().flatten() {
            collect(document, part, prefix, fields);
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        fields.push(format!("{prefix}{name}"));
        collect(document, inner, &format!("{prefix}{name}."), fields);
    }
    if !prefix.is_empty()
        && schema
            .get("additionalProperties")
            .is_some_and(Value::is_object)
    {
        // A map: a member that there is, and one that there is not.
        fields.push(format!("{prefix}udp"));
        fields.push(format!("{prefix}other"));
    }
}

/// Sends what is hostile, one request after another.
struct Attack {
    client: Client,
    sent: usize,
    stored: usize,
    faults: Vec<String>,
    /// Whose devices are made, and how many more may be.
    owner: (Value, usize),
}

impl Attack {
    /// A resource that is there to be changed; its path.
    async fn made(&mut self, collection: &str) -> anyhow::Result<String> {
        let body = self.good(collection).await?;
        let reply = self.client.post(collection, &body).await?.expect(201)?;
        self.owner.1 = self.owner.1.saturating_sub(1);
        Ok(reply.header("location").to_owned())
    }

    /// A body that makes something in a collection.
    async fn good(&mut self, collection: &str) -> anyhow::Result<Value> {
        self.sent += 1;
        let n = self.sent;
        Ok(match collection {
            "/users" => json!({
                "name": "Good", "email": format!("good{n}@example.org"), "dnd": false,
                "outbound_caller_id": "+420123456789",
            }),
            "/devices" => {
                if self.owner.1 == 0 {
                    let user = json!({ "name": "Owner", "email": format!("owner{n}@example.org") });
                    let user = self
                        .client
                        .post("/users", &user)
                        .await?
                        .expect(201)?
                        .json()?;
                    self.owner = (user["id"].clone(), 20);
                }
                json!({ "user_id": self.owner.0, "label": "Good", "codecs": ["alaw"] })
            }
            "/tenants" => json!({
                "slug": format!("good{n}"), "name": "Good", "ext_min": 2000, "ext_max": 2999,
            }),
            "/accounts" => json!({
                "login": format!("good{n}"), "name": "Good", "role": "operator",
                "tenant": "default",
            }),
            // Nobody listens on port 1.
            "/pbxes" => json!({
                "name": format!("good{n}"), "agent_address": format!("127.0.0.1:{}", 1 + n % 1000),
                "agent_identity": format!("spiffe://pbx.internal/agent/good{n}"),
                "transports": { "udp": "transport-udp" },
            }),
            other => bail!("how is something made in {other}?"),
        })
    }

    async fn run(&mut self, target: &Target) -> anyhow::Result<()> {
        let collection = target.path.split("/{").next().unwrap_or_default();
        let one = if target.path == collection {
            None
        } else {
            Some(self.made(collection).await?)
        };
        let suffix = target
            .path
            .rsplit_once('}')
            .map_or("", |(_, suffix)| suffix);
        for field in &target.fields {
            for value in values::hostile() {
                match &one {
                    None => self.create(collection, field, &value).await?,
                    Some(place) => {
                        let path = format!("{place}{suffix}");
                        self.change((&target.method, &path), place, field, &value)
                            .await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn create(
        &mut self,
        collection: &str,
        field: &str,
        value: &Hostile,
    ) -> anyhow::Result<()> {
        let good = self.good(collection).await?;
        let reply = self
            .send(&Method::POST, collection, value.within(&good, field)?)
            .await?;
        let Some(reply) = reply else { return Ok(()) };
        let what = format!("POST {collection} {field} = {value}");
        if reply.status != 201 {
            self.refused(&what, &reply, field, value);
            return Ok(());
        }
        self.stored += 1;
        if collection == "/devices" {
            self.owner.1 = self.owner.1.saturating_sub(1);
        }
        let place = reply.header("location").to_owned();
        let kept = self.client.get(&place).await?.expect(200)?.json()?;
        // Null is as if nothing had been said.
        if let Some(sent) = value.json.as_ref().filter(|sent| !sent.is_null()) {
            self.reads_back(&what, &kept, field, sent);
        }
        for (name, sent) in good.as_object().into_iter().flatten() {
            let shown = !WRITE_ONLY.contains(&name.as_str());
            if shown
                && name != field
                && !field.starts_with(&format!("{name}."))
                && !holds(&kept[name], sent)
            {
                let fault = format!("{what}: {name} is {} instead of {sent}", kept[name]);
                self.faults.push(fault);
            }
        }
        if collection == "/pbxes" {
            let gone = self.client.request(Method::DELETE, &place);
            gone.header("If-Match", "*").send().await?.expect(204)?;
        }
        Ok(())
    }

    async fn change(
        &mut self,
        (method, path): (&Method, &str),
        place: &str,
        field: &str,
        value: &Hostile,
    ) -> anyhow::Result<()> {
        self.sent += 1;
        let before = self.client.get(place).await?.expect(200)?.json()?;
        let body = value.within(&json!({}), field)?;
        let reply = self.send(method, path, body).await?;
        let after = self.client.get(place).await?.expect(200)?.json()?;
        let what = format!("{method} {path} {field} = {value}");
        if reply.as_ref().is_none_or(|reply| reply.status != 200) {
            if let Some(reply) = reply {
                self.refused(&what, &reply, field, value);
            }
            if before != after {
                self.faults.push(format!("{what}: {before} became {after}"));
            }
            return Ok(());
        }
        self.stored += 1;
        if let Some(sent) = &value.json {
            self.reads_back(&what, &after, field, sent);
        }
        let named = field.split('.').next().unwrap_or_default();
        for (name, was) in before.as_object().into_iter().flatten() {
            let rotated = path.ends_with("/rotate") && name != "label" && name != "codecs";
            // Some text is by now the name of another PBX.
            let moved = named == "pbx" && name == "pbx_id";
            if name != named
                && !moved
                && !ALWAYS.contains(&name.as_str())
                && !rotated
                && after[name] != *was
            {
                let fault = format!("{what}: {name} was {was} and is {}", after[name]);
                self.faults.push(fault);
            }
        }
        Ok(())
    }

    /// The reply; `None` when the portal hung up on a body that is far too long.
    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<Option<Reply>> {
        let kind = if *method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let mut request = self.client.request(method.clone(), path);
        if path.ends_with("/rotate") {
            request = request.header("If-Match", "*");
        }
        let is_long = body.len() > BODY_BYTES_MAX;
        if is_long {
            request = request.header("Connection", "close");
        }
        match request.body(kind, body).send().await {
            Err(_) if is_long => Ok(None),
            reply => reply.map(Some),
        }
    }

    /// A refusal is the client's fault and names the field, unless the body cannot even be read.
    fn refused(&mut self, what: &str, reply: &Reply, field: &str, value: &Hostile) {
        let body = reply.json().unwrap_or_default();
        let named = |error: &Value| {
            let name = error["field"].as_str().unwrap_or_default();
            name == field
                || name.starts_with(&format!("{field}."))
                || field.starts_with(&format!("{name}."))
        };
        let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
        let good = match reply.status {
            400 if value.json.is_none() => body["code"] == "malformed_json",
            400 => !errors.is_empty() && errors.iter().all(named),
            409 => true,
            // Something else that it names.
            404 => body["code"] == format!("{field}_not_found"),
            413 => value.text.len() > BODY_BYTES_MAX,
            _ => false,
        };
        if !good {
            self.faults.push(format!("{what}: {reply}"));
        }
    }

    fn reads_back(&mut self, what: &str, kept: &Value, field: &str, sent: &Value) {
        if WRITE_ONLY.contains(&field) {
            return;
        }
        let pointer = format!("/{}", field.replace('.', "/"));
        let found = kept.pointer(&pointer).unwrap_or(&Value::Null);
        if !holds(found, sent) {
            self.faults.push(format!("{what}: is {found}"));
        }
    }
}

/// Whether what is kept is what was sent: texts apart from outer blanks, of objects what was named.
fn holds(kept: &Value, sent: &Value) -> bool {
    match (kept, sent) {
        (Value::String(kept), Value::String(sent)) => kept == sent || kept == sent.trim(),
        (Value::Object(kept), Value::Object(sent)) => sent
            .iter()
            .all(|(name, sent)| holds(kept.get(name).unwrap_or(&Value::Null), sent)),
        (kept, sent) => kept == sent,
    }
}

#[tokio::test]
async fn whatever_a_field_holds_is_refused_by_name_or_kept_exactly_and_applied()
-> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let targets = targets(lab.client.openapi())?;
    let mut attack = Attack {
        client: lab.client.clone(),
        sent: 0,
        stored: 0,
        faults: Vec::new(),
        owner: (Value::Null, 0),
    };
    for target in &targets {
        attack.run(target).await?;
    }
    let faults = &attack.faults;
    ensure!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    ensure!(attack.stored > 100, "only {} were stored", attack.stored);

    // All of it at once, on the real Asterisk, which complains of nothing.
    let before = lab.asterisk.log().len();
    let order = json!({ "pbx": "default" });
    let attempt = applied(&lab.client, lab.client.post("/apply", &order).await?).await?;
    let log = lab.asterisk.log();
    let complaints = log[before..]
        .lines()
        .filter(|line| line.contains("WARNING") || line.contains("ERROR"));
    assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new());
    let verify = lab.client.post_nothing("/apply/verify").await?;
    let found = verify.expect(200)?.json()?;
    assert_eq!(
        (&found["in_force"], &found["mismatches"], &found["digest"]),
        (&json!(true), &json!([]), &attempt["digest"])
    );
    Ok(())
}
