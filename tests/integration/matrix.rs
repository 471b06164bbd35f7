//! Asterisk answers "reloaded successfully" to nearly everything. Here are the configurations that
//! it silently takes in part, keeps in part or loses, on the real Asterisk: none ends as `applied`
//! that is not, and each failure names its cause.
//!
//! Each damage is done twice. Sent by a portal gone wrong, it is refused before a file is touched.
//! Done to the live file after the switch, right before Asterisk reads it, it is found by reading
//! back, and the last proven configuration is in force again.

use std::path::Path;

use anyhow::{Context as _, ensure};
use shared::bundle::{Bundle, Slot};
use shared::record::{ApplyRecord, OnReloadFailure, Outcome};
use tests::asterisk::Settings;

use crate::held::{Held, assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, bundle, text, with_text};
use crate::stand_in::{Reload, StandIn};

/// A way to damage a file of [`after`]. The number in question is 1001.
struct Damage {
    name: &'static str,
    /// What the agent must name when Asterisk has read such a file.
    noticed: &'static str,
    change: fn(&str) -> String,
}

const fn damage(name: &'static str, noticed: &'static str, change: fn(&str) -> String) -> Damage {
    Damage {
        name,
        noticed,
        change,
    }
}

/// Where Asterisk holds the bundle nevertheless, or is not asked for what differs: what is noticed is
/// that the file is another.
const fn unseen(name: &'static str, change: fn(&str) -> String) -> Damage {
    damage(name, "somebody changed", change)
}

/// What is in force before each damage.
fn before() -> Bundle {
    bundle(&[1000, 1001], "one")
}

/// What is damaged: every object differs from [`before`], and 1002 is new.
fn after() -> Bundle {
    bundle(&[1000, 1001, 1002], "two")
}

/// Changes the first `from` at or behind the section of `kind` of 1001.
fn in_section(text: &str, kind: &str, from: &str, to: &str) -> String {
    let at = text
        .find(&format!("[1001]\ntype = {kind}\n"))
        .expect("no such section");
    let (head, tail) = text.split_at(at);
    format!("{head}{}", tail.replacen(from, to, 1))
}

/// The section of `kind` of 1001.
fn section<'a>(text: &'a str, kind: &str) -> &'a str {
    let at = text
        .find(&format!("[1001]\ntype = {kind}\n"))
        .expect("no such section");
    text[at..].split("\n\n").next().unwrap_or_default()
}

/// The line of `key` in the section of `kind` of 1001, with its end.
fn line<'a>(text: &'a str, kind: &str, key: &str) -> &'a str {
    let begin = format!("{key} = ");
    let mut lines = section(text, kind).split_inclusive('\n');
    lines
        .find(|line| line.starts_with(&begin))
        .expect("no such option")
}

fn without_line(text: &str, kind: &str, key: &str) -> String {
    in_section(text, kind, line(text, kind, key), "")
}

const MARKER: &str = "synergy-generation";

