//! The link without the portal's code, to send what no portal would: any message, any bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use prost::bytes::{Buf as _, BufMut as _};
use shared::tls::material::Material;
use shared::tls::{AGENT_DNS_NAME, TlsFiles};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

/// A connection to the agent with the certificate of `tls`.
pub async fn connect(agent: SocketAddr, tls: &TlsFiles) -> anyhow::Result<Channel> {
    let identity = "spiffe://pbx.internal/agent/default".parse()?;
    let material = Material::<ClientConfig>::of_portal(tls.clone(), identity);
    let connector = TlsConnector::from(Arc::clone(&material.current()?.config));
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let name = ServerName::try_from(AGENT_DNS_NAME).map_err(std::io::Error::other)?;
            let stream = TcpStream::connect(agent).await?;
            let stream = connector.connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://agent.pbx.internal");
    let channel = endpoint.connect_with_connector(connect).await;
    channel.context("connect to the agent")
}

/// Calls `/pbx.agent.v1.Agent/METHOD` with messages of any bytes. The answer is thrown away.
pub async fn call_with_bytes(
    channel: Channel,
    method: &str,
    messages: Vec<Vec<u8>>,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/pbx.agent.v1.Agent/{method}").parse();
    let path = path.map_err(|_| Status::internal("no such path"))?;
    let request = Request::new(tokio_stream::iter(messages));
    let answer = client.streaming(request, path, Raw).await?;
    let mut parts = answer.into_inner();
    while parts.message().await?.is_some() {}
    Ok(())
}

/// Bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}
