//! The portal's command line.

mod account_command;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use api_server::clock::{Clock as _, SystemClock, os_rng};
use api_server::config::{Config, KeyConfig, MigrationConfig};
use api_server::db::audit::{Fault, Head};
use api_server::pki::{self, Overwrite, Pair, Role};
use api_server::services::rotation;
use api_server::{app, db, http, vault};
use clap::{Args, Parser, Subcommand};
use secrecy::ExposeSecret as _;
use shared::config::process_env;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use self::account_command::AccountCommand;

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
    /// Print who may do what, as tables in Markdown
    Permissions,
    /// Print a fresh secret key, or change the key of a database
    #[command(args_conflicts_with_subcommands = true)]
    SecretKey {
        #[command(subcommand)]
        action: Option<SecretKey>,
    },
    /// Create accounts, reset their passwords, end their lock-outs; on the database of `DATABASE_URL`
    #[command(subcommand)]
    Account(AccountCommand),
    /// Look after the audit trail
    #[command(subcommand)]
    Audit(Audit),
    /// Bring the schema up to date as the role of `MIGRATION_DATABASE_URL`, which owns it, and let the
    /// role of `DATABASE_URL` work with it; then the service needs no more than that
    Migrate,
    /// Make the private CA and certificates for the link to the agents, or one for HTTPS
    #[command(subcommand)]
    Certs(Certs),
}

#[derive(Subcommand)]
enum SecretKey {
    /// Seal everything anew while portals run: the database (`DATABASE_URL`) opens with `SECRET_KEY`
    /// and `NEW_SECRET_KEY` from then on. Each may be given by a file, as in `NEW_SECRET_KEY_FILE`
    Rotate,
    /// End a rotation: the database opens with `SECRET_KEY`, now the new one, and no other key
    Retire,
}

#[derive(Subcommand)]
enum Audit {
    /// Verify that nothing of it was changed, removed or added: the database (`DATABASE_URL`), with the
    /// key that `SECRET_KEY` opens. Prints each fault and the head of each lane; exit status 1 when
    /// there is a fault
    Verify {
        /// Heads that were kept elsewhere: what this command printed, or the portal's log
        #[arg(long, value_name = "FILE")]
        since_head: Option<PathBuf>,
    },
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
    /// Make a certificate for HTTPS: `https.crt`, `https.key`, and `https-ca.crt` for clients to
    /// trust. The key of that CA is not kept, so that it vouches for nothing else
    Https {
        /// Where; made when it is missing
        dir: PathBuf,
        /// A host name or address that clients reach the portal by, beside localhost; may be given
        /// several times
        #[arg(long = "name")]
        names: Vec<String>,
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
        Command::Permissions => print(http::permissions().trim_end()),
        Command::SecretKey { action: None } => {
            print(vault::generate_key(&mut os_rng()).expose_secret())
        }
        Command::SecretKey {
            action: Some(SecretKey::Rotate),
        } => rotate(),
        Command::SecretKey {
            action: Some(SecretKey::Retire),
        } => retire(),
        Command::Account(command) => account_command::carry_out(command),
        Command::Audit(Audit::Verify { since_head }) => verify_audit(since_head.as_deref()),
        Command::Migrate => migrate(),
        Command::Certs(certs) => make_certificates(certs),
    }
}

fn serve() -> anyhow::Result<()> {
    shared::telemetry::init();
    let config = Config::read(&process_env)?;
    run(app::serve(config))
}

fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?
        .block_on(work)
}

fn rotate() -> anyhow::Result<()> {
    shared::telemetry::init();
    let (config, new) = KeyConfig::read_with_new(&process_env)?;
    let old = config.vault;
    let done = run(async {
        let mut connection = connect(config.database).await?;
        Ok(rotation::rotate(&mut connection, &old, &new).await?)
    })?;
    for (column, rows) in &done.rows {
        print(&format!("{column}: {rows} rows sealed anew"))?;
    }
    print(&format!(
        "{} older data keys dropped. The database opens with key {} and with key {} now.\n\
         Next: set SECRET_KEY or SECRET_KEY_FILE of each portal to the new key ({1}) and restart it. \
         When all of them run with it: `api-server secret-key retire` with the new key.",
        done.dropped,
        new.master_key_id(),
        old.master_key_id(),
    ))
}

async fn connect(options: PgConnectOptions) -> anyhow::Result<PgConnection> {
    let connected = db::connect_apart(options).await;
    connected.context("the database could not be worked with")
}

fn retire() -> anyhow::Result<()> {
    shared::telemetry::init();
    let config = KeyConfig::read(&process_env)?;
    let vault = config.vault;
    let removed = run(async {
        let mut connection = connect(config.database).await?;
        Ok(rotation::retire(&mut connection, &vault).await?)
    })?;
    let key = vault.master_key_id();
    print(&match removed {
        0 => format!("The database opens with key {key} only. There was nothing to remove."),
        _ => format!(
            "The database opens with key {key} only, from now on. Dumps that were made before \
             still need the key of their time."
        ),
    })
}

fn migrate() -> anyhow::Result<()> {
    shared::telemetry::init();
    let config = MigrationConfig::read(&process_env)?;
    run(async {
        let done = db::migrate(config.owner, &config.database).await;
        done.context("the database could not be worked with")
    })?;
    let role = config.database.get_username().to_owned();
    print(&format!(
        "The schema is up to date, and {role} may work with it."
    ))
}

fn verify_audit(kept: Option<&Path>) -> anyhow::Result<()> {
    shared::telemetry::init();
    let config = KeyConfig::read(&process_env)?;
    let kept = match kept {
        None => Vec::new(),
        Some(file) => {
            let text = std::fs::read(file).with_context(|| file.display().to_string())?;
            Head::all_in(&String::from_utf8_lossy(&text))
                .with_context(|| format!("{} holds no head", file.display()))?
        }
    };
    let verified = run(async {
        // Nothing is changed, so the schema stays as it is.
        let mut connection = db::connect_to_read(config.database).await?;
        let key = db::audit::key(&mut connection, &config.vault).await?;
        let key = key.context("the database has no audit trail yet")?;
        let mut printed = Ok(());
        let tell = |fault: Fault| {
            if printed.is_ok() {
                printed = print(&format!("fault: {fault}"));
            }
        };
        let verified = db::audit::verify(&mut connection, &key, &kept, tell).await?;
        printed?;
        Ok(verified)
    })?;
    for head in &verified.heads {
        print(&head.to_string())?;
    }
    let (entries, lanes) = (verified.entries, verified.heads.len());
    if verified.faults > 0 {
        bail!(
            "{} faults in {entries} entries, {lanes} lanes",
            verified.faults
        );
    }
    print(&format!(
        "{entries} entries in {lanes} lanes: as they were written"
    ))
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
        Certs::Https {
            dir,
            names,
            days,
            replace,
        } => {
            let files = pki::create_https(&dir, &names, now, days, replace.into())?;
            print(&files.ca.display().to_string())?;
            files.pair
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
