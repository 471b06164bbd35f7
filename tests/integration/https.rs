//! How clients reach the portal: HTTPS and its certificate, who is kept waiting and who has to go,
//! and where the portal refuses to start.

mod bodies;
mod browsers;
mod certificate;
mod floods;
mod h2;
mod hosts;
mod patience;
mod proxy;
mod start;
mod versions;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tests::lab::PortalLab;
use tests::portal::{Access, Portal};
use tests::postgres::TestDatabase;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// HTTPS without sign-in, which is not what is tested here.
const OPEN: Access = Access {
    login: false,
    https: true,
};

/// Longer than the portal has patience with anybody.
const DEADLINE: Duration = Duration::from_secs(75);

async fn lab(env: &[(&str, &str)]) -> anyhow::Result<PortalLab> {
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    PortalLab::reached_by(OPEN, TestDatabase::create().await?, &env).await
}

/// Whoever trusts these CAs.
fn trusting(
    authorities: &[&Path],
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from_pem_file(authority)?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().into())
        .collect();
    Ok(Arc::new(config))
}

/// A client of `portal` as most are.
fn usual(portal: &Portal) -> anyhow::Result<Arc<ClientConfig>> {
    let https = portal.https().ok_or_else(|| anyhow::anyhow!("no HTTPS"))?;
    trusting(&[&https.ca], &[&TLS13, &TLS12], &["http/1.1"])
}

async fn connect(portal: &Portal, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    connect_from([127, 0, 0, 1], portal, config).await
}

/// From another loopback address.
async fn connect_from(
    address: [u8; 4],
    portal: &Portal,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((address, 0).into())?;
    let stream = socket.connect(portal.address()).await?;
    let name = ServerName::from(portal.address().ip());
    TlsConnector::from(config).connect(name, stream).await
}

/// Everything that comes until the other end closes, however it does.
async fn until_closed(mut stream: impl AsyncRead + Unpin) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        loop {
            match stream.read(&mut buffer).await {
                // A reset, or an end without goodbye, is an end.
                Ok(0) | Err(_) => return,
                Ok(count) => all.extend_from_slice(&buffer[..count]),
            }
        }
    };
    timeout(DEADLINE, read).await?;
    Ok(all)
}