/// Rows of `asterisk.md` about `pjsip.conf`, by what a file of ours may hold.
const PJSIP: &[Damage] = &[
    damage("section header without end", MARKER, |t| {
        in_section(t, "endpoint", "]", "")
    }),
    damage("missing template", MARKER, |t| {
        in_section(t, "endpoint", "]", "](nowhere)")
    }),
    damage("addition to an unknown section", MARKER, |t| {
        in_section(t, "endpoint", "[1001]", "[1777](+)\n[1001]")
    }),
    damage("include of a missing file", MARKER, |t| {
        in_section(t, "endpoint", "[1001]", "#include nowhere.conf\n[1001]")
    }),
    unseen("exec", |t| {
        in_section(t, "endpoint", "[1001]", "#exec /bin/true\n[1001]")
    }),
    unseen("unknown directive", |t| {
        in_section(t, "endpoint", "[1001]", "#nonsense\n[1001]")
    }),
    damage(
        "line without an equals sign",
        "endpoint 1001 differs (endpoint: aors",
        |t| in_section(t, "endpoint", "aors = 1001", "aors 1001"),
    ),
    damage("unknown option", "endpoint 1001 differs", |t| {
        in_section(t, "endpoint", "direct_media", "nonsense")
    }),
    unseen("bad value that means no", |t| {
        in_section(t, "endpoint", "direct_media = no", "direct_media = perhaps")
    }),
    damage("bad codec", "endpoint 1001 differs", |t| {
        in_section(t, "endpoint", "allow = ulaw,alaw", "allow = nonsense")
    }),
    damage("bad number in a new AOR", "aor 1002 is missing", |t| {
        t.replacen("max_contacts = 1", "max_contacts = many", 1)
    }),
    damage(
        "unknown option in a new endpoint",
        "endpoint 1002 is missing",
        |t| t.replacen("direct_media = no", "nonsense = no", 1),
    ),
    damage("unknown option in a new AOR", "aor 1002 is missing", |t| {
        t.replacen("max_contacts", "most_contacts", 1)
    }),
    // Asterisk keeps the old object, which is the same but for that.
    unseen("unknown option in an AOR that does not change", |t| {
        in_section(t, "aor", "max_contacts", "most_contacts")
    }),
    damage("auth without a digest", "auth 1001 differs", |t| {
        without_line(t, "auth", "password_digest")
    }),
    damage("endpoint twice", MARKER, |t| {
        format!("{t}\n{}\n", section(t, "endpoint"))
    }),
    damage("auth twice", MARKER, |t| {
        format!("{t}\n{}\n", section(t, "auth"))
    }),
    damage("AOR twice", MARKER, |t| {
        format!("{t}\n{}\n", section(t, "aor"))
    }),
    damage(
        "endpoint with an AOR that is missing",
        "endpoint 1001 differs (endpoint: aors",
        |t| in_section(t, "endpoint", "aors = 1001", "aors = 1777"),
    ),
    damage(
        "endpoint with an auth that is missing",
        "endpoint 1001 differs (endpoint: auth",
        |t| in_section(t, "endpoint", "auth = 1001", "auth = 1777"),
    ),
    damage(
        "endpoint without auth",
        "endpoint 1001 differs (endpoint: auth",
        |t| without_line(t, "endpoint", "auth"),
    ),
    damage("section without a type", "aor 1001 is missing", |t| {
        in_section(t, "aor", "type = aor\n", "")
    }),
    damage("section of an unknown type", "aor 1001 is missing", |t| {
        in_section(t, "aor", "type = aor\n", "type = aorta\n")
    }),
    damage("lost object", "auth 1001 is missing", |t| {
        in_section(t, "auth", section(t, "auth"), "")
    }),
    damage(
        "NUL in a line",
        "endpoint 1001 differs (endpoint: callerid",
        |t| in_section(t, "endpoint", "User 1001", "User\0 1001"),
    ),
    damage("end of a block comment in a value", MARKER, |t| {
        in_section(t, "endpoint", "User 1001", "User --; 1001")
    }),
    damage(
        "comment in a value",
        "endpoint 1001 differs (endpoint: callerid",
        |t| in_section(t, "endpoint", "User 1001", "User; 1001"),
    ),
    damage("block comment that does not end", MARKER, |t| {
        in_section(t, "endpoint", "[1001]", ";--\n[1001]")
    }),
    unseen("block comment that does not end at the very end", |t| {
        format!("{t}\n;-- x\n")
    }),
    damage("cut in the middle", MARKER, |t| {
        t[..t.find("[1001]").unwrap_or(0)].to_owned()
    }),
    damage("cut before the marker", MARKER, |t| {
        t[..t.find("[synergy-generation]").unwrap_or(0)].to_owned()
    }),
    damage("cut in the marker", MARKER, |t| t[..t.len() - 3].to_owned()),
    damage("no bytes", MARKER, |_| String::new()),
    damage("comments alone", MARKER, |_| "; nothing\n".to_owned()),
    damage(
        "line that is too long",
        "endpoint 1001 differs (endpoint: callerid",
        |t| in_section(t, "endpoint", "User 1001", &"x".repeat(9000)),
    ),
    damage(
        "section name that is too long",
        "aor 1001 is missing",
        |t| in_section(t, "aor", "[1001]", &format!("[{}]", "1".repeat(90))),
    ),
];

/// Files that are sound and say something else than the bundle.
const OTHER_PJSIP: &[Damage] = &[
    damage(
        "object too many",
        "endpoint 1777 should not be there",
        |t| {
            format!(
                "{t}\n{}\n",
                section(t, "endpoint").replace("[1001]", "[1777]")
            )
        },
    ),
    damage(
        "another password",
        "auth 1001 differs (auth: password_digest",
        |t| {
            let digest = line(t, "auth", "password_digest").to_owned();
            let other = format!("password_digest = MD5:{}\n", "0".repeat(32));
            in_section(t, "auth", &digest, &other)
        },
    ),
    damage(
        "another context",
        "endpoint 1001 differs (endpoint: context",
        |t| {
            in_section(
                t,
                "endpoint",
                "context = synergy-internal",
                "context = from-gsm",
            )
        },
    ),
    unseen("more contacts of an AOR that does not change", |t| {
        in_section(t, "aor", "max_contacts = 1", "max_contacts = 9")
    }),
];

