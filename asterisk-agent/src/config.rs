//! The agent's configuration, from environment variables.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use shared::config::{ConfigErrors, Env};
use shared::tls::validity::WARNING_DAYS;
use shared::tls::{Identity, TlsFiles};

/// Everything that the agent is told from outside.
#[derive(Clone, Debug)]
pub struct Config {
    /// `LISTEN_ADDR`: where to listen unless systemd hands a socket in. Default `127.0.0.1:50051`.
    pub listen_addr: SocketAddr,
    /// `TLS_CA_FILE`, `TLS_CERT_FILE`, `TLS_KEY_FILE` and, optional, `TLS_CRL_FILE`.
    pub tls: TlsFiles,
    /// `PORTAL_IDENTITY`: the only peer that gets in. Default `spiffe://pbx.internal/portal`.
    pub portal: Identity,
    /// `STATE_DIR`: generations, journal and records. Default `/var/lib/asterisk-agent`.
    pub state_dir: PathBuf,
    /// `ASTERISK_CONFIG_DIR`: the managed files lie below it. Default `/etc/asterisk`.
    pub asterisk_config_dir: PathBuf,
    /// How Asterisk is reached.
    pub asterisk: AsteriskConfig,
    /// `DRIFT_PERIOD_SECONDS`: how often the live files are looked at, 60 to 3600. Default 60.
    pub drift_period: Duration,
    /// `CERT_WARNING_DAYS`: how long before the end of a certificate or revocation list to warn, 1 to
    /// 3650. Default 30.
    pub cert_warning: time::Duration,
    /// `PREFLIGHT`: `off`, `on` or `required`. Default `on`.
    pub preflight: Preflight,
    /// `RELOAD`: `when_needed` or `always`. Default `when_needed`.
    pub reload: Reload,
}

/// Whether a throw-away Asterisk reads a bundle before the live one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// No.
    Off,
    /// Where it can be run; that it could not is noted in the record.
    On,
    /// Without it a bundle is refused.
    Required,
}

/// When Asterisk is told to read its PJSIP file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Not when the file did not change and Asterisk's markers say that it holds it.
    WhenNeeded,
    /// At every apply that changes something.
    Always,
}

/// A word that the setting does not know.
#[derive(Debug, thiserror::Error)]
#[error("not one of {0}")]
pub struct UnknownWord(&'static str);

impl FromStr for Preflight {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "required" => Ok(Self::Required),
            _ => Err(UnknownWord("off, on, required")),
        }
    }
}

impl FromStr for Reload {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "when_needed" => Ok(Self::WhenNeeded),
            "always" => Ok(Self::Always),
            _ => Err(UnknownWord("when_needed, always")),
        }
    }
}

/// How Asterisk is reached, and how long it may take.
#[derive(Clone, Debug)]
pub struct AsteriskConfig {
    /// `ASTERISK_BINARY`: runs `-rx`. Default `/usr/sbin/asterisk`.
    pub binary: PathBuf,
    /// `ASTERISK_CONF`: goes to it as `-C`; absent by default.
    pub conf: Option<PathBuf>,
    /// `ASTERISK_CONTROL_SOCKET`. Default `/var/run/asterisk/asterisk.ctl`.
    pub control_socket: PathBuf,
    /// `RELOAD_DEADLINE_MS`: for one reload, waiting for another one included. Default 60 s, which
    /// is when `asterisk -rx` itself gives up; some 40,000 endpoints reload in that time.
    pub reload_deadline: Duration,
    /// `QUERY_DEADLINE_MS`: for one question. Default 10 s.
    pub query_deadline: Duration,
}

