//! An answer that comes before the request's body was read leaves the connection usable, or says that
//! it ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::lab::PortalLab;

/// Sends bytes and reads one answer, whose length its head tells.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> anyhow::Result<String> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte)? == 1, "the connection ended");
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer)?.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.context("no length")?.parse()?];
    stream.read_exact(&mut body)?;
    Ok(head)
}

#[tokio::test]
async fn an_early_answer_leaves_the_connection_usable() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let address = lab.portal.address();
    // Nowhere, a method that the path does not take, and a tenant that is nobody's.
    for target in [
        "POST /nowhere",
        "DELETE /users",
        "POST /tenants/nobody/users",
    ] {
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            for _ in 0..50 {
                let head = format!(
                    "{target} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
                     content-length: 2000\r\n\r\n"
                );
                // The body comes behind its head, as from a real network.
                stream.write_all(head.as_bytes())?;
                let answer = exchange(&mut stream, &[b' '; 2000])?;
                ensure!(answer.starts_with("http/1.1 40"), "{answer}");
                ensure!(!answer.contains("connection: close"), "{answer}");
            }
            // More than is read: the client hears that the connection ends.
            let head =
                format!("{target} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 10000000\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            let answer = exchange(&mut stream, &[b' '; 1000])?;
            ensure!(answer.contains("connection: close"), "{answer}");
            anyhow::Ok(())
        });
        asked.await?.with_context(|| target.to_owned())?;
    }
    Ok(())
}
