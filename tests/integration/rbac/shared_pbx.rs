//! Two tenants on one PBX: whoever is confined to one of them applies, previews, compares and looks
//! back, whatever went wrong, and nothing that it is told names anything of the other.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use shared::bundle::Slot;
use tests::lab::{Lab, NewUser};
use tests::phones::Phone;
use tests::portal::{Client, Reply};
use tests::scratch;

use super::people::{Person, text};
use crate::respond_async::ended;

const DEADLINE: Duration = Duration::from_mins(1);

/// What is the other tenant's: words that stand in nothing else.
const FOREIGN: [&str; 8] = [
    "zulu",
    "quetzal",
    "xylophone",
    "zeppelin",
    // The beginning of its numbers.
    "777123",
    // Its context; the own one is t2's.
    "t3-internal",
    // What a file beside the generated ones is called.
    "kettle",
    "boiler",
];

/// A client whose every reply is searched for what is the other tenant's.
struct Watched {
    client: Client,
    also: Vec<String>,
}

impl Watched {
    async fn ask(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Reply> {
        let request = self.client.request(method, path);
        let request = if body.is_null() {
            request
        } else {
            request.json(body)
        };
        let reply = request.send().await?;
        let told = format!("{:?}\n{}", reply.headers, reply.text()).to_lowercase();
        for word in FOREIGN
            .iter()
            .copied()
            .chain(self.also.iter().map(String::as_str))
        {
            ensure!(!told.contains(word), "{word} is told: {reply}");
        }
        Ok(reply)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, &Value::Null)
            .await?
            .expect(200)?
            .json()
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.ask(Method::POST, path, body).await
    }
}

/// The portal with both tenants, and an operator of each.
struct Shared {
    lab: Lab,
    own: Watched,
    other: Person,
    quetzal: NewUser,
}

async fn user(admin: &Client, tenant: &str, name: &str) -> anyhow::Result<NewUser> {
    let email = format!("{}@example.org", name.to_lowercase());
    let body = json!({ "name": name, "email": email });
    let path = format!("/tenants/{tenant}/users");
    NewUser::read(admin.post(&path, &body).await?.expect(201)?.json()?)
}

async fn shared() -> anyhow::Result<Shared> {
    let lab = Lab::builder()
        .login()
        .portal_env("MONITOR_PERIOD_MS", "300")
        .start()
        .await?;
    let admin = &lab.client;
    for (slug, name, min, max) in [
        ("alpha", "Alpha", 1000, 1999),
        ("zulu", "Zeppelin Works", 77_712_300, 77_712_399),
    ] {
        let body = json!({ "slug": slug, "name": name, "ext_min": min, "ext_max": max });
        admin.post("/tenants", &body).await?.expect(201)?;
    }
    let operator = |tenant: &str| json!({ "role": "operator", "tenant": tenant });
    let own = Person::create(admin, "alpha-op", &operator("alpha")).await?;
    let other = Person::create(admin, "zulu-op", &operator("zulu")).await?;
    user(admin, "alpha", "Alma").await?;
    let quetzal = user(admin, "zulu", "Quetzal").await?;
    let also = vec![
        text(&quetzal.body, "id")?,
        text(&quetzal.body, "tenant_id")?,
        text(&quetzal.body["sip"], "device_id")?,
        other.account.clone(),
    ];
    let client = own.client;
    let own = Watched { client, also };
    Ok(Shared {
        lab,
        own,
        other,
        quetzal,
    })
}

/// The names of what changes, or is included.
fn names(list: &Value) -> Vec<&str> {
    let items = list.as_array().map_or(&[][..], Vec::as_slice).iter();
    items.filter_map(|item| item["name"].as_str()).collect()
}

fn is_withheld(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.starts_with("withheld"))
}

