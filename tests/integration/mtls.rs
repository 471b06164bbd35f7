//! Peers that are no TLS or say nothing. Who gets in and who does not: rows 12 and 13 of `faults`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::ensure;
use shared::bundle::Bundle;
use shared::record::Outcome;
use shared::status::EventKind;

use crate::pbx::{Pbx, bundle};

/// Longer than the agent gives a handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(20);

/// What is no TLS, and peers that say nothing, keep neither the portal out nor their connections.
#[tokio::test]
async fn junk_and_silence_do_not_stop_the_agent() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let junk: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &[0; 4096],
        b"\xff",
    ];
    let mut silent = Vec::new();
    for round in 0..5 {
        for bytes in junk {
            let mut socket = TcpStream::connect(pbx.agent.address())?;
            socket.write_all(bytes)?;
            // Some hang up at once, some stay and wait.
            if round % 2 == 0 {
                silent.push(socket);
            }
        }
        silent.push(TcpStream::connect(pbx.agent.address())?);
    }
    // Served while they wait.
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    // Each of them is turned away in the end.
    for socket in &mut silent {
        socket.set_read_timeout(Some(HANDSHAKE_DEADLINE))?;
        let mut rest = Vec::new();
        match socket.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => ensure!(
                error.kind() == ErrorKind::ConnectionReset,
                "still there: {error}"
            ),
        }
    }
    Ok(())
}

/// More silent peers than handshakes are made at once: whoever has been silent for longest has to go,
/// and the portal gets in at once.
#[tokio::test]
async fn a_crowd_of_silent_peers_does_not_keep_the_portal_out() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let connect = |_| TcpStream::connect(pbx.agent.address());
    let _silent: Vec<TcpStream> = (0..200).map(connect).collect::<Result<_, _>>()?;
    let status = pbx.link.status().await?;
    let refused = status.counters["pbx_agent_handshakes_refused_total"];
    ensure!(refused >= 100, "{refused}");
    // A crowd is one event, not two hundred.
    let told = status.events.iter();
    let told = told.filter(|event| event.kind == EventKind::PeerRefused);
    ensure!(told.count() == 1, "{:?}", status.events);
    let next: Bundle = bundle(&[1000], "one");
    assert_eq!(pbx.apply(&next).await?.outcome, Some(Outcome::Applied));
    Ok(())
}
