//! Where what is said goes, and how it looks there.

use anyhow::ensure;
use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::Terminal;
use super::canned::{Answer, Desk};

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
    // A terminal of its own: `script` makes one.
    let terminal = terminal.env("TERM", "xterm");
    let said = in_a_terminal(&terminal, "status", "/dev/null").await?;
    ensure!(said.contains("\u{1b}[1mPBX"), "{said:?}");
    let refused = terminal.env("NO_COLOR", "1");
    let said = in_a_terminal(&refused, "status", "/dev/null").await?;
    ensure!(
        said.contains("PBX") && !said.contains("\u{1b}[1m"),
        "{said:?}"
    );
    Ok(())
}

/// What somebody at a terminal sees who types what is in `input`.
async fn in_a_terminal(terminal: &Terminal, command: &str, input: &str) -> anyhow::Result<String> {
    let binary = tests::agent::binary("portalctl")?;
    let binary = binary.display();
    let line = format!("script -qec '{binary} {command}' /dev/null < {input}");
    terminal.shell(&line).await?.success()
}

#[tokio::test]
async fn somebody_at_a_terminal_is_asked() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    lab.create_user("Ann", "ann@example.org").await?;
    for (answer, gone) in [("n", false), ("", false), ("yes", true)] {
        let input = format!("<(echo {answer}; sleep 2)");
        let command = "user delete 1000 || true";
        let said = in_a_terminal(&terminal, command, &input).await?;
        ensure!(
            said.contains("Delete user Ann (1000, ann@example.org)"),
            "{said}"
        );
        ensure!(said.contains("Nothing was done.") != gone, "{said}");
        let there = terminal.run(&["user", "show", "1000"]).await?;
        assert_eq!(there.status.success(), !gone, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn names_of_others_do_not_command_the_terminal() -> anyhow::Result<()> {
    let hostile = json!([{ "id": "01900000-0000-7000-8000-000000000001", "name": "a\u{1b}[2J\u{202e}b",
        "agent_address": "h:1", "agent_identity": "i", "sip_realm": "r\n\u{9b}2J", "transports": {},
        "default": false, "created_at": "2026-11-21T03:45:12Z" }]);
    let problem = json!({ "type": "x", "title": "t\u{1b}[2J", "status": 400, "detail": "d\u{7}",
        "instance": "/", "code": "c", "request_id": "r\u{1b}",
        "errors": [{ "field": "f\u{1b}", "code": "c", "message": "m\u{1b}" }] });
    let whole = |status, body: &Value| Answer::Whole(status, body.to_string());
    let desk = Desk::new(vec![whole(200, &hostile), whole(400, &problem)]).await?;
    let listed = desk.run(&["pbx", "list"]).await?;
    ensure!(
        listed.stdout.contains("a\\u{1b}[2J\\u{202e}b"),
        "{:?}",
        listed.stdout
    );
    assert_eq!(listed.stdout.lines().count(), 2);
    let refused = desk.run(&["pbx", "list"]).await?;
    for said in [listed.stdout, refused.stderr] {
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        ensure!(!said.contains(bad), "{said:?}");
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
    let help = terminal.says(&["--help"]).await?;
    ensure!(
        help.contains("Exit status:") && help.contains("PORTAL_TOKEN"),
        "{help}"
    );
    ensure!(help.starts_with("Administers a control portal"), "{help}");
    // What a command takes stands apart from what all of them take.
    let help = terminal.says(&["user", "create", "--help"]).await?;
    let (own, of_all) = help
        .split_once("Options of all commands:")
        .unwrap_or_default();
    ensure!(own.contains("--email") && own.contains("--dnd"), "{help}");
    ensure!(!own.contains("--url") && of_all.contains("--url"), "{help}");
    let secret = terminal.env("PORTAL_TOKEN", "pbxt_secret");
    ensure!(!secret.says(&["--help"]).await?.contains("pbxt_secret"));
    Ok(())
}

/// What bash is told to ask with Tab, asked as bash does: the words up to the cursor.
const TAB: &str = r#"
eval "$(portalctl completion bash)"
complete -p portalctl > /dev/null || exit 1
COMP_WORDS=(portalctl "$@") COMP_CWORD=$#
_portalctl portalctl "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
echo "${COMPREPLY[*]}""#;

#[tokio::test]
async fn bash_completes_commands_options_and_words() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::of(&lab)?;
    for (typed, completed) in [
        ("us", "user"),
        ("user cr", "create"),
        ("device ro", "rotate"),
        ("apply --idem", "--idempotency-key"),
        ("--tenant acme user li", "list"),
        ("--color n", "never"),
        ("user export --format ''", "csv json"),
        ("completion b", "bash"),
    ] {
        let said = terminal.shell(&format!("set -- {typed}; {TAB}")).await?;
        assert_eq!(said.success()?.trim(), completed, "{typed}");
    }
    Ok(())
}
