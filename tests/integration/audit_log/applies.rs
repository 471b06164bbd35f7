//! Each apply tells the changes that it carried, and each change the apply that brought it into force.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::{Lab, PortalLab};
use tests::portal::Client;
use tests::process::wait_until;

use super::{count, entries, entry, faults, verify};
use crate::audit::{applied, trail};
use crate::respond_async::ended;
use crate::stand_in::{self, Reload};

async fn shown(client: &Client, apply: &Value) -> anyhow::Result<Value> {
    let id = apply["id"].as_str().context("no id")?;
    client
        .get(&format!("/applies/{id}"))
        .await?
        .expect(200)?
        .json()
}

/// The entries that an apply carried, as both ways tell of them; in the order of the changes.
async fn carried(client: &Client, apply: &Value) -> anyhow::Result<Vec<Value>> {
    let shown = shown(client, apply).await?;
    let id = shown["id"].as_str().context("no id")?;
    let mut listed = entries(client, &format!("apply={id}")).await?;
    listed.reverse();
    let brief = shown["carried"].as_array().context("not told")?;
    assert_eq!(shown["change_count"], brief.len(), "{shown}");
    let ids = |all: &[Value]| all.iter().map(|e| e["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(brief), ids(&listed));
    for (brief, entry) in brief.iter().zip(&listed) {
        for (name, value) in brief.as_object().context("no object")? {
            assert_eq!(&entry[name], value, "{name}");
        }
    }
    Ok(listed)
}

fn names(entries: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut names: Vec<String> = entries
        .iter()
        .map(|e| format!("{} {}", text(&e["action"]), text(&e["entity_name"])))
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn an_apply_carries_what_was_changed_since_the_last_one() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let client = &lab.client;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let first = applied(client, lab.apply().await?).await?;
    let all = carried(client, &first).await?;
    assert_eq!(
        names(&all),
        [
            "device.created Phone",
            "pbx.changed default",
            "user.created Ann"
        ]
    );
    for entry in &all {
        let by = &entry["applied_by"];
        assert_eq!(by["apply_id"], first["id"], "{entry}");
        assert_eq!(
            (&by["revision"], &by["at"]),
            (&first["revision"], &first["ended_at"])
        );
        assert_eq!(entry["pending_on"], json!([]));
    }
    // Asked for and ended, by whom.
    let id = first["id"].as_str().context("no id")?;
    let of_apply = entries(client, &format!("entity_id={id}")).await?;
    let told: Vec<_> = of_apply
        .iter()
        .map(|e| (&e["action"], &e["actor"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!("apply.ended"), &json!("portal")),
            (&json!("apply.requested"), &json!("trusted-network")),
        ]
    );
    assert_eq!(of_apply[0]["after"]["outcome"], "applied");
    assert_eq!(of_apply[0]["after"]["change_count"], 3);
    assert_eq!(of_apply[0]["request_id"], of_apply[1]["request_id"]);

    // Nothing since: nothing is carried. What concerns no PBX never is.
    let unchanged = lab.apply().await?.expect(200)?.json()?;
    assert_eq!(carried(client, &unchanged).await?.len(), 0);
    let path = format!("/users/{}", ann.id);
    client.delete(&path).await?.expect(204)?;
    let purge = client.request(Method::DELETE, &format!("/deleted-users/{}", ann.id));
    purge.header("If-Match", "*").send().await?.expect(204)?;
    client.post_nothing("/apply/verify").await?.expect(200)?;
    let second = lab.apply().await?.expect(200)?.json()?;
    let carried = carried(client, &second).await?;
    assert_eq!(
        names(&carried),
        ["device.deleted Phone", "user.deleted Ann"]
    );
    let pool = lab.database.pool().await?;
    assert_eq!(count(&pool, "select count(*) from audit_pending").await?, 0);
    assert!(faults(&verify(&lab.database.url).await?)?.is_empty());
    Ok(())
}

/// What is committed once the data was read waits for the next apply.
#[tokio::test]
async fn a_change_during_an_apply_is_carried_by_the_next_one() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let client = lab.client.clone();
    let during = async {
        hold.reached().await?;
        let user = lab.create_user("During", "during@example.org").await;
        drop(hold);
        user
    };
    let (reply, during) = tokio::join!(client.post_nothing("/apply"), during);
    let (first, during) = (applied(&client, reply?).await?, during?);
    let of_user = format!("entity_id={}", during.id);
    assert!(!names(&carried(&client, &first).await?).contains(&"user.created During".to_owned()));
    let waits = entry(&client, &of_user).await?;
    assert_eq!(waits["applied_by"], Value::Null);
    assert_eq!(waits["pending_on"], json!([first["pbx_id"]]));

    let second = applied(&client, lab.apply().await?).await?;
    assert_eq!(
        names(&carried(&client, &second).await?),
        ["device.created Phone", "user.created During"]
    );
    let in_force = entry(&client, &of_user).await?;
    assert_eq!(in_force["applied_by"]["apply_id"], second["id"]);
    Ok(())
}

/// What waits is read at the same instant as the data, however long reading that takes: a change that is
/// committed meanwhile is in neither.
#[tokio::test]
async fn a_change_while_the_data_is_read_is_carried_by_the_next_one() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let pool = lab.database.pool().await?;
    let mut change = pool.begin().await?;
    sqlx::query(r#"lock table "user" in access exclusive mode"#)
        .execute(&mut *change)
        .await?;
    let client = lab.client.clone();
    let wanted = json!({ "pbx": "default" });
    let apply = tokio::spawn(async move { client.post("/apply", &wanted).await });
    let waits = r#"select count(*) from pg_locks
        where relation = '"user"'::regclass and not granted"#;
    let waits = async || count(&pool, waits).await.is_ok_and(|waits| waits > 0);
    wait_until("the users are read", super::DEADLINE, waits).await?;
    sqlx::query(
        "insert into audit_pending (pbx_id, audit_entry_id, at)
         select pbx_id, gen_random_uuid(), now() from pbx",
    )
    .execute(&mut *change)
    .await?;
    change.commit().await?;
    let attempt = applied(&lab.client, apply.await??).await?;
    assert_eq!(attempt["change_count"], 3);
    assert_eq!(count(&pool, "select count(*) from audit_pending").await?, 1);
    Ok(())
}

/// One that was rolled back tells what it carried, and nothing of that is in force.
#[tokio::test]
async fn what_did_not_come_into_force_waits_on() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let client = &lab.client;
    applied(client, lab.apply().await?).await?;
    let ann = lab.create_user("Eve", "eve@example.org").await?;
    // Asterisk refuses the first reload, and not that of the roll-back.
    stand_in.once(Reload::Pjsip, "echo 42\nexit 0\n")?;
    let failed = lab.apply().await?;
    assert_eq!(failed.problem(502)?, "apply_rolled_back");
    let failed = failed.json()?["apply"].clone();
    let of_user = format!("entity_id={}", ann.id);
    let expected = ["device.created Phone", "user.created Eve"];
    assert_eq!(names(&carried(client, &failed).await?), expected);
    assert_eq!(entry(client, &of_user).await?["applied_by"], Value::Null);
    let good = applied(client, lab.apply().await?).await?;
    assert_eq!(names(&carried(client, &good).await?), expected);
    let told = entry(client, &of_user).await?;
    assert_eq!(told["applied_by"]["apply_id"], good["id"]);
    // Both tell of it still.
    assert_eq!(names(&carried(client, &failed).await?), expected);
    let ended = entries(client, "action=apply.ended").await?;
    let outcomes: Vec<_> = ended.iter().map(|e| &e["after"]["outcome"]).collect();
    assert_eq!(outcomes, ["applied", "rolled_back", "applied", "applied"]);
    Ok(())
}

