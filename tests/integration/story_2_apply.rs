//! Story 2 of the specification: apply the configuration to Asterisk.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use reqwest::Method;
use serde_json::Value;
use shared::bundle::Slot;
use tests::asterisk::Asterisk;
use tests::lab::{Lab, LabBuilder};

use crate::audit::{applied, audited, included, step, steps, trail};
use crate::crowd::create_users;
use crate::held::{
    ENDPOINTS_FILE, Held, MARKER, ROUTING_FILE, assert_exactly, live_files, managed_files, sections,
};
use crate::probe;

#[tokio::test]
async fn scenario_2_1_one_user_is_rendered_written_reloaded_and_audited() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let before = managed_files(&lab.asterisk)?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    probe::plant(&lab.asterisk, "probe")?;
    let request = lab
        .client
        .request(Method::POST, "/apply")
        .header("X-Admin-User", "Olga");
    let attempt = applied(&lab.client, request.send().await?).await?;

    // Both files replaced by renaming, nothing left beside them.
    let after = managed_files(&lab.asterisk)?;
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        [ROUTING_FILE, ENDPOINTS_FILE]
    );
    for (name, file) in &after {
        assert_ne!(
            file.inode, before[name].inode,
            "{name} was overwritten in place"
        );
        assert_eq!(file.mode, 0o640, "{name}");
    }
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    for kind in ["endpoint", "auth", "aor"] {
        assert_eq!(sections(&endpoints, kind), ["1000", MARKER], "{kind}");
    }
    assert!(routing.contains("\n[synergy-internal]\nexten => 1000,1,Dial(PJSIP/1000,25)\n"));

    // Asterisk has read them, and the returned credentials work.
    assert_eq!(probe::met(&lab.asterisk, "probe").await?, (true, true));
    let mut wanted = Held::exactly([1000]);
    wanted.endpoints.insert("probe".to_owned());
    assert_eq!(Held::read(&lab.asterisk).await?, wanted);
    lab.phone(&ann)?.register().await?.accepted()?;

    // FR-012 and FR-013.
    for command in [
        "asterisk -rx 'pjsip reload'",
        "asterisk -rx 'dialplan reload'",
    ] {
        assert_eq!(step(&attempt, command)?["phase"], "reloading");
    }
    assert_eq!(attempt["requested_by"], "Olga");
    assert_eq!(included(&attempt), [1000]);
    assert_eq!(
        written(&attempt),
        Slot::ALL.map(|slot| lab.asterisk.slot(slot).display().to_string())
    );
    assert_eq!(trail(&lab.client).await?.len(), 1);
    Ok(())
}

fn written(attempt: &Value) -> Vec<&str> {
    let files = attempt["files"].as_array().map_or(&[][..], Vec::as_slice);
    files
        .iter()
        .filter_map(|file| file["path"].as_str())
        .collect()
}

#[tokio::test]
async fn scenario_2_2_three_users_are_rendered_and_files_change_atomically() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let users = create_users(&lab.client, 6).await?;
    applied(&lab.client, lab.apply().await?).await?;
    for user in users
        .iter()
        .filter(|user| (1002..=1004).contains(&user.extension))
    {
        lab.client
            .delete(&format!("/users/{}", user.id))
            .await?
            .expect(204)?;
    }
    let watches = [Watch::of(&lab.asterisk)?, Watch::of(&lab.asterisk)?];
    let attempt = applied(&lab.client, lab.apply().await?).await?;

    assert_eq!(included(&attempt), [1000, 1001, 1005]);
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    assert_eq!(
        sections(&endpoints, "endpoint"),
        ["1000", "1001", "1005", MARKER]
    );
    let dials = routing.lines().filter(|line| line.contains("Dial(PJSIP/"));
    assert_eq!(dials.count(), 3);
    assert_exactly(&lab.asterisk, [1000, 1001, 1005]).await?;
    assert_eq!(trail(&lab.client).await?.len(), 2);

    // Each name got its new file by one rename (FR-009): it was never missing, written to or half
    // a file.
    for (watch, slot) in watches.iter().zip(Slot::ALL) {
        let path = lab.asterisk.slot(slot);
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("a slot has a name")?;
        assert_eq!(watch.changes(name)?, [AddWatchFlags::IN_MOVED_TO], "{name}");
    }
    Ok(())
}

