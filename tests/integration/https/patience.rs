//! Whoever is slow or silent has to go, and nobody waits for it.

use std::time::Instant;

use anyhow::ensure;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::h2::H2;
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
    let head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let (head, silent, half, idle, good) = tokio::try_join!(
        trickle(stream(&config).await?, head, b"x"),
        trickle(stream(&config).await?, &[], &[]),
        trickle(stream(&h2).await?, b"PRI * HTTP/2.0\r\n", &[]),
        trickle(
            stream(&config).await?,
            b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
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

/// Somebody who speaks HTTP/2, and of whose answers each stream may bring `window` bytes.
async fn peer(lab: &PortalLab, window: u32) -> anyhow::Result<H2<TlsStream<TcpStream>>> {
    let ca = lab.portal.https().map(|https| https.ca.clone());
    let h2 = trusting(&[&ca.unwrap_or_default()], &[&TLS13], &["h2"])?;
    H2::begin(connect(&lab.portal, h2).await?, window).await
}

#[tokio::test]
async fn answering_pings_is_no_request() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let mut peer = peer(&lab, 65_535).await?;
    let began = Instant::now();
    timeout(DEADLINE, peer.until_closed()).await?;
    assert_within("pings", began.elapsed(), REQUEST)
}

/// Somebody who asks, answers every ping, and takes nothing of the answer.
#[tokio::test]
async fn an_answer_that_is_not_taken_ends() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let mut peer = peer(&lab, 0).await?;
    let began = Instant::now();
    peer.ask(1, "GET", "/health/live", true).await?;
    timeout(DEADLINE, peer.until_closed()).await?;
    ensure!(peer.taken == 0);
    assert_within("nothing taken", began.elapsed(), REQUEST)
}

/// As long as something is taken now and then, an answer may last.
#[tokio::test]
async fn an_answer_that_is_taken_slowly_goes_on() -> anyhow::Result<()> {
    const PIECE: u32 = 20_000;
    let lab = lab(&[]).await?;
    let mut peer = peer(&lab, 0).await?;
    let began = Instant::now();
    peer.ask(1, "GET", "/docs/swagger-ui-bundle.js", true)
        .await?;
    while began.elapsed() < REQUEST[1] {
        let before = peer.taken;
        peer.take(1, PIECE).await?;
        while peer.taken < before + usize::try_from(PIECE)? {
            timeout(DEADLINE, peer.receive()).await??;
        }
        tokio::time::sleep(PAUSE * 10).await;
    }
    Ok(())
}

/// Also that of an apply, which may otherwise take as long as it takes.
#[tokio::test]
async fn a_slow_body_ends_as_a_problem() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let slow = async |path: &str| {
        let stream = connect(&lab.portal, usual(&lab.portal)?).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
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
