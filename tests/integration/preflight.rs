//! A throw-away Asterisk reads a bundle before the live one does. What only the real grammar refuses
//! ends as `rejected` with nothing touched; it has no network; nothing of it is left, however it or
//! the agent ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use shared::bundle::{Bundle, Slot};
use shared::record::{
    ApplyRecord, MismatchKind, ObjectKind, OnReloadFailure, Outcome, Phase, Step,
};
use tests::asterisk::Settings;
use tests::process::wait_until;

use crate::held::{assert_exactly, managed_files};
use crate::pbx::{Pbx, bundle, text, with_text};
use crate::stand_in::{self, StandIn};

const DEADLINE: Duration = Duration::from_secs(20);

/// The static check lets it pass, and Asterisk does not: at most a day.
pub(crate) fn refused_by_asterisk() -> Bundle {
    let sound = bundle(&[1000, 1001], "one");
    let text = text(&sound, Slot::PjsipEndpoints);
    let text = text.replacen("qualify_frequency = 60", "qualify_frequency = 86401", 1);
    with_text(&sound, Slot::PjsipEndpoints, text)
}

fn preflight(record: &ApplyRecord) -> Option<&Step> {
    record
        .steps
        .iter()
        .find(|step| step.phase == Phase::Preflight)
}

fn directory(pbx: &Pbx) -> PathBuf {
    pbx.agent.state_dir().join("preflight")
}

/// Every process that was started with something below `dir` in its arguments.
fn processes(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let arguments = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.contains(&dir.display().to_string()) {
            found.push(arguments);
        }
    }
    Ok(found)
}

async fn assert_nothing_is_left(pbx: &Pbx) -> anyhow::Result<()> {
    let dir = directory(pbx);
    let gone = async || processes(&dir).is_ok_and(|processes| processes.is_empty());
    wait_until("the throw-away Asterisk is gone", DEADLINE, gone).await?;
    ensure!(!dir.exists(), "{} is left", dir.display());
    Ok(())
}

#[tokio::test]
async fn a_sound_bundle_passes_and_only_once() -> anyhow::Result<()> {
    let env = [("PREFLIGHT", "required")];
    let pbx = Pbx::start_with(Settings::default(), &env).await?;
    let bundle = bundle(&[1000, 1001], "one");
    let record = pbx.apply(&bundle).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    let step = preflight(&record).context("no pre-flight")?;
    // Three objects of two extensions and of the marker, and the three extensions.
    assert!(
        step.ok && step.said.contains("12 objects and extensions compared"),
        "{step:?}"
    );
    assert!(step.said.contains("network"), "{step:?}");
    assert_nothing_is_left(&pbx).await?;
    let record = pbx.apply(&bundle).await?;
    assert_eq!(record.outcome, Some(Outcome::Unchanged), "{record:#?}");
    assert_eq!(preflight(&record), None);
    Ok(())
}

#[tokio::test]
async fn what_only_asterisk_refuses_is_rejected_and_nothing_is_touched() -> anyhow::Result<()> {
    for mode in ["on", "required"] {
        let env = [("PREFLIGHT", mode)];
        let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &env).await?;
        let (files, reloads) = (managed_files(&pbx.asterisk)?, stand_in.reloads());
        let record = pbx.apply(&refused_by_asterisk()).await?;
        assert_eq!(record.outcome, Some(Outcome::Rejected), "{record:#?}");
        let line = text(&refused_by_asterisk(), Slot::PjsipEndpoints);
        let line = line
            .lines()
            .position(|line| line.ends_with("86401"))
            .context("no line")?
            + 1;
        let named =
            format!("pjsip_endpoints line {line}: Asterisk: Error parsing qualify_frequency");
        assert!(record.failure.contains(&named), "{}", record.failure);
        assert!(!record.failure.contains("MD5:"), "{}", record.failure);
        let missing = record.mismatches.iter().any(|mismatch| {
            let which = (mismatch.object, mismatch.name.as_str(), mismatch.kind);
            which == (ObjectKind::Aor, "1001", MismatchKind::Missing)
        });
        assert!(missing, "{:#?}", record.mismatches);
        assert!(!preflight(&record).context("no pre-flight")?.ok);
        assert_eq!(managed_files(&pbx.asterisk)?, files);
        assert_eq!(stand_in.reloads(), reloads);
        assert_exactly(&pbx.asterisk, [1000]).await?;
        assert_nothing_is_left(&pbx).await?;
    }
    // The control: the live Asterisk would have refused it as well.
    let (pbx, _stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &[]).await?;
    let record = pbx.apply(&refused_by_asterisk()).await?;
    assert_eq!(record.outcome, Some(Outcome::RolledBack), "{record:#?}");
    Ok(())
}

