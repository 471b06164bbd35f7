//! A portal that answers what it was told to, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use tests::agent::binary;
use tests::process::{Output, Program};
use tests::scratch::{self, Scratch};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request, as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// With the names of its headers in small letters.
    pub(super) head: String,
    pub(super) body: String,
}

impl Asked {
    /// Method and path with query.
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// Whether a header has this value.
    pub(super) fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }
}

/// An answer.
pub(super) enum Answer {
    /// The whole of it.
    Whole(u16, String),
    /// Likewise, to whoever asks for their own account.
    Account(u16, String),
    /// It breaks off.
    Broken(String),
    /// It is lost.
    Lost,
    /// It does not come.
    Never,
}

/// A portal that answers what it was told to.
pub(super) struct Canned {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Canned {
    /// Answers one request after another. Whoever asks for their own account and is not expected to
    /// must not read it, as with most API tokens.
    pub(super) async fn start(answers: Vec<Answer>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let heard = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            while let Some(next) = answers.peek() {
                let Ok((mut stream, _)) = listener.accept().await else {
                    return;
                };
                let expected = matches!(next, Answer::Account(..));
                let Ok(one) = request(&mut stream).await else {
                    continue;
                };
                if one.line().starts_with("GET /accounts/me ") && !expected {
                    let refused = Answer::Account(403, "{}".to_owned());
                    answer(stream, refused).await.ok();
                    continue;
                }
                heard.lock().expect("nobody panics").push(one);
                if let Some(next) = answers.next() {
                    answer(stream, next).await.ok();
                }
            }
        });
        Ok(Self {
            address,
            asked,
            task,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics").clone()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn request(stream: &mut TcpStream) -> anyhow::Result<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "no request");
    };
    let head = String::from_utf8(bytes[..end].to_vec())?.replace("\r\n", "\n");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(Ok(0), str::parse)?;
    while bytes.len() < end + 4 + length {
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "half a request");
    }
    let body = String::from_utf8(bytes[end + 4..].to_vec()).context("no UTF-8")?;
    Ok(Asked { head, body })
}

async fn answer(mut stream: TcpStream, answer: Answer) -> anyhow::Result<()> {
    let (status, framing) = match &answer {
        Answer::Whole(status, body) | Answer::Account(status, body) => {
            let length = body.len();
            (*status, format!("content-length: {length}\r\n\r\n{body}"))
        }
        Answer::Broken(body) => {
            let length = body.len();
            let chunk = format!("{length:x}\r\n{body}\r\n");
            (200, format!("transfer-encoding: chunked\r\n\r\n{chunk}"))
        }
        Answer::Lost => return Ok(()),
        Answer::Never => {
            // Until the other end gives up.
            tokio::spawn(async move { stream.read_u8().await });
            return Ok(());
        }
    };
    let reply = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\netag: \"7\"\r\n\
         content-type: application/json\r\n{framing}"
    );
    stream.write_all(reply.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

/// A place with files, and a portal.
pub(super) struct Desk {
    pub(super) place: Scratch,
    pub(super) portal: Canned,
}

impl Desk {
    pub(super) async fn new(answers: Vec<Answer>) -> anyhow::Result<Self> {
        let place = Scratch::new("desk")?;
        let portal = Canned::start(answers).await?;
        scratch::write(
            &place.path().join("users.csv"),
            0o600,
            "name;email\nAnn;ann@example.org",
        )?;
        Ok(Self { place, portal })
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.program(arguments)?.run(super::DEADLINE).await
    }

    pub(super) fn program(&self, arguments: &[&str]) -> anyhow::Result<Program> {
        let program = Program::new(binary("portalctl")?)
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.place.path())
            .env("PORTAL_URL", self.portal.url())
            .env("PORTAL_TOKEN", "pbxt_x")
            // Nobody is there: a token that goes to this machine goes through no proxy.
            .env("http_proxy", "http://127.0.0.1:9")
            .dir(self.place.path());
        Ok(program)
    }

    /// What was asked, in brief.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = self.portal.asked();
        asked.iter().map(|asked| asked.line().to_owned()).collect()
    }
}