/// Everything that happens to names in the managed directories.
struct Watch(Inotify);

impl Watch {
    fn of(asterisk: &Asterisk) -> anyhow::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        for slot in Slot::ALL {
            let path = asterisk.slot(slot);
            let dir = path.parent().context("a slot lies in a directory")?;
            let changes = AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_MOVE;
            inotify.add_watch(dir, changes)?;
        }
        Ok(Self(inotify))
    }

    /// What has happened to `name`, in order.
    fn changes(&self, name: &str) -> anyhow::Result<Vec<AddWatchFlags>> {
        let events = self.0.read_events()?;
        let ours = events
            .into_iter()
            .filter(|event| event.name.as_ref().is_some_and(|n| n == name));
        Ok(ours.map(|event| event.mask).collect())
    }
}

/// Agent and Asterisk are different accounts, so that permissions hold also where the tests run as
/// root.
async fn denied(slot: Slot) -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    let before = managed_files(&lab.asterisk)?;
    lab.create_user("Bob", "bob@example.org").await?;
    probe::plant(&lab.asterisk, "probe")?;

    let path = lab.asterisk.slot(slot);
    let dir = path.parent().context("a slot lies in a directory")?;
    let mode = std::fs::metadata(dir)?.permissions();
    std::fs::set_permissions(dir, Permissions::from_mode(0o2550))?;
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(502)?, "apply_write_failed");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(attempt["outcome"], "write_failed");
    let said = attempt["failure"]["message"].as_str().unwrap_or_default();
    let place = dir.display().to_string();
    assert!(
        said.contains(&place) && said.contains("ermission denied"),
        "{said}"
    );

    // The same files, not even rewritten; nothing beside them; Asterisk read nothing.
    assert_eq!(managed_files(&lab.asterisk)?, before);
    assert!(
        steps(&attempt)
            .iter()
            .all(|step| step["phase"] != "reloading"),
        "{attempt}"
    );
    assert_eq!(probe::met(&lab.asterisk, "probe").await?, (false, false));
    assert_exactly(&lab.asterisk, [1000]).await?;

    std::fs::set_permissions(dir, mode)?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(probe::met(&lab.asterisk, "probe").await?, (true, true));
    Ok(())
}

#[tokio::test]
async fn scenario_2_3_permission_denied_for_pjsip_files_touches_nothing() -> anyhow::Result<()> {
    denied(Slot::PjsipEndpoints).await
}

#[tokio::test]
async fn scenario_2_3_permission_denied_for_dialplan_files_touches_nothing() -> anyhow::Result<()> {
    denied(Slot::DialplanRouting).await
}

/// A lab in which the next apply cannot be reloaded: 1001 is deleted, but an administrator has
/// extended it by hand in `pjsip.conf`. There Asterisk refuses the whole of its PJSIP files, keeps
/// the old objects, and says "reloaded successfully".
async fn lab_whose_reload_fails(lab: LabBuilder) -> anyhow::Result<Lab> {
    let lab = lab.start().await?;
    let users = create_users(&lab.client, 2).await?;
    applied(&lab.client, lab.apply().await?).await?;
    probe::append(&lab.asterisk, "pjsip.conf", "\n[1001](+)\n")?;
    let second = users
        .iter()
        .find(|user| user.extension == 1001)
        .context("nobody has 1001")?;
    lab.client
        .delete(&format!("/users/{}", second.id))
        .await?
        .expect(204)?;
    Ok(lab)
}