/// An earlier bundle knows nothing of what was changed since.
#[tokio::test]
async fn a_restore_carries_nothing() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let client = &lab.client;
    lab.create_user("Ann", "ann@example.org").await?;
    let first = applied(client, lab.apply().await?).await?;
    let bob = lab.create_user("Bob", "bob@example.org").await?;
    applied(client, lab.apply().await?).await?;
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    let id = first["id"].as_str().context("no id")?;
    let restored = client
        .post_nothing(&format!("/applies/{id}/restore"))
        .await?;
    let restored = applied(client, restored).await?;
    assert_eq!(carried(client, &restored).await?, Vec::<Value>::new());
    let of = |id: &str| format!("entity_id={id}");
    assert!(entry(client, &of(&bob.id)).await?["applied_by"].is_object());
    let waits = entry(client, &of(&carl.id)).await?;
    assert_eq!(waits["applied_by"], Value::Null);
    assert_eq!(waits["pending_on"].as_array().map(Vec::len), Some(1));
    let told = entries(client, "action=apply.requested").await?;
    assert_eq!(told[0]["after"]["restored_from"], first["id"]);
    Ok(())
}

/// Whoever closes the row, what it carried is in force then.
#[tokio::test]
async fn the_reconciler_settles_what_an_apply_carried() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let client = lab.client.clone();
    let agent = &mut lab.agent;
    let kill = async {
        hold.reached().await?;
        agent.kill();
        anyhow::Ok(())
    };
    let (reply, killed) = tokio::join!(client.post_nothing("/apply"), kill);
    killed?;
    let reply = reply?;
    assert_eq!(reply.problem(503)?, "apply_outcome_unknown", "{reply}");
    let open = reply.json()?["apply"].clone();
    let late = entries(&client, "action=user.created&q=Late").await?;
    assert_eq!(late[0]["applied_by"], Value::Null, "{late:?}");
    drop(hold);
    lab.agent.resume().await?;
    let id = open["id"].as_str().context("no id")?;
    let attempt = ended(&client, id, super::DEADLINE).await?;
    assert_eq!(attempt["outcome"], "applied", "{attempt}");
    let late = entry(&client, "action=user.created&q=Late").await?;
    assert_eq!(late["applied_by"]["apply_id"], open["id"]);
    assert_eq!(late["pending_on"], json!([]));
    let told = entry(&client, &format!("action=apply.ended&entity_id={id}")).await?;
    assert_eq!(
        (&told["actor"], &told["after"]["outcome"]),
        (&json!("portal"), &json!("applied"))
    );
    Ok(())
}

