//! Where secrets are, and that they are nowhere else: after a whole life of a PBX, with failures,
//! everything that the product has written and answered is searched.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::json;
use shared::bundle::Slot;
use tests::lab::Lab;
use tests::portal::Reply;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::Program;

use crate::held::live_files;
use crate::stand_in::{Reload, StandIn};

/// The password in `DATABASE_URL`. The test cluster trusts everybody and does not ask for it.
const DATABASE_PASSWORD: &str = "DatabasePasswordNeedle";

/// The key of the test, which two portals on one database share.
const SECRET_KEY: &str = "5ec4e70123456789abcdef0123456789abcdef0123456789abcdef0123456789";

const DUMP_DEADLINE: Duration = Duration::from_secs(30);

/// Everything that somebody could read.
#[derive(Default)]
struct Traces(BTreeMap<String, String>);

impl Traces {
    fn add(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.0.insert(name.into(), text.into());
    }

    fn reply(&mut self, reply: &Reply) {
        let number = self.0.len();
        let text = format!("{:?}\n{}", reply.headers, reply.text());
        self.add(format!("reply {number}: {}", reply.status), text);
    }

    /// Every file below `dir`.
    fn files(&mut self, dir: &Path) -> anyhow::Result<()> {
        for path in files_below(dir)? {
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            self.add(path.display().to_string(), text);
        }
        Ok(())
    }

    /// In which of them `needle` is, in any case of letters.
    fn holding(&self, needle: &str) -> Vec<&str> {
        let needle = needle.to_lowercase();
        let holds = |text: &str| text.to_lowercase().contains(&needle);
        let found = self.0.iter().filter(|(_, text)| holds(text));
        found.map(|(name, _)| name.as_str()).collect()
    }
}

fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// The digests in a rendered file: as good as the passwords within their realm.
fn digests(endpoints: &str) -> Vec<String> {
    let lines = endpoints
        .lines()
        .filter_map(|line| line.strip_prefix("password_digest = MD5:"));
    lines.map(str::to_owned).collect()
}

async fn dump(url: &str) -> anyhow::Result<String> {
    // Beside the server's programs; the one in PATH may be a wrapper of another version.
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .map(|entry| entry.path().join("bin/pg_dump"))
        .filter(|p| p.exists())
        .max();
    let program = newest.unwrap_or_else(|| "pg_dump".into());
    Program::new(program)
        .arg("--inserts")
        .arg(url)
        .run(DUMP_DEADLINE)
        .await?
        .success()
}

/// Makes users, applies, fails in several ways, deletes, and collects what was answered. Returns
/// the SIP passwords and digests of everybody who ever was.
async fn live(
    lab: &mut Lab,
    stand_in: &StandIn,
    traces: &mut Traces,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut passwords, mut hashes) = (Vec::new(), Vec::new());
    let mut users = Vec::new();
    for name in ["Ann", "Bob", "Carl"] {
        users.push(
            lab.create_user(name, &format!("{name}@example.org"))
                .await?,
        );
    }
    passwords.extend(users.iter().map(|user| user.sip_password.clone()));
    traces.reply(&lab.apply().await?.expect(200)?);
    hashes.extend(digests(&live_files(&lab.asterisk)?[0]));
    lab.phone(&users[0])?.register().await?.accepted()?;

    // Failures, each with words of its own.
    lab.client
        .delete(&format!("/users/{}", users[2].id))
        .await?
        .expect(204)?;
    let dora = lab.create_user("Dora", "dora@example.org").await?;
    passwords.push(dora.sip_password);
    stand_in.once(Reload::Dialplan, "echo 42; exit 0\n")?;
    traces.reply(&lab.apply().await?.expect(502)?);
    let live = lab.asterisk.slot(Slot::PjsipEndpoints);
    stand_in.overwrite(Reload::Pjsip, &live, b"[broken\npassword_digest = x\n")?;
    let keep = json!({ "on_reload_failure": "keep_new_files" });
    traces.reply(&lab.client.post("/apply", &keep).await?.expect(502)?);
    // The broken file is drift now, kept by the next one.
    traces.reply(&lab.apply().await?.expect(200)?);
    hashes.extend(digests(&live_files(&lab.asterisk)?[0]));
    lab.agent.stop().await?;
    traces.reply(&lab.apply().await?.expect(503)?);
    lab.agent.resume().await?;
    for body in [
        json!({ "name": "Ann" }),
        json!({ "name": "A", "email": "ann@example.org" }),
    ] {
        traces.reply(&lab.client.post("/users", &body).await?);
    }
    let nonsense = lab
        .client
        .request(Method::POST, "/users")
        .body("application/json", "{");
    traces.reply(&nonsense.send().await?);
    for path in [
        "/users",
        "/applies",
        "/health/ready",
        "/health/live",
        "/openapi.json",
    ] {
        traces.reply(&lab.client.get(path).await?);
    }
    for path in ["/users", "/applies"] {
        let listed = lab.client.get(path).await?.json()?;
        for id in listed
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item["id"].as_str())
        {
            traces.reply(&lab.client.get(&format!("{path}/{id}")).await?);
        }
    }
    Ok((passwords, hashes))
}

