//! More connections than the portal takes.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::*;
use crate::strace::skipped;

/// The portal takes 1,024.
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

/// Whoever takes the trouble of a handshake and then says nothing holds a place, for a while.
#[tokio::test]
async fn all_places_taken_are_given_back() -> anyhow::Result<()> {
    if !has_descriptors()? {
        return Ok(());
    }
    let lab = Arc::new(lab(&[]).await?);
    let config = usual(&lab.portal)?;
    let mut flood = JoinSet::new();
    // Fewer at once than handshakes displace each other.
    let turns = Arc::new(Semaphore::new(64));
    for _ in 0..FLOOD {
        let (lab, config, turns) = (Arc::clone(&lab), Arc::clone(&config), Arc::clone(&turns));
        flood.spawn(async move {
            let _turn = turns.acquire().await;
            connect(&lab.portal, config).await.ok()
        });
    }
    // Most have a place now; the others wait in the kernel's queue, and so does this one.
    let mut held = Vec::new();
    while held.len() < 1000 {
        let next = timeout(DEADLINE, flood.join_next()).await?;
        held.extend(next.context("too few came in")??);
    }
    let began = Instant::now();
    timeout(DEADLINE, lab.client.get("/users"))
        .await??
        .expect(200)?;
    let took = began.elapsed();
    ensure!(took < Duration::from_mins(1), "{took:?}");
    Ok(())
}

fn is_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
