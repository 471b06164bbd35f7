//! What a portal computes before it sends anything, without a database: rendering, and reading back
//! what was rendered, which is the check.
//!
//! ```sh
//! cargo bench -p tests --bench rendering
//! ```
//!
//! For 100 and for 10,000 users, in one tenant and in a hundred, with one device each and with two.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports to whoever runs it"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use api_server::domain::snapshot::Snapshot;
use shared::model;
use tests::snapshots;

/// Runs of each; the medians are reported.
const RUNS: usize = 21;

/// Tenants, users of each, devices of each user.
const SIZES: [(u32, u32, u32); 4] = [(1, 100, 1), (1, 10_000, 1), (100, 100, 1), (100, 100, 2)];

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    for (tenants, users, devices) in SIZES {
        let snapshot = snapshot(tenants, users, devices)?;
        let (mut rendering, mut checking, mut size) = (Vec::new(), Vec::new(), 0);
        for _ in 0..RUNS {
            let began = Instant::now();
            let bundle = api_server::render::render(&snapshot)?;
            rendering.push(began.elapsed());
            let began = Instant::now();
            let model = model::read(&bundle).map_err(|found| anyhow::anyhow!("{found:?}"))?;
            checking.push(began.elapsed());
            black_box(model);
            size = bundle.files.values().map(Vec::len).sum();
        }
        let (rendering, checking) = (median(rendering), median(checking));
        let all = f64::from(tenants * users);
        println!(
            "{tenants} tenants of {users} users, devices of each: {devices}; {} KiB: rendered in {}, \
             checked in {}, {:.2} µs a user",
            size / 1024,
            ms(rendering),
            ms(checking),
            (rendering + checking).as_secs_f64() * 1e6 / all,
        );
    }
    Ok(())
}

fn snapshot(tenants: u32, users: u32, devices: u32) -> anyhow::Result<Snapshot> {
    let user = |tenant: u32, number: u32| {
        let device = |slot| snapshots::device(slot, &format!("abcdefgh{tenant:08}{number:08}"));
        let devices: anyhow::Result<_> = (1..=devices).map(device).collect();
        snapshots::user(number, &format!("User {number}"), devices?)
    };
    let tenant = |tenant: u32| {
        let users = (100_000..100_000 + users).map(|number| user(tenant, number));
        snapshots::tenant(tenant, users.collect::<anyhow::Result<_>>()?)
    };
    let tenants: anyhow::Result<_> = (1..=tenants).map(tenant).collect();
    let mut snapshot = snapshots::snapshot(tenants?)?;
    snapshot.reserved_numbers = vec![100_000..=100_000 + users];
    Ok(snapshot)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
