//! What Asterisk's command line says proves nothing: an unknown command, a refused one, a reload
//! that another one kept from running and plain silence all end with exit status 0. A real Asterisk
//! where it can be brought to say so, a stand-in for its command where it cannot.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::ensure;
use shared::bundle::Slot;
use shared::record::{ApplyRecord, OnReloadFailure, Outcome, Phase};
use tests::asterisk::Settings;
use tests::process::{own_account, wait_until};
use tests::scratch;

use crate::held::{Held, MARKER, assert_exactly, live_files};
use crate::pbx::{Pbx, bundle, text};
use crate::stand_in::{self, Reload};

/// Deadlines of the agent that a test can wait for.
const SHORT: [(&str, &str); 2] = [
    ("RELOAD_DEADLINE_MS", "3000"),
    ("QUERY_DEADLINE_MS", "3000"),
];

const BOOT_DEADLINE: Duration = Duration::from_secs(20);

fn told(record: &ApplyRecord, phase: Phase, words: &str) -> bool {
    let mut steps = record.steps.iter().filter(|step| step.phase == phase);
    steps.any(|step| step.action.contains(words) || step.said.contains(words))
}

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

/// An answer of `asterisk -rx` that is no success, or says that it is one: for which command, what
/// the agent makes of it, and what it tells.
type Answer = (Reload, &'static str, Outcome, &'static str);

const ANSWERS: [Answer; 13] = [
    // Lies.
    (
        Reload::Pjsip,
        "echo \"Module 'res_pjsip.so' reloaded successfully.\"",
        Outcome::RolledBack,
        MARKER,
    ),
    (
        Reload::Dialplan,
        "echo Dialplan reloaded.",
        Outcome::RolledBack,
        MARKER,
    ),
    // Half a line, nonsense, another module, none.
    (
        Reload::Pjsip,
        "printf \"Module 'res_pj\"",
        Outcome::RolledBack,
        "PJSIP: ",
    ),
    (
        Reload::Dialplan,
        "printf 'Dialplan relo'",
        Outcome::RolledBack,
        "Dialplan: ",
    ),
    (Reload::Pjsip, "echo 42", Outcome::RolledBack, "42"),
    (
        Reload::Pjsip,
        "echo \"Module 'res_pjsip_mwi.so' reloaded successfully.\"",
        Outcome::RolledBack,
        "PJSIP: ",
    ),
    (
        Reload::Pjsip,
        "echo \"No such module 'res_pjsip.so'\"",
        Outcome::RolledBack,
        "No such module",
    ),
    // A failure, a crash.
    (
        Reload::Dialplan,
        "echo oh dear >&2; exit 3",
        Outcome::RolledBack,
        "oh dear",
    ),
    (
        Reload::Pjsip,
        "kill -SEGV $$",
        Outcome::RolledBack,
        "PJSIP: ",
    ),
    // Nobody there.
    (
        Reload::Dialplan,
        "echo 'Unable to connect to remote asterisk (does x exist?)'; exit 1",
        Outcome::ReloadFailedFilesKept,
        "not running",
    ),
    // Silence, for a minute or for ever.
    (Reload::Pjsip, ":", Outcome::ReloadUnknown, "may still"),
    (Reload::Dialplan, ":", Outcome::ReloadUnknown, "may still"),
    (
        Reload::Dialplan,
        "sleep 60",
        Outcome::ReloadUnknown,
        "may still",
    ),
];

#[tokio::test]
async fn no_answer_of_the_command_line_counts_as_success_by_itself() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &SHORT).await?;
    for (reload, script, outcome, words) in ANSWERS {
        stand_in.once(reload, &format!("{script}\nexit 0\n"))?;
        let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
        let at = format!("{script}: {record:#?}");
        ensure!(record.outcome == Some(outcome), "{at}");
        ensure!(record.failure.contains(words), "{at}");
        if outcome == Outcome::RolledBack {
            assert_exactly(&pbx.asterisk, [1000]).await?;
        }
        // Whatever was left behind, the next apply sets it right.
        let record = pbx.apply(&bundle(&[1000], "one")).await?;
        ensure!(
            record.outcome.is_some_and(Outcome::is_proven),
            "{at}\n{record:#?}"
        );
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}

