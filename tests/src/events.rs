//! Server-sent events: a reply that goes on, each event checked against the `OpenAPI` document.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::contract::Contract;

/// The media type.
pub const EVENT_STREAM: &str = "text/event-stream";

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerEvent {
    /// Its id, if it has one.
    pub id: Option<u64>,
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
}

/// The events of a whole stream, comments and the like left out.
pub fn read(text: &str) -> anyhow::Result<Vec<ServerEvent>> {
    let blocks = text.split("\n\n");
    blocks
        .filter_map(|block| event(block).transpose())
        .collect()
}

fn event(block: &str) -> anyhow::Result<Option<ServerEvent>> {
    let (mut id, mut name, mut data) = (None, None, Vec::new());
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            // A comment: the heartbeat.
            "" | "retry" => {}
            "id" => id = Some(value.parse()?),
            "event" => name = Some(value.to_owned()),
            "data" => data.push(value),
            other => bail!("{other} is no field of an event: {block}"),
        }
    }
    let Some(name) = name else {
        ensure!(data.is_empty(), "data without a name: {block}");
        return Ok(None);
    };
    let data = serde_json::from_str(&data.join("\n")).with_context(|| block.to_owned())?;
    Ok(Some(ServerEvent { id, name, data }))
}

/// A stream of events while it comes in.
pub struct EventStream {
    response: reqwest::Response,
    bytes: Vec<u8>,
    contract: Arc<Contract>,
}

impl EventStream {
    pub(crate) const fn new(response: reqwest::Response, contract: Arc<Contract>) -> Self {
        Self {
            response,
            bytes: Vec::new(),
            contract,
        }
    }

    /// The next event; `None` when the stream has ended in an orderly way.
    pub async fn next(&mut self) -> anyhow::Result<Option<ServerEvent>> {
        loop {
            while let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
                if let Some(event) = event(std::str::from_utf8(&block)?.trim_end())? {
                    self.contract.check_event(&event)?;
                    return Ok(Some(event));
                }
            }
            let Some(bytes) = self.response.chunk().await? else {
                let half = String::from_utf8_lossy(&self.bytes);
                ensure!(half.is_empty(), "half an event: {half}");
                return Ok(None);
            };
            self.bytes.extend_from_slice(&bytes);
        }
    }

    /// Every event up to the end of the stream.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<ServerEvent>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    /// Events up to the first that `wanted` takes, that one included.
    pub async fn until(
        &mut self,
        wanted: impl Fn(&ServerEvent) -> bool,
    ) -> anyhow::Result<Vec<ServerEvent>> {
        let mut events = Vec::new();
        loop {
            let next = self.next().await?;
            let event = next.with_context(|| format!("the stream ended after {events:#?}"))?;
            let found = wanted(&event);
            events.push(event);
            if found {
                return Ok(events);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_events_and_leaves_the_rest_out() {
        let text = "retry: 1000\n\n: \n\nevent: step\nid: 3\ndata: {\"a\":\ndata: 1}\n\n";
        let event = ServerEvent {
            id: Some(3),
            name: "step".to_owned(),
            data: serde_json::json!({ "a": 1 }),
        };
        assert_eq!(read(text).unwrap(), [event]);
        read("event: x\ndata: {\n\n").unwrap_err();
        read("dat: {}\n\n").unwrap_err();
    }
}
