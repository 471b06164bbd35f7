//! Row 10: a reload that says it went well and did not: the alias is missing, the command is not
//! permitted, another reload is in progress, a file is broken. Success is what is read back.

mod matrix;

use anyhow::ensure;
use shared::record::{Outcome, Phase};
use tests::asterisk::Settings;
use tests::process::own_account;
use tests::scratch;

use crate::held::{assert_exactly, live_files};
use crate::pbx::{Pbx, bundle};
use crate::reloads::{SHORT, told};
use crate::stand_in::{self, Reload};

/// `pjsip reload` is an alias that an installation may lack.
#[tokio::test]
async fn without_the_alias_the_module_is_reloaded_and_the_administrator_told() -> anyhow::Result<()>
{
    let settings = Settings {
        aliases: false,
        ..Settings::default()
    };
    let pbx = Pbx::start_with(settings, &[]).await?;
    assert!(
        pbx.asterisk
            .rx("pjsip reload")
            .await?
            .contains("No such command")
    );
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    assert!(
        record
            .notes
            .iter()
            .any(|note| note.contains("cli_aliases.conf")),
        "{record:#?}"
    );
    assert!(
        told(&record, Phase::Reloading, "No such command"),
        "{record:#?}"
    );
    assert!(
        told(&record, Phase::Reloading, "module reload res_pjsip.so"),
        "{record:#?}"
    );
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}

/// `cli_permissions.conf` forbids one command after the other to the agent's group.
#[tokio::test]
async fn a_command_that_is_not_permitted_is_no_success() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let gid = pbx.asterisk.agent_account().unwrap_or_else(own_account).gid;
    let group = nix::unistd::Group::from_gid(gid.into())?.map(|group| group.name);
    let group = group.unwrap_or_else(|| gid.to_string());
    let permissions = pbx.asterisk.etc().join("cli_permissions.conf");
    for (command, words) in [
        ("pjsip reload", "PJSIP: "),
        ("dialplan reload", "Dialplan: "),
        ("pjsip list", "could not be verified"),
        ("dialplan show", "could not be verified"),
        ("database show", "could not be verified"),
        ("core waitfullybooted", "core waitfullybooted"),
    ] {
        let text = format!("[general]\ndefault_perm = permit\n[@{group}]\ndeny = {command}\n");
        scratch::write(&permissions, 0o644, &text)?;
        pbx.asterisk.rx("cli reload permissions").await?;
        let files = live_files(&pbx.asterisk)?;
        // 1000 is re-keyed, so that its contacts are looked for.
        let record = pbx.apply(&bundle(&[1000, 1001], "two")).await?;
        let at = format!("{command}: {record:#?}");
        // What cannot be asked or told before the roll-back cannot be after it.
        ensure!(record.outcome == Some(Outcome::RollbackFailed), "{at}");
        ensure!(
            record.failure.contains(words) && record.failure.contains("permi"),
            "{at}"
        );
        ensure!(live_files(&pbx.asterisk)? == files, "{at}");

        scratch::write(&permissions, 0o644, "[general]\ndefault_perm = permit\n")?;
        pbx.asterisk.rx("cli reload permissions").await?;
        let record = pbx.apply(&bundle(&[1000], "one")).await?;
        ensure!(
            record.outcome.is_some_and(Outcome::is_proven),
            "{at}\n{record:#?}"
        );
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}

const BUSY: &str = "A module reload request is already in progress; please be patient";

/// Another reload runs: this one was not carried out, and is told again.
#[tokio::test]
async fn a_reload_in_progress_is_waited_for() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &SHORT).await?;
    let count = "n=$(cat \"$dir/n\" 2>/dev/null || echo 0); echo $((n + 1)) >\"$dir/n\"";
    let busy_thrice = format!("{count}\nif [ $n -lt 3 ]; then echo '{BUSY}'; exit 0; fi\n");
    stand_in.always(Reload::Pjsip, &busy_thrice)?;
    let before = stand_in.commands().len();
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    let commands = stand_in.commands().split_off(before);
    let wanted = [["pjsip reload"; 4].as_slice(), &["dialplan reload"]].concat();
    assert_eq!(commands, wanted);
    assert_exactly(&pbx.asterisk, [1000, 1001]).await?;

    // One that never ends leaves open what Asterisk will hold.
    stand_in.always(Reload::Pjsip, &format!("echo '{BUSY}'; exit 0\n"))?;
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::ReloadUnknown), "{record:#?}");
    assert!(
        record.failure.contains("already in progress"),
        "{}",
        record.failure
    );
    stand_in.nothing(Reload::Pjsip);
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000]).await
}