/// Looks back at an apply in every way that there is, and returns it.
async fn look_back(own: &Watched, id: &str) -> anyhow::Result<Value> {
    let path = format!("/applies/{id}");
    let attempt = own.get(&path).await?;
    let follow = format!("{path}/events");
    let events = own.ask(Method::GET, &follow, &Value::Null).await?;
    ensure!(events.expect(200)?.text().contains("event: ended"));
    let list = own.get("/applies").await?;
    let listed = list
        .as_array()
        .into_iter()
        .flatten()
        .any(|of| of["id"] == *id);
    ensure!(listed, "{id} is not listed: {list}");
    Ok(attempt)
}

/// Of an apply of the other tenant, one's own part is told.
async fn seen_from_the_own(own: &Watched, id: &str) -> anyhow::Result<()> {
    let seen = look_back(own, id).await?;
    for field in ["requested_by", "request_id", "source_address"] {
        ensure!(is_withheld(&seen[field]), "{field}: {seen}");
    }
    assert_eq!(
        (&seen["user_count"], names(&seen["users"])),
        (&json!(1), vec!["Alma"])
    );
    assert_eq!(seen["changes"]["users"]["added"], 1, "{seen}");
    assert_eq!(names(&seen["changes"]["user_names"]), ["Alma"]);
    // An endpoint, an auth, an AOR and an extension.
    assert_eq!(seen["changes"]["objects"]["added"], 4, "{seen}");
    ensure!(
        names(&seen["changes"]["object_names"])
            .iter()
            .all(|name| name.contains("1000"))
    );
    let steps = seen["steps"].as_array().context("no steps")?;
    let told = |step: &Value| step["said"] == "" || is_withheld(&step["said"]);
    ensure!(steps.len() > 3 && steps.iter().all(told), "{seen}");
    Ok(())
}

#[tokio::test]
async fn an_apply_tells_each_tenant_its_own() -> anyhow::Result<()> {
    let Shared {
        lab, own, other, ..
    } = shared().await?;
    let request = other.client.request(Method::POST, "/apply");
    let request = request.header("X-Request-Id", "zulu-request");
    let theirs = request.send().await?.expect(200)?.json()?;
    // They are told of themselves who asked, and of users their own.
    assert_eq!(theirs["requested_by"], "zulu-op");
    assert_eq!(theirs["request_id"], "zulu-request");
    assert_eq!(
        (&theirs["user_count"], names(&theirs["users"])),
        (&json!(1), vec!["Quetzal"])
    );

    seen_from_the_own(&own, &text(&theirs, "id")?).await?;

    // What is withheld is not found either.
    for query in ["requested_by=zulu-op", "q=zulu", "q=request", "q=quetzal"] {
        let found = own
            .client
            .get(&format!("/applies?{query}"))
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(found, json!([]), "{query}");
    }
    user(&lab.client, "alpha", "Arno").await?;
    user(&lab.client, "zulu", "Xylophone").await?;
    let mine = own
        .post("/apply", &json!({ "pbx": "default" }))
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(
        (&mine["outcome"], &mine["requested_by"]),
        (&json!("applied"), &json!("alpha-op"))
    );
    assert_eq!(
        (&mine["user_count"], names(&mine["users"])),
        (&json!(2), vec!["Alma", "Arno"])
    );
    assert_eq!(names(&mine["changes"]["user_names"]), ["Arno"]);
    for query in ["requested_by=alpha-op", "q=ALPHA"] {
        let found = own.get(&format!("/applies?{query}")).await?;
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{query}");
    }

    let prefer = own
        .client
        .request(Method::POST, "/apply")
        .header("Prefer", "respond-async");
    let accepted = prefer.send().await?.expect(202)?.json()?;
    let id = text(&accepted, "id")?;
    ended(&own.client, &id, DEADLINE).await?;
    look_back(&own, &id).await?;
    // The other way round.
    let found = other
        .client
        .get(&format!("/applies/{id}"))
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(names(&found["users"]), ["Quetzal", "Xylophone"]);
    ensure!(is_withheld(&found["requested_by"]), "{found}");
    Ok(())
}

