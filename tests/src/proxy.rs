//! A way to the agent that is slow, dead or cut: a TCP proxy whose behaviour can be changed while
//! connections are open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::loopback::Loopback;

const PORT: u16 = 50_052;

/// What is read at once.
const CHUNK_BYTES: usize = 4096;

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the portal to the agent.
    Up,
    /// From the agent to the portal.
    Down,
}

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// They pass.
    Pass,
    /// Each piece waits that long.
    Delay(Duration),
    /// At most that many pass in a second.
    Throttle(u64),
    /// None passes, and nobody is told: the connection is as if dead.
    Hold,
    /// That many more pass, then none.
    HoldAfter(u64),
    /// That many more pass, then the connection is cut. The next one passes.
    CutAfter(u64),
}

/// One direction of all connections.
struct Lane {
    rule: watch::Sender<Rule>,
    passed: AtomicU64,
    /// What had passed when the rule was set.
    since: AtomicU64,
}

impl Lane {
    fn new() -> Self {
        Self {
            rule: watch::Sender::new(Rule::Pass),
            passed: AtomicU64::new(0),
            since: AtomicU64::new(0),
        }
    }

    /// How many more bytes may pass under a rule that counts.
    fn left(&self, limit: u64) -> u64 {
        let passed = self.passed.load(Ordering::SeqCst) - self.since.load(Ordering::SeqCst);
        limit.saturating_sub(passed)
    }
}

struct Shared {
    up: Lane,
    down: Lane,
    /// Changes when every connection is to be cut.
    cuts: watch::Sender<u64>,
}

/// Relays until it is dropped.
pub struct Proxy {
    address: Loopback,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// One in front of `to`.
    pub async fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let address = Loopback::take()?;
        let listener = TcpListener::bind(address.port(PORT)).await?;
        let shared = Arc::new(Shared {
            up: Lane::new(),
            down: Lane::new(),
            cuts: watch::Sender::new(0),
        });
        let own = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, to, Arc::clone(&own)));
            }
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address.port(PORT)
    }

    /// Changes what happens to the bytes of a direction, from the next one on.
    pub fn set(&self, direction: Direction, rule: Rule) {
        let lane = self.lane(direction);
        let passed = lane.passed.load(Ordering::SeqCst);
        lane.since.store(passed, Ordering::SeqCst);
        lane.rule.send_replace(rule);
    }

    /// How many bytes have passed in a direction.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.lane(direction).passed.load(Ordering::SeqCst)
    }

    /// Cuts every open connection.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::Up => &self.shared.up,
            Direction::Down => &self.shared.down,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn relay(client: TcpStream, to: SocketAddr, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Either end, or a cut, ends both.
    tokio::select! {
        () = pass(from_client, to_server, &shared.up) => {}
        () = pass(from_server, to_client, &shared.down) => {}
        _ = cuts.changed() => {}
    }
}

/// Passes bytes on by the rule of the moment, until the connection ends.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lane: &Lane) {
    let mut rules = lane.rule.subscribe();
    let mut buffer = [0; CHUNK_BYTES];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let rule = *rules.borrow_and_update();
            let allowed = match rule {
                Rule::Pass => rest.len(),
                Rule::Delay(pause) => {
                    tokio::time::sleep(pause).await;
                    rest.len()
                }
                Rule::Throttle(per_second) => {
                    tokio::time::sleep(Duration::from_secs(1) / 10).await;
                    usize::try_from(per_second / 10)
                        .unwrap_or(1)
                        .clamp(1, rest.len())
                }
                Rule::Hold => 0,
                Rule::HoldAfter(limit) | Rule::CutAfter(limit) => {
                    let left = usize::try_from(lane.left(limit)).unwrap_or(usize::MAX);
                    left.min(rest.len())
                }
            };
            if allowed == 0 {
                if matches!(rule, Rule::CutAfter(_)) {
                    lane.rule.send_replace(Rule::Pass);
                    return;
                }
                if rules.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if to.write_all(&rest[..allowed]).await.is_err() {
                return;
            }
            lane.passed.fetch_add(allowed as u64, Ordering::SeqCst);
            rest = &rest[allowed..];
        }
    }
}