/// Fails unless the reply tells that 1001 is still in Asterisk.
fn assert_told(attempt: &Value) {
    let named = |mismatch: &Value| {
        mismatch["object"] == "endpoint"
            && mismatch["name"] == "1001"
            && mismatch["kind"] == "extra"
    };
    let mismatches = attempt["mismatches"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    assert!(mismatches.iter().any(named), "{attempt}");
    let said = attempt["failure"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("1001"), "{said}");
}

#[tokio::test]
async fn scenario_2_4_reload_fails_new_files_stay() -> anyhow::Result<()> {
    // The policy of the MVP, as the portal's setting.
    let keep = Lab::builder().portal_env("ON_RELOAD_FAILURE", "keep_new_files");
    let lab = lab_whose_reload_fails(keep).await?;
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(502)?, "apply_reload_failed_files_kept");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(attempt["on_reload_failure"], "keep_new_files");
    assert_told(&attempt);
    assert_eq!(
        step(&attempt, "asterisk -rx 'pjsip reload'")?["phase"],
        "reloading"
    );

    // The new files are there, and Asterisk still holds the old objects.
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    assert_eq!(sections(&endpoints, "endpoint"), ["1000", MARKER]);
    assert!(!routing.contains("1001"), "{routing}");
    let held = Held::read(&lab.asterisk).await?;
    assert!(held.endpoints.contains("1001"), "{held:?}");

    // The log of the agent tells it, and what was tried lies in its state directory.
    assert!(
        lab.agent
            .log()
            .contains("endpoint 1001 should not be there"),
        "{}",
        lab.agent.log()
    );
    let evidence = evidence(lab.agent.state_dir())?;
    assert_eq!(evidence.len(), 1, "{evidence:?}");

    // Once the cause is gone, the same apply succeeds.
    undo(&lab.asterisk)?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000]).await
}

#[tokio::test]
async fn scenario_2_4_reload_fails_the_proven_files_come_back() -> anyhow::Result<()> {
    let lab = lab_whose_reload_fails(Lab::builder()).await?;
    let proven = live_files(&lab.asterisk)?;
    // The default policy.
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(502)?, "apply_rolled_back");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(attempt["on_reload_failure"], "roll_back");
    assert_told(&attempt);
    assert_eq!(attempt["live_revision"], 1);

    assert_eq!(live_files(&lab.asterisk)?, proven);
    assert_eq!(
        managed_files(&lab.asterisk)?.len(),
        2,
        "something was left beside the files"
    );
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    assert_eq!(evidence(lab.agent.state_dir())?.len(), 1);

    undo(&lab.asterisk)?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000]).await
}

fn undo(asterisk: &Asterisk) -> anyhow::Result<()> {
    let path = asterisk.etc().join("pjsip.conf");
    let text = std::fs::read_to_string(&path)?.replace("[1001](+)\n", "");
    tests::scratch::write(&path, 0o644, &text)
}

/// The names of what the agent keeps of failed applies.
fn evidence(state: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(state.join("failed"))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

#[tokio::test]
async fn scenario_2_5_without_users_the_files_are_empty_and_load() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let attempt = applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(attempt["user_count"], 0);
    assert_exactly(&lab.asterisk, []).await?;

    // The cleanup of a system that had users.
    let users = create_users(&lab.client, 3).await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001, 1002]).await?;
    for user in users {
        lab.client
            .delete(&format!("/users/{}", user.id))
            .await?
            .expect(204)?;
    }
    applied(&lab.client, lab.apply().await?).await?;
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    assert_eq!(sections(&endpoints, "endpoint"), [MARKER]);
    assert!(
        routing.contains("[synergy-internal]") && !routing.contains("Dial("),
        "{routing}"
    );
    assert_exactly(&lab.asterisk, []).await
}

#[tokio::test]
async fn scenario_2_5_asterisk_starts_with_the_files_of_no_users() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    applied(&lab.client, lab.apply().await?).await?;
    // An include that matches nothing would take SIP and the whole dialplan away here.
    lab.asterisk.restart().await?;
    assert_exactly(&lab.asterisk, []).await?;
    assert!(
        lab.asterisk
            .rx("dialplan show from-gsm")
            .await?
            .contains("pbx_config")
    );
    let reply = lab.apply().await?.expect(200)?;
    assert_eq!(reply.json()?["outcome"], "unchanged");
    Ok(())
}
