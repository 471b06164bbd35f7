//! Where what is said goes, and how it looks there.

use anyhow::ensure;
use tests::lab::PortalLab;

use super::Terminal;

#[tokio::test]
async fn whoever_stops_reading_causes_no_panic() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    for number in 0..60 {
        lab.create_user("Somebody with a name", &format!("u{number}@example.org"))
            .await?;
    }
    for command in [
        "portalctl user list --all",
        "portalctl user list --all --json",
        "portalctl user show 1000",
        "portalctl completion bash",
        "portalctl --help",
    ] {
        let line = format!("{command} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}");
        let output = terminal.shell(&line).await?;
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("0\n", ""),
            "{command}"
        );
        let closed = terminal
            .shell(&format!("{command} >&-; echo $? >&2"))
            .await?;
        ensure!(!closed.stderr.contains("panicked"), "{}", closed.stderr);
    }
    // A disk that is full is another matter.
    let full = terminal
        .shell("portalctl user list > /dev/full; echo $?")
        .await?;
    assert_eq!(full.stdout, "1\n");
    ensure!(full.stderr.contains("standard output"), "{}", full.stderr);
    Ok(())
}

#[tokio::test]
async fn colours_are_for_terminals_unless_wanted() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let plain = terminal.says(&["status"]).await?;
    ensure!(!plain.contains('\u{1b}'), "{plain}");
    let wanted = terminal.says(&["--color", "always", "status"]).await?;
    ensure!(wanted.contains("\u{1b}[1mPBX"), "{wanted}");
    let refused = terminal.env("NO_COLOR", "1").env("TERM", "xterm");
    // A terminal of its own: `script` makes one.
    let binary = tests::agent::binary("portalctl")?;
    let line = format!(
        "script -qec '{} status' /dev/null < /dev/null",
        binary.display()
    );
    let said = refused.shell(&line).await?.success()?;
    ensure!(
        said.contains("PBX") && !said.contains("\u{1b}[1m"),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test]
async fn names_of_others_do_not_command_the_terminal() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    // A browser may call itself whatever it likes.
    let hostile = [
        "user",
        "create",
        "--name",
        "a\u{202e}b",
        "--email",
        "a@example.org",
    ];
    if terminal.run(&hostile).await?.status.success() {
        let said = terminal.says(&["user", "list"]).await?;
        ensure!(said.contains("a\\u{202e}b"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn completion_and_help() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::of(&lab)?;
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef portalctl"),
        ("fish", "complete -c portalctl"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = terminal.says(&["completion", shell]).await?;
        ensure!(
            script.contains(mark) && script.contains("restore"),
            "{shell}"
        );
    }
    let check = terminal
        .shell("portalctl completion bash | bash -n")
        .await?;
    check.success()?;
    let help = terminal.says(&["--help"]).await?;
    ensure!(
        help.contains("Exit status:") && help.contains("PORTAL_TOKEN"),
        "{help}"
    );
    let secret = terminal.env("PORTAL_TOKEN", "pbxt_secret");
    ensure!(!secret.says(&["--help"]).await?.contains("pbxt_secret"));
    Ok(())
}
