//! The portal's configuration, from environment variables.

mod entrance;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use shared::config::{ConfigErrors, Env};
use shared::record::OnReloadFailure;
use shared::tls::validity::WARNING_DAYS;
use shared::tls::{Identity, TlsFiles};
use sqlx::postgres::PgConnectOptions;

use crate::domain::SipRealm;
use crate::domain::access::AuthMode;
use crate::domain::pbx::AgentAddress;
use crate::vault::Vault;

pub use entrance::{Entrance, Serving};

/// How long an apply waits for another one unless told otherwise, in milliseconds.
const APPLY_LOCK_WAIT_MS: u64 = 30_000;

/// How long the agent may take for an apply unless told otherwise, in milliseconds: two reloads of
/// 60 s that Asterisk's command line waits for at most, and what lies around them.
const APPLY_DEADLINE_MS: u64 = 150_000;

/// How often the agent is asked how it is unless told otherwise, in milliseconds.
const MONITOR_PERIOD_MS: u64 = 30_000;

/// Names the role that owns the schema, if that is not the service's.
const MIGRATION_DATABASE_URL: &str = "MIGRATION_DATABASE_URL";

/// Of how many proven revisions the bundle is kept unless told otherwise.
const BUNDLES_KEPT: u32 = 200;

/// Everything that the portal is told from outside. No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Config {
    /// `DATABASE_URL` or `DATABASE_URL_FILE`.
    pub database: PgConnectOptions,
    /// `MIGRATION_DATABASE_URL` or `MIGRATION_DATABASE_URL_FILE`: the role that owns the schema.
    pub migration: Option<PgConnectOptions>,
    /// Where and by what clients reach it.
    pub entrance: Entrance,
    /// `AUTH_MODE`: `login` (the default) or `trusted_network`.
    pub auth: AuthMode,
    /// `SECRET_KEY` or `SECRET_KEY_FILE`: 64 hexadecimal digits.
    pub vault: Vault,
    /// `PBX_AGENT_ADDR`: `host:port`.
    pub agent_address: AgentAddress,
    /// `PBX_AGENT_IDENTITY`. Default `spiffe://pbx.internal/agent/default`.
    pub agent_identity: Identity,
    /// `SIP_REALM`. Default `synergycall`.
    pub sip_realm: SipRealm,
    /// `TLS_CA_FILE`, `TLS_CERT_FILE`, `TLS_KEY_FILE` and, optional, `TLS_CRL_FILE`.
    pub tls: TlsFiles,
    /// `ON_RELOAD_FAILURE`: `roll_back` (the default) or `keep_new_files`.
    pub on_reload_failure: OnReloadFailure,
    /// `APPLY_LOCK_WAIT_MS`. Default 30 s.
    pub apply_lock_wait: Duration,
    /// `APPLY_DEADLINE_MS`. Default 150 s.
    pub apply_deadline: Duration,
    /// `MONITOR_PERIOD_MS`. Default 30 s.
    pub monitor_period: Duration,
    /// `CERT_WARNING_DAYS`: how long before the end of a certificate, or revocation list of the link,
    /// to warn, 1 to 3650. Default 30.
    pub cert_warning: time::Duration,
    /// `BUNDLES_KEPT`: of how many proven revisions the bundle is kept. Default 200.
    pub bundles_kept: u32,
}

impl Config {
    /// Reads every variable before it reports any error.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut env = Env::new(lookup);
        let database = database(&mut env, "DATABASE_URL");
        let migration = migration(&mut env, lookup);
        let vault = vault(&mut env);
        let Mode(auth) = env.or("AUTH_MODE", Mode(AuthMode::Login));
        let entrance = Entrance::read(&mut env, auth);
        let agent_address = env.required("PBX_AGENT_ADDR", "host:port of the agent");
        let agent_identity = or_text(
            &mut env,
            "PBX_AGENT_IDENTITY",
            "spiffe://pbx.internal/agent/default",
        );
        let sip_realm = or_text(&mut env, "SIP_REALM", "synergycall");
        let tls = tls(&mut env);
        let Policy(on_reload_failure) =
            env.or("ON_RELOAD_FAILURE", Policy(OnReloadFailure::RollBack));
        let Milliseconds(apply_lock_wait) =
            env.or("APPLY_LOCK_WAIT_MS", Milliseconds::of(APPLY_LOCK_WAIT_MS));
        let Milliseconds(apply_deadline) =
            env.or("APPLY_DEADLINE_MS", Milliseconds::of(APPLY_DEADLINE_MS));
        let Milliseconds(monitor_period) =
            env.or("MONITOR_PERIOD_MS", Milliseconds::of(MONITOR_PERIOD_MS));
        let Days(cert_warning) = env.or("CERT_WARNING_DAYS", Days::of(WARNING_DAYS));
        let Count(bundles_kept) = env.or("BUNDLES_KEPT", Count(BUNDLES_KEPT));
        let config = || {
            Some(Self {
                database: database?,
                migration,
                entrance: entrance?,
                auth,
                vault: vault?,
                agent_address: agent_address?,
                agent_identity: agent_identity?,
                sip_realm: sip_realm?,
                tls: tls?,
                on_reload_failure,
                apply_lock_wait,
                apply_deadline,
                monitor_period,
                cert_warning,
                bundles_kept,
            })
        };
        let config = config();
        env.finish(config)
    }
}