/// Rows about `extensions.conf`.
const DIALPLAN: &[Damage] = &[
    damage(
        "unknown application",
        "extension 1001@synergy-internal differs",
        |t| t.replace("Dial(PJSIP/1001", "Dail(PJSIP/1001"),
    ),
    damage(
        "priority twice",
        "extension 1001@synergy-internal differs",
        |t| t.replace("exten => 1001,", "exten => 1001,1,Hangup()\nexten => 1001,"),
    ),
    damage(
        "context twice",
        "extension 1777@synergy-internal should not be there",
        |t| format!("{t}\n[synergy-internal]\nexten => 1777,1,Hangup()\n"),
    ),
    damage(
        "line without an equals sign",
        "extension 1001@synergy-internal is missing",
        |t| t.replace("exten => 1001", "exten 1001"),
    ),
    damage(
        "bad priority",
        "extension 1001@synergy-internal is missing",
        |t| t.replace("exten => 1001,1", "exten => 1001,one"),
    ),
    damage(
        "unknown keyword",
        "extension 1001@synergy-internal is missing",
        |t| t.replace("exten => 1001", "extend => 1001"),
    ),
    unseen("application without its last parenthesis", |t| {
        t.replace("Dial(PJSIP/1001,25)", "Dial(PJSIP/1001,25")
    }),
    damage("section header without end", MARKER, |t| {
        t.replace("[synergy-generation]", "[synergy-generation")
    }),
    damage(
        "line before the first section",
        "1001@synergy-internal is missing",
        |t| {
            let step = "exten => 1001,1,Dial(PJSIP/1001,25)\n";
            format!("{step}{}", t.replace(step, ""))
        },
    ),
    damage(
        "include of a context",
        "synergy-internal should not be there",
        |t| {
            t.replace(
                "[synergy-internal]",
                "[synergy-internal]\ninclude => nowhere",
            )
        },
    ),
    damage(
        "pattern",
        "extension _X.@synergy-internal should not be there",
        |t| {
            t.replace(
                "exten => 1001",
                "exten => _X.,1,Dial(PJSIP/${EXTEN})\nexten => 1001",
            )
        },
    ),
    damage(
        "step too many",
        "extension 1001@synergy-internal differs",
        |t| t.replace("exten => 1000", "exten => 1001,2,Hangup()\nexten => 1000"),
    ),
    damage("command", "extension 1001@synergy-internal differs", |t| {
        t.replace("Dial(PJSIP/1001,25)", "System(true)")
    }),
    damage(
        "comment in a step",
        "extension 1001@synergy-internal differs",
        |t| t.replace("Dial(PJSIP/1001,25)", "Dial(PJSIP/1001;,25)"),
    ),
    damage("include of a missing file", MARKER, |t| {
        format!("#include nowhere.conf\n{t}")
    }),
    damage("end of a block comment", MARKER, |t| {
        t.replace("1001,25)", "1001,25)--;")
    }),
    damage("cut before the marker", MARKER, |t| {
        t[..t.find("[synergy-generation]").unwrap_or(0)].to_owned()
    }),
    damage("no bytes", MARKER, |_| String::new()),
];

const OTHER_DIALPLAN: &[Damage] = &[
    damage(
        "lost extension",
        "extension 1001@synergy-internal is missing",
        |t| t.replace("exten => 1001,1,Dial(PJSIP/1001,25)\n", ""),
    ),
    damage(
        "extension too many",
        "extension 1777@synergy-internal should not be there",
        |t| {
            t.replace(
                "exten => 1001",
                "exten => 1777,1,Dial(PJSIP/1001,25)\nexten => 1001",
            )
        },
    ),
    damage(
        "another one rings",
        "extension 1001@synergy-internal differs",
        |t| t.replace("Dial(PJSIP/1001", "Dial(PJSIP/1000"),
    ),
];

/// What no bundle may hold.
const fn unsound(slot: Slot) -> &'static [Damage] {
    match slot {
        Slot::PjsipEndpoints => PJSIP,
        Slot::DialplanRouting => DIALPLAN,
    }
}

