//! A storm of sign-ins: its own bound, and what goes on beside it.

use std::time::{Duration, Instant};

use super::{PASSWORD, Tokens, ann, lab, try_from};

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