/// Of what an apply would do, one's own part is told.
async fn previewed(admin: &Client, own: &Watched) -> anyhow::Result<()> {
    let whole = admin.get("/apply/preview").await?.expect(200)?;
    ensure!(whole.text().contains("Xylophone"), "{whole}");
    let whole = whole.json()?;
    assert_eq!(whole["changes"]["phones"]["count"], 1, "{whole}");
    let seen = own.get("/apply/preview").await?;
    assert_eq!(
        (&seen["would_apply"], &seen["user_count"]),
        (&json!(true), &json!(2)),
        "{seen}"
    );
    assert_eq!(seen["digest"], whole["digest"]);
    let changes = &seen["changes"];
    assert_eq!(names(&changes["users"]["list"]), ["Arno"]);
    assert_eq!(changes["users"]["counts"]["changed"], 0, "{seen}");
    assert_eq!(names(&changes["tenants"]), ["Alpha"]);
    assert_eq!(
        (&changes["phones"]["count"], &changes["files"]),
        (&json!(0), &json!([]))
    );
    ensure!(
        names(&changes["objects"]["list"])
            .iter()
            .all(|name| name.contains("1001"))
    );
    Ok(())
}

#[tokio::test]
async fn a_preview_and_a_comparison_show_ones_own() -> anyhow::Result<()> {
    let Shared {
        lab, own, quetzal, ..
    } = shared().await?;
    let admin = &lab.client;
    admin.post_nothing("/apply").await?.expect(200)?;
    let phone = Phone::new(&lab.asterisk, &quetzal.sip_username, &quetzal.sip_password)?;
    ensure!(!phone.register().await?.is_refused());
    // The other tenant changes somebody whose phone is registered.
    let change = json!({ "name": "Xylophone" });
    let path = format!("/tenants/zulu/users/{}", quetzal.id);
    let request = admin.request(Method::PATCH, &path);
    request
        .body("application/merge-patch+json", change.to_string())
        .send()
        .await?
        .expect(200)?;
    user(admin, "alpha", "Arno").await?;

    previewed(admin, &own).await?;

    let state = own.get("/apply/status").await?;
    sizes_withheld(&state)?;
    let pending = &state[0]["pending"];
    assert_eq!(
        (
            &pending["user_count"],
            names(&pending["changes"]["user_names"])
        ),
        (&json!(2), vec!["Arno"])
    );
    ensure!(
        is_withheld(&state[0]["last_proven"]["requested_by"]),
        "{state}"
    );
    assert_eq!(state[0]["counters"], json!({}));

    // One thing of each is gone from Asterisk.
    for extension in ["1000@t2-internal", "77712300@t3-internal"] {
        lab.asterisk
            .rx(&format!("dialplan remove extension {extension}"))
            .await?;
    }
    let whole = admin
        .post_nothing("/apply/verify")
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(names(&whole["mismatches"]).len(), 2, "{whole}");
    let seen = own
        .post("/apply/verify", &Value::Null)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(seen["in_force"], false);
    assert_eq!(names(&seen["mismatches"]), ["1000@t2-internal"], "{seen}");
    for path in [
        "/health/ready",
        "/apply/status?pbx=default",
        "/apply/preview?pbx=default",
    ] {
        own.get(path).await?;
    }
    Ok(())
}

/// By sizes and hashes of the files one would see the other tenant grow.
fn sizes_withheld(state: &Value) -> anyhow::Result<()> {
    let files = state[0]["files"].as_array().context("no files")?;
    ensure!(files.len() == 2 && state[0]["wanted_digest"].is_string());
    for file in files {
        for (what, told) in [
            ("wanted", &file["wanted"]),
            ("on_disk", &file["on_disk"]),
            ("last_applied.size", &file["last_applied"]["size"]),
            ("last_applied.sha256", &file["last_applied"]["sha256"]),
        ] {
            ensure!(told.is_null(), "{what} is told: {file}");
        }
        ensure!(file["last_applied"]["revision"].is_u64(), "{file}");
        ensure!(is_withheld(&file["loaded"]["generation"]), "{file}");
        ensure!(file["verdict"].is_string(), "{file}");
    }
    Ok(())
}

