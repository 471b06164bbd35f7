//! TLS 1.2 and 1.3 with the ciphers of today, and nothing older.

use anyhow::ensure;
use tokio::io::AsyncWriteExt as _;

use super::*;

/// Versions as records say them.
const TLS_1_0: u16 = 0x0301;
const TLS_1_1: u16 = 0x0302;
pub(super) const TLS_1_2: u16 = 0x0303;

/// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`.
pub(super) const GCM: u16 = 0xc02b;

/// `TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA`, `TLS_RSA_WITH_AES_128_CBC_SHA`,
/// `TLS_RSA_WITH_3DES_EDE_CBC_SHA`, `TLS_RSA_WITH_RC4_128_SHA`.
const OLD: [u16; 4] = [0xc009, 0x002f, 0x000a, 0x0005];

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

/// The first message of a client that knows no version above `version`.
pub(super) fn hello(version: u16, ciphers: &[u16]) -> Vec<u8> {
    // No list here comes near the end of its counter.
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let sized = |bytes: &[u8]| [&length(bytes)[..], bytes].concat();
    let list = |numbers: &[u16]| {
        let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        sized(&numbers)
    };
    let extension = |kind: u16, data: &[u8]| [&kind.to_be_bytes()[..], &sized(data)].concat();
    let extensions = [
        // Groups: X25519 and P-256. Points: uncompressed. Signatures: ECDSA with SHA-256.
        extension(10, &list(&[0x001d, 0x0017])),
        extension(11, &[1, 0]),
        extension(13, &list(&[0x0403])),
        // Extended master secret.
        extension(23, &[]),
    ]
    .concat();
    let body = [
        &version.to_be_bytes()[..],
        &[7; 32],
        &[0],
        &list(ciphers),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let message = [&[1, 0], &length(&body)[..], &body].concat();
    let version = version.min(TLS_1_1).to_be_bytes();
    [&[HANDSHAKE], &version[..], &sized(&message)].concat()
}

/// The type of the first record that comes back, and what an alert says.
async fn answer(portal: &Portal, hello: &[u8]) -> anyhow::Result<(u8, Option<u8>)> {
    let mut stream = TcpStream::connect(portal.address()).await?;
    stream.write_all(hello).await?;
    let mut head = [0; 7];
    timeout(DEADLINE, stream.read_exact(&mut head)).await??;
    Ok((head[0], (head[0] == ALERT).then_some(head[6])))
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let ca = lab.portal.https().map(|https| https.ca.clone());
    let ca = ca.unwrap_or_default();
    for version in [&TLS12, &TLS13] {
        for (offered, chosen) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "http/1.1")] {
            let config = trusting(&[&ca], &[version], offered)?;
            let stream = connect(&lab.portal, config).await?;
            let connection = stream.get_ref().1;
            ensure!(connection.protocol_version() == Some(version.version));
            ensure!(connection.alpn_protocol() == Some(chosen.as_bytes()));
        }
    }
    for version in [TLS_1_0, TLS_1_1] {
        let told = answer(&lab.portal, &hello(version, &[GCM])).await?;
        ensure!(
            told == (ALERT, Some(PROTOCOL_VERSION)),
            "{version:x}: {told:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn old_ciphers_are_refused() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let told = answer(&lab.portal, &hello(TLS_1_2, &OLD)).await?;
    ensure!(told == (ALERT, Some(HANDSHAKE_FAILURE)), "{told:?}");
    // It is the ciphers: with a good one among them the handshake goes on.
    let [old, ..] = OLD;
    let told = answer(&lab.portal, &hello(TLS_1_2, &[old, GCM])).await?;
    ensure!(told == (HANDSHAKE, None), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_protocol_that_is_not_http_is_refused() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let https = lab.portal.https().map(|https| https.ca.clone());
    let config = trusting(&[&https.unwrap_or_default()], &[&TLS13], &["imap"])?;
    let refused = connect(&lab.portal, config).await.err();
    let refused = refused.map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("NoApplicationProtocol"), "{refused:?}");
    Ok(())
}

/// Whoever forgets the `s` hears so, and is not kept waiting.
#[tokio::test]
async fn plain_http_is_told_that_this_is_https() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let body = "x".repeat(20_000);
    let post = format!("POST /users HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n{body}");
    for said in [
        "GET /health/live HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n",
        &post,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0",
    ] {
        let mut stream = TcpStream::connect(lab.portal.address()).await?;
        stream.write_all(said.as_bytes()).await?;
        let answer = timeout(Duration::from_secs(3), until_closed(stream)).await??;
        let answer = String::from_utf8(answer)?;
        ensure!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        ensure!(answer.ends_with("Only HTTPS is spoken here.\n"), "{answer}");
        ensure!(!answer.to_lowercase().contains("location"), "{answer}");
    }
    Ok(())
}
