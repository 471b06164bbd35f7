//! The accept loop: HTTPS or plain HTTP, limits that axum's own leaves open, and an orderly end.
//!
//! Each connection is one task with a place ([`places`]), which has it from the start: handshake,
//! requests, end. What makes it give the place back: a handshake that takes too long or is displaced
//! ([`handshake`]), a peer that keeps the portal waiting ([`activity`], [`connection`]), a newcomer
//! when all places are taken, the end of the portal.

mod activity;
mod connection;
mod handshake;
mod places;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use self::connection::Server;
use self::handshake::Handshakes;
use self::places::{Place, Places};
use crate::https::Https;

/// Pause after the process ran out of file descriptors, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What still runs after the loop has ended.
pub(crate) struct Running(watch::Sender<bool>);

impl Running {
    /// Lets running requests end and closes idle connections.
    pub(crate) async fn shutdown(self) {
        self.0.send_replace(true);
        // Each connection has a receiver.
        self.0.closed().await;
    }
}

/// Hears that the portal ends.
struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Returns then.
    async fn said(&mut self) {
        self.0.wait_for(|stop| *stop).await.ok();
    }
}

/// Accepts until `stop` resolves: HTTPS, or plain HTTP without it.
pub(crate) async fn serve(
    listener: TcpListener,
    https: Option<Arc<Https>>,
    router: Router,
    stop: impl Future<Output = &'static str>,
) -> Running {
    let running = watch::Sender::new(false);
    let places = match https {
        Some(_) => Places::of_clients(),
        None => Places::of_proxy(),
    };
    let server = Server::new(router);
    let mut handshakes = Handshakes::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accept = async {
            let (stream, peer) = listener.accept().await?;
            // Further ones wait in the kernel's queue.
            let place = places.take(peer.ip()).await;
            Ok::<_, io::Error>(place.map(|place| (stream, peer, place)))
        };
        let accepted = tokio::select! {
            reason = &mut stop => {
                tracing::info!(reason, "stopping");
                return Running(running);
            }
            accepted = accept => accepted,
        };
        match accepted {
            Ok(Some((stream, peer, place))) => {
                let arrival = Arrival {
                    stream,
                    peer,
                    stop: Stop(running.subscribe()),
                    place,
                };
                match &https {
                    Some(https) => {
                        let displaced = handshakes.make_room();
                        tokio::spawn(secure(
                            arrival,
                            Arc::clone(https),
                            displaced,
                            server.clone(),
                        ));
                    }
                    None => drop(tokio::spawn(plain(arrival, server.clone()))),
                }
            }
            // Its address has enough.
            Ok(None) => {}
            Err(error) if is_of_the_client(error.kind()) => {}
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

/// A connection that was just accepted.
struct Arrival {
    stream: TcpStream,
    peer: SocketAddr,
    stop: Stop,
    place: Place,
}

async fn plain(arrival: Arrival, server: Server) {
    let Arrival {
        stream,
        peer,
        mut stop,
        mut place,
    } = arrival;
    stream.set_nodelay(true).ok();
    server.serve(stream, peer, &mut place, &mut stop).await;
}

async fn secure(
    arrival: Arrival,
    https: Arc<Https>,
    displaced: oneshot::Receiver<()>,
    server: Server,
) {
    let Ok(config) = https.current() else {
        return;
    };
    let Arrival {
        stream,
        peer,
        mut stop,
        mut place,
    } = arrival;
    stream.set_nodelay(true).ok();
    let secured = tokio::select! {
        secured = handshake::shake_hands(stream, config) => secured,
        _ = displaced => Err(handshake::Failed::Displaced),
        () = place.displaced() => Err(handshake::Failed::Displaced),
        // Whoever is not in yet has asked for nothing.
        () = stop.said() => return,
    };
    match secured {
        Ok(stream) => server.serve(stream, peer, &mut place, &mut stop).await,
        // Whoever scans ports would fill the log at any higher level.
        Err(why) => tracing::debug!(%peer, %why, "handshake failed"),
    }
}

fn is_of_the_client(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}
