//! More connections than the portal takes.

use std::time::Instant;

use anyhow::ensure;
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::*;
use crate::strace::skipped;

/// The portal takes 1,024 connections.
const FLOOD: usize = 1400;

/// Both ends of the flood, and what both processes have open besides.
const DESCRIPTORS: u64 = 2000;

fn has_descriptors() -> anyhow::Result<bool> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < DESCRIPTORS {
        skipped(&format!(
            "a flood needs {DESCRIPTORS} file descriptors, here are {soft}"
        ));
    }
    Ok(soft >= DESCRIPTORS)
}

/// Silent ones are pushed out by whoever comes after them: nobody waits for their deadline.
#[tokio::test]
async fn silent_connections_keep_nobody_out() -> anyhow::Result<()> {
    if !has_descriptors()? {
        return Ok(());
    }
    let lab = lab(&[]).await?;
    let mut silent = Vec::new();
    for _ in 0..FLOOD {
        silent.push(TcpStream::connect(lab.portal.address()).await?);
    }
    let began = Instant::now();
    for _ in 0..20 {
        let stream = connect(&lab.portal, usual(&lab.portal)?).await?;
        drop(stream);
    }
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(4), "{took:?}");
    lab.client.get("/users").await?.expect(200)?;
    let went = silent.iter().filter(|stream| is_closed(stream)).count();
    ensure!(went >= FLOOD - 300, "{went} of {FLOOD} had to go");
    Ok(())
}

/// Fewer at once than handshakes displace each other.
const AT_ONCE: usize = 64;

/// Of one address, a quarter of the places.
const OF_ADDRESS: usize = 256;

/// Connections from each of some addresses in turn, each with an answer that it waits for no longer.
async fn hold(
    lab: &Arc<PortalLab>,
    addresses: u8,
    count: usize,
) -> anyhow::Result<Vec<TlsStream<TcpStream>>> {
    let config = usual(&lab.portal)?;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut flood = JoinSet::new();
    for from in (1..=addresses).cycle().take(count) {
        let (lab, config, turns) = (Arc::clone(lab), Arc::clone(&config), Arc::clone(&turns));
        flood.spawn(async move {
            let _turn = turns.acquire().await;
            let mut stream = connect_from([127, 0, 7, from], &lab.portal, config).await?;
            let ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(ask).await?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await?;
            Ok::<_, io::Error>(stream)
        });
    }
    let mut held = Vec::new();
    while let Some(ended) = timeout(DEADLINE, flood.join_next()).await? {
        held.push(ended??);
    }
    Ok(held)
}

/// How many of them the portal has ended.
async fn gone(held: &mut [TlsStream<TcpStream>]) -> usize {
    let mut gone = 0;
    for stream in held {
        let rest = timeout(Duration::from_millis(1), async {
            while stream
                .read(&mut [0; 4096])
                .await
                .is_ok_and(|count| count > 0)
            {}
        });
        gone += usize::from(rest.await.is_ok());
    }
    gone
}

/// Whoever is idle for longest gives way: newcomers come in although every place is taken.
#[tokio::test]
async fn newcomers_come_in_when_all_places_are_taken() -> anyhow::Result<()> {
    if !has_descriptors()? {
        return Ok(());
    }
    let lab = Arc::new(lab(&[]).await?);
    let mut held = hold(&lab, 8, 1023).await?;
    for newcomer in 1..20 {
        let from = [127, 0, 8, newcomer];
        let stream = connect_from(from, &lab.portal, usual(&lab.portal)?);
        timeout(PROMPT, stream).await??;
        timeout(PROMPT, lab.client.get("/users"))
            .await??
            .expect(200)?;
    }
    let gone = gone(&mut held).await;
    ensure!(gone < 100, "{gone} had to go");
    Ok(())
}

/// What is to happen before the patience with idle connections ends.
const PROMPT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn one_address_has_a_quarter_of_the_places() -> anyhow::Result<()> {
    if !has_descriptors()? {
        return Ok(());
    }
    let lab = Arc::new(lab(&[]).await?);
    let mut other = hold(&lab, 1, 1).await?;
    let other_address = [127, 0, 9, 1];
    let first = connect_from(other_address, &lab.portal, usual(&lab.portal)?).await?;
    let mut held = hold(&lab, 1, OF_ADDRESS + 50).await?;
    let gone_of_them = gone(&mut held).await;
    ensure!(
        (50..100).contains(&gone_of_them),
        "{gone_of_them} had to go"
    );
    ensure!(gone(&mut other).await == 1, "the oldest stayed");
    ensure!(
        gone(&mut [first]).await == 0,
        "another address had to give way"
    );
    Ok(())
}

fn is_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
