//! Where clients reach the portal, and by what.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use shared::config::Env;

use crate::domain::access::AuthMode;
use crate::https::HttpsFiles;

/// Where HTTPS is served unless told otherwise.
const HTTPS_PORT: u16 = 8443;

/// Where plain HTTP is served, for a proxy on this machine, unless told otherwise.
const HTTP_PORT: u16 = 8080;

/// How clients reach the portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// `LISTEN_ADDR`, or `TRUSTED_NETWORK_LISTEN_ADDR` in trusted-network mode.
    pub address: SocketAddr,
    /// What is spoken there.
    pub serving: Serving,
    /// `TRUSTED_NETWORK_HOSTS`: by which names it is served in trusted-network mode, beside addresses
    /// and `localhost`.
    pub hosts: Vec<String>,
}

/// What is spoken with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// HTTPS, with `HTTPS_CERT_FILE` and `HTTPS_KEY_FILE`.
    Https(HttpsFiles),
    /// `PLAIN_HTTP=behind_proxy`: plain HTTP on loopback, for a proxy that speaks HTTPS.
    BehindProxy,
}

impl Entrance {
    /// Reads the variables for `auth`. `None` means that an error was noted.
    pub(super) fn read(env: &mut Env<'_>, auth: AuthMode) -> Option<Self> {
        let serving = serving(env);
        let port = match serving {
            Some(Serving::BehindProxy) => HTTP_PORT,
            Some(Serving::Https(_)) | None => HTTPS_PORT,
        };
        let (name, address) = address(env, auth, port);
        let hosts = hosts(env, auth);
        let (serving, address, hosts) = (serving?, address?, hosts?);
        if serving == Serving::BehindProxy && !is_loopback(address.ip()) {
            return env.fault(format!(
                "PLAIN_HTTP: plain HTTP is for a proxy on this machine, so that {name} must be a \
                 loopback address such as 127.0.0.1:{HTTP_PORT}"
            ));
        }
        Some(Self {
            address,
            serving,
            hosts,
        })
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn serving(env: &mut Env<'_>) -> Option<Serving> {
    let cert = env.optional::<PathBuf>("HTTPS_CERT_FILE");
    let key = env.optional::<PathBuf>("HTTPS_KEY_FILE");
    let plain = env.optional::<String>("PLAIN_HTTP");
    match (cert, key, plain) {
        (Some(cert), Some(key), None) => Some(Serving::Https(HttpsFiles { cert, key })),
        (None, None, Some(_)) => {
            let BehindProxy = env.optional("PLAIN_HTTP")?;
            Some(Serving::BehindProxy)
        }
        (None, None, None) => env.fault(
            "neither HTTPS_CERT_FILE and HTTPS_KEY_FILE nor PLAIN_HTTP is set: the certificate \
             and the private key of HTTPS, PEM, which `api-server certs https` makes for small \
             installations; PLAIN_HTTP=behind_proxy where a proxy on this machine speaks HTTPS"
                .to_owned(),
        ),
        (Some(_), None, None) => env
            .fault("HTTPS_KEY_FILE is not set: the private key of HTTPS_CERT_FILE, PEM".to_owned()),
        (None, Some(_), None) => env
            .fault("HTTPS_CERT_FILE is not set: the certificate of HTTPS_KEY_FILE, PEM".to_owned()),
        (_, _, Some(_)) => env.fault(
            "PLAIN_HTTP is set beside HTTPS_CERT_FILE or HTTPS_KEY_FILE: keep one of both"
                .to_owned(),
        ),
    }
}

/// The address, and the variable that names it.
fn address(env: &mut Env<'_>, auth: AuthMode, port: u16) -> (&'static str, Option<SocketAddr>) {
    const OPEN: &str = "TRUSTED_NETWORK_LISTEN_ADDR";
    const SIGN_IN: &str = "LISTEN_ADDR";
    let mut is_set = |name: &str| env.optional::<String>(name).is_some();
    let (open, sign_in) = (is_set(OPEN), is_set(SIGN_IN));
    match auth {
        AuthMode::Login if open => {
            let fault = format!(
                "{OPEN} is set, but AUTH_MODE is not trusted_network: remove it, or set that"
            );
            (SIGN_IN, env.fault(fault))
        }
        AuthMode::Login => {
            let default = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            (SIGN_IN, Some(env.or(SIGN_IN, default)))
        }
        AuthMode::TrustedNetwork => {
            if sign_in {
                env.fault::<()>(format!(
                    "{SIGN_IN} is set, but AUTH_MODE=trusted_network serves whoever reaches the \
                     portal, and only on {OPEN}: remove {SIGN_IN}"
                ));
            }
            let meaning = "with AUTH_MODE=trusted_network, the address on which whoever reaches it \
                           administers the PBX";
            (OPEN, env.required(OPEN, meaning))
        }
    }
}

/// The names, in lower case.
fn hosts(env: &mut Env<'_>, auth: AuthMode) -> Option<Vec<String>> {
    const NAME: &str = "TRUSTED_NETWORK_HOSTS";
    let Some(text) = env.optional::<String>(NAME) else {
        return Some(Vec::new());
    };
    if auth == AuthMode::Login {
        return env.fault(format!(
            "{NAME} is set, but AUTH_MODE is not trusted_network: remove it, or set that"
        ));
    }
    let names = text.split(',').map(|name| name.trim().to_ascii_lowercase());
    let names: Vec<String> = names.collect();
    let is_name = |name: &String| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !name.is_empty() && name.bytes().all(allowed)
    };
    if names.iter().all(is_name) {
        return Some(names);
    }
    env.fault(format!(
        "{NAME}: must be host names without ports, with commas between them"
    ))
}

/// The one value of `PLAIN_HTTP`.
struct BehindProxy;

impl FromStr for BehindProxy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "behind_proxy" => Ok(Self),
            _ => Err("must be `behind_proxy`, or not be set"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERT: (&str, &str) = ("HTTPS_CERT_FILE", "/https.crt");
    const KEY: (&str, &str) = ("HTTPS_KEY_FILE", "/https.key");
    const PLAIN: (&str, &str) = ("PLAIN_HTTP", "behind_proxy");

    fn read(auth: AuthMode, variables: &[(&str, &str)]) -> Result<Entrance, String> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut env = Env::new(&lookup);
        let entrance = Entrance::read(&mut env, auth);
        env.finish(entrance).map_err(|errors| errors.to_string())
    }