/// The SIP part is reloaded, the dialplan is not: both are told, and what runs is what is told.
#[tokio::test]
async fn half_a_reload_is_told_as_two_halves() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &SHORT).await?;
    stand_in.once(Reload::Dialplan, "echo 42; exit 0\n")?;
    let policy = OnReloadFailure::KeepNewFiles;
    let record = pbx
        .apply_with(&bundle(&[1000, 1001], "one"), policy)
        .await?;
    assert_eq!(
        record.outcome,
        Some(Outcome::ReloadFailedFilesKept),
        "{record:#?}"
    );
    let failure = &record.failure;
    assert!(
        failure.contains("PJSIP: was reloaded. Dialplan: "),
        "{failure}"
    );
    let held = Held::read(&pbx.asterisk).await?;
    let (new, old) = (Held::exactly([1000, 1001]), Held::exactly([1000]));
    assert_eq!(
        (held.endpoints, held.internal),
        (new.endpoints, old.internal)
    );
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

/// An administrator reloads by hand all the time.
#[tokio::test]
async fn reloads_by_hand_do_not_disturb() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let by_hand = async {
        loop {
            for command in ["pjsip reload", "module reload", "dialplan reload"] {
                pbx.asterisk.rx(command).await?;
            }
        }
    };
    let applies = async {
        for edition in ["one", "two", "three", "four", "five"] {
            let record = pbx.apply(&bundle(&[1000, 1001], edition)).await?;
            ensure!(
                record.outcome == Some(Outcome::Applied),
                "{edition}: {record:#?}"
            );
            assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = by_hand => ended,
        ended = applies => ended,
    }
}

/// Before it has booted, Asterisk says "No such command" or puts a reload off.
#[tokio::test]
async fn an_asterisk_that_still_boots_is_waited_for() -> anyhow::Result<()> {
    // Everything there is: it boots for longer.
    let settings = Settings {
        few_modules: false,
        ..Settings::default()
    };
    let mut pbx = Pbx::start_with(settings, &[]).await?;
    let next = bundle(&[1000, 1001], "one");
    let order = pbx.order(&next, OnReloadFailure::RollBack);
    pbx.link
        .stage(&order, next, &crate::pbx::request_id())
        .await?;
    pbx.asterisk.stop().await?;
    let (socket, link) = (pbx.asterisk.control_socket(), pbx.link.clone());
    let apply = async {
        let accepts = async || UnixStream::connect(&socket).is_ok();
        wait_until("Asterisk accepts", BOOT_DEADLINE, accepts).await?;
        anyhow::Ok(
            link.apply(&order, BOOT_DEADLINE, &crate::pbx::request_id())
                .await?,
        )
    };
    let (booted, record) = tokio::join!(pbx.asterisk.resume(), apply);
    booted?;
    let record = record?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    assert!(
        told(&record, Phase::Reloading, "fully booted"),
        "{record:#?}"
    );
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}

/// A file that is renamed under a reload is read half old and half new. So after a reload without an
/// answer nothing is renamed before Asterisk has answered one.
#[tokio::test]
async fn after_an_unanswered_reload_the_files_wait_for_an_answer() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &SHORT).await?;
    let (second, third) = (bundle(&[1000], "two"), bundle(&[1000], "three"));
    stand_in.once(Reload::Pjsip, "exit 0\n")?;
    let record = pbx.apply(&second).await?;
    assert_eq!(record.outcome, Some(Outcome::ReloadUnknown), "{record:#?}");

    let slot = Slot::PjsipEndpoints;
    let live = pbx.asterisk.slot(slot);
    let note = "n=$(ls \"$dir\" | grep -c seen)\ncat '@LIVE@' >\"$dir/seen.$n\"\n";
    stand_in.always(
        Reload::Pjsip,
        &note.replace("@LIVE@", &live.display().to_string()),
    )?;
    let record = pbx.apply(&third).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    let seen = |number: u8| std::fs::read_to_string(stand_in.dir().join(format!("seen.{number}")));
    assert_eq!(
        [seen(0)?, seen(1)?],
        [text(&second, slot), text(&third, slot)]
    );
    assert!(seen(2).is_err(), "reloaded a third time");
    Ok(())
}
