use super::*;

fn read(extra: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let base = [
        (
            "DATABASE_URL",
            "postgres://portal:hunter2@db.example/portal",
        ),
        (
            "SECRET_KEY",
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        ),
        ("PBX_AGENT_ADDR", "pbx.example:50051"),
        ("TLS_CA_FILE", "/ca"),
        ("TLS_CERT_FILE", "/cert"),
        ("TLS_KEY_FILE", "/key"),
        ("HTTPS_CERT_FILE", "/https.crt"),
        ("HTTPS_KEY_FILE", "/https.key"),
    ];
    let lookup = |name: &str| {
        let found = extra.iter().chain(&base).find(|(key, _)| *key == name);
        found
            .map(|(_, value)| (*value).to_owned())
            .filter(|value| !value.is_empty())
    };
    Config::read(&lookup)
}

#[test]
fn defaults() {
    let config = read(&[]).unwrap();
    assert_eq!(config.entrance.address.to_string(), "127.0.0.1:8443");
    assert_eq!(config.sip_realm.as_str(), "synergycall");
    assert_eq!(config.on_reload_failure, OnReloadFailure::RollBack);
    assert_eq!(config.apply_deadline, Duration::from_secs(150));
    assert_eq!(config.bundles_kept, 200);
}

#[test]
fn every_error_is_reported_and_no_secret_shown() {
    let wrong = [
        ("DATABASE_URL", "postgres://portal:hunter2@db:port/x"),
        ("SECRET_KEY", "swordfish"),
        ("AUTH_MODE", "none"),
        ("PBX_AGENT_ADDR", "nowhere"),
        ("SIP_REALM", "A B"),
        ("ON_RELOAD_FAILURE", "perhaps"),
        ("APPLY_DEADLINE_MS", "0"),
        ("CERT_WARNING_DAYS", "0"),
        ("BUNDLES_KEPT", "0"),
        ("TLS_KEY_FILE", ""),
        ("LISTEN_ADDR", "nowhere"),
        ("HTTPS_KEY_FILE", ""),
    ];
    let message = read(&wrong).err().unwrap().to_string();
    for (name, _) in wrong {
        assert!(message.contains(name), "{name} is missing in {message}");
    }
    for secret in ["hunter2", "swordfish"] {
        assert!(!message.contains(secret), "{message}");
    }
}