#[tokio::test]
async fn what_goes_wrong_names_nobody_of_the_other_tenant() -> anyhow::Result<()> {
    let Shared {
        lab, own, quetzal, ..
    } = shared().await?;
    let admin = &lab.client;
    let first = admin.post_nothing("/apply").await?.expect(200)?.json()?;
    user(admin, "alpha", "Arno").await?;
    user(admin, "zulu", "Xylophone").await?;
    admin.post_nothing("/apply").await?.expect(200)?;

    // Somebody puts a file there that defines what is the other tenant's once more.
    let file = lab
        .asterisk
        .slot(Slot::PjsipEndpoints)
        .with_file_name("kettle.conf");
    let section = format!("[{}]\ntype = endpoint\n", quetzal.sip_username);
    scratch::write(&file, 0o644, &section)?;
    user(admin, "alpha", "Anna").await?;
    let whole = admin.get("/apply/preview").await?.expect(200)?;
    ensure!(whole.text().contains(&quetzal.sip_username), "{whole}");
    let seen = own.get("/apply/preview").await?;
    assert_eq!(seen["would_apply"], false);
    ensure!(is_withheld(&seen["findings"][0]["message"]), "{seen}");
    let refused = own.post("/apply", &Value::Null).await?;
    assert_eq!(refused.problem(502)?, "apply_rejected", "{refused}");
    let attempt = &refused.json()?["apply"];
    ensure!(is_withheld(&attempt["failure"]["message"]), "{refused}");
    let id = text(attempt, "id")?;
    let whole = admin.get(&format!("/applies/{id}")).await?.expect(200)?;
    ensure!(whole.text().contains(&quetzal.sip_username), "{whole}");
    look_back(&own, &id).await?;
    let state = own.get("/apply/status").await?;
    assert_eq!(state[0]["degraded"], true, "{state}");
    std::fs::remove_file(&file)?;

    // An earlier revision is brought back: its notes name people of both.
    let path = format!("/applies/{}/restore", text(&first, "id")?);
    let restored = admin.post_nothing(&path).await?.expect(200)?;
    ensure!(restored.text().contains("Xylophone"), "{restored}");
    let seen = look_back(&own, &text(&restored.json()?, "id")?).await?;
    assert_eq!(seen["notes"].as_array().map(Vec::len), Some(1), "{seen}");
    ensure!(is_withheld(&seen["notes"][0]), "{seen}");
    let state = own.get("/apply/status").await?;
    let warnings = state[0]["warnings"].as_array().context("no warnings")?;
    let restored = warnings
        .iter()
        .find(|warning| warning["code"] == "database_differs");
    ensure!(
        is_withheld(&restored.context("no warning")?["message"]),
        "{state}"
    );
    own.get("/apply/preview").await?;

    // What concerns every tenant of the PBX is not for one of them.
    for body in [
        json!({ "force": true }),
        json!({ "on_reload_failure": "keep_new_files" }),
    ] {
        let refused = own.post("/apply", &body).await?;
        assert_eq!(refused.problem(403)?, "forbidden", "{refused}");
        ensure!(refused.text().contains("applies.force"), "{refused}");
    }
    assert_eq!(
        own.post(&path, &Value::Null).await?.problem(403)?,
        "forbidden"
    );
    for path in ["/revisions", "/events", "/pbxes"] {
        let refused = own.ask(Method::GET, path, &Value::Null).await?;
        assert_eq!(refused.problem(403)?, "forbidden");
    }
    Ok(())
}