const fn other(slot: Slot) -> &'static [Damage] {
    match slot {
        Slot::PjsipEndpoints => OTHER_PJSIP,
        Slot::DialplanRouting => OTHER_DIALPLAN,
    }
}

/// Each damage with the text that it makes.
fn damaged(slot: Slot, damages: &'static [Damage]) -> Vec<(&'static Damage, String)> {
    let sound = text(&after(), slot);
    let change = |damage: &'static Damage| {
        let text = (damage.change)(&sound);
        assert_ne!(text, sound, "{} changes nothing", damage.name);
        (damage, text)
    };
    damages.iter().map(change).collect()
}

/// Fails unless the record tells that the apply did not succeed, and why.
fn assert_named(record: &ApplyRecord, outcome: Outcome, words: &str) -> anyhow::Result<()> {
    ensure!(
        record.outcome == Some(outcome),
        "{:?}: {}",
        record.outcome,
        record.failure
    );
    ensure!(
        record.failure.contains(words),
        "not named ({words}): {}",
        record.failure
    );
    Ok(())
}

#[tokio::test]
async fn a_damaged_bundle_is_refused_before_anything_is_touched() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    ensure!(pbx.apply(&before()).await?.outcome == Some(Outcome::Applied));
    let files = managed_files(&pbx.asterisk)?;
    let mut last = None;
    for slot in Slot::ALL {
        for (damage, text) in damaged(slot, unsound(slot)) {
            let bundle = with_text(&after(), slot, text);
            let record = pbx.apply(&bundle).await.with_context(|| damage.name)?;
            // It names the file or the object that is to blame.
            let mut words = ["[1001]", MARKER].into_iter().chain([slot.name()]);
            let words = words
                .find(|words| record.failure.contains(words))
                .unwrap_or("a cause");
            assert_named(&record, Outcome::Rejected, words).with_context(|| damage.name)?;
            ensure!(
                record.live_revision.map(|r| r.0) == Some(1),
                "{}",
                damage.name
            );
            last = Some(record);
        }
    }
    assert_eq!(managed_files(&pbx.asterisk)?, files);
    assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    // What was refused is kept apart from what was done.
    assert!(last.context("no damage")?.files.is_empty());

    // The control: the same bundle without damage.
    let record = pbx.apply(&after()).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{}", record.failure);
    assert_exactly(&pbx.asterisk, [1000, 1001, 1002]).await
}

/// A PBX whose live files can be damaged between the switch and the reload.
async fn damageable() -> anyhow::Result<(Pbx, StandIn)> {
    let stand_in = StandIn::new()?;
    let env = [("ASTERISK_BINARY", stand_in.program())];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let pbx = Pbx::start_with(Settings::default(), &env).await?;
    let record = pbx.apply(&before()).await?;
    ensure!(
        record.outcome == Some(Outcome::Applied),
        "{}",
        record.failure
    );
    Ok((pbx, stand_in))
}

async fn damage_is_found_by_reading_back(slot: Slot) -> anyhow::Result<()> {
    let (pbx, stand_in) = damageable().await?;
    let reload = match slot {
        Slot::PjsipEndpoints => Reload::Pjsip,
        Slot::DialplanRouting => Reload::Dialplan,
    };
    let files = live_files(&pbx.asterisk)?;
    let damages = [unsound(slot), other(slot)].map(|damages| damaged(slot, damages));
    for (damage, text) in damages.into_iter().flatten() {
        stand_in.overwrite(reload, &pbx.asterisk.slot(slot), text.as_bytes())?;
        let record = pbx.apply(&after()).await.with_context(|| damage.name)?;
        let at = || format!("{}: {record:#?}", damage.name);
        assert_named(&record, Outcome::RolledBack, damage.noticed).with_context(at)?;
        ensure!(live_files(&pbx.asterisk)? == files, "{}", at());
        assert_exactly(&pbx.asterisk, [1000, 1001])
            .await
            .with_context(at)?;
    }
    // The control: with nothing in the way the same bundle goes through.
    let record = pbx.apply(&after()).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{}", record.failure);
    assert_exactly(&pbx.asterisk, [1000, 1001, 1002]).await
}

#[tokio::test]
async fn damage_to_the_live_pjsip_file_is_found_by_reading_back() -> anyhow::Result<()> {
    damage_is_found_by_reading_back(Slot::PjsipEndpoints).await
}

