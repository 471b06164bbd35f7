//! Has Asterisk read its files? Asked of Asterisk itself: a hand-made object that it meets at the
//! next reload, and not before.

use std::fs::File;
use std::io::Write as _;

use tests::asterisk::Asterisk;

/// Adds an endpoint to `pjsip.conf` and a context to `extensions.conf`, which belong to the
/// administrator.
pub(crate) fn plant(asterisk: &Asterisk, name: &str) -> anyhow::Result<()> {
    let endpoint = format!("\n[{name}]\ntype = endpoint\ndisallow = all\nallow = ulaw\n");
    append(asterisk, "pjsip.conf", &endpoint)?;
    append(
        asterisk,
        "extensions.conf",
        &format!("\n[{name}]\nexten => 1,1,NoOp()\n"),
    )
}

/// Whether Asterisk has met it: `pjsip reload`, `dialplan reload`.
pub(crate) async fn met(asterisk: &Asterisk, name: &str) -> anyhow::Result<(bool, bool)> {
    let endpoint = asterisk.rx(&format!("pjsip show endpoint {name}")).await?;
    let context = asterisk.rx(&format!("dialplan show {name}")).await?;
    Ok((
        endpoint.contains("ParameterName"),
        context.contains("created by 'pbx_config'"),
    ))
}

/// Adds text to one of the administrator's files.
pub(crate) fn append(asterisk: &Asterisk, file: &str, text: &str) -> anyhow::Result<()> {
    let mut file = File::options()
        .append(true)
        .open(asterisk.etc().join(file))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
