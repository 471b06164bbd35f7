//! The main job, step by step, and what to try next.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::agent::binary;
use tests::lab::NewUser;
use tests::phones::{Call, Online, Phone};
use tests::portal::Client;

use crate::state::{ADMINISTRATOR, State};
use crate::system::System;

/// Who is created on an empty database.
const PEOPLE: [(&str, &str); 2] = [("Ada Lovelace", "ada"), ("Grace Hopper", "grace")];

/// How long the call lasts.
const CALL_TIME: Duration = Duration::from_secs(1);

/// More addresses than anyone has used up.
const EMAIL_ATTEMPTS: u32 = 1000;

/// The two users and their phones, which answer until this value is dropped.
pub(crate) struct Phones {
    users: Vec<NewUser>,
    _online: Vec<Online>,
}

/// Creates users, applies, registers phones, calls. Fails at the first step that does.
pub(crate) async fn main_job(state: &State, system: &System) -> anyhow::Result<Phones> {
    let client = &system.client;
    println!();
    println!("{:<44}{:<44}{:>10}", "step", "result", "time");
    println!("{}", "-".repeat(98));
    let users = users(state, client).await?;
    apply(client).await?;
    let (mut phones, mut online) = (Vec::new(), Vec::new());
    for user in &users {
        let phone = Phone::new(&system.asterisk, &user.sip_username, &user.sip_password)?;
        let registered = phone.online().await?;
        row(
            &format!("SIP REGISTER {}", phone.number()),
            "200 OK, the phone is registered",
            registered.registered_in,
        );
        phones.push(phone);
        online.push(registered);
    }
    let [first, second] = &phones[..] else {
        anyhow::bail!("two phones are needed");
    };
    call(first, second.number()).await?;
    online[1].wait_ended(1).await?;
    println!();
    Ok(Phones {
        users,
        _online: online,
    })
}

/// The users of earlier demonstrations that still exist, and as many new ones as are missing.
async fn users(state: &State, client: &Client) -> anyhow::Result<Vec<NewUser>> {
    let reply = client.get("/users").await?.expect(200)?;
    let existing = reply.json()?;
    let existing = existing
        .as_array()
        .context("GET /users returned no array")?;
    let count = format!("{} in the database", existing.len());
    row("GET /users", &count, reply.took);
    let is_there = |user: &NewUser| existing.iter().any(|there| there["id"] == user.id.as_str());
    let mut users: Vec<NewUser> = state.known_users().into_iter().filter(is_there).collect();
    for (name, mailbox) in PEOPLE {
        let known = users.iter().any(|user| user.body["name"] == name);
        if !known && users.len() < PEOPLE.len() {
            users.push(create(client, name, mailbox).await?);
            // At once: what is shown this once must not be lost when a later step fails.
            state.remember(&users)?;
        }
    }
    users.truncate(PEOPLE.len());
    Ok(users)
}

/// Creates a user. An address that is taken by a user whose password nobody knows any more is
/// passed over.
async fn create(client: &Client, name: &str, mailbox: &str) -> anyhow::Result<NewUser> {
    for attempt in 1..EMAIL_ATTEMPTS {
        let tag = if attempt == 1 {
            String::new()
        } else {
            format!("+{attempt}")
        };
        let body = json!({ "name": name, "email": format!("{mailbox}{tag}@example.com") });
        let reply = client.post("/users", &body).await?;
        if reply.status == 409 && reply.problem(409)? == "email_taken" {
            continue;
        }
        let took = reply.took;
        let user = NewUser::read(reply.expect(201)?.json()?)?;
        let result = format!("201, extension {}", user.extension);
        row(&format!("POST /users {name}"), &result, took);
        return Ok(user);
    }
    anyhow::bail!("every e-mail address for {name} is taken")
}

async fn apply(client: &Client) -> anyhow::Result<()> {
    let reply = client.post_nothing("/apply").await?.expect(200)?;
    let record = reply.json()?;
    let outcome = record["outcome"].as_str().unwrap_or_default();
    let result = format!("{outcome}, revision {}", record["revision"]);
    row("POST /apply", &result, reply.took);
    for step in record["steps"].as_array().into_iter().flatten() {
        show_step(step);
    }
    ensure!(
        matches!(outcome, "applied" | "unchanged"),
        "the apply is not proven: {}",
        record["failure"]
    );
    Ok(())
}

fn show_step(step: &Value) {
    let text = |name: &str| step[name].as_str().unwrap_or_default();
    let action: String = text("action").chars().take(60).collect();
    let ok = if step["ok"] == true { "ok" } else { "FAILED" };
    let took = step["duration_ms"].as_f64().unwrap_or_default();
    let took = Duration::from_secs_f64(took.max(0.0) / 1000.0);
    let name = format!("  {} {action}", text("phase"));
    println!("{name:<80}{ok:<8}{:>10}", milliseconds(took));
}

async fn call(caller: &Phone, number: &str) -> anyhow::Result<()> {
    let what = format!("SIP INVITE {} calls {number}", caller.number());
    match caller.call(number, CALL_TIME).await? {
        Call::Completed {
            ringing_after,
            answered_after,
            ended_after,
            media,
        } => {
            if let Some(after) = ringing_after {
                row(&what, "180, it rings", after);
            }
            row("", &format!("200, answered ({media})"), answered_after);
            row("SIP BYE", "200, hung up after a second", ended_after);
            Ok(())
        }
        Call::Failed { status } => anyhow::bail!("the call to {number} failed with {status}"),
    }
}

fn row(step: &str, result: &str, took: Duration) {
    println!("{step:<44}{result:<44}{:>10}", milliseconds(took));
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// Where everything is and what to try.
pub(crate) fn next_commands(state: &State, system: &System, phones: &Phones) {
    let portal = system.portal.url();
    let sip = system.asterisk.sip();
    println!(
        "Phones on this machine can register now (the two above answer until another one does):"
    );
    for user in &phones.users {
        let (username, password) = (&user.sip_username, &user.sip_password);
        println!("  server {sip} (UDP)   username {username}   password {password}");
    }
    let ca = system.portal.https().map(|https| https.ca.display());
    let ca = ca.map(|ca| ca.to_string()).unwrap_or_default();
    let administrator = state.administrator_file();
    let portalctl = binary("portalctl").unwrap_or_else(|_| "portalctl".into());
    let portalctl = portalctl.display();
    println!(
        "
The portal speaks HTTPS with a certificate of its own. curl trusts it by --cacert, a browser when
  {ca}
is imported as an authority; that CA has signed this one certificate, and its key is gone.

Try next. These come first; a sign-in is good for ten minutes:
  export CURL_CA_BUNDLE={ca}     # as --cacert with each call
  portal={portal}
  auth=\"Authorization: Bearer $(curl -s $portal/sessions -H 'content-type: application/json' \\
    -d @{} | grep -o 'access_token\":\"[^\"]*' | cut -d'\"' -f3)\"
Then:
  curl -s -H \"$auth\" $portal/users
  curl -s -H \"$auth\" $portal/users -H 'content-type: application/json' \\
       -d '{{\"name\": \"Alan Turing\", \"email\": \"alan@example.com\"}}'
  curl -s -H \"$auth\" -X POST $portal/apply
  curl -s -H \"$auth\" $portal/applies
  curl -s $portal/health/ready

Or at the command line (the password stands in that file):
  {portalctl} login --url {portal} --ca {ca} {ADMINISTRATOR}
  {portalctl} user list; {portalctl} --help

Documentation of the API: {portal}/docs
",
        administrator.display()
    );
    println!("Ctrl-C ends everything that was started.");
}
