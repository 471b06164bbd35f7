//! What a throw-away Asterisk complained about while it read a bundle.

use std::path::Path;

use shared::bundle::Slot;
use shared::status::{CheckFinding, FindingSource};

/// Most findings that are kept: a single mistake may stand in every object.
const FINDINGS_MAX: usize = 200;

/// The parts of Asterisk that read configuration, by their source files. What others say is not
/// about the bundle.
fn reads_configuration(source: &str) -> bool {
    const SOURCES: [&str; 9] = [
        "config.c",
        "config_options.c",
        "res_sorcery_config.c",
        "sorcery.c",
        "format_cap.c",
        "acl.c",
        "pbx.c",
        "pbx_config.c",
        "chan_pjsip.c",
    ];
    // It complains about the name servers of a host without network.
    let elsewhere = source == "res_pjsip/config_system.c";
    (SOURCES.contains(&source) || source.starts_with("res_pjsip")) && !elsewhere
}

/// Every complaint about the bundle in the log of an Asterisk whose directory is `dir`.
pub(super) fn read(log: &str, dir: &Path) -> Vec<CheckFinding> {
    let dir = format!("{}/", dir.display());
    let mut findings: Vec<CheckFinding> = Vec::new();
    for line in log.lines() {
        let Some((source, said)) = complaint(line) else {
            continue;
        };
        if !reads_configuration(source) || findings.len() == FINDINGS_MAX {
            continue;
        }
        let said = said.replace(&dir, "");
        let finding = CheckFinding {
            source: FindingSource::Preflight,
            slot: slot(source, &said),
            line: line_number(&said),
            message: format!("Asterisk: {}", without_secrets(&said)),
        };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// `[Nov 21 15:21:31] ERROR[1478] config_options.c: Error parsing …`: source file and text.
fn complaint(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (level, rest) = rest.split_once('[')?;
    if !matches!(level, "WARNING" | "ERROR") {
        return None;
    }
    let (_, rest) = rest.split_once("] ")?;
    rest.split_once(": ")
}

fn slot(source: &str, said: &str) -> Option<Slot> {
    let named = Slot::ALL
        .into_iter()
        .find(|slot| said.contains(slot.name()));
    named.or(match source {
        "pbx.c" | "pbx_config.c" => Some(Slot::DialplanRouting),
        "config.c" => None,
        _ => Some(Slot::PjsipEndpoints),
    })
}

/// From 1; 0 when no line is named.
fn line_number(said: &str) -> u32 {
    let after = said.split_once("line ").map_or("", |(_, after)| after);
    let digits = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    after[..digits].parse().unwrap_or(0)
}

/// Asterisk repeats a value that it cannot read, also where that is a digest.
fn without_secrets(said: &str) -> String {
    const DIGEST_DIGITS_MIN: usize = 24;
    let mask = |word: &str| {
        let key = word.split('=').next().unwrap_or_default();
        if word.contains('=') && (key.contains("password") || key.contains("cred")) {
            return format!("{key}=…");
        }
        let digits = |part: &str| {
            part.len() >= DIGEST_DIGITS_MIN && part.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let mut parts = word.split(|c: char| !c.is_ascii_alphanumeric());
        if parts.any(digits) {
            "…".to_owned()
        } else {
            word.to_owned()
        }
    };
    said.split(' ').map(mask).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured from Asterisk 22.10.1.
    const LOG: &str = "\
[Nov 21 15:21:30] Asterisk 22.10.1 built by nobody @ buildd.debian.org
[Nov 21 15:21:30] NOTICE[1478] loader.c: 24 modules will be loaded.
[Nov 21 15:21:30] WARNING[1478] indications.c: Missing default country (for indication tones)
[Nov 21 15:22:12] ERROR[2746] res_pjsip/config_system.c: Could not create DNS resolver(120097), resorting to system resolution
[Nov 21 15:21:31] ERROR[1478] config_options.c: Error parsing qualify_frequency=99999 at line 22 of /s/preflight/pjsip_endpoints
[Nov 21 15:21:31] ERROR[1478] config_options.c: Error parsing qualify_frequency=99999 at line 22 of /s/preflight/pjsip_endpoints
[Nov 21 15:21:31] ERROR[1478] res_sorcery_config.c: Could not create an object of type 'aor' with id '1000' from configuration file 'pjsip.conf'
[Nov 21 15:21:31] WARNING[1478] pbx_config.c: Invalid priority/label 'x' at line 3 of extensions.conf
[Nov 21 15:21:31] ERROR[1478] config_options.c: Error parsing password_digest=MD5:0123456789abcdef0123456789abcdeg at line 9 of /s/preflight/pjsip_endpoints
[Nov 21 15:21:31] ERROR[1478] res_pjsip/config_auth.c: bad digest 'MD5:0123456789abcdef0123456789abcdef'
";

    #[test]
    fn complaints_about_the_bundle_are_found_with_their_place() {
        let findings = read(LOG, Path::new("/s/preflight"));
        let found: Vec<_> = findings
            .iter()
            .map(|finding| (finding.slot, finding.line, finding.message.as_str()))
            .collect();
        let (pjsip, dialplan) = (Some(Slot::PjsipEndpoints), Some(Slot::DialplanRouting));
        assert_eq!(
            found,
            [
                (
                    pjsip,
                    22,
                    "Asterisk: Error parsing qualify_frequency=99999 at line 22 of pjsip_endpoints"
                ),
                (
                    pjsip,
                    0,
                    "Asterisk: Could not create an object of type 'aor' with id '1000' from configuration file 'pjsip.conf'"
                ),
                (
                    dialplan,
                    3,
                    "Asterisk: Invalid priority/label 'x' at line 3 of extensions.conf"
                ),
                (
                    pjsip,
                    9,
                    "Asterisk: Error parsing password_digest=… at line 9 of pjsip_endpoints"
                ),
                (pjsip, 0, "Asterisk: bad digest …"),
            ]
        );
    }

    #[test]
    fn findings_have_a_limit() {
        let line = |n| format!("[x] ERROR[1] config.c: line {n} of y\n");
        let log: String = (0..1000).map(line).collect();
        assert_eq!(read(&log, Path::new("/")).len(), FINDINGS_MAX);
    }
}