#[tokio::test]
async fn damage_to_the_live_dialplan_file_is_found_by_reading_back() -> anyhow::Result<()> {
    damage_is_found_by_reading_back(Slot::DialplanRouting).await
}

/// The options of objects that the apply does not change are not asked for one by one. A file that
/// somebody has changed under the reload is noticed all the same.
#[tokio::test]
async fn damage_to_what_the_apply_does_not_change_is_found_as_well() -> anyhow::Result<()> {
    let (pbx, stand_in) = damageable().await?;
    let more = bundle(&[1000, 1001, 1002], "one");
    for (slot, reload, from, to) in [
        (
            Slot::PjsipEndpoints,
            Reload::Pjsip,
            "max_contacts = 1",
            "max_contacts = 9",
        ),
        (
            Slot::DialplanRouting,
            Reload::Dialplan,
            "1000,1,Dial(PJSIP/1000",
            "1000,1,Dial(PJSIP/1001",
        ),
    ] {
        let sound = text(&more, slot);
        let (head, tail) = sound.split_at(sound.rfind(from).context("not there")?);
        let damaged = format!("{head}{}", tail.replacen(from, to, 1));
        stand_in.overwrite(reload, &pbx.asterisk.slot(slot), damaged.as_bytes())?;
        let record = pbx.apply(&more).await?;
        assert_eq!(
            record.outcome,
            Some(Outcome::RolledBack),
            "{slot:?}: {record:#?}"
        );
        assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    }
    Ok(())
}

/// A live file that the agent can read and Asterisk cannot, or that is gone.
#[tokio::test]
async fn an_unreadable_or_missing_live_file_is_found_by_reading_back() -> anyhow::Result<()> {
    let (pbx, stand_in) = damageable().await?;
    let trunk = "[trunk]\ntype = endpoint\ndisallow = all\nallow = ulaw\n";
    for slot in Slot::ALL {
        let target = pbx.asterisk.slot(slot);
        let beside = target.with_file_name("zzz-trunk.conf");
        let foreign = if slot == Slot::PjsipEndpoints {
            trunk
        } else {
            "[trunk]\n"
        };
        for (alone, action) in [
            (true, "chmod 0600"),
            (true, "rm"),
            (false, "chmod 0600"),
            (false, "rm"),
        ] {
            // Alone, the old configuration stays; beside a readable file, all of ours is gone.
            if alone {
                std::fs::remove_file(&beside).ok();
            } else {
                tests::scratch::write(&beside, 0o644, foreign)?;
            }
            let reload = [Reload::Pjsip, Reload::Dialplan][usize::from(slot != Slot::ALL[0])];
            stand_in.once(reload, &format!("{action} '{}'\n", target.display()))?;
            let record = pbx.apply(&after()).await?;
            let at = || format!("{slot:?} {action}, alone: {alone}: {record:#?}");
            assert_named(&record, Outcome::RolledBack, MARKER).with_context(at)?;
            let held = Held::read(&pbx.asterisk).await?;
            let wanted = Held::exactly([1000, 1001]);
            ensure!(
                held.auths == wanted.auths && held.internal == wanted.internal,
                "{}",
                at()
            );
        }
        std::fs::remove_file(&beside)?;
    }
    Ok(())
}

/// The same damage, with new files to be kept: what Asterisk holds is told, the files stay.
#[tokio::test]
async fn with_new_files_kept_the_damage_stays_for_investigation() -> anyhow::Result<()> {
    let (pbx, stand_in) = damageable().await?;
    let sound = text(&after(), Slot::PjsipEndpoints);
    let cut = sound[..sound.find("[1001]").context("no 1001")?].to_owned();
    let target = pbx.asterisk.slot(Slot::PjsipEndpoints);
    stand_in.overwrite(Reload::Pjsip, &target, cut.as_bytes())?;
    let record = pbx
        .apply_with(&after(), OnReloadFailure::KeepNewFiles)
        .await?;
    assert_named(&record, Outcome::ReloadFailedFilesKept, "1001")?;
    assert_eq!(std::fs::read_to_string(&target)?, cut);
    // Every object that is lost is named: three types of two extensions and of the marker.
    assert_eq!(record.mismatches.len(), 9, "{:#?}", record.mismatches);
    assert!(
        Path::new(&pbx.agent.state_dir().join("failed"))
            .read_dir()?
            .next()
            .is_some()
    );

    let record = pbx.apply(&after()).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{}", record.failure);
    assert_exactly(&pbx.asterisk, [1000, 1001, 1002]).await
}
