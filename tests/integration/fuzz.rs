//! Requests made from the `OpenAPI` document by schemathesis, good ones and bad ones, over the whole
//! API and as each role: no answer says that the portal failed, and none is outside the document. Every
//! second request goes to something that is there (`fuzz/hooks.py`), and each operation that the role may
//! carry out must have succeeded at least once (`fuzz/floor.rs`).
//!
//! There is no agent, so what needs one answers 503 `agent_unreachable`, as documented. `./test` installs
//! schemathesis and names it in `PBX_SCHEMATHESIS`; `PBX_FUZZ_SEED` repeats a run.

mod floor;

use std::ffi::OsStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::domain::Role;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::Client;
use tests::process::Program;
use tests::scratch::{self, Scratch};

use super::rbac::people::{PASSWORD, Person, text};
use super::strace::{said, skipped};

const DEADLINE: Duration = Duration::from_mins(10);

/// Made cases of each operation, at most; those that the document itself implies come on top.
const EXAMPLES: &str = "6";

/// Where the hooks write which answers there were.
const ANSWERS: &str = "answers.json";

/// What needs the agent says that there is none. Other methods than the documented ones are asked for by
/// other tests, and what is below a tenant has a twin without it, to which all variants go.
const CONFIG: &str = r#"
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]

[phases.coverage]
unexpected-methods = []

[[operations]]
include-path-regex = "^/tenants/[{]tenant[}]/"
phases.coverage.enabled = false
"#;

/// Lets every second request be one that ought to succeed.
const HOOKS: &str = include_str!("fuzz/hooks.py");

/// Somebody in whose name requests are made.
struct Fuzzer<'a> {
    lab: &'a PortalLab,
    client: &'a Client,
    /// What it may do; `None`: it has not signed in.
    role: Option<Role>,
    /// What it signs in with.
    login: &'a str,
    password: &'a str,
    /// Its user, if it is one's.
    user: Option<&'a str>,
}

