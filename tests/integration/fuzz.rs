//! Requests made from the `OpenAPI` document by schemathesis, good ones and bad ones, over the whole
//! API and as each role: no answer says that the portal failed, and none is outside the document.
//!
//! There is no agent, so what needs one answers 503 `agent_unreachable`, as documented. `./test` installs
//! schemathesis and names it in `PBX_SCHEMATHESIS`; `PBX_FUZZ_SEED` repeats a run.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tests::lab::PortalLab;
use tests::portal::Client;
use tests::process::Program;
use tests::scratch::{self, Scratch};

use super::rbac::people::Person;
use super::strace::{said, skipped};

const DEADLINE: Duration = Duration::from_mins(10);

/// Made cases of each operation, at most; those that the document itself implies come on top.
const EXAMPLES: &str = "6";

/// What needs the agent says that there is none.
const CONFIG: &str = r#"
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]
"#;

/// Fails with what schemathesis has to say.
async fn fuzz(lab: &PortalLab, client: &Client, role: &str) -> anyhow::Result<()> {
    let Some(schemathesis) = std::env::var_os("PBX_SCHEMATHESIS") else {
        skipped("PBX_SCHEMATHESIS does not name schemathesis: ./test does that");
        return Ok(());
    };
    let seed = std::env::var("PBX_FUZZ_SEED").unwrap_or_else(|_| "1".to_owned());
    let scratch = Scratch::new("fuzz")?;
    let [config, document] =
        ["schemathesis.toml", "openapi.json"].map(|name| scratch.path().join(name));
    scratch::write(&config, 0o600, CONFIG)?;
    scratch::write(&document, 0o600, &client.openapi().to_string())?;
    let ca = &lab.portal.https().context("no HTTPS")?.ca;
    let mut program = Program::new(schemathesis)
        .arg("--config-file")
        .arg(&config)
        .args(["run", "--url", &lab.portal.url(), "--tls-verify"])
        .arg(ca)
        .args(["--seed", &seed, "--max-examples", EXAMPLES, "--no-shrink"])
        .args(["--phases", "examples,coverage,fuzzing", "--workers", "1"])
        .args(["--checks", CHECKS, "--continue-on-failure"])
        .args(["--request-timeout", "35", "--warnings", "off"])
        // It would end its own session, whose id the list of sessions tells, and be nobody since.
        .args(["--exclude-operation-id", "end_session"])
        .args([
            "--generation-database",
            "none",
            "--suppress-health-check",
            "all",
        ])
        .dir(scratch.path())
        .env("HOME", scratch.path());
    if let Some(token) = client.bearer() {
        // In a file, the token would be in no list of processes; it ends with this test.
        program = program.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let output = program.arg(&document).run(DEADLINE).await?;
    said(&format!(
        "fuzzed as {role} with seed {seed} in {:?}",
        output.took
    ));
    ensure!(
        output.status.success(),
        "as {role}, seed {seed}:\n{}{}",
        output.stdout,
        output.stderr
    );
    if client.bearer().is_some() {
        // Whoever is nobody by then was refused everything, which proves little.
        client.get("/sessions/current").await?.expect(200)?;
    }
    Ok(())
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance";

#[tokio::test]
async fn platform_administrators_get_documented_answers() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    fuzz(&lab, &lab.client, "platform_admin").await
}

#[tokio::test]
async fn tenant_administrators_get_documented_answers() -> anyhow::Result<()> {
    as_role("tenant_admin").await
}

#[tokio::test]
async fn operators_get_documented_answers() -> anyhow::Result<()> {
    as_role("operator").await
}

async fn as_role(role: &str) -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let seat = json!({ "role": role, "tenant": "default" });
    let person = Person::create(&lab.client, "fuzzer", &seat).await?;
    fuzz(&lab, &person.client, role).await
}

#[tokio::test]
async fn users_get_documented_answers() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let user = lab.create_user("Fuzzer", "fuzzer@example.org").await?;
    let seat = json!({ "tenant": "default", "user_id": user.id });
    let person = Person::create(&lab.client, "fuzzer", &seat).await?;
    fuzz(&lab, &person.client, "user").await
}

#[tokio::test]
async fn strangers_get_documented_answers() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    fuzz(&lab, &lab.client.anonymous(), "nobody").await
}
