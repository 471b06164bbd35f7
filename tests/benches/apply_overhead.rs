//! What an apply costs beyond the two reloads that it cannot do without, at 1,000 and at 10,000
//! endpoints of one tenant and at 10,000 of a hundred, on a real Asterisk and the agent without a
//! portal:
//!
//! ```sh
//! cargo build --release --bins && cargo bench -p tests --bench apply_overhead
//! ```
//!
//! With `-- USERS TENANTS PAIRS` only for so many users in so many tenants, in so many pairs; with
//! `-- 0` only the memory.
//!
//! * upload, apply and record of a bundle in which one user has changed, against the bare pair
//!   `asterisk -rx 'pjsip reload'`, `asterisk -rx 'dialplan reload'` after the same files were copied
//!   to a second Asterisk, in turn;
//! * the same apply against the two reloads that it made itself, which leaves out by how much reloads
//!   differ among each other;
//! * where that time goes, by the steps of the records;
//! * an apply that changes nothing;
//! * the pre-flight by itself, and a comparison of everything;
//! * the peak of the agent's memory with the largest bundles, without Asterisk.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports to whoever runs it"
)]

use std::collections::BTreeMap;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use api_server::agent::{Agent as Link, Order};
use api_server::domain::RequestId;
use api_server::pki::Role;
use shared::bundle::{ApplyId, BUNDLE_BYTES_MAX, Bundle, Revision, Slot};
use shared::record::{ApplyRecord, OnReloadFailure, Outcome, Phase};
use tests::agent::Agent;
use tests::asterisk::{Asterisk, Settings};
use tests::pki::Pki;
use tests::scratch::Scratch;
use tests::snapshots;
use uuid::Uuid;

/// Users, their tenants, and pairs of measured and bare runs; the medians are reported.
const PAIRS: [(u32, u32, usize); 3] = [(1_000, 1, 60), (10_000, 1, 9), (10_000, 100, 9)];

const LIMIT: Duration = Duration::from_mins(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let numbers: Vec<u32> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    if let [users, tenants, pairs] = numbers[..] {
        return overhead(users, tenants, usize::try_from(pairs)?).await;
    }
    if !numbers.is_empty() {
        return memory().await;
    }
    for (users, tenants, pairs) in PAIRS {
        overhead(users, tenants, pairs).await?;
    }
    memory().await
}

/// A host with Asterisk and agent, and the portal's end of the link.
struct Pbx {
    asterisk: Asterisk,
    agent: Agent,
    link: Link,
    last: u64,
    _keys: (Pki, Scratch),
}

impl Pbx {
    async fn start(preflight: &str) -> anyhow::Result<Self> {
        let env = [
            ("PREFLIGHT", preflight),
            ("LOG", "warn"),
            // On a busy machine.
            ("RELOAD_DEADLINE_MS", "300000"),
            ("QUERY_DEADLINE_MS", "300000"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (pki, scratch) = (Pki::temporary()?, Scratch::new("link")?);
        let asterisk = Asterisk::start(Settings::default()).await?;
        let agent = Agent::start(&asterisk, &pki, &env).await?;
        let tls = pki.issue(&Role::Portal, &scratch.path().join("portal"), None)?;
        let identity = "spiffe://pbx.internal/agent/default".parse()?;
        let link = Link::new(agent.address().to_string(), identity, tls);
        Ok(Self {
            asterisk,
            agent,
            link,
            last: 0,
            _keys: (pki, scratch),
        })
    }

    /// Uploads and applies; how long both took, and how long only the apply.
    async fn apply(&mut self, bundle: &Bundle) -> anyhow::Result<(ApplyRecord, [Duration; 2])> {
        self.last += 1;
        let order = Order {
            id: ApplyId(Uuid::now_v7()),
            revision: Revision(self.last),
            digest: bundle.manifest().digest(),
            on_reload_failure: OnReloadFailure::RollBack,
            force: false,
        };
        let id = RequestId::from(Uuid::now_v7());
        let copy = bundle.clone();
        let began = Instant::now();
        self.link.stage(&order, copy, &id).await?;
        let staged = Instant::now();
        let record = self.link.apply(&order, LIMIT, &id).await?;
        Ok((record, [began.elapsed(), staged.elapsed()]))
    }
}

/// What an administrator without a portal does: copies the files, and runs a program for each
/// reload. Only the reloads count.
fn bare_pair(from: &Asterisk, to: &Asterisk) -> anyhow::Result<Duration> {
    for slot in Slot::ALL {
        std::fs::copy(from.slot(slot), to.slot(slot))?;
        set_permissions(to.slot(slot), Permissions::from_mode(0o644))?;
    }
    let began = Instant::now();
    for command in ["pjsip reload", "dialplan reload"] {
        #[expect(
            clippy::disallowed_methods,
            reason = "the baseline is the bare command"
        )]
        let output = std::process::Command::new(to.binary())
            .arg("-C")
            .arg(to.conf())
            .args(["-rx", command])
            .output()?;
        ensure!(output.status.success(), "{output:?}");
    }
    Ok(began.elapsed())
}

