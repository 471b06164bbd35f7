//! The files of a throw-away Asterisk: as little as it takes to read ours.

use std::fmt::Write as _;
use std::path::Path;

use shared::bundle::{Bundle, Slot};

use crate::durable::{Dir, FileError};

/// Its main file.
pub(super) const ASTERISK_CONF: &str = "asterisk.conf";

/// Where it complains.
pub(super) const LOG: &str = "problems";

/// Some twenty thousand complaints.
pub(super) const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where the live one has its main file unless the agent is told otherwise.
const LIVE_CONF: &str = "/etc/asterisk/asterisk.conf";

const LIVE_CONF_BYTES_MAX: u64 = 1024 * 1024;

/// What reads our files. No channel driver, no application, no transport: nothing that would open a
/// socket for phones.
const MODULES: &[&str] = &[
    "pbx_config",
    "res_sorcery_config",
    "res_sorcery_memory",
    "res_sorcery_astdb",
    "res_pjproject",
    "res_pjsip",
    "codec_ulaw",
    "codec_alaw",
];

/// Parts of the core complain when these are missing; empty they mean the defaults.
const EMPTY: &[&str] = &[
    "acl.conf",
    "ccss.conf",
    "cdr.conf",
    "cel.conf",
    "cli.conf",
    "codecs.conf",
    "dnsmgr.conf",
    "dsp.conf",
    "features.conf",
    "http.conf",
    "indications.conf",
    "manager.conf",
    "pjproject.conf",
    "stasis.conf",
    "udptl.conf",
];

/// Writes all of them into `dir`, which lies at `path`. Where Asterisk's modules and its own
/// documentation are is taken from the live one's main file.
pub(super) fn write(
    dir: &Dir,
    path: &Path,
    live_conf: Option<&Path>,
    bundle: &Bundle,
) -> Result<(), FileError> {
    let live = live_text(live_conf.unwrap_or(Path::new(LIVE_CONF)));
    dir.write_scratch(ASTERISK_CONF, asterisk_conf(path, &live).as_bytes())?;
    let modules = MODULES.iter().map(|module| format!("load = {module}.so\n"));
    let modules = format!("[modules]\nautoload = no\n{}", modules.collect::<String>());
    dir.write_scratch("modules.conf", modules.as_bytes())?;
    let logger = format!("[general]\n[logfiles]\n{LOG} => warning,error\n");
    dir.write_scratch("logger.conf", logger.as_bytes())?;
    for name in EMPTY {
        dir.write_scratch(name, b"")?;
    }
    let (pjsip, dialplan) = (Slot::PjsipEndpoints, Slot::DialplanRouting);
    let pjsip = format!("#include \"{}\"\n", pjsip.name());
    dir.write_scratch("pjsip.conf", pjsip.as_bytes())?;
    let dialplan = format!(
        "[general]\nstatic = yes\n#include \"{}\"\n",
        dialplan.name()
    );
    dir.write_scratch("extensions.conf", dialplan.as_bytes())?;
    for (slot, bytes) in &bundle.files {
        dir.write_scratch(slot.name(), bytes)?;
    }
    Ok(())
}

/// Without it, Asterisk's built-in directories are the right ones.
fn live_text(path: &Path) -> String {
    use std::io::Read as _;
    let mut text = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(LIVE_CONF_BYTES_MAX).read_to_end(&mut text));
    if let Err(error) = read {
        let path = path.display();
        tracing::warn!(%error, %path, "cannot be read: pre-flight looks for modules where Asterisk was built to");
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Every directory is its own, but for those that hold what was installed.
fn asterisk_conf(path: &Path, live: &str) -> String {
    const OWN: [&str; 9] = [
        "astetcdir",
        "astvarlibdir",
        "astdbdir",
        "astkeydir",
        "astagidir",
        "astspooldir",
        "astrundir",
        "astlogdir",
        "astcachedir",
    ];
    let mut text = "[directories]\n".to_owned();
    for key in OWN {
        writeln!(text, "{key} => {}", path.display()).ok();
    }
    for key in ["astmoddir", "astdatadir"] {
        if let Some(value) = directory(live, key) {
            writeln!(text, "{key} => {value}").ok();
        }
    }
    text.push_str("[options]\nnocolor = yes\nentityid = 02:00:00:00:00:99\n");
    text
}

/// A directory that an `asterisk.conf` sets.
fn directory<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut section = "";
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            section = line;
        } else if section.starts_with("[directories]")
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some(value.trim_start_matches('>').trim());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_installed_is_shared_with_the_live_one() {
        let live = "[directories](!)\nastetcdir => /etc/asterisk\nastmoddir=>/usr/lib/mods ; here\n\
                    ;astdatadir => /old\nastdatadir => /usr/share/asterisk\n\
                    [options]\nastmoddir => /elsewhere\nrunuser = asterisk\n";
        let text = asterisk_conf(Path::new("/s/preflight"), live);
        assert!(text.contains("\nastmoddir => /usr/lib/mods\n"), "{text}");
        assert!(
            text.contains("\nastdatadir => /usr/share/asterisk\n"),
            "{text}"
        );
        assert!(text.contains("\nastrundir => /s/preflight\n"), "{text}");
        assert!(
            !text.contains("/etc/asterisk") && !text.contains("runuser"),
            "{text}"
        );
        let built_in = asterisk_conf(Path::new("/s"), "");
        assert!(!built_in.contains("astmoddir") && !built_in.contains("astdatadir"));
    }
}