#[tokio::test]
async fn secrets_are_where_they_must_be_and_nowhere_else() -> anyhow::Result<()> {
    let (cluster, stand_in) = (Cluster::temporary().await?, StandIn::new()?);
    let mut database = TestDatabase::create_in(&cluster).await?;
    let own_url = database.url.clone();
    database.url = own_url.replacen("@localhost", &format!(":{DATABASE_PASSWORD}@localhost"), 1);
    let mut lab = Lab::builder()
        .database(database)
        .portal_env("LOG", "trace")
        .portal_env("SECRET_KEY", SECRET_KEY)
        .agent_env("LOG", "trace")
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .start()
        .await?;
    let mut traces = Traces::default();
    let (passwords, hashes) = live(&mut lab, &stand_in, &mut traces).await?;
    assert_eq!((passwords.len(), hashes.len()), (4, 8));

    traces.add("portal.log", lab.portal.log());
    traces.add("agent.log", lab.agent.log());
    traces.add("asterisk.log", lab.asterisk.log());
    traces.add("commands", stand_in.commands().join("\n"));
    traces.add("dump", dump(&own_url).await?);
    let state = lab.agent.state_dir().to_owned();
    traces.files(&state)?;
    traces.files(&lab.asterisk.etc())?;

    // The search finds what is there.
    assert!(traces.0.len() > 40, "{:?}", traces.0.keys());
    for (name, words) in [
        ("portal.log", "TRACE"),
        ("agent.log", "TRACE"),
        ("dump", "ann@example.org"),
    ] {
        let text = traces.0.get(name).context("not collected")?;
        assert!(
            text.to_lowercase().contains(&words.to_lowercase()),
            "{name} lacks {words}"
        );
    }
    for secret in passwords
        .iter()
        .map(String::as_str)
        .chain([SECRET_KEY, DATABASE_PASSWORD])
    {
        assert_eq!(traces.holding(secret), Vec::<&str>::new(), "{secret}");
    }
    let live = lab
        .asterisk
        .slot(Slot::PjsipEndpoints)
        .display()
        .to_string();
    for hash in &hashes {
        let holders = traces.holding(hash);
        // A generation of the agent, the evidence of what failed, and what is live.
        let allowed = |name: &&str| {
            let kept = ["gen", "failed", "drift"].map(|dir| state.join(dir).display().to_string());
            *name == live || kept.iter().any(|dir| name.starts_with(dir.as_str()))
        };
        assert!(!holders.is_empty(), "a digest of a live file is nowhere");
        assert!(holders.iter().all(allowed), "{holders:?}");
    }
    assert_private(&lab, &state)
}

/// Only the agent itself may enter its state directory; live files are for Asterisk's group.
fn assert_private(lab: &Lab, state: &Path) -> anyhow::Result<()> {
    let mode = |path: &Path| anyhow::Ok(path.metadata()?.permissions().mode() & 0o7777);
    ensure!(mode(state)? == 0o700, "{:o}", mode(state)?);
    for path in files_below(state)? {
        ensure!(
            mode(&path)? == 0o600,
            "{}: {:o}",
            path.display(),
            mode(&path)?
        );
    }
    for slot in Slot::ALL {
        let live = lab.asterisk.slot(slot);
        ensure!(
            mode(&live)? == 0o640,
            "{}: {:o}",
            live.display(),
            mode(&live)?
        );
    }
    Ok(())
}

/// What a portal says about a configuration that it cannot use repeats no value of a secret.
#[tokio::test]
async fn a_portal_that_cannot_start_repeats_no_secret() -> anyhow::Result<()> {
    let program = Program::new(tests::agent::binary("api-server")?)
        .env(
            "DATABASE_URL",
            format!("postgres://user:{DATABASE_PASSWORD}@host:port/x"),
        )
        .env("SECRET_KEY", &SECRET_KEY[1..])
        .env("AUTH_MODE", "nonsense");
    let output = program.run(DUMP_DEADLINE).await?;
    assert!(!output.status.success());
    let said = format!("{}{}", output.stdout, output.stderr);
    for name in ["DATABASE_URL", "SECRET_KEY", "AUTH_MODE", "PBX_AGENT_ADDR"] {
        assert!(said.contains(name), "{said}");
    }
    assert!(
        !said.contains(DATABASE_PASSWORD) && !said.contains(&SECRET_KEY[1..]),
        "{said}"
    );
    Ok(())
}
