//! Addresses in 127/8 that no other test uses, also in other processes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

/// The port whose listener marks an address as taken.
const MARK_PORT: u16 = 4999;

/// How many addresses are tried: more than any machine runs at once.
const ATTEMPTS: u32 = 65_536;

/// An address of one's own: every port of it is free, so that nothing has to guess free ports. The
/// kernel keeps it unique through a listener that ends with this value or the process.
#[derive(Debug)]
pub struct Loopback {
    ip: Ipv4Addr,
    _mark: TcpListener,
}

impl Loopback {
    /// An address that nobody has.
    pub fn take() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Processes begin far apart, so that the first attempt nearly always succeeds.
        let begin = std::process::id().wrapping_mul(257);
        let number = || begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        (0..ATTEMPTS)
            .find_map(|_| Self::mark(number()))
            .context("no loopback address is free")
    }

    /// The first free address from `wanted` on, for whoever likes to find it again.
    pub fn take_from(wanted: Ipv4Addr) -> anyhow::Result<Self> {
        let first = wanted.to_bits();
        (first..first.saturating_add(ATTEMPTS))
            .find_map(Self::mark)
            .context("no loopback address is free")
    }

    fn mark(number: u32) -> Option<Self> {
        let [_, b, c, d] = number.to_be_bytes();
        // 127.0.x.y is left to the machine itself; .0 and .255 look like network addresses.
        let ip = Ipv4Addr::new(127, b.max(1), c, d.clamp(1, 254));
        let mark = TcpListener::bind((ip, MARK_PORT)).ok()?;
        Some(Self { ip, _mark: mark })
    }

    /// The address.
    pub const fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// A port of it.
    pub const fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), port)
    }
}
