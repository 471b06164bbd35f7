//! An HTTP/2 peer that sends and keeps to itself what it likes.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a setting is called.
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// Largest frame.
const FRAME_BYTES_MAX: usize = 16_000;

/// A connection over `S`.
pub(crate) struct H2<S> {
    stream: S,
    /// What the portal says of itself.
    pub(crate) settings: Vec<(u16, u32)>,
    /// How much it takes of all streams together.
    pub(crate) window: u64,
    /// How much came on each frame of data.
    pub(crate) taken: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> H2<S> {
    /// Begins a connection whose streams may bring `window` bytes each, and hears the settings.
    pub(crate) async fn begin(stream: S, window: u32) -> anyhow::Result<Self> {
        let mut this = Self {
            stream,
            settings: Vec::new(),
            window: 65_535,
            taken: 0,
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        this.stream.write_all(preface).await?;
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        this.send(SETTINGS, 0, 0, &settings).await?;
        while this.settings.is_empty() {
            this.receive().await?;
        }
        this.send(SETTINGS, ACK, 0, &[]).await?;
        Ok(this)
    }

    async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> anyhow::Result<()> {
        let length = u32::try_from(payload.len())?.to_be_bytes();
        let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
        self.stream
            .write_all(&[&head[..], payload].concat())
            .await?;
        Ok(self.stream.flush().await?)
    }

    /// Asks something; a body follows unless `ended`.
    pub(crate) async fn ask(
        &mut self,
        id: u32,
        method: &str,
        path: &str,
        ended: bool,
    ) -> anyhow::Result<()> {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", method),
            (":scheme", "https"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/json"),
        ] {
            // Literals that are not indexed, each shorter than 127 bytes.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len())?);
                block.extend(text.bytes());
            }
        }
        let flags = END_HEADERS | if ended { END_STREAM } else { 0 };
        self.send(HEADERS, flags, id, &block).await
    }

    /// Sends a part of a body that never ends, as fast as the portal takes it.
    pub(crate) async fn say(&mut self, id: u32, part: &[u8]) -> anyhow::Result<()> {
        for piece in part.chunks(FRAME_BYTES_MAX) {
            let length = u64::try_from(piece.len())?;
            while self.window < length {
                self.receive().await?;
            }
            self.window -= length;
            self.send(DATA, 0, id, piece).await?;
        }
        Ok(())
    }

    /// Takes more of an answer.
    pub(crate) async fn take(&mut self, id: u32, bytes: u32) -> anyhow::Result<()> {
        let bytes = bytes.to_be_bytes();
        self.send(WINDOW_UPDATE, 0, 0, &bytes).await?;
        self.send(WINDOW_UPDATE, 0, id, &bytes).await
    }

    /// Receives one frame, and answers pings. Fails when the connection has ended.
    pub(crate) async fn receive(&mut self) -> anyhow::Result<()> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut payload).await?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
        let id = number(&head[5..]);
        match (head[3], head[4] & ACK) {
            (DATA, _) => self.taken += payload.len(),
            (SETTINGS, 0) => {
                let pairs = payload.chunks_exact(6);
                let read =
                    |pair: &[u8]| (u16::from_be_bytes([pair[0], pair[1]]), number(&pair[2..]));
                self.settings.extend(pairs.map(read));
            }
            (PING, 0) => self.send(PING, ACK, 0, &payload).await?,
            (WINDOW_UPDATE, _) if id == 0 => self.window += u64::from(number(&payload)),
            _ => {}
        }
        Ok(())
    }

    /// Receives until the portal ends the connection.
    pub(crate) async fn until_closed(&mut self) {
        while self.receive().await.is_ok() {}
    }
}
