//! What others put beside the generated files, and how the administrator's own configuration may
//! spoil them: noticed on the real Asterisk, told by name, never removed.

use anyhow::ensure;
use shared::bundle::Slot;
use shared::record::{ApplyRecord, Outcome};
use tests::asterisk::{Asterisk, Settings};
use tests::scratch;

use crate::held::{Held, MARKER, assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, bundle};
use crate::probe::append;

async fn started() -> anyhow::Result<Pbx> {
    let pbx = Pbx::start().await?;
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    ensure!(
        record.outcome == Some(Outcome::Applied),
        "{}",
        record.failure
    );
    Ok(pbx)
}

/// Puts a file beside the live one of `slot`.
fn put(asterisk: &Asterisk, slot: Slot, name: &str, text: &str) -> anyhow::Result<()> {
    scratch::write(&asterisk.slot(slot).with_file_name(name), 0o644, text)
}

fn remove(asterisk: &Asterisk, slot: Slot, name: &str) -> anyhow::Result<()> {
    Ok(std::fs::remove_file(
        asterisk.slot(slot).with_file_name(name),
    )?)
}

fn told(record: &ApplyRecord) -> String {
    format!("{}\n{}", record.failure, record.notes.join("\n"))
}

#[tokio::test]
async fn a_foreign_file_that_defines_ours_is_refused_by_name() -> anyhow::Result<()> {
    let pbx = started().await?;
    let next = bundle(&[1000, 1001], "one");
    let conflicts = [
        (
            Slot::PjsipEndpoints,
            "aaa.conf",
            "; x\n[1001]\ntype = endpoint\n",
            "[1001]",
        ),
        (
            Slot::PjsipEndpoints,
            "zzz.conf",
            "[1001]\ntype = aor\nmax_contacts = 9\n",
            "[1001]",
        ),
        (
            Slot::PjsipEndpoints,
            "zzz.conf",
            "[1000](+)\ncontext = from-gsm\n",
            "[1000]",
        ),
        (
            Slot::PjsipEndpoints,
            "zzz.conf",
            "  [1001]\ntype=auth\n",
            "[1001]",
        ),
        (
            Slot::PjsipEndpoints,
            "zzz.conf",
            "[synergy-generation](+)\naccountcode=x\n",
            MARKER,
        ),
        (
            Slot::DialplanRouting,
            "zzz.conf",
            "[synergy-internal]\nexten => 1777,1,Hangup()\n",
            "[synergy-internal]",
        ),
        (
            Slot::DialplanRouting,
            "zzz.conf",
            "[synergy-generation]\n",
            MARKER,
        ),
    ];
    for (slot, name, text, words) in conflicts {
        put(&pbx.asterisk, slot, name, text)?;
        let files = managed_files(&pbx.asterisk)?;
        let record = pbx.apply(&next).await?;
        let at = format!("{text:?}: {record:#?}");
        ensure!(record.outcome == Some(Outcome::Rejected), "{at}");
        ensure!(
            record.failure.contains(words) && record.failure.contains(name),
            "{at}"
        );
        ensure!(managed_files(&pbx.asterisk)? == files, "{at}");
        assert_exactly(&pbx.asterisk, [1000]).await?;
        remove(&pbx.asterisk, slot, name)?;
    }
    let record = pbx.apply(&next).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}

#[tokio::test]
async fn foreign_files_that_do_no_harm_are_only_told() -> anyhow::Result<()> {
    let pbx = started().await?;
    let trunk = "[trunk]\ntype = endpoint\ndisallow = all\nallow = ulaw\n";
    put(&pbx.asterisk, Slot::PjsipEndpoints, "trunk.conf", trunk)?;
    put(
        &pbx.asterisk,
        Slot::DialplanRouting,
        "aaa.conf",
        "[hand-made]\nexten => 1,1,Hangup()\n",
    )?;
    // Asterisk loses the rest of the last file alone.
    put(
        &pbx.asterisk,
        Slot::PjsipEndpoints,
        "zzz.conf",
        "; broken\n[broken\n",
    )?;
    // These Asterisk does not read.
    put(
        &pbx.asterisk,
        Slot::PjsipEndpoints,
        "1001.bak",
        "[1001]\ntype = endpoint\n",
    )?;
    put(
        &pbx.asterisk,
        Slot::PjsipEndpoints,
        ".hidden.conf",
        "[1001]\ntype = endpoint\n",
    )?;
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    for name in ["trunk.conf", "aaa.conf", "zzz.conf"] {
        assert!(told(&record).contains(name), "{}", told(&record));
    }
    let mut wanted = Held::exactly([1000, 1001]);
    wanted.endpoints.insert("trunk".to_owned());
    assert_eq!(Held::read(&pbx.asterisk).await?, wanted);
    assert_eq!(
        managed_files(&pbx.asterisk)?.len(),
        7,
        "a foreign file was removed"
    );
    Ok(())
}

