//! Row 24: the network is slow or dead. There are deadlines, and nothing live is locked or open
//! while an upload is on its way.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use shared::bundle::Slot;
use shared::record::{OnReloadFailure, Outcome};
use tests::lab::Lab;
use tests::process::wait_until;
use tests::proxy::{Direction, Proxy, Rule};

use crate::audit::{applied, audited};
use crate::crowd::create_users;
use crate::held::{assert_exactly, managed_files};
use crate::pbx::{Pbx, bundle, request_id};

const DEADLINE: Duration = Duration::from_secs(30);

/// What the agent has open below a directory.
fn open_in(pid: u32, dir: &std::path::Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // It may be closed by now.
        if let Ok(file) = std::fs::read_link(entry?.path())
            && file.starts_with(dir)
        {
            found.push(file);
        }
    }
    Ok(found)
}

/// The upload stops half-way. Meanwhile the live files are as free as if there were none, and
/// everybody else is answered.
#[tokio::test]
async fn nothing_live_is_held_while_an_upload_is_on_its_way() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let proxy = Proxy::start(pbx.agent.address()).await?;
    let slow = pbx.link_to(proxy.address())?;
    slow.status().await?;
    let numbers: Vec<u32> = (1000..1200).collect();
    let next = bundle(&numbers, "two");
    let order = pbx.order(&next, OnReloadFailure::RollBack);
    proxy.set(Direction::Up, Rule::HoldAfter(20_000));
    let before = proxy.passed(Direction::Up);
    let id = request_id();
    let upload = slow.stage(&order, next.clone(), &id);
    let files = managed_files(&pbx.asterisk)?;
    let meanwhile = async {
        let half = async || proxy.passed(Direction::Up) - before >= 20_000;
        wait_until("half of it is there", DEADLINE, half).await?;
        let pid = pbx.agent.pid()?;
        for slot in Slot::ALL {
            let live = pbx.asterisk.slot(slot);
            let dir = live.parent().context("no directory")?;
            ensure!(open_in(pid, dir)?.is_empty(), "{:?}", open_in(pid, dir)?);
        }
        let locks = std::fs::read_to_string("/proc/locks")?;
        let holder = |line: &&str| line.split_whitespace().any(|word| word == pid.to_string());
        // Its state directory is its own for as long as it runs; it holds nothing else.
        let own = std::fs::metadata(pbx.agent.state_dir().join("lock"))?.ino();
        let is_own = |line: &str| line.contains(&format!(":{own} "));
        let other = locks.lines().filter(holder).find(|line| !is_own(line));
        ensure!(other.is_none(), "{locks}");
        ensure!(managed_files(&pbx.asterisk)? == files);
        // Others are answered, and what was staged before is applied.
        pbx.link.status().await?;
        assert_exactly(&pbx.asterisk, [1000]).await?;
        proxy.set(Direction::Up, Rule::Pass);
        anyhow::Ok(())
    };
    let (uploaded, meanwhile) = tokio::join!(upload, meanwhile);
    meanwhile?;
    uploaded?;
    let record = slow.apply(&order, DEADLINE, &request_id()).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, numbers.into_iter().map(u64::from)).await
}

#[tokio::test]
async fn over_a_slow_network_an_apply_comes_through() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    let proxy = Proxy::start(lab.agent.address()).await?;
    let portal = lab.another_portal_to(proxy.address()).await?;
    lab.portal.stop().await?;
    lab.client = portal.client()?;
    create_users(&lab.client, 20).await?;
    for rule in [
        Rule::Throttle(20_000),
        Rule::Delay(Duration::from_millis(100)),
    ] {
        proxy.set(Direction::Up, rule);
        proxy.set(Direction::Down, rule);
        let email = format!("{}@example.org", proxy.passed(Direction::Up));
        lab.create_user("More", &email).await?;
        applied(&lab.client, lab.apply().await?).await?;
    }
    assert_exactly(&lab.asterisk, 1000..1022).await
}

/// The network dies without a word, before the upload and in the middle of it. The portal gives up
/// by itself, says so, and keeps no lock; when the network is back everything works.
#[tokio::test]
#[ignore = "waits for deadlines of a minute: ./test --faults"]
async fn a_dead_network_is_given_up() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    let proxy = Proxy::start(lab.agent.address()).await?;
    let portal = lab.another_portal_to(proxy.address()).await?;
    lab.portal.stop().await?;
    lab.client = portal.client()?;
    create_users(&lab.client, 2).await?;
    applied(&lab.client, lab.apply().await?).await?;
    let files = managed_files(&lab.asterisk)?;
    for (number, dead) in [Rule::Hold, Rule::HoldAfter(500)].into_iter().enumerate() {
        lab.create_user("More", &format!("more{number}@example.org"))
            .await?;
        proxy.set(Direction::Up, dead);
        proxy.set(Direction::Down, Rule::Hold);
        let reply = lab.apply().await?;
        ensure!(reply.problem(503)? == "agent_unreachable", "{reply}");
        audited(&lab.client, &reply).await?;
        ensure!(managed_files(&lab.asterisk)? == files);
        proxy.cut();
        proxy.set(Direction::Up, Rule::Pass);
        proxy.set(Direction::Down, Rule::Pass);
    }
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, 1000..1004).await
}
