//! Applying, looking before and after, and going back, on a real Asterisk.

use anyhow::ensure;
use serde_json::Value;
use shared::bundle::Slot;
use tests::lab::Lab;

use super::{Terminal, ended};
use crate::status::edit;

#[tokio::test]
async fn from_a_preview_to_a_restore() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let terminal = Terminal::of_lab(&lab)?;
    terminal.sign_in().await?;
    lab.create_user("Ann", "ann@example.org").await?;

    let preview = terminal.says(&["--color", "always", "preview"]).await?;
    ensure!(preview.contains("\u{1b}[32m+[1000]"), "{preview}");
    ensure!(
        preview.contains("+ 1000 Ann") && preview.contains("Registered phones"),
        "{preview}"
    );
    ensure!(preview.contains("It would come into force."), "{preview}");
    let status = terminal.says(&["status"]).await?;
    ensure!(
        status.contains("pending_changes") && status.contains("users +1"),
        "{status}"
    );

    // Steps as they happen, and the end from the record.
    let said = terminal.says(&["apply"]).await?;
    for part in ["pjsip reload", "verifying", "ok    ", "revision 1 applied"] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    let status = terminal.says(&["status", "--check"]).await?;
    ensure!(
        status.contains("in_sync") && status.contains("pending:  nothing"),
        "{status}"
    );
    edited_by_hand(&lab, &terminal).await?;
    let first = terminal.json(&["history"]).await?[0]["id"].clone();
    let first = first.as_str().unwrap_or_default();

    terminal.says(&["user", "delete", "1000", "--yes"]).await?;
    let digest = terminal.json(&["preview"]).await?["digest"].clone();
    lab.create_user("Bob", "bob@example.org").await?;
    let outdated = [
        "apply",
        "--expected-digest",
        digest.as_str().unwrap_or_default(),
    ];
    terminal.fails(6, &outdated).await?;
    let applied = terminal.json(&["apply"]).await?;
    assert_eq!(
        (&applied[0]["outcome"], applied[1].is_null()),
        (&"applied".into(), true)
    );

    // At a terminal, with a spinner beside the steps.
    let binary = tests::agent::binary("portalctl")?;
    let line = format!(
        "script -qec '{} apply' /dev/null < /dev/null",
        binary.display()
    );
    let said = terminal.shell(&line).await?.success()?;
    ensure!(
        said.contains("verifying") && said.contains("unchanged"),
        "{said:?}"
    );

    let asked = terminal.run(&["restore", first]).await?;
    ended(&asked, 2)?;
    ensure!(asked.stderr.contains("revision 1"), "{}", asked.stderr);
    let restored = terminal.says(&["restore", first, "--yes"]).await?;
    ensure!(
        restored.contains("applied") && restored.contains("note:"),
        "{restored}"
    );
    let shown = terminal.says(&["history", first]).await?;
    ensure!(
        shown.contains("reloading") && shown.contains("user.created"),
        "{shown}"
    );
    let list = terminal.says(&["history", "--outcome", "applied"]).await?;
    ensure!(list.lines().count() == 4, "{list}");
    Ok(())
}

/// The data is in force, and a file on the PBX is not what was applied.
async fn edited_by_hand(lab: &Lab, terminal: &Terminal) -> anyhow::Result<()> {
    let said = terminal.says(&["preview"]).await?;
    ensure!(said.contains("Nothing would change."), "{said}");
    let slot = Slot::DialplanRouting;
    let applied = edit(lab, slot, |applied| format!("{applied}; by hand\n"))?;
    let said = terminal.says(&["preview"]).await?;
    let expected =
        "The data is the same; 1 file that was changed on the PBX would be written anew.";
    ensure!(
        said.contains(expected) && said.contains("--expected-digest"),
        "{said}"
    );
    edit(lab, slot, |_| applied)?;
    Ok(())
}

#[tokio::test]
async fn what_asterisk_refuses_is_told() -> anyhow::Result<()> {
    let mut lab = Lab::builder().login().start().await?;
    let terminal = Terminal::of_lab(&lab)?;
    terminal.sign_in().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    lab.agent.kill();
    let output = terminal.run(&["apply"]).await?;
    ended(&output, 6)?;
    ensure!(
        output.stdout.contains("agent_unreachable"),
        "{}",
        output.stdout
    );
    let output = terminal.run(&["apply", "--json"]).await?;
    ended(&output, 6)?;
    let record: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!(record[0]["outcome"], "agent_unreachable");
    terminal.fails(6, &["status", "--check"]).await?;
    Ok(())
}

/// Several PBXes are followed at once, each told by its name.
#[tokio::test]
async fn every_pbx_is_told_of() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let terminal = Terminal::of_lab(&lab)?;
    terminal.sign_in().await?;
    let mut branch = lab.another_pbx("branch").await?;
    let said = terminal.says(&["apply"]).await?;
    for part in [
        "branch: ok ",
        "default: ok ",
        "branch: revision 1 applied",
        "default: revision 1",
    ] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    let said = terminal.says(&["apply", "--pbx", "branch"]).await?;
    ensure!(
        said.contains("branch: revision") && !said.contains("default"),
        "{said}"
    );
    // The failure of one holds up no other.
    lab.create_user("Ann", "ann@example.org").await?;
    let tenant = [
        "tenant", "create", "--slug", "far", "--name", "Far", "--pbx", "branch",
    ];
    let range = ["--ext-min", "1000", "--ext-max", "1099"];
    terminal.says(&[&tenant[..], &range].concat()).await?;
    let user = [
        "--tenant",
        "far",
        "user",
        "create",
        "--name",
        "B",
        "--email",
        "b@far.example",
    ];
    terminal.says(&user).await?;
    branch.agent.kill();
    let output = terminal.run(&["apply"]).await?;
    ended(&output, 6)?;
    ensure!(
        output.stdout.contains("default: revision 2 applied"),
        "{}",
        output.stdout
    );
    ensure!(
        output
            .stdout
            .contains("branch: revision 3 agent_unreachable"),
        "{}",
        output.stdout
    );
    ensure!(
        output.stderr.contains("not in force on branch"),
        "{}",
        output.stderr
    );
    Ok(())
}