/// Foreign files from which Asterisk reads something else than the bundle. Going back cannot help
/// as long as they lie there, and is not said to have helped.
#[tokio::test]
async fn foreign_files_that_spoil_ours_are_noticed() -> anyhow::Result<()> {
    let pbx = started().await?;
    let next = bundle(&[1000, 1001], "one");
    let spoilers = [
        // Everything behind the bad line of the first file is gone.
        (Slot::PjsipEndpoints, "aaa.conf", "[broken\n", MARKER),
        (Slot::DialplanRouting, "aaa.conf", "[broken\n", MARKER),
        (
            Slot::PjsipEndpoints,
            "aaa.conf",
            "#include nowhere.conf\n",
            MARKER,
        ),
        (Slot::PjsipEndpoints, "aaa.conf", ";--\n", MARKER),
        // Lines before the first section go into our last one.
        (
            Slot::PjsipEndpoints,
            "zzz.conf",
            "accountcode = x\n",
            MARKER,
        ),
        (
            Slot::DialplanRouting,
            "zzz.conf",
            "exten => 1777,1,Hangup()\n",
            "1777@synergy-generation",
        ),
        // A number that is the portal's, by hand.
        (
            Slot::PjsipEndpoints,
            "zzz.conf",
            "[1500]\ntype = endpoint\ndisallow = all\n",
            "endpoint 1500",
        ),
        (
            Slot::PjsipEndpoints,
            "zzz.conf",
            "[1500]\ntype = aor\nmax_contacts = 1\n",
            "aor 1500",
        ),
    ];
    for (slot, name, text, words) in spoilers {
        put(&pbx.asterisk, slot, name, text)?;
        let files = live_files(&pbx.asterisk)?;
        let record = pbx.apply(&next).await?;
        let at = format!("{text:?}: {record:#?}");
        // Either nothing was touched, or going back could not be proven.
        let refused = record.outcome == Some(Outcome::Rejected);
        ensure!(
            refused || record.outcome == Some(Outcome::RollbackFailed),
            "{at}"
        );
        ensure!(refused || record.failure.contains(words), "{at}");
        ensure!(told(&record).contains(name), "the file is not named: {at}");
        ensure!(live_files(&pbx.asterisk)? == files, "{at}");

        remove(&pbx.asterisk, slot, name)?;
        let record = pbx.apply(&bundle(&[1000], "one")).await?;
        ensure!(
            record.outcome.is_some_and(Outcome::is_proven),
            "{text:?}: {record:#?}"
        );
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}

/// The administrator's own files belong to nobody else; what they break must show.
#[tokio::test]
async fn duplicates_and_mistakes_in_the_administrators_own_files_are_noticed() -> anyhow::Result<()>
{
    let pbx = started().await?;
    let mistakes = [
        (
            "pjsip.conf",
            "[1001]\ntype = endpoint\ndisallow = all\nallow = ulaw\n",
            "endpoint",
        ),
        (
            "pjsip.conf",
            "[1001]\ntype = auth\nusername = 1001\npassword = x\n",
            "auth",
        ),
        (
            "pjsip.conf",
            "[1001]\ntype = aor\nmax_contacts = 9\n",
            "aor",
        ),
        (
            "pjsip.conf",
            "[1500]\ntype = endpoint\ndisallow = all\nallow = ulaw\n",
            "endpoint 1500",
        ),
        ("pjsip.conf", "[1001](+)\ncontext = from-gsm\n", "1001"),
        ("pjsip.conf", "[broken\n", MARKER),
        (
            "extensions.conf",
            "[synergy-internal]\nexten => 1777,1,Hangup()\n",
            "1777@synergy-internal",
        ),
        ("extensions.conf", "[broken\n", MARKER),
    ];
    for (file, text, words) in mistakes {
        let path = pbx.asterisk.etc().join(file);
        let sound = std::fs::read_to_string(&path)?;
        let files = live_files(&pbx.asterisk)?;
        append(&pbx.asterisk, file, &format!("\n{text}"))?;
        let record = pbx.apply(&bundle(&[1000, 1001], "two")).await?;
        let at = format!("{text:?} in {file}: {record:#?}");
        let outcomes = [Some(Outcome::RolledBack), Some(Outcome::RollbackFailed)];
        ensure!(outcomes.contains(&record.outcome), "{at}");
        ensure!(record.failure.contains(words), "{at}");
        ensure!(live_files(&pbx.asterisk)? == files, "{at}");

        // Whatever the portal does, the administrator's file is not its to touch (FR-011).
        ensure!(
            std::fs::read_to_string(&path)? == format!("{sound}\n{text}"),
            "{at}"
        );
        scratch::write(&path, 0o644, &sound)?;
        let record = pbx.apply(&bundle(&[1000], "one")).await?;
        ensure!(
            record.outcome.is_some_and(Outcome::is_proven),
            "{at}\n{record:#?}"
        );
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_the_administrator_made_beside_it_stays() -> anyhow::Result<()> {
    let pbx = started().await?;
    append(
        &pbx.asterisk,
        "pjsip.conf",
        "\n[office]\ntype = endpoint\ndisallow = all\nallow = ulaw\n",
    )?;
    // A later duplicate in another file loses against ours.
    let later = "\n[synergy-internal]\nexten => 1001,1,Hangup()\n";
    append(&pbx.asterisk, "extensions.conf", later)?;
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    let mut wanted = Held::exactly([1000, 1001]);
    wanted.endpoints.insert("office".to_owned());
    assert_eq!(Held::read(&pbx.asterisk).await?, wanted);
    Ok(())
}

/// The prerequisites of the installation are missing: told, and nothing is said to be in force.
#[tokio::test]
async fn without_the_includes_nothing_counts_as_applied() -> anyhow::Result<()> {
    for (file, include) in [
        ("pjsip.conf", "#include pjsip.d"),
        ("extensions.conf", "#include ext"),
    ] {
        let pbx = Pbx::start_with(Settings::default(), &[]).await?;
        let path = pbx.asterisk.etc().join(file);
        let sound = std::fs::read_to_string(&path)?;
        scratch::write(
            &path,
            0o644,
            &sound.replace(include, &format!("; {include}")),
        )?;
        let record = pbx.apply(&bundle(&[1000], "one")).await?;
        // There is nothing proven to go back to.
        let outcome = Some(Outcome::ReloadFailedFilesKept);
        assert_eq!(record.outcome, outcome, "{record:#?}");
        assert!(record.failure.contains(MARKER), "{}", record.failure);
        scratch::write(&path, 0o644, &sound)?;
        let record = pbx.apply(&bundle(&[1000], "one")).await?;
        assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}
