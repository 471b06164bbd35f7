//! What is refused, and how that is said.

use anyhow::ensure;
use serde_json::Value;
use tests::lab::PortalLab;

use super::{Terminal, ended};

#[tokio::test]
async fn a_problem_names_each_field_and_what_to_do() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let create = [
        "user", "create", "--name", "", "--email", "nope", "--role", "king",
    ];
    let said = terminal.fails(5, &create).await?;
    for part in [
        "error: Invalid fields (validation_failed)",
        "Correct these fields: ",
        "email: must be an e-mail address such as ann@example.com",
        "name: ",
        "role: ",
        "request id: ",
    ] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    let output = terminal.run(&[&create[..], &["--json"]].concat()).await?;
    ended(&output, 5)?;
    let problem: Value = serde_json::from_str(&output.stderr)?;
    assert_eq!(problem["code"], "validation_failed");
    assert_eq!(output.stdout, "");
    Ok(())
}

#[tokio::test]
async fn exit_statuses() -> anyhow::Result<()> {
    let mut lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    lab.create_user("Ann", "ann@example.org").await?;
    terminal.fails(2, &["user", "make"]).await?;
    terminal.fails(2, &["user", "list", "--limit", "0"]).await?;
    let again = [
        "user",
        "create",
        "--name",
        "Ann",
        "--email",
        "ann@example.org",
    ];
    let said = terminal.fails(5, &again).await?;
    ensure!(said.contains("email_taken"), "{said}");
    terminal.fails(4, &["user", "show", "1999"]).await?;
    terminal
        .fails(4, &["history", "01900000-0000-7000-8000-000000000002"])
        .await?;
    terminal
        .fails(5, &["audit", "list", "--since", "yesterday"])
        .await?;
    // Nobody listens where the agent should be.
    let said = terminal.fails(6, &["apply"]).await?;
    ensure!(said.contains("not in force"), "{said}");
    // Where there is nothing to ask by, nothing is done.
    terminal.fails(2, &["user", "delete", "1000"]).await?;
    terminal.says(&["user", "show", "1000"]).await?;

    lab.portal.stop().await?;
    let said = terminal.fails(7, &["user", "list"]).await?;
    ensure!(said.contains("cannot reach"), "{said}");
    Ok(())
}
