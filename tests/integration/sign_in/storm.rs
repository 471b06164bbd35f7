//! A storm of sign-ins: its own bound, and what goes on beside it.

use std::time::{Duration, Instant};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{PASSWORD, STRANGER, Tokens, ann, lab, try_from};

/// How many sign in at once: several times what may wait.
const AT_ONCE: usize = 150;

/// What is asked beside it is answered within this. It takes milliseconds; the rest is for a machine
/// that does much else.
const PROMPT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_storm_of_sign_ins_leaves_other_requests_served() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    let storm: Vec<_> = (0..AT_ONCE)
        .map(|n| {
            let client = lab.client.clone();
            let address = format!("198.51.{}.{}", n / 250, n % 250);
            // Somebody else each time, so that no lock ends it.
            let (login, password) = match n % 3 {
                0 => ("ann".to_owned(), PASSWORD),
                _ => (format!("nobody{n}"), "wrong"),
            };
            tokio::spawn(async move { try_from(&client, &address, &login, password).await })
        })
        .collect();
    let mut served = 0;
    while !storm.iter().all(tokio::task::JoinHandle::is_finished) {
        let began = Instant::now();
        lab.client.get("/health/live").await?.expect(200)?;
        tokens.current(&lab.client).await?.expect(200)?;
        assert!(began.elapsed() < PROMPT, "after {:?}", began.elapsed());
        served += 1;
    }
    assert!(served > 0, "the storm was over at once");
    let (mut tried, mut turned_away) = (0, 0);
    for reply in storm {
        let reply = reply.await??;
        match reply.status {
            201 | 401 => tried += 1,
            503 => {
                assert_eq!(reply.problem(503)?, "overloaded");
                assert!(!reply.header("retry-after").is_empty());
                turned_away += 1;
            }
            _ => anyhow::bail!("{reply}"),
        }
    }
    assert!(tried >= 34, "only {tried} were tried");
    assert!(turned_away > 0, "all {tried} were tried");
    // And it is over.
    Tokens::open(&lab.client, "ann").await?;
    Ok(())
}

/// A storm of strangers, from more addresses than can be told apart from guests, who try logins that
/// do not exist.
#[tokio::test]
async fn a_storm_of_strangers_keeps_nobody_out_who_came_before() -> anyhow::Result<()> {
    const HOME: &str = "192.0.2.7";
    let lab = lab().await?;
    ann(&lab).await?;
    try_from(&lab.client, HOME, "ann", PASSWORD)
        .await?
        .expect(201)?;
    let (over, turned_away) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let storm: Vec<_> = (0..AT_ONCE)
        .map(|n| {
            let (client, over) = (lab.client.clone(), Arc::clone(&over));
            let turned_away = Arc::clone(&turned_away);
            tokio::spawn(async move {
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let address = format!("198.51.{n}.{}", round % 250);
                    let reply = try_from(&client, &address, &format!("nobody{n}"), "wrong").await?;
                    if reply.status == 503 {
                        turned_away.fetch_add(1, Ordering::Relaxed);
                    }
                }
                anyhow::Ok(())
            })
        })
        .collect();
    let turned_away = || turned_away.load(Ordering::Relaxed);
    while turned_away() < AT_ONCE {
        lab.client.get("/health/live").await?.expect(200)?;
    }
    let before = turned_away();
    for _ in 0..10 {
        try_from(&lab.client, HOME, "ann", PASSWORD)
            .await?
            .expect(201)?;
    }
    assert!(turned_away() > before, "the storm was over");
    // A stranger's answer does not depend on whether there is such an account.
    let mut heard = [false; 2];
    for (heard, login) in heard.iter_mut().zip(["ann", "nobody"]) {
        for _ in 0..15 {
            *heard |= try_from(&lab.client, STRANGER, login, "wrong")
                .await?
                .status
                == 503;
        }
    }
    over.store(true, Ordering::Relaxed);
    for ended in storm {
        ended.await??;
    }
    assert_eq!(heard[0], heard[1], "an existing login is told apart");
    Ok(())
}
