//! The configuration of an Asterisk of our own.

use std::net::SocketAddr;
use std::path::Path;

use super::Settings;

/// What calls with ulaw and alaw need: boots in half a second.
const MODULES: &[&str] = &[
    "app_dial",
    "app_echo",
    "app_playback",
    "app_stack",
    "app_verbose",
    "bridge_holding",
    "bridge_native_rtp",
    "bridge_simple",
    "bridge_softmix",
    "chan_pjsip",
    "codec_a_mu",
    "codec_alaw",
    "codec_ulaw",
    "format_pcm",
    "func_callerid",
    "func_channel",
    "func_db",
    "func_hangupcause",
    "func_logic",
    "func_pjsip_aor",
    "func_pjsip_contact",
    "func_pjsip_endpoint",
    "func_strings",
    "pbx_config",
    "res_clialiases",
    "res_pjproject",
    "res_pjsip",
    "res_pjsip_authenticator_digest",
    "res_pjsip_caller_id",
    "res_pjsip_diversion",
    "res_pjsip_dlg_options",
    "res_pjsip_endpoint_identifier_ip",
    "res_pjsip_endpoint_identifier_user",
    "res_pjsip_maintenance",
    "res_pjsip_mwi",
    "res_pjsip_nat",
    "res_pjsip_notify",
    "res_pjsip_outbound_authenticator_digest",
    "res_pjsip_outbound_publish",
    "res_pjsip_outbound_registration",
    "res_pjsip_pubsub",
    "res_pjsip_registrar",
    "res_pjsip_rfc3326",
    "res_pjsip_sdp_rtp",
    "res_pjsip_session",
    "res_rtp_asterisk",
    "res_sorcery_astdb",
    "res_sorcery_config",
    "res_sorcery_memory",
    "res_timing_timerfd",
];

/// Files that Asterisk complains about when they are missing. Their content is all defaults, so
/// that what remains in the log is about the files under test.
pub(super) const EMPTY: &[&str] = &[
    "acl.conf",
    "ccss.conf",
    "cdr.conf",
    "cel.conf",
    "features.conf",
    "indications.conf",
    "manager.conf",
    "pjproject.conf",
    "pjsip_notify.conf",
    "udptl.conf",
];

const ALIASES: &str = "[general]
template = friendly
[friendly]
hangup request = channel request hangup
originate = channel originate
help = core show help
reload = module reload
pjsip reload = module reload res_pjsip.so res_pjsip_authenticator_digest.so \
res_pjsip_endpoint_identifier_ip.so res_pjsip_mwi.so res_pjsip_notify.so \
res_pjsip_outbound_publish.so res_pjsip_publish_asterisk.so res_pjsip_outbound_registration.so
";

/// Every file with its text. `root` is where the directories are, `folder` where the programs are.
pub(super) fn all(
    root: &Path,
    folder: &Path,
    sip: SocketAddr,
    settings: Settings,
) -> Vec<(&'static str, String)> {
    let (root, folder) = (root.display(), folder.display());
    let aliases = if settings.aliases {
        ALIASES
    } else {
        "[general]\n"
    };
    vec![
        (
            "asterisk.conf",
            format!(
                "[directories]\n\
                 astetcdir => {root}/etc\n\
                 astmoddir => {folder}/modules\n\
                 astdatadir => {folder}/data\n\
                 astvarlibdir => {root}/var\n\
                 astdbdir => {root}/var\n\
                 astkeydir => {root}/var\n\
                 astagidir => {root}/var\n\
                 astspooldir => {root}/spool\n\
                 astrundir => {root}/run\n\
                 astlogdir => {root}/log\n\
                 [options]\n\
                 nocolor = yes\n\
                 entityid = 02:00:00:00:00:01\n\
                 [files]\n\
                 astctlpermissions = 0660\n"
            ),
        ),
        ("modules.conf", modules(settings.few_modules)),
        ("cli_aliases.conf", aliases.to_owned()),
        (
            "logger.conf",
            "[general]\n[logfiles]\nmessages.log => notice,warning,error\n".to_owned(),
        ),
        (
            "rtp.conf",
            "[general]\nrtpstart = 10000\nrtpend = 20000\n".to_owned(),
        ),
        (
            "pjsip.conf",
            format!(
                "[transport-udp]\n\
                 type = transport\n\
                 protocol = udp\n\
                 bind = {sip}\n\n\
                 #include pjsip.d/synergycall/*.conf\n"
            ),
        ),
        (
            "extensions.conf",
            "[general]\n\
                 static = yes\n\
                 writeprotect = yes\n\n\
                 #include extensions.d/synergycall/*.conf\n\n\
                 ; Configured by hand, not by the portal: calls from outside.\n\
                 [from-gsm]\n\
                 exten => _X.,1,Goto(synergy-internal,${FILTER(0-9,${EXTEN})},1)\n"
                .to_owned(),
        ),
    ]
}

fn modules(few: bool) -> String {
    if !few {
        // IAX2 would listen on a port of every address, which instances would dispute.
        return "[modules]\nautoload = yes\nnoload = chan_iax2.so\n".to_owned();
    }
    let loads = MODULES.iter().map(|module| format!("load = {module}.so\n"));
    format!("[modules]\nautoload = no\n{}", loads.collect::<String>())
}
