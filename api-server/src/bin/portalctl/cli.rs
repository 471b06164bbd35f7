//! The commands and the options that all of them take.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ColorChoice, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::account::AccountCommand;
use crate::apply::{Apply, Restore};
use crate::audit::AuditCommand;
use crate::auth::Login;
use crate::bulk::declaration::{ExportTenant, Plan};
use crate::device::DeviceCommand;
use crate::history::History;
use crate::output::Output;
use crate::password;
use crate::pbx::PbxCommand;
use crate::preview::Preview;
use crate::status::Status;
use crate::tenant::TenantCommand;
use crate::token::TokenCommand;
use crate::user::UserCommand;

/// What the help of the whole ends with.
const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  failed for a reason of its own: a file, a question that was answered with no
  2  wrong usage; somebody should be asked and there is no terminal
  3  not signed in, or not allowed
  4  there is no such thing
  5  the portal refused what was asked: fields, a conflict, a state that is another one by now;
     lines of an import
  6  not in force: an apply or restore ended otherwise than `applied` or `unchanged`, a preview
     says that it would not, or `status --check` found something wrong
  7  the portal is unreachable, failed, or is too busy: try again
  8  no answer tells whether it was done: it may have been

Environment:
  PORTAL_URL, PORTAL_CA, PORTAL_TENANT, PORTAL_ADMIN_USER  as the options
  PORTAL_TOKEN   an API token or access token, in place of the session of `portalctl login`
  NO_COLOR       no colours
  XDG_CONFIG_HOME  the session is kept below it, in portalctl/; ~/.config when it is not set

Examples:
  portalctl login --url https://portal.example.com --ca https-ca.crt ann
  portalctl user create --name 'Ada Lovelace' --email ada@example.org
  portalctl preview
  portalctl apply
  portalctl --tenant acme user list -q 'Smith' --json | jq -r '.[].email'";

/// Administers a control portal for Asterisk
#[derive(Parser)]
#[command(name = "portalctl", version, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    #[arg(
        long,
        global = true,
        help = "The portal, as in https://portal.example.com; that of the session when absent",
        env = "PORTAL_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) url: Option<String>,
    /// Certificates to trust in place of the system's, PEM; `login` remembers them
    #[arg(
        long,
        global = true,
        env = "PORTAL_CA",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Whose users and devices are meant; when absent your own tenant if your account is of one, or
    /// else the default tenant
    #[arg(
        long,
        global = true,
        env = "PORTAL_TENANT",
        hide_env_values = true,
        value_name = "SLUG|ID"
    )]
    pub(crate) tenant: Option<String>,
    /// Who you are, where nobody signs in (`AUTH_MODE=trusted_network`); other portals ignore it
    #[arg(
        long,
        global = true,
        env = "PORTAL_ADMIN_USER",
        hide_env_values = true,
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) admin_user: Option<String>,
    /// Print what the portal answers, as it is: JSON. Problems as well, to standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Do it without asking
    #[arg(long, short = 'y', global = true)]
    pub(crate) yes: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sign in, and keep the session for the commands that follow
    Login(Login),
    /// End the session, at the portal and here
    #[command(after_help = "Examples:\n  portalctl logout")]
    Logout,
    /// Show who is signed in
    #[command(
        after_help = "Examples:\n  portalctl whoami\n  PORTAL_TOKEN=$(cat token) portalctl whoami"
    )]
    Whoami,
    /// Change your own password
    Password(password::Change),
    /// Organisations that share a PBX and know nothing of each other
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// People with a number
    #[command(subcommand)]
    User(UserCommand),
    /// Phones, each of a user
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Your API tokens, for programs
    #[command(subcommand)]
    Token(TokenCommand),
    /// Who may sign in
    #[command(subcommand)]
    Account(AccountCommand),
    /// Who changed what
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The PBXes: Asterisk hosts with an agent
    #[command(subcommand)]
    Pbx(PbxCommand),
    /// Show what a tenant file would change
    Plan(Plan),
    /// Write what a tenant is, as a tenant file
    Export(ExportTenant),
    /// Bring what the database says into force; with -f, make a tenant what a file says
    Apply(Apply),
    /// Show what an apply would do
    Preview(Preview),
    /// Show every attempt to apply, or one with all its steps
    History(History),
    /// Bring the configuration of an earlier apply back into force
    Restore(Restore),
    /// Show what is wanted, applied, on disk and loaded
    Status(Status),
    /// Print what completes commands in a shell
    #[command(
        after_help = "Examples:\n  portalctl completion bash > /etc/bash_completion.d/portalctl\n  \
                      portalctl completion zsh > \"${fpath[1]}/_portalctl\"\n  \
                      portalctl completion fish > ~/.config/fish/completions/portalctl.fish"
    )]
    Completion {
        /// Which shell
        shell: Shell,
    },
}

/// Prints what completes commands in `shell`.
pub(crate) fn complete(shell: Shell, out: &Output) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portalctl", &mut script);
    out.raw(&script);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        let path = format!("{path} {}", command.get_name());
        if command.get_subcommands().next().is_none() {
            let help = command.get_after_help();
            found.push((path, help.map(ToString::to_string).unwrap_or_default()));
            return;
        }
        for below in command.get_subcommands().filter(|c| c.get_name() != "help") {
            leaves(below, &path, found);
        }
    }

    #[test]
    fn every_command_has_examples_that_can_be_typed() {
        Cli::command().debug_assert();
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() > 30, "{}", found.len());
        for (path, help) in found {
            let name = path.trim();
            let command = name.trim_start_matches("portalctl");
            let calls = help.lines().filter(|line| line.starts_with("  "));
            let calls = calls.flat_map(|line| line.split(['|', '&']));
            let calls = calls.filter_map(|call| call.split_once("portalctl "));
            let mut examples = 0;
            for (_, call) in calls.filter(|(_, call)| format!(" {call}").contains(command)) {
                let call = call.split('>').next().unwrap_or(call);
                let words = [vec!["portalctl".to_owned()], words(call)].concat();
                let parsed = Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{call}: {}", parsed.err().unwrap());
                examples += 1;
            }
            assert!(examples > 0, "{name} has no example: {help:?}");
        }
    }

    /// As a shell divides them, single quotes alone.
    fn words(call: &str) -> Vec<String> {
        let mut words = vec![];
        for (index, part) in call.split('\'').enumerate() {
            if index % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }
}