/// So many users in so many tenants, of whom the one in the middle has a name of that edition.
fn bundle(users: u32, tenants: u32, edition: usize) -> anyhow::Result<Bundle> {
    let first = 100_000;
    let each = users / tenants;
    let user = |index: u32| {
        let edition = if index == users / 2 { edition } else { 0 };
        let number = first + index % each;
        let device = snapshots::device(1, &format!("abcdefghABCDEFGH{index:08}"))?;
        snapshots::user(number, &format!("User {number} {edition}"), vec![device])
    };
    let tenant = |tenant: u32| {
        let users: anyhow::Result<_> = (tenant * each..(tenant + 1) * each).map(user).collect();
        snapshots::tenant(tenant + 1, users?)
    };
    let tenants: anyhow::Result<_> = (0..tenants).map(tenant).collect();
    let mut snapshot = snapshots::snapshot(tenants?)?;
    snapshot.reserved_numbers = vec![first..=first + each];
    Ok(api_server::render::render(&snapshot)?)
}

async fn overhead(users: u32, tenants: u32, pairs: usize) -> anyhow::Result<()> {
    let mut pbx = Pbx::start("off").await?;
    let plain = Asterisk::start(Settings::default()).await?;
    let (record, _) = pbx.apply(&bundle(users, tenants, 0)?).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    bare_pair(&pbx.asterisk, &plain)?;
    let (mut whole, mut applies, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut own_reloads = Vec::new();
    let mut steps: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for pair in 0..pairs {
        let bundle = bundle(users, tenants, pair + 1)?;
        let (record, [both, apply]) = pbx.apply(&bundle).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        whole.push(both);
        applies.push(apply);
        let mut reloads = Duration::ZERO;
        for step in &record.steps {
            let action = step.action.split(" of ").next().unwrap_or_default();
            let took = Duration::from_micros(step.duration_us);
            steps.entry(action.to_owned()).or_default().push(took);
            if step.action.starts_with("asterisk -rx") {
                reloads += took;
            }
        }
        own_reloads.push(reloads);
        bare.push(bare_pair(&pbx.asterisk, &plain)?);
    }
    println!("{users} users of {tenants} tenants, one changed, {pairs} pairs:");
    ratio("upload and apply", &whole, &bare);
    ratio("apply alone", &applies, &bare);
    ratio("apply against its own reloads", &applies, &own_reloads);
    ratio("upload and apply, likewise", &whole, &own_reloads);
    for (action, times) in steps {
        println!("    {:>9}  {action}", ms(median(&times)));
    }
    let same = bundle(users, tenants, pairs)?;
    let mut times = Vec::new();
    for _ in 0..pairs {
        let (record, [_, apply]) = pbx.apply(&same).await?;
        ensure!(record.outcome == Some(Outcome::Unchanged), "{record:#?}");
        times.push(apply);
    }
    println!("  an apply that changes nothing: {}", ms(median(&times)));
    let id = RequestId::from(Uuid::now_v7());
    let report = pbx.link.verify(LIMIT, &id).await?;
    ensure!(report.in_force, "{report:#?}");
    println!(
        "  a comparison of all {} parts: {}",
        report.compared,
        ms(report.duration)
    );
    drop((pbx, plain));
    let mut pbx = Pbx::start("required").await?;
    let (record, _) = pbx.apply(&same).await?;
    let step = record
        .steps
        .iter()
        .find(|step| step.phase == Phase::Preflight);
    let step = step.context("no pre-flight")?;
    let took = Duration::from_micros(step.duration_us);
    println!("  pre-flight: {} ({})", ms(took), step.said);
    Ok(())
}

fn ratio(what: &str, ours: &[Duration], bare: &[Duration]) {
    let ratio = |(ours, bare): (&Duration, &Duration)| ours.as_secs_f64() / bare.as_secs_f64();
    let mut ratios: Vec<f64> = ours.iter().zip(bare).map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "  {what}: median {} against {}, ratio {:.3}, by pairs {:.3} ({:.3} to {:.3})",
        ms(median(ours)),
        ms(median(bare)),
        median(ours).as_secs_f64() / median(bare).as_secs_f64(),
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1],
    );
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Two bundles of nearly the largest size, one after the other. Asterisk itself would take hours over
/// them: it is stopped, so that all but the reading back is done.
async fn memory() -> anyhow::Result<()> {
    let per_user = bundle(1000, 1, 0)?
        .files
        .values()
        .map(Vec::len)
        .sum::<usize>()
        / 1000
        + 2;
    let users = u32::try_from(usize::try_from(BUNDLE_BYTES_MAX)? / per_user)?;
    let mut pbx = Pbx::start("off").await?;
    pbx.asterisk.stop().await?;
    for edition in 0..3 {
        let bundle = bundle(users, 1, edition)?;
        let size: usize = bundle.files.values().map(Vec::len).sum();
        let (record, [took, _]) = pbx.apply(&bundle).await?;
        ensure!(
            record.outcome == Some(Outcome::ReloadFailedFilesKept),
            "{record:#?}"
        );
        let status = std::fs::read_to_string(format!("/proc/{}/status", pbx.agent.pid()?))?;
        let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
        let peak = peak
            .and_then(|line| line.split_whitespace().nth(1))
            .context("no VmHWM")?;
        let peak_mib = peak.parse::<usize>()? / 1024;
        let size_mib = size / (1024 * 1024);
        println!(
            "bundle {edition} of {users} users, {size_mib} MiB: peak of the agent {peak_mib} MiB, {}",
            ms(took)
        );
    }
    Ok(())
}
