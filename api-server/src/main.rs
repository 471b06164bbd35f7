//! The portal's command line.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use api_server::clock::{Clock as _, SystemClock, os_rng};
use api_server::config::Config;
use api_server::pki::{self, Overwrite, Pair, Role};
use api_server::{app, http, vault};
use clap::{Args, Parser, Subcommand};
use secrecy::ExposeSecret as _;
use shared::config::process_env;

/// Control portal for Asterisk.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the REST API (the default); configured by environment variables
    Serve,
    /// Print the OpenAPI document
    Openapi,
    /// Print a fresh secret key
    SecretKey,
    /// Make the private CA and certificates for the link to the agents
    #[command(subcommand)]
    Certs(Certs),
}

#[derive(Subcommand)]
enum Certs {
    /// Make a CA
    Init {
        /// Where; made when it is missing
        dir: PathBuf,
        #[command(flatten)]
        replace: Replace,
    },
    /// Issue a certificate: `portal`, or `agent NAME` with the name of the PBX
    Issue {
        /// Where the CA lies
        dir: PathBuf,
        /// `portal`, `agent NAME` or `agent/NAME`
        #[arg(required = true, num_args = 1..=2)]
        role: Vec<String>,
        /// How long it is valid
        #[arg(long, default_value_t = pki::LEAF_DAYS)]
        days: u16,
        #[command(flatten)]
        replace: Replace,
    },
    /// Add certificates to the CA's revocation list `crl.pem`, and renew it; without any, only
    /// renew it
    Revoke {
        /// Where the CA lies
        dir: PathBuf,
        /// Certificates: their files, or the copies in `issued/` beside the CA
        cert: Vec<PathBuf>,
        /// How long the list is valid: when it has ended, nobody is let in by it
        #[arg(long, default_value_t = pki::LEAF_DAYS)]
        days: u16,
    },
}

#[derive(Args)]
struct Replace {
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
}

impl From<Replace> for Overwrite {
    fn from(replace: Replace) -> Self {
        if replace.overwrite {
            Self::Yes
        } else {
            Self::No
        }
    }
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve(),
        Command::Openapi => print(&http::document().to_pretty_json()?),
        Command::SecretKey => print(vault::generate_key(&mut os_rng()).expose_secret()),
        Command::Certs(certs) => make_certificates(certs),
    }
}

fn serve() -> anyhow::Result<()> {
    shared::telemetry::init();
    let config = Config::read(&process_env)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?
        .block_on(app::serve(config))
}

fn make_certificates(certs: Certs) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let Pair { cert, key } = match certs {
        Certs::Init { dir, replace } => pki::create_ca(&dir, now, replace.into())?,
        Certs::Issue {
            dir,
            role,
            days,
            replace,
        } => {
            let role: Role = role.join("/").parse()?;
            pki::issue(&dir, &role, now, days, replace.into())?
        }
        Certs::Revoke { dir, cert, days } => {
            let list = pki::revoke(&dir, &cert, now, days)?;
            return print(&list.display().to_string());
        }
    };
    print(&format!("{}\n{}", cert.display(), key.display()))
}

fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output")
}