impl Fuzzer<'_> {
    fn name(&self) -> &'static str {
        self.role.map_or("nobody", Role::name)
    }

    /// What the hooks have to know.
    async fn known(&self, scratch: &Scratch) -> anyhow::Result<Value> {
        let mut kept = Vec::new();
        if self.role.is_some() {
            let session = self
                .client
                .get("/sessions/current")
                .await?
                .expect(200)?
                .json()?;
            kept.extend([session["id"].clone(), session["account_id"].clone()]);
        }
        let tenant = self.lab.client.get("/tenants/default").await?;
        let tenant = tenant.expect(200)?.json()?;
        kept.extend([tenant["id"].clone(), tenant["pbx_id"].clone()]);
        let ca = &self.lab.portal.https().context("no HTTPS")?.ca;
        Ok(json!({
            "url": self.lab.portal.url(),
            "ca": ca,
            "token": self.client.bearer(),
            "login": self.login,
            "password": self.password,
            "user": self.user,
            "reset_token": self.reset_token().await?,
            "kept": kept,
            "answers": scratch.path().join(ANSWERS),
        }))
    }

    /// What sets the password of somebody else.
    async fn reset_token(&self) -> anyhow::Result<Value> {
        let client = &self.lab.client;
        let body = json!({ "login": "forgetful", "name": "Forgetful", "role": "platform_admin" });
        let account = client.post("/accounts", &body).await?.expect(201)?.json()?;
        let reset = format!("/accounts/{}/reset", text(&account, "id")?);
        let issued = client.post_nothing(&reset).await?.expect(200)?.json()?;
        Ok(issued["token"].clone())
    }

    /// Users, devices and what is left of a user, for those who may look and make nothing.
    async fn furnish(&self) -> anyhow::Result<()> {
        for name in ["one", "two", "three"] {
            let email = format!("{name}@example.org");
            let user = self.lab.create_user(name, &email).await?;
            if name == "three" {
                let path = format!("/users/{}", user.id);
                self.lab.client.delete(&path).await?.expect(204)?;
            }
        }
        Ok(())
    }

    /// Fails with what schemathesis has to say.
    async fn fuzz(&self) -> anyhow::Result<()> {
        let Some(schemathesis) = std::env::var_os("PBX_SCHEMATHESIS") else {
            skipped("PBX_SCHEMATHESIS does not name schemathesis: ./test does that");
            return Ok(());
        };
        let seed = std::env::var("PBX_FUZZ_SEED").unwrap_or_else(|_| "1".to_owned());
        let scratch = Scratch::new("fuzz")?;
        self.furnish().await?;
        for (name, text) in [
            ("schemathesis.toml", CONFIG),
            ("hooks.py", HOOKS),
            ("openapi.json", &self.client.openapi().to_string()),
            // The token would be in the list of processes as well.
            ("known.json", &self.known(&scratch).await?.to_string()),
        ] {
            scratch::write(&scratch.path().join(name), 0o600, text)?;
        }
        let program = self.program(&schemathesis, &scratch, &seed)?;
        let output = program.run(DEADLINE).await?;
        said(&format!(
            "fuzzed as {} with seed {seed} in {:?}",
            self.name(),
            output.took
        ));
        ensure!(
            output.status.success(),
            "as {}, seed {seed}:\n{}{}",
            self.name(),
            output.stdout,
            output.stderr
        );
        if self.role.is_some() {
            // Whoever is nobody by then was refused everything, which proves little.
            self.client.get("/sessions/current").await?.expect(200)?;
        }
        let answers = std::fs::read_to_string(scratch.path().join(ANSWERS))?;
        floor::check(
            self.role,
            self.client.openapi(),
            &serde_json::from_str(&answers)?,
        )
    }

    fn program(
        &self,
        schemathesis: &OsStr,
        scratch: &Scratch,
        seed: &str,
    ) -> anyhow::Result<Program> {
        let within = |name: &str| scratch.path().join(name);
        let ca = &self.lab.portal.https().context("no HTTPS")?.ca;
        let mut program = Program::new(schemathesis)
            .arg("--config-file")
            .arg(within("schemathesis.toml"))
            .args(["run", "--url", &self.lab.portal.url(), "--tls-verify"])
            .arg(ca)
            .args(["--seed", seed, "--max-examples", EXAMPLES, "--no-shrink"])
            .args(["--phases", "examples,coverage,fuzzing", "--workers", "1"])
            .args(["--checks", CHECKS, "--continue-on-failure"])
            .args(["--request-timeout", "35", "--warnings", "off"])
            .args([
                "--generation-database",
                "none",
                "--suppress-health-check",
                "all",
            ])
            .dir(scratch.path())
            .env("HOME", scratch.path())
            .env("SCHEMATHESIS_HOOKS", within("hooks.py"))
            .env("PBX_FUZZ_KNOWN", within("known.json"));
        if let Some(token) = self.client.bearer() {
            // In a file, the token would be in no list of processes; it ends with this test.
            program = program.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        Ok(program.arg(within("openapi.json")))
    }
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance";

#[tokio::test]
async fn platform_administrators_get_documented_answers() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let administrator = lab.administrator.as_ref().context("nobody signs in")?;
    let fuzzer = Fuzzer {
        lab: &lab,
        client: &lab.client,
        role: Some(Role::PlatformAdmin),
        login: &administrator.login,
        password: &administrator.password,
        user: None,
    };
    fuzzer.fuzz().await
}

#[tokio::test]
async fn tenant_administrators_get_documented_answers() -> anyhow::Result<()> {
    as_role(Role::TenantAdmin).await
}

#[tokio::test]
async fn operators_get_documented_answers() -> anyhow::Result<()> {
    as_role(Role::Operator).await
}

async fn as_role(role: Role) -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let seat = json!({ "role": role.name(), "tenant": "default" });
    as_person(&lab, &seat, role, None).await
}

#[tokio::test]
async fn users_get_documented_answers() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let user = lab.create_user("Fuzzer", "fuzzer@example.org").await?;
    let seat = json!({ "tenant": "default", "user_id": user.id });
    as_person(&lab, &seat, Role::User, Some(&user.id)).await
}

async fn as_person(
    lab: &PortalLab,
    seat: &Value,
    role: Role,
    user: Option<&str>,
) -> anyhow::Result<()> {
    let person = Person::create(&lab.client, "fuzzer", seat).await?;
    let fuzzer = Fuzzer {
        lab,
        client: &person.client,
        role: Some(role),
        login: &person.login,
        password: PASSWORD,
        user,
    };
    fuzzer.fuzz().await
}

#[tokio::test]
async fn strangers_get_documented_answers() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let seat = json!({ "role": "operator", "tenant": "default" });
    let person = Person::create(&lab.client, "stranger", &seat).await?;
    let fuzzer = Fuzzer {
        lab: &lab,
        client: &lab.client.anonymous(),
        role: None,
        login: &person.login,
        password: PASSWORD,
        user: None,
    };
    fuzzer.fuzz().await
}
