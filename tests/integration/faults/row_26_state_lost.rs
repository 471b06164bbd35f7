//! Row 26: the state directory is lost, or the journal damaged. The agent touches nothing, says what to
//! do, and waits for one explicit forced apply.

mod every_file;

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tests::lab::Lab;
use tests::process::wait_until;
use tests::scratch;

use crate::audit::{applied, audited, trail};
use crate::held::{assert_exactly, managed_files};
use crate::preview::preview;
use crate::stand_in::{self, Reload};
use crate::status::{status, warning_codes};

/// Flips one bit in the middle of a file.
fn damage(path: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let middle = text.len() / 2;
    let digit = text[middle..]
        .find(|c: char| c.is_ascii_alphanumeric())
        .context("no text")?;
    let mut bytes = text.into_bytes();
    bytes[middle + digit] ^= 1;
    let owner = path.metadata()?;
    scratch::write(path, 0o600, &String::from_utf8(bytes)?)?;
    chown(path, Some(owner.uid()), Some(owner.gid()))?;
    Ok(())
}

/// Removes everything in a directory.
fn empty(dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Fails unless the agent touches nothing and says what to do, and is well after that was done.
async fn assert_safe_mode(lab: &mut Lab, damaged: &str) -> anyhow::Result<()> {
    let files = managed_files(&lab.asterisk)?;
    lab.agent.resume().await?;
    let ready = lab.client.get("/health/ready").await?.json()?;
    let warnings = ready["warnings"].to_string();
    for words in ["damaged", "Nothing is touched", "intent", "force"] {
        ensure!(warnings.contains(words), "{words}: {warnings}");
    }
    let state = status(&lab.client).await?;
    for body in [&ready, &state] {
        let codes = warning_codes(body);
        let told = codes.iter().filter(|code| **code == "safe_mode");
        ensure!(told.count() == 1, "{codes:?}: {body}");
    }
    let shown = preview(&lab.client).await?;
    ensure!(shown["would_apply"] == false, "{shown}");
    let reply = lab.apply().await?;
    ensure!(reply.problem(502)? == "agent_refused", "{reply}");
    let attempt = audited(&lab.client, &reply).await?;
    let said = attempt["failure"]["message"].as_str().unwrap_or_default();
    ensure!(
        said.contains("SAFE_MODE") && said.contains("damaged"),
        "{said}"
    );
    ensure!(
        managed_files(&lab.asterisk)? == files,
        "something was touched"
    );

    // A restart is not the explicit word that it waits for.
    lab.agent.stop().await?;
    lab.agent.resume().await?;
    let reply = lab.apply().await?;
    ensure!(reply.problem(502)? == "agent_refused", "{reply}");
    // One explicit forced apply sets it aside and goes on; another one needs no force.
    let bytes = std::fs::read(lab.agent.state_dir().join(damaged))?;
    let reply = lab.client.post("/apply", &json!({ "force": true })).await?;
    applied(&lab.client, reply).await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    let aside = std::fs::read_dir(lab.agent.state_dir().join("damaged"))?;
    let aside: Vec<_> = aside.collect::<Result<_, _>>()?;
    ensure!(aside.len() == 1, "{aside:?}");
    ensure!(std::fs::read(aside[0].path().join(damaged))? == bytes);
    let warnings = lab.client.get("/health/ready").await?.json()?["warnings"].to_string();
    ensure!(!warnings.contains("damaged"), "{warnings}");
    let log = lab.agent.log();
    ensure!(
        log.contains("safe_mode_entered") && log.contains("safe_mode_left"),
        "{log}"
    );
    lab.apply().await?.expect(200).map(drop)
}

#[tokio::test]
async fn with_a_damaged_ledger_nothing_is_touched() -> anyhow::Result<()> {
    let (mut lab, _stand_in) = stand_in::lab().await?;
    lab.agent.stop().await?;
    damage(&lab.agent.state_dir().join("active"))?;
    assert_safe_mode(&mut lab, "active").await
}

#[tokio::test]
async fn with_a_damaged_intent_nothing_is_touched() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let (client, portal) = (lab.client.clone(), &mut lab.portal);
    let agent = &mut lab.agent;
    let kill = async {
        hold.reached().await?;
        portal.kill();
        agent.kill();
        drop(hold);
        damage(&agent.state_dir().join("intent"))
    };
    let (_, killed) = tokio::join!(client.post_nothing("/apply"), kill);
    killed?;
    lab.portal.resume().await?;
    assert_safe_mode(&mut lab, "intent").await?;
    // Whether and how far the killed one came nobody knows any more: nobody says that it never was.
    let attempts = lab.client.get("/applies").await?.json()?;
    let outcomes: Vec<_> = attempts.as_array().context("no array")?.iter().collect();
    let outcomes: Vec<_> = outcomes.iter().map(|attempt| &attempt["outcome"]).collect();
    ensure!(outcomes.contains(&&json!("interrupted")), "{outcomes:?}");
    ensure!(!outcomes.contains(&&json!("never_started")), "{outcomes:?}");
    Ok(())
}

/// Portal and agent are killed in the middle, and the agent's books are gone: nobody may say that the
/// apply was never started.
#[tokio::test]
async fn what_nobody_knows_any_more_is_not_called_never_started() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let client = lab.client.clone();
    let (portal, agent) = (&mut lab.portal, &mut lab.agent);
    let state = agent.state_dir().to_owned();
    let kill = async {
        hold.reached().await?;
        portal.kill();
        agent.kill();
        drop(hold);
        empty(&state)?;
        agent.resume().await?;
        portal.resume().await
    };
    let (lost, killed) = tokio::join!(client.post_nothing("/apply"), kill);
    killed?;
    ensure!(lost.is_err(), "the portal answered although it was killed");
    let forced = lab.client.post("/apply", &json!({"force": true})).await?;
    let forced = audited(&lab.client, &forced.expect(200)?).await?;
    ensure!(forced["outcome"] == "applied", "{forced}");
    let lost = async || {
        let rows = trail(&lab.client).await.unwrap_or_default();
        let lost = rows.iter().find(|row| row["revision"] == 2);
        lost.is_some_and(|row| {
            let said = row["failure"]["message"].as_str().unwrap_or_default();
            row["outcome"] == "interrupted" && said.contains("not known")
        })
    };
    wait_until("the lost row is closed", Duration::from_mins(1), lost).await
}
