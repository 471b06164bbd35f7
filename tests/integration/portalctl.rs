//! `portalctl`, as built, against a real portal over HTTPS.

mod apply;
mod around;
mod bulk;
mod canned;
mod entities;
mod errors;
mod lost;
mod output;
mod own_tenant;
mod prompt;
mod session;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::agent::binary;
use tests::lab::{Lab, PortalLab};
use tests::portal::{Administrator, Portal};
use tests::process::{Output, Program};
use tests::scratch::{self, Scratch};

const DEADLINE: Duration = Duration::from_mins(2);

/// Reads standard input from a file, which `Program` cannot.
const FROM_FILE: &str = r#"exec "$0" "$@" < "$INPUT""#;

/// Somebody at a terminal of their own: nothing of another one's session is seen.
pub(crate) struct Terminal {
    home: Scratch,
    url: String,
    ca: PathBuf,
    administrator: Administrator,
    env: Vec<(String, String)>,
}

impl Terminal {
    /// Nobody has signed in.
    pub(crate) fn of(lab: &PortalLab) -> anyhow::Result<Self> {
        Self::at(&lab.portal, lab.administrator.as_ref())
    }

    /// Likewise, where there is an Asterisk.
    pub(crate) fn of_lab(lab: &Lab) -> anyhow::Result<Self> {
        Self::at(&lab.portal, lab.administrator.as_ref())
    }

    fn at(portal: &Portal, administrator: Option<&Administrator>) -> anyhow::Result<Self> {
        Ok(Self {
            home: Scratch::new("portalctl")?,
            url: portal.url(),
            ca: portal.https().context("HTTPS")?.ca.clone(),
            administrator: administrator.context("an administrator")?.clone(),
            env: Vec::new(),
        })
    }

    /// The administrator has signed in.
    pub(crate) async fn signed_in(lab: &PortalLab) -> anyhow::Result<Self> {
        let terminal = Self::of(lab)?;
        terminal.sign_in().await?;
        Ok(terminal)
    }

    pub(crate) async fn sign_in(&self) -> anyhow::Result<()> {
        let Administrator { login, password } = &self.administrator;
        self.login(login, password).await?.success().map(drop)
    }

    /// `portalctl login` with what standard input holds.
    pub(crate) async fn login(&self, login: &str, input: &str) -> anyhow::Result<Output> {
        let ca = self.ca.display().to_string();
        let login = [
            "login",
            "--url",
            &self.url,
            "--ca",
            &ca,
            "--password-stdin",
            login,
        ];
        self.run_with(&login, input).await
    }

    /// With one more variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn set(&self, program: Program) -> Program {
        let home = program.env("XDG_CONFIG_HOME", self.home.path());
        self.env
            .iter()
            .fold(home, |program, (name, value)| program.env(name, value))
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> anyhow::Result<Program> {
        Ok(self.set(Program::new(binary("portalctl")?).args(arguments)))
    }

    /// Runs a command, whatever comes of it.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.program(arguments)?.run(DEADLINE).await
    }

    /// Likewise, with standard input.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let file = self.home.path().join("input");
        scratch::write(&file, 0o600, input)?;
        let shell = Program::new("/bin/sh").args(["-c", FROM_FILE]);
        let program = shell.arg(binary("portalctl")?).args(arguments);
        let program = self.set(program.env("INPUT", &file));
        let output = program.run(DEADLINE).await?;
        std::fs::remove_file(&file)?;
        Ok(output)
    }

    /// Runs a shell command line in which `portalctl` is this one.
    pub(crate) async fn shell(&self, line: &str) -> anyhow::Result<Output> {
        let binary = binary("portalctl")?;
        let line = format!("portalctl() {{ '{}' \"$@\"; }}; {line}", binary.display());
        let program = Program::new("/bin/bash").args(["-c", &line]);
        self.set(program).run(DEADLINE).await
    }

    /// What a command says that succeeds.
    pub(crate) async fn says(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments).await?;
        output.success().with_context(|| arguments.join(" "))
    }

    /// What a command answers with `--json`.
    pub(crate) async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let said = self.says(&[arguments, &["--json"]].concat()).await?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// What a command says on standard error that ends with this status.
    pub(crate) async fn fails(&self, status: i32, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments).await?;
        ended(&output, status).with_context(|| arguments.join(" "))?;
        Ok(output.stderr)
    }

    pub(crate) fn session_file(&self) -> PathBuf {
        self.home.path().join("portalctl/session.json")
    }

    pub(crate) fn session(&self) -> anyhow::Result<Value> {
        let text = std::fs::read_to_string(self.session_file())?;
        Ok(serde_json::from_str(&text)?)
    }
}

fn ended(output: &Output, status: i32) -> anyhow::Result<()> {
    ensure!(
        output.status.code() == Some(status),
        "not {status}, but {}:\n{}{}",
        output.status,
        output.stdout,
        output.stderr
    );
    Ok(())
}
