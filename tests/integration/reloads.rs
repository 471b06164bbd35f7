//! Reloads that others give, that come early or are never answered. What their answers are worth:
//! rows 9 to 11 of `faults`.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::ensure;
use shared::bundle::Slot;
use shared::record::{ApplyRecord, OnReloadFailure, Outcome, Phase};
use tests::asterisk::Settings;
use tests::process::wait_until;

use crate::held::assert_exactly;
use crate::pbx::{Pbx, bundle, text};
use crate::stand_in::{self, Reload};

/// Deadlines of the agent that a test can wait for.
pub(crate) const SHORT: [(&str, &str); 2] = [
    ("RELOAD_DEADLINE_MS", "3000"),
    ("QUERY_DEADLINE_MS", "3000"),
];

const BOOT_DEADLINE: Duration = Duration::from_secs(20);

/// Whether a step of a phase did or was answered that.
pub(crate) fn told(record: &ApplyRecord, phase: Phase, words: &str) -> bool {
    let mut steps = record.steps.iter().filter(|step| step.phase == phase);
    steps.any(|step| step.action.contains(words) || step.said.contains(words))
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
