//! Where secrets are, and that they are nowhere else: after a whole life of a PBX, with failures,
//! everything that the product has written and answered is searched, for every form of each secret.

mod life;
mod search;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use shared::bundle::Slot;
use tests::lab::Lab;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::Program;

use self::life::{CLIENT_PASSWORD, live};
use self::search::{Secrets, Traces, files_below};
use crate::stand_in::StandIn;

/// The password in `DATABASE_URL`. The test cluster trusts everybody and does not ask for it.
const DATABASE_PASSWORD: &str = "DatabasePasswordNeedle";

/// The key of the test, which two portals on one database share.
const SECRET_KEY: &str = "5ec4e70123456789abcdef0123456789abcdef0123456789abcdef0123456789";

/// The one that it is rotated to.
const NEW_SECRET_KEY: &str = "0c4e70123456789abcdef0123456789abcdef0123456789abcdef01234567890";

const DUMP_DEADLINE: Duration = Duration::from_secs(30);

/// A dump as people make it, and as they make it otherwise.
async fn dumps(url: &str, traces: &mut Traces) -> anyhow::Result<()> {
    // Beside the server's programs; the one in PATH may be a wrapper of another version.
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .map(|entry| entry.path().join("bin/pg_dump"))
        .filter(|p| p.exists())
        .max();
    let program = Program::new(newest.unwrap_or_else(|| "pg_dump".into())).arg(url);
    for (name, program) in [
        ("dump", program.clone()),
        ("dump, inserts", program.clone().arg("--inserts")),
        (
            "dump, escaped",
            program.env("PGOPTIONS", "-c bytea_output=escape"),
        ),
    ] {
        let text = program.run(DUMP_DEADLINE).await?.success()?;
        traces.add(format!("{name}, decoded"), decoded(&text));
        traces.add(name, text);
    }
    Ok(())
}

/// Every `\\x…` of a dump as the bytes that it stands for.
fn decoded(dump: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in dump.split("\\x").skip(1) {
        let digits: Vec<u32> = text.chars().map_while(|c| c.to_digit(16)).collect();
        let pairs = digits.chunks_exact(2);
        bytes.extend(pairs.filter_map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()));
        bytes.push(b'\n');
    }
    bytes
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
        .agent_env("PREFLIGHT", "on")
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .start()
        .await?;
    let mut traces = Traces::default();
    let users = live(&mut lab, &stand_in, &mut traces).await?;
    let state = lab.agent.state_dir().to_owned();
    gather(&lab, &stand_in, &mut traces).await?;
    dumps(&own_url, &mut traces).await?;
    traces.files(cluster.dir())?;
    assert_gathered(&traces)?;

    let (mut nowhere, mut on_the_pbx) = (Secrets::default(), Secrets::default());
    for (name, text) in [
        ("SECRET_KEY", SECRET_KEY),
        ("NEW_SECRET_KEY", NEW_SECRET_KEY),
    ] {
        nowhere.add(&format!("{name} as text"), text.as_bytes());
        nowhere.add(name, &decoded(&format!("\\x{text}"))[..32]);
    }
    nowhere.add("database password", DATABASE_PASSWORD.as_bytes());
    nowhere.add("client's password", CLIENT_PASSWORD.as_bytes());
    for user in &users {
        let (name, password) = (user.body["name"].to_string(), &user.sip_password);
        nowhere.add_password(&name, &user.sip_username, password);
        on_the_pbx.add_ha1(&name, &user.sip_username, password);
    }
    assert_eq!(traces.found(&nowhere)?, BTreeSet::new());

    // A generation of the agent, the evidence of what failed, and what is live.
    let live = lab.asterisk.slot(Slot::PjsipEndpoints);
    let live = live.display().to_string();
    let kept = ["gen", "failed", "drift"].map(|dir| state.join(dir).display().to_string());
    let allowed =
        |place: &str| place == live || kept.iter().any(|dir| place.starts_with(dir.as_str()));
    let found = traces.found(&on_the_pbx)?;
    for user in &users {
        let name = format!("digest of {} as text, plain", user.body["name"]);
        let there = found.iter().any(|(secret, _)| *secret == name);
        assert!(there, "the search does not find the {name}");
    }
    let elsewhere: Vec<_> = found.iter().filter(|(_, place)| !allowed(place)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    let failed = &kept[1];
    let evidence = found
        .iter()
        .any(|(_, place)| place.starts_with(failed.as_str()));
    assert!(evidence, "no evidence of a failed apply holds a digest");
    assert_private(&lab, &state)
}

/// Whatever the product has written by now, apart from the database.
async fn gather(lab: &Lab, stand_in: &StandIn, traces: &mut Traces) -> anyhow::Result<()> {
    let url = &lab.database.url;
    for action in ["rotate", "retire"] {
        let (old, new) = match action {
            "rotate" => (SECRET_KEY, NEW_SECRET_KEY),
            _ => (NEW_SECRET_KEY, SECRET_KEY),
        };
        // Once as it should be, and once as it should not.
        for (name, key) in [
            (action.to_owned(), old),
            (format!("{action} again"), SECRET_KEY),
        ] {
            let program = Program::new(tests::agent::binary("api-server")?)
                .args(["secret-key", action])
                .env("LOG", "trace")
                .env("DATABASE_URL", url)
                .env("SECRET_KEY", key)
                .env("NEW_SECRET_KEY", new);
            let output = program.run(DUMP_DEADLINE).await?;
            traces.add(name, output.stdout + &output.stderr);
        }
    }
    traces.reply(&lab.client.get("/health/ready").await?);
    traces.add("portal.log", lab.portal.log());
    traces.add("agent.log", lab.agent.log());
    traces.add("asterisk.log", lab.asterisk.log());
    traces.add("commands", stand_in.commands().join("\n"));
    traces.files(lab.agent.state_dir())?;
    traces.files(&lab.asterisk.etc())
}

/// The search looks at what is there.
fn assert_gathered(traces: &Traces) -> anyhow::Result<()> {
    ensure!(traces.0.len() > 60, "{:?}", traces.0.keys());
    for (name, words) in [
        ("portal.log", "TRACE"),
        ("agent.log", "TRACE"),
        ("dump", "Ann@example.org"),
        ("dump", "\\x02"),
        ("dump, inserts", "INSERT INTO public.data_key_wrapping"),
        ("dump, escaped", "\\002"),
        ("rotate", "rows sealed anew"),
        ("retire", "from now on"),
        ("retire again", "sealed with key"),
    ] {
        let text = String::from_utf8_lossy(traces.0.get(name).context(name)?);
        ensure!(text.contains(words), "{name} lacks {words}");
    }
    let logged = traces.0.keys().any(|name| name.contains("/pg_wal/"));
    ensure!(logged, "not the files of the server");
    Ok(())
}

/// Only the agent itself may enter its state directory; live files are for Asterisk's group.
fn assert_private(lab: &Lab, state: &Path) -> anyhow::Result<()> {
    let mode = |path: &Path| anyhow::Ok(path.metadata()?.permissions().mode() & 0o7777);
    for path in [state.to_owned(), state.join("gen"), state.join("failed")] {
        ensure!(
            mode(&path)? == 0o700,
            "{}: {:o}",
            path.display(),
            mode(&path)?
        );
    }
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