/// What `migrate` is told from outside. No `Debug`.
pub struct MigrationConfig {
    /// `DATABASE_URL` or `DATABASE_URL_FILE`: the service's role. Nobody connects as it.
    pub database: PgConnectOptions,
    /// `MIGRATION_DATABASE_URL` or `MIGRATION_DATABASE_URL_FILE`: the role that owns the schema.
    pub owner: PgConnectOptions,
}

impl MigrationConfig {
    /// Reads every variable before it reports any error.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut env = Env::new(lookup);
        let service = database(&mut env, "DATABASE_URL");
        let owner = database(&mut env, MIGRATION_DATABASE_URL);
        let both = service.zip(owner);
        env.finish(both.map(|(database, owner)| Self { database, owner }))
    }
}

/// What `secret-key rotate` and `secret-key retire` are told from outside. No `Debug`.
pub struct KeyConfig {
    /// `DATABASE_URL` or `DATABASE_URL_FILE`.
    pub database: PgConnectOptions,
    /// `SECRET_KEY` or `SECRET_KEY_FILE`: the key in use.
    pub vault: Vault,
}

impl KeyConfig {
    /// Reads every variable before it reports any error.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut env = Env::new(lookup);
        let config = Self::of(&mut env);
        env.finish(config)
    }

    /// As [`KeyConfig::read`], with the key to come: `NEW_SECRET_KEY` or `NEW_SECRET_KEY_FILE`.
    pub fn read_with_new(
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vault), ConfigErrors> {
        let mut env = Env::new(lookup);
        let config = Self::of(&mut env);
        let meaning = "the key to come; `api-server secret-key` prints a fresh one";
        let new = key(&mut env, "NEW_SECRET_KEY", meaning);
        env.finish(config.zip(new))
    }

    fn of(env: &mut Env<'_>) -> Option<Self> {
        let (database, vault) = (database(env, "DATABASE_URL"), vault(env));
        Some(Self {
            database: database?,
            vault: vault?,
        })
    }
}

fn database(env: &mut Env<'_>, name: &str) -> Option<PgConnectOptions> {
    let url = env.secret(name, "postgres://user:password@host/database")?;
    // The parser's own words may repeat parts of the URL.
    match url.expose_secret().parse() {
        Ok(options) => Some(options),
        Err(_) => env.fault(format!("{name}: is no PostgreSQL URL")),
    }
}

/// Only when it is set.
fn migration(
    env: &mut Env<'_>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Option<PgConnectOptions> {
    let name = MIGRATION_DATABASE_URL;
    lookup(name).or_else(|| lookup(&format!("{name}_FILE")))?;
    database(env, name)
}

fn vault(env: &mut Env<'_>) -> Option<Vault> {
    let meaning = "the key for secrets at rest; `api-server secret-key` prints a fresh one";
    key(env, "SECRET_KEY", meaning)
}

fn key(env: &mut Env<'_>, name: &str, meaning: &str) -> Option<Vault> {
    let key = env.secret(name, meaning)?;
    match key.expose_secret().parse() {
        Ok(vault) => Some(vault),
        Err(error) => env.fault(format!("{name}: {error}")),
    }
}

fn tls(env: &mut Env<'_>) -> Option<TlsFiles> {
    let ca = env.required::<PathBuf>("TLS_CA_FILE", "the CA of portal and agent, PEM");
    let cert = env.required::<PathBuf>("TLS_CERT_FILE", "the portal's certificate, PEM");
    let key = env.required::<PathBuf>("TLS_KEY_FILE", "the portal's private key, PEM");
    let crl = env.optional::<PathBuf>("TLS_CRL_FILE");
    Some(TlsFiles {
        ca: ca?,
        cert: cert?,
        key: key?,
        crl,
    })
}

/// A variable whose default is given as text.
fn or_text<T: FromStr>(env: &mut Env<'_>, name: &str, default: &str) -> Option<T>
where
    T::Err: std::fmt::Display,
{
    let default: Result<T, T::Err> = default.parse();
    match default {
        Ok(default) => Some(env.or(name, default)),
        Err(error) => env.fault(format!("{name}: {error}")),
    }
}

struct Mode(AuthMode);

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "login" => Ok(Self(AuthMode::Login)),
            "trusted_network" => Ok(Self(AuthMode::TrustedNetwork)),
            _ => Err("must be `login` or `trusted_network`"),
        }
    }
}

struct Policy(OnReloadFailure);

impl FromStr for Policy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "roll_back" => Ok(Self(OnReloadFailure::RollBack)),
            "keep_new_files" => Ok(Self(OnReloadFailure::KeepNewFiles)),
            _ => Err("must be `roll_back` or `keep_new_files`"),
        }
    }
}

/// One to a million.
struct Count(u32);

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(count @ 1..=1_000_000) => Ok(Self(count)),
            Ok(_) | Err(_) => Err("must be a number from 1 to 1000000"),
        }
    }
}

/// One millisecond to one hour.
struct Milliseconds(Duration);

impl Milliseconds {
    const fn of(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl FromStr for Milliseconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(milliseconds @ 1..=3_600_000) => Ok(Self::of(milliseconds)),
            Ok(_) | Err(_) => Err("must be 1 to 3600000 milliseconds"),
        }
    }
}

/// One day to ten years.
struct Days(time::Duration);

impl Days {
    fn of(days: u16) -> Self {
        Self(time::Duration::days(days.into()))
    }
}

impl FromStr for Days {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(days @ 1..=3650) => Ok(Self::of(days)),
            Ok(_) | Err(_) => Err("must be 1 to 3650 days"),
        }
    }
}

#[cfg(test)]
mod tests;
