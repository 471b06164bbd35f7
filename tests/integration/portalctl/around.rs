//! Tables and tenant files, out of a real portal and in again.

use anyhow::ensure;
use tests::lab::PortalLab;
use tests::scratch::{self, Scratch};

use super::{Terminal, ended};

#[tokio::test]
async fn what_comes_out_goes_in_again_and_changes_nothing() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    if !lab.client.openapi()["paths"]["/imports/users"].is_object() {
        eprintln!("SKIPPED: this portal has no imports");
        return Ok(());
    }
    let terminal = Terminal::signed_in(&lab).await?;
    let place = Scratch::new("tables")?;
    tables(&terminal, &place).await?;
    tenant_files(&terminal, &place).await?;
    refused_lines(&terminal, &place).await
}

fn path_in(place: &Scratch, name: &str) -> String {
    place.path().join(name).display().to_string()
}

async fn tables(terminal: &Terminal, place: &Scratch) -> anyhow::Result<()> {
    let path = |name: &str| path_in(place, name);
    // As a spreadsheet writes it; the last line counts.
    let csv = "\u{feff}name;email;forward_busy\r\nAnn;ann@example.org;+420123456789\r\nZoë;zoe@example.org;";
    scratch::write(&place.path().join("in.csv"), 0o600, csv)?;
    let said = terminal
        .says(&["user", "import", &path("in.csv"), "--preview"])
        .await?;
    ensure!(
        said.contains("2 would be created") && said.contains("1001"),
        "{said}"
    );
    terminal.fails(4, &["user", "show", "1000"]).await?;
    let import = [
        "user",
        "import",
        &path("in.csv"),
        "--yes",
        "--result",
        &path("result.csv"),
    ];
    let said = terminal.says(&import).await?;
    ensure!(said.contains("2 created, 0 changed"), "{said}");
    let result = std::fs::read_to_string(path("result.csv"))?;
    ensure!(
        result.lines().count() == 3 && result.contains("zoe@example.org,"),
        "{result}"
    );

    for kind in ["user", "device"] {
        let file = path(&format!("{kind}.csv"));
        terminal.says(&[kind, "export", "-o", &file]).await?;
        let said = terminal.says(&[kind, "import", &file, "--yes"]).await?;
        ensure!(said.contains("0 created, 0 changed, 2 unchanged"), "{said}");
    }
    ensure!(
        terminal
            .json(&["user", "export", "--format", "json"])
            .await?
            .as_array()
            .map(Vec::len)
            == Some(2)
    );
    Ok(())
}

async fn tenant_files(terminal: &Terminal, place: &Scratch) -> anyhow::Result<()> {
    let path = |name: &str| path_in(place, name);
    let file = path("tenant.yaml");
    terminal.says(&["export", "-f", &file]).await?;
    ensure!(
        terminal
            .says(&["plan", "-f", &file])
            .await?
            .contains("Nothing would change")
    );
    let yaml = std::fs::read_to_string(&file)?;
    for command in ["plan", "apply"] {
        let output = terminal.run_with(&[command, "-f", "-"], &yaml).await?;
        ended(&output, 0)?;
        ensure!(
            output.stdout.contains("Nothing would change"),
            "{}",
            output.stdout
        );
    }
    let other = yaml.replace("name: Ann", "name: no");
    ensure!(other != yaml, "{yaml}");
    scratch::write(&place.path().join("other.yaml"), 0o600, &other)?;
    let other = path("other.yaml");
    let said = terminal.says(&["plan", "-f", &other]).await?;
    ensure!(
        said.contains("~ user ann@example.org: name: \"Ann\" → \"no\""),
        "{said}"
    );
    terminal.says(&["apply", "-f", &other, "--yes"]).await?;
    let ann = terminal.json(&["user", "show", "1000"]).await?;
    assert_eq!(
        (&ann["name"], &ann["call_forward"]["busy"]),
        (&"no".into(), &"+420123456789".into())
    );
    ensure!(
        terminal
            .says(&["apply", "-f", &other, "--yes"])
            .await?
            .contains("Nothing would change")
    );
    Ok(())
}

async fn refused_lines(terminal: &Terminal, place: &Scratch) -> anyhow::Result<()> {
    let path = |name: &str| path_in(place, name);
    scratch::write(
        &place.path().join("bad.csv"),
        0o600,
        "name,email\nX,nope\nY,y@example.org\n",
    )?;
    let output = terminal
        .run(&["user", "import", &path("bad.csv"), "--yes"])
        .await?;
    ended(&output, 5)?;
    ensure!(
        output.stdout.contains("must be an e-mail address"),
        "{}",
        output.stdout
    );
    // In the words of this program.
    let said = &output.stderr;
    ensure!(
        said.contains("1 of 2 lines refused") && said.contains("--per-line"),
        "{said}"
    );
    ensure!(!said.contains("mode="), "{said}");
    // José as Latin-1 writes it.
    let file = path("latin.csv");
    let write = format!("printf 'name,email\\nJos\\351,j@example.org\\n' > '{file}'");
    ended(&terminal.shell(&write).await?, 0)?;
    let latin = ["user", "import", &file, "--preview"];
    let said = terminal.fails(5, &latin).await?;
    ensure!(said.contains("--encoding windows-1252"), "{said}");
    let unknown = [&latin[..], &["--encoding", "klingon"]].concat();
    let said = terminal.fails(5, &unknown).await?;
    ensure!(said.contains("--encoding: is no character"), "{said}");
    ensure!(!said.contains("charset"), "{said}");
    let each = ["user", "import", &path("bad.csv"), "--yes", "--per-line"];
    let output = terminal.run(&each).await?;
    ended(&output, 5)?;
    ensure!(
        output.stdout.contains("1 created") && output.stdout.contains("1 refused"),
        "{}",
        output.stdout
    );
    Ok(())
}