#[tokio::test]
async fn it_has_no_network() -> anyhow::Result<()> {
    let env = [("PREFLIGHT", "required")];
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &env).await?;
    stand_in.before_others("cat /proc/self/net/dev >\"$dir/interfaces\"\n")?;
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    let interfaces = std::fs::read_to_string(stand_in.dir().join("interfaces"))?;
    let names = interfaces
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'));
    let names: Vec<_> = names.map(|(name, _)| name.trim()).collect();
    assert_eq!(names, ["lo"]);
    // The control: the agent beside it has one, or there would be nothing to keep it from.
    let here = std::fs::read_to_string(format!("/proc/{}/net/dev", pbx.agent.pid()?))?;
    let more = here.lines().count() > interfaces.lines().count();
    assert!(more || here == interfaces, "{here}");
    Ok(())
}

/// Whatever keeps it from running says nothing about the bundle: the setting decides.
#[tokio::test]
async fn one_that_cannot_run_is_noted_or_refused_as_the_setting_says() -> anyhow::Result<()> {
    for (script, said) in [
        ("exit 3\n", "ended by itself"),
        ("kill -SEGV $$\n", "ended by itself"),
        // It neither boots nor ends, and neither does what it has started.
        (
            "sleep 1000 & exec sleep 1001\n",
            "did not boot within 2000 ms",
        ),
    ] {
        for (mode, outcome) in [("on", Outcome::Applied), ("required", Outcome::Rejected)] {
            let stand_in = StandIn::new()?;
            let program = stand_in.program();
            let env = [
                ("ASTERISK_BINARY", program.as_str()),
                ("PREFLIGHT", mode),
                ("RELOAD_DEADLINE_MS", "2000"),
            ];
            let pbx = Pbx::start_with(Settings::default(), &env).await?;
            let files = managed_files(&pbx.asterisk)?;
            stand_in.before_others(script)?;
            let record = pbx.apply(&bundle(&[1000], "one")).await?;
            let at = || format!("{script:?} {mode}: {record:#?}");
            ensure!(record.outcome == Some(outcome), "{}", at());
            let told = record.notes.join("; ") + &record.failure;
            ensure!(told.contains(said), "{}", at());
            ensure!(preflight(&record).is_some(), "{}", at());
            if outcome == Outcome::Rejected {
                ensure!(managed_files(&pbx.asterisk)? == files, "{}", at());
            }
            assert_nothing_is_left(&pbx).await.with_context(at)?;
        }
    }
    Ok(())
}

/// The agent is killed while it runs: it goes with it, and the next start removes its files.
#[tokio::test]
async fn nothing_outlives_an_agent_that_is_killed() -> anyhow::Result<()> {
    // Once while the real one boots, once while something else never ends.
    for script in [
        "echo $$ >\"$dir/pid\"\n",
        "echo $$ >\"$dir/pid\"; exec sleep 1000\n",
    ] {
        let env = [("PREFLIGHT", "required")];
        let (mut pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &env).await?;
        stand_in.before_others(script)?;
        let order = pbx.order(&bundle(&[1001], "two"), OnReloadFailure::RollBack);
        let pid = stand_in.dir().join("pid");
        let read = || {
            std::fs::read_to_string(&pid)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let running = async || !read().is_empty();
        let bundle = bundle(&[1001], "two");
        let (ended, killed) = tokio::join!(pbx.execute(&order, &bundle), async {
            wait_until("it runs", DEADLINE, running).await?;
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(i32::try_from(pbx.agent.pid()?)?),
                nix::sys::signal::Signal::SIGKILL,
            )?;
            anyhow::Ok(())
        });
        killed?;
        ensure!(
            ended.is_err(),
            "the agent was not killed in time: {ended:#?}"
        );
        let process = PathBuf::from("/proc").join(read());
        let gone = async || !process.exists();
        wait_until("it is gone", DEADLINE, gone).await?;
        stand_in.nothing_before_others();
        pbx.agent.kill();
        pbx.agent.resume().await?;
        // What the killed one left goes before anything else is done.
        pbx.idle().await?;
        assert_nothing_is_left(&pbx).await?;
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_agents_on_one_host_do_not_disturb_each_other() -> anyhow::Result<()> {
    let env = [("PREFLIGHT", "required")];
    let one = Pbx::start_with(Settings::default(), &env).await?;
    let other = Pbx::start_with(Settings::default(), &env).await?;
    for edition in ["one", "two"] {
        let (ours, theirs) = (bundle(&[1000], edition), bundle(&[1001, 1002], edition));
        let (ours, theirs) = tokio::join!(one.apply(&ours), other.apply(&theirs));
        for record in [ours?, theirs?] {
            assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
        }
    }
    assert_exactly(&one.asterisk, [1000]).await?;
    assert_exactly(&other.asterisk, [1001, 1002]).await?;
    assert_nothing_is_left(&one).await?;
    assert_nothing_is_left(&other).await
}
