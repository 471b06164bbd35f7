//! A life of a PBX in which much goes wrong, and what was answered to it.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;
use shared::bundle::Slot;
use tests::lab::{Lab, NewUser};

use super::search::Traces;
use crate::stand_in::{Reload, StandIn};

/// What a client sends where nobody asked for it.
pub(super) const CLIENT_PASSWORD: &str = "ClientPasswordNeedle";

/// Makes users, applies, previews, restores, fails in several ways, deletes, and collects what was
/// answered. Returns everybody who ever was.
pub(super) async fn live(
    lab: &mut Lab,
    stand_in: &StandIn,
    traces: &mut Traces,
) -> anyhow::Result<Vec<NewUser>> {
    let mut users = Vec::new();
    for name in ["Ann", "Bob", "Carl"] {
        users.push(
            lab.create_user(name, &format!("{name}@example.org"))
                .await?,
        );
    }
    traces.reply(&lab.client.get("/apply/preview").await?.expect(200)?);
    traces.reply(&lab.apply().await?.expect(200)?);
    lab.phone(&users[0])?.register().await?.accepted()?;

    lab.client
        .delete(&format!("/users/{}", users[2].id))
        .await?
        .expect(204)?;
    users.push(lab.create_user("Dora", "dora@example.org").await?);
    traces.reply(&lab.client.get("/apply/preview").await?.expect(200)?);
    failing_applies(lab, stand_in, traces).await?;
    restores(lab, traces).await?;
    unreadable(lab, traces).await?;
    refusals(lab, traces).await?;
    questions(lab, traces).await?;
    Ok(users)
}

/// Failures, each with words of its own.
async fn failing_applies(
    lab: &mut Lab,
    stand_in: &StandIn,
    traces: &mut Traces,
) -> anyhow::Result<()> {
    stand_in.once(Reload::Dialplan, "echo 42; exit 0\n")?;
    traces.reply(&lab.apply().await?.expect(502)?);
    let live = lab.asterisk.slot(Slot::PjsipEndpoints);
    stand_in.overwrite(Reload::Pjsip, &live, b"[broken\npassword_digest = x\n")?;
    let keep = json!({ "on_reload_failure": "keep_new_files" });
    traces.reply(&lab.client.post("/apply", &keep).await?.expect(502)?);
    // The broken file is drift now, kept by the next one.
    traces.reply(&lab.client.get("/apply/preview").await?.expect(200)?);
    traces.reply(&lab.apply().await?.expect(200)?);
    let outdated = json!({ "expected_digest": "0".repeat(64) });
    traces.reply(&lab.client.post("/apply", &outdated).await?.expect(412)?);
    lab.agent.stop().await?;
    traces.reply(&lab.apply().await?.expect(503)?);
    traces.reply(&lab.client.get("/apply/preview").await?.expect(200)?);
    lab.agent.resume().await
}

/// Bringing the first bundle back, and back to now; then one whose stored form was altered.
async fn restores(lab: &Lab, traces: &mut Traces) -> anyhow::Result<()> {
    let first = lab.client.get("/revisions").await?.expect(200)?.json()?;
    let first = first.as_array().and_then(|rows| rows.last()).cloned();
    let id = first.context("a revision")?["apply_id"]
        .as_str()
        .map(str::to_owned);
    let restore = format!("/applies/{}/restore", id.context("an id")?);
    traces.reply(&lab.client.post_nothing(&restore).await?.expect(200)?);
    traces.reply(&lab.client.get("/apply/preview").await?.expect(200)?);
    traces.reply(&lab.apply().await?.expect(200)?);
    let pool = lab.database.pool().await?;
    let flip = "update apply
         set bundle_encrypted = set_byte(bundle_encrypted, 99, 255 - get_byte(bundle_encrypted, 99))
         where revision = 1";
    sqlx::query(flip).execute(&pool).await?;
    traces.reply(&lab.client.post_nothing(&restore).await?.expect(409)?);
    sqlx::query(flip).execute(&pool).await?;
    Ok(())
}

/// A password that lies in the row of somebody else.
async fn unreadable(lab: &Lab, traces: &mut Traces) -> anyhow::Result<()> {
    let pool = lab.database.pool().await?;
    let swap = "update device d set sip_password_encrypted = o.sip_password_encrypted
        from extension e, extension f, device o
        where d.user_id = e.user_id and o.user_id = f.user_id
            and e.number in (1000, 1001) and f.number = 2001 - e.number";
    sqlx::query(swap).execute(&pool).await?;
    for path in ["/apply/preview", "/apply/status"] {
        traces.reply(&lab.client.get(path).await?.expect(200)?);
    }
    let refused = lab.apply().await?;
    refused.problem(refused.status)?;
    traces.reply(&refused);
    sqlx::query(swap).execute(&pool).await?;
    Ok(())
}

/// Requests that are refused, some with a secret where none belongs.
async fn refusals(lab: &Lab, traces: &mut Traces) -> anyhow::Result<()> {
    for body in [
        json!({ "name": "Ann" }),
        json!({ "name": "A", "email": "ann@example.org" }),
        json!({ "name": "A", "email": "a@example.org", "sip_password": CLIENT_PASSWORD }),
        json!({ "name": "A", "email": "a@example.org", "sip": { "password": CLIENT_PASSWORD } }),
        json!({ "name": ["A"], "email": 1, "password": { CLIENT_PASSWORD: 1 } }),
    ] {
        let reply = lab.client.post("/users", &body).await?;
        reply.problem(reply.status)?;
        traces.reply(&reply);
    }
    let broken = format!(r#"{{"name": "A", "sip_password": "{CLIENT_PASSWORD}" "#);
    for (kind, body) in [
        ("application/json", "{".to_owned()),
        ("application/json", broken.clone()),
        ("text/plain", broken),
    ] {
        let request = lab.client.request(Method::POST, "/users").body(kind, body);
        let reply = request.send().await?;
        reply.problem(reply.status)?;
        traces.reply(&reply);
    }
    Ok(())
}

/// Everything that can be asked.
async fn questions(lab: &Lab, traces: &mut Traces) -> anyhow::Result<()> {
    traces.reply(
        &lab.client
            .post_nothing("/apply/verify")
            .await?
            .expect(200)?,
    );
    let document = lab.client.openapi()["paths"].clone();
    for (path, methods) in document.as_object().context("no paths")? {
        if methods["get"].is_object() && !path.contains('{') {
            let reply = lab.client.get(path).await?;
            // Where nobody signs in, nothing is anybody's own.
            let nobodys = reply.status == 404 && reply.problem(404)? == "account_not_found";
            traces.reply(&if nobodys { reply } else { reply.expect(200)? });
        }
    }
    for path in ["/users", "/applies"] {
        let listed = lab.client.get(path).await?.json()?;
        for item in listed.as_array().into_iter().flatten() {
            let id = item["id"].as_str().context("an id")?;
            traces.reply(&lab.client.get(&format!("{path}/{id}")).await?.expect(200)?);
        }
    }
    Ok(())
}