    fn address(auth: AuthMode, variables: &[(&str, &str)]) -> String {
        read(auth, variables).unwrap().address.to_string()
    }

    #[test]
    fn login_listens_on_loopback_unless_told_otherwise() {
        let login = AuthMode::Login;
        assert_eq!(address(login, &[CERT, KEY]), "127.0.0.1:8443");
        assert_eq!(address(login, &[PLAIN]), "127.0.0.1:8080");
        let public = ("LISTEN_ADDR", "[::]:443");
        assert_eq!(address(login, &[CERT, KEY, public]), "[::]:443");
        let private = ("LISTEN_ADDR", "[::1]:80");
        assert_eq!(address(login, &[PLAIN, private]), "[::1]:80");
    }

    #[test]
    fn one_of_https_and_plain_http_is_chosen() {
        let login = AuthMode::Login;
        let https = read(login, &[CERT, KEY]).unwrap();
        assert!(matches!(https.serving, Serving::Https(_)));
        let plain = read(login, &[PLAIN]).unwrap();
        assert_eq!(plain.serving, Serving::BehindProxy);
        for (variables, words) in [
            (
                &[][..],
                "neither HTTPS_CERT_FILE and HTTPS_KEY_FILE nor PLAIN_HTTP",
            ),
            (&[CERT], "HTTPS_KEY_FILE is not set"),
            (&[KEY], "HTTPS_CERT_FILE is not set"),
            (&[CERT, KEY, PLAIN], "PLAIN_HTTP is set beside"),
            (&[("PLAIN_HTTP", "yes")], "PLAIN_HTTP: must be"),
        ] {
            let error = read(login, variables).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
            assert_eq!(error.lines().count(), 2, "{error}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for address in [
            "0.0.0.0:80",
            "[::]:80",
            "192.0.2.1:80",
            "[::ffff:192.0.2.1]:80",
        ] {
            let error = read(AuthMode::Login, &[PLAIN, ("LISTEN_ADDR", address)]).unwrap_err();
            assert!(error.contains("loopback"), "{error}");
            let open = ("TRUSTED_NETWORK_LISTEN_ADDR", address);
            let error = read(AuthMode::TrustedNetwork, &[PLAIN, open]).unwrap_err();
            assert!(error.contains("TRUSTED_NETWORK_LISTEN_ADDR"), "{error}");
        }
        let mapped = ("LISTEN_ADDR", "[::ffff:127.0.0.1]:80");
        assert!(read(AuthMode::Login, &[PLAIN, mapped]).is_ok());
    }

    #[test]
    fn only_a_trusted_network_names_its_hosts() {
        let trusted = AuthMode::TrustedNetwork;
        let open = ("TRUSTED_NETWORK_LISTEN_ADDR", "192.0.2.1:443");
        let named = |names| ("TRUSTED_NETWORK_HOSTS", names);
        let hosts = |names| read(trusted, &[CERT, KEY, open, named(names)]).map(|e| e.hosts);
        let both = ["portal.example".to_owned(), "pbx".to_owned()];
        assert_eq!(hosts("Portal.example, pbx"), Ok(both.to_vec()));
        assert!(read(trusted, &[CERT, KEY, open]).is_ok_and(|e| e.hosts.is_empty()));
        for bad in ["", "a,,b", "portal:443", "https://portal", "*"] {
            let error = hosts(bad).unwrap_err();
            assert!(error.contains("TRUSTED_NETWORK_HOSTS"), "{bad}: {error}");
        }
        let error = read(AuthMode::Login, &[CERT, KEY, named("portal")]).unwrap_err();
        assert!(
            error.contains("AUTH_MODE is not trusted_network"),
            "{error}"
        );
    }

    #[test]
    fn a_trusted_network_has_an_address_of_its_own() {
        let trusted = AuthMode::TrustedNetwork;
        let open = ("TRUSTED_NETWORK_LISTEN_ADDR", "192.0.2.1:443");
        let sign_in = ("LISTEN_ADDR", "127.0.0.1:8443");
        assert_eq!(address(trusted, &[CERT, KEY, open]), "192.0.2.1:443");
        for (auth, variables, words) in [
            (
                trusted,
                &[CERT, KEY][..],
                &["TRUSTED_NETWORK_LISTEN_ADDR is not set"][..],
            ),
            (
                trusted,
                &[CERT, KEY, open, sign_in],
                &["LISTEN_ADDR is set"],
            ),
            (
                trusted,
                &[sign_in],
                &[
                    "LISTEN_ADDR is set",
                    "TRUSTED_NETWORK_LISTEN_ADDR is not set",
                    "neither HTTPS_CERT_FILE",
                ],
            ),
            (
                AuthMode::Login,
                &[CERT, KEY, open],
                &["AUTH_MODE is not trusted_network"],
            ),
        ] {
            let error = read(auth, variables).unwrap_err();
            for words in words {
                assert!(error.contains(words), "{words}: {error}");
            }
        }
    }
}