/// One that is accepted was asked for by somebody, also when it comes to nothing.
#[tokio::test]
async fn an_accepted_apply_was_asked_for_once_and_ended_once() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    for prefer in ["respond-async", "wait=1"] {
        let request = client.request(Method::POST, "/apply");
        let request = request.header("X-Admin-User", "anna");
        let reply = request.header("Prefer", prefer).send().await?;
        let body = reply.json()?;
        let id = body["id"].as_str().or(body["apply"]["id"].as_str());
        let id = id.context("no id")?;
        let attempt = ended(client, id, super::DEADLINE).await?;
        assert_eq!(attempt["outcome"], "agent_unreachable");
        let told = entries(client, &format!("entity_id={id}")).await?;
        let told: Vec<_> = told.iter().map(|e| (&e["action"], &e["actor"])).collect();
        assert_eq!(
            told,
            [
                (&json!("apply.ended"), &json!("portal")),
                (&json!("apply.requested"), &json!("anna")),
            ],
            "{prefer}"
        );
    }
    let pending = entries(client, "action=pbx.changed").await?;
    assert_eq!(pending[0]["pending_on"].as_array().map(Vec::len), Some(1));
    assert_eq!(trail(client).await?.len(), 2);
    Ok(())
}

/// A tenant that moves is no longer on the one, and not yet on the other.
#[tokio::test]
async fn a_tenant_that_moves_waits_for_both_pbxes() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let body = json!({ "name": "branch", "agent_address": "127.0.0.1:9" });
    let branch = client.post("/pbxes", &body).await?.expect(201)?.json()?;
    let body = json!({ "slug": "acme", "name": "Acme", "ext_min": 100, "ext_max": 199 });
    let acme = client.post("/tenants", &body).await?.expect(201)?.json()?;
    let request = client.request(Method::PATCH, "/tenants/acme");
    let patch = json!({ "pbx": "branch" }).to_string();
    let request = request.body("application/merge-patch+json", patch);
    request.send().await?.expect(200)?;
    let moved = entry(client, "action=tenant.changed").await?;
    let mut both = vec![acme["pbx_id"].clone(), branch["id"].clone()];
    both.sort_by_key(ToString::to_string);
    assert_eq!(moved["pending_on"], json!(both));
    let body = json!({ "name": "Ann", "email": "ann@example.org" });
    client
        .post("/tenants/acme/users", &body)
        .await?
        .expect(201)?;
    let user = entry(client, "action=user.created").await?;
    assert_eq!(user["pending_on"], json!([branch["id"]]));
    // A PBX that is taken out of service waits for nothing.
    let patch = json!({ "pbx": "default" }).to_string();
    let back = client.request(Method::PATCH, "/tenants/acme");
    let back = back.body("application/merge-patch+json", patch);
    back.send().await?.expect(200)?;
    let gone = client.request(Method::DELETE, "/pbxes/branch");
    gone.header("If-Match", "*").send().await?.expect(204)?;
    let user = entry(client, "action=user.created").await?;
    assert_eq!(user["pending_on"], json!([]));
    Ok(())
}

/// However many wait, an apply takes them in a statement each.
#[tokio::test]
async fn ten_thousand_changes_are_carried_at_once() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let pool = lab.database.pool().await?;
    sqlx::query(
        "insert into audit_pending (pbx_id, audit_entry_id, at)
         select pbx_id, gen_random_uuid(), now() + n * interval '1 second'
         from pbx, generate_series(1, 10000) n",
    )
    .execute(&pool)
    .await?;
    let attempt = applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(attempt["change_count"], 10_003);
    assert_eq!(
        count(&pool, "select count(*) from apply_change").await?,
        10_003
    );
    assert_eq!(count(&pool, "select count(*) from audit_pending").await?, 0);
    // The entries that there are.
    let shown = shown(&lab.client, &attempt).await?;
    assert_eq!(shown["carried"].as_array().map(Vec::len), Some(3));
    Ok(())
}