impl Config {
    /// Reads every variable before it reports any error.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut env = Env::new(lookup);
        let default_addr = SocketAddr::from(([127, 0, 0, 1], 50051));
        let listen_addr = env.or("LISTEN_ADDR", default_addr);
        let ca = env.required::<PathBuf>("TLS_CA_FILE", "the CA of portal and agent, PEM");
        let cert = env.required::<PathBuf>("TLS_CERT_FILE", "this agent's certificate, PEM");
        let key = env.required::<PathBuf>("TLS_KEY_FILE", "this agent's private key, PEM");
        let crl = env.optional::<PathBuf>("TLS_CRL_FILE");
        let portal = match lookup("PORTAL_IDENTITY") {
            Some(_) => env.required("PORTAL_IDENTITY", "who may connect"),
            None => "spiffe://pbx.internal/portal".parse().ok(),
        };
        let state_dir = env.path("STATE_DIR", "/var/lib/asterisk-agent");
        let asterisk_config_dir = env.path("ASTERISK_CONFIG_DIR", "/etc/asterisk");
        let asterisk = AsteriskConfig {
            binary: env.path("ASTERISK_BINARY", "/usr/sbin/asterisk"),
            conf: env.optional("ASTERISK_CONF"),
            control_socket: env.path("ASTERISK_CONTROL_SOCKET", "/var/run/asterisk/asterisk.ctl"),
            reload_deadline: milliseconds(&mut env, "RELOAD_DEADLINE_MS", 60_000),
            query_deadline: milliseconds(&mut env, "QUERY_DEADLINE_MS", 10_000),
        };
        let drift_period =
            Duration::from_secs(within(&mut env, "DRIFT_PERIOD_SECONDS", 60, 60..=3600));
        let days = within(&mut env, "CERT_WARNING_DAYS", WARNING_DAYS.into(), 1..=3650);
        let cert_warning = time::Duration::days(i64::try_from(days).unwrap_or(i64::MAX));
        let preflight = env.or("PREFLIGHT", Preflight::On);
        let reload = env.or("RELOAD", Reload::WhenNeeded);
        let value = ca.zip(cert).zip(key).zip(portal);
        env.finish(value.map(|(((ca, cert), key), portal)| Self {
            listen_addr,
            tls: TlsFiles { ca, cert, key, crl },
            portal,
            state_dir,
            asterisk_config_dir,
            asterisk,
            drift_period,
            cert_warning,
            preflight,
            reload,
        }))
    }
}

/// A number between two others, both included: outside of that it is a mistake in the unit.
fn within(env: &mut Env<'_>, name: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
    let number = env.or(name, default);
    if !range.contains(&number) {
        let (from, to) = (range.start(), range.end());
        env.fault::<()>(format!("{name}: not within {from} and {to}"));
    }
    number
}

/// A duration between 100 ms and 10 minutes: outside of that it is a mistake in the unit.
fn milliseconds(env: &mut Env<'_>, name: &str, default_ms: u64) -> Duration {
    let ms = env.or(name, default_ms);
    if !(100..=600_000).contains(&ms) {
        env.fault::<()>(format!("{name}: not within 100 and 600000 milliseconds"));
    }
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_a_debian_host() {
        let lookup = |name: &str| name.starts_with("TLS_").then(|| format!("/tls/{name}"));
        let config = Config::read(&lookup).unwrap();
        assert_eq!(config.listen_addr.to_string(), "127.0.0.1:50051");
        assert_eq!(config.portal.to_string(), "spiffe://pbx.internal/portal");
        assert_eq!(config.asterisk.binary.to_str(), Some("/usr/sbin/asterisk"));
        assert_eq!(config.asterisk.reload_deadline, Duration::from_mins(1));
        assert_eq!(config.preflight, Preflight::On);
        assert_eq!(config.reload, Reload::WhenNeeded);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let lookup = |name: &str| match name {
            "LISTEN_ADDR" => Some("nowhere".to_owned()),
            "PORTAL_IDENTITY" => Some("me".to_owned()),
            "QUERY_DEADLINE_MS" | "DRIFT_PERIOD_SECONDS" => Some("1".to_owned()),
            "CERT_WARNING_DAYS" => Some("0".to_owned()),
            "PREFLIGHT" | "RELOAD" => Some("perhaps".to_owned()),
            _ => None,
        };
        let message = Config::read(&lookup).unwrap_err().to_string();
        for name in [
            "LISTEN_ADDR",
            "PORTAL_IDENTITY",
            "QUERY_DEADLINE_MS",
            "DRIFT_PERIOD_SECONDS",
            "CERT_WARNING_DAYS",
            "PREFLIGHT: not one of off, on, required",
            "RELOAD: not one of when_needed, always",
            "TLS_CA_FILE",
        ] {
            assert!(message.contains(name), "{message}");
        }
    }
}
