//! Whoever is slow or silent has to go, and nobody waits for it.

use std::time::Instant;

use anyhow::ensure;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::*;

/// How long a handshake may take, and the least and most until its end is seen.
const HANDSHAKE: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(10)];

/// How long a connection may stay without a whole request, likewise.
const REQUEST: [Duration; 2] = [Duration::from_secs(25), Duration::from_secs(45)];

/// Between the bytes of somebody slow.
const PAUSE: Duration = Duration::from_millis(500);

/// Sends byte after byte until that fails, and reads until the other end closes.
async fn trickle<S>(stream: S, first: &[u8], then: &[u8]) -> anyhow::Result<(Duration, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let began = Instant::now();
    let (reader, mut writer) = tokio::io::split(stream);
    writer.write_all(first).await?;
    writer.flush().await?;
    let slow = async {
        for byte in then.iter().cycle().take_while(|_| !then.is_empty()) {
            tokio::time::sleep(PAUSE).await;
            let sent = writer.write_all(&[*byte]).await;
            if sent.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let read = tokio::select! {
        read = until_closed(reader) => read?,
        () = slow => Vec::new(),
    };
    Ok((began.elapsed(), read))
}

fn assert_within(what: &str, took: Duration, [least, most]: [Duration; 2]) -> anyhow::Result<()> {
    ensure!(took >= least && took <= most, "{what}: {took:?}");
    Ok(())
}

#[tokio::test]
async fn a_handshake_has_a_deadline() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let silent = TcpStream::connect(lab.portal.address()).await?;
    let slow = TcpStream::connect(lab.portal.address()).await?;
    let hello = versions::hello(versions::TLS_1_2, &[versions::GCM]);
    let (silent, slow) = tokio::try_join!(
        trickle(silent, &[], &[]),
        trickle(slow, &hello[..5], &hello[5..]),
    )?;
    assert_within("silent", silent.0, HANDSHAKE)?;
    assert_within("slow", slow.0, HANDSHAKE)
}

/// A head that comes byte by byte; nothing at all after the handshake, by one that could be of
/// either HTTP; half of the words by which HTTP/2 begins.
#[tokio::test]
async fn a_connection_without_a_request_has_to_go() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let ca = lab.portal.https().map(|https| https.ca.clone());
    let h2 = trusting(&[&ca.unwrap_or_default()], &[&TLS13], &["h2"])?;
    let config = usual(&lab.portal)?;
    let stream = async |config: &Arc<ClientConfig>| connect(&lab.portal, Arc::clone(config)).await;
    let head = b"GET /health/live HTTP/1.1\r\nHost: portal\r\nX-Slow: ";
    let (head, silent, half, idle, good) = tokio::try_join!(
        trickle(stream(&config).await?, head, b"x"),
        trickle(stream(&config).await?, &[], &[]),
        trickle(stream(&h2).await?, b"PRI * HTTP/2.0\r\n", &[]),
        trickle(
            stream(&config).await?,
            b"GET /health/live HTTP/1.1\r\nHost: portal\r\n\r\n",
            &[]
        ),
        others_are_served(&lab),
    )?;
    assert_within("slow head", head.0, REQUEST)?;
    assert_within("silent", silent.0, REQUEST)?;
    assert_within("half a preface", half.0, REQUEST)?;
    assert_within("idle after a request", idle.0, REQUEST)?;
    ensure!(idle.1.starts_with(b"HTTP/1.1 200"));
    ensure!(good > 0);
    Ok(())
}

/// Somebody who speaks HTTP/2, answers every ping, and asks for nothing.
#[tokio::test]
async fn answering_pings_is_no_request() -> anyhow::Result<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const SETTINGS_ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    const PING: u8 = 6;
    let lab = lab(&[]).await?;
    let ca = lab.portal.https().map(|https| https.ca.clone());
    let h2 = trusting(&[&ca.unwrap_or_default()], &[&TLS13], &["h2"])?;
    let mut stream = connect(&lab.portal, h2).await?;
    let began = Instant::now();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await?;
    stream.write_all(&SETTINGS).await?;
    stream.write_all(&SETTINGS_ACK).await?;
    let alive = async {
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                break;
            }
            if head[3] == PING && head[4] == 0 {
                let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], &payload[..]].concat();
                stream.write_all(&answer).await.ok();
            }
        }
    };
    timeout(DEADLINE, alive).await?;
    assert_within("pings", began.elapsed(), REQUEST)
}

/// Also that of an apply, which may otherwise take as long as it takes.
#[tokio::test]
async fn a_slow_body_ends_as_a_problem() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let slow = async |path: &str| {
        let stream = connect(&lab.portal, usual(&lab.portal)?).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: portal\r\nContent-Type: application/json\r\n\
             Content-Length: 1000\r\n\r\n{{\"name\": \""
        );
        let (_, answer) = trickle(stream, head.as_bytes(), b"x").await?;
        let answer = String::from_utf8(answer)?;
        ensure!(answer.contains("request_timeout"), "{path}: {answer}");
        anyhow::Ok(())
    };
    let ((), (), good) = tokio::try_join!(slow("/users"), slow("/apply"), others_are_served(&lab))?;
    ensure!(good > 0);
    Ok(())
}

/// Asks for half a minute, over new connections and an old one, and is never kept waiting.
async fn others_are_served(lab: &PortalLab) -> anyhow::Result<usize> {
    let began = Instant::now();
    let config = usual(&lab.portal)?;
    let mut served = 0;
    while began.elapsed() < Duration::from_secs(30) {
        let fresh = timeout(PAUSE * 4, connect(&lab.portal, Arc::clone(&config)));
        drop(fresh.await??);
        let reply = lab.client.get("/health/live").await?.expect(200)?;
        ensure!(reply.took < PAUSE * 4, "{reply}");
        served += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(served)
}
