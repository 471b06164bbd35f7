//! An apply while it runs, as the portal tells it: server-sent events.

use std::time::Duration;

use api_server::http::bodies::{StateBody, StepBody};
use reqwest::header::HeaderName;
use tokio::time::timeout;

use crate::api::{Api, broken};
use crate::failure::Failure;
use crate::operations::FOLLOW_APPLY;

/// How long a stream may be silent: the portal sends something every 10 s.
const SILENCE_DEADLINE: Duration = Duration::from_secs(35);

/// How long to wait before a stream that was cut is taken up again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often that is tried without hearing anything.
const RETRIES: u32 = 10;

/// Something that happened.
pub(crate) enum Event {
    /// The portal does something.
    State(StateBody),
    /// A step has ended.
    Step(StepBody),
    /// The attempt has ended: its record tells how.
    Ended,
}

/// Follows an apply to its end; a stream that is cut is taken up again where it was.
///
/// # Errors
/// The portal does not answer any more. The apply goes on without anybody listening.
pub(crate) async fn follow(
    api: &Api,
    id: &str,
    mut tell: impl FnMut(Event),
) -> Result<(), Failure> {
    let (mut last, mut failures) = (None, 0);
    loop {
        let heard = listen(api, id, &mut last, &mut tell, &mut failures).await;
        let failure = match heard {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(Failure::Unreachable(said)) => Some(said),
            Err(Failure::Refused(refusal)) if refusal.status >= 500 => None,
            Err(other) => return Err(other),
        };
        failures += 1;
        if failures > RETRIES {
            let said = failure.unwrap_or_else(|| "the portal says nothing".to_owned());
            return Err(Failure::Unreachable(format!(
                "{said}. The apply goes on: `portalctl history {id}` tells how it ended"
            )));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Listens to one stream; whether the end came.
async fn listen(
    api: &Api,
    id: &str,
    last: &mut Option<String>,
    tell: &mut impl FnMut(Event),
    failures: &mut u32,
) -> Result<bool, Failure> {
    let mut call = api.call(&FOLLOW_APPLY).at(id);
    if let Some(last) = last.as_deref() {
        call = call.header(HeaderName::from_static("last-event-id"), last);
    }
    let mut response = call.open().await?;
    let mut buffer = Buffer::default();
    loop {
        let chunk = timeout(SILENCE_DEADLINE, response.chunk()).await;
        let silent = |_| Failure::Unreachable("the portal fell silent".to_owned());
        let Some(chunk) = chunk.map_err(silent)?.map_err(broken)? else {
            return Ok(false);
        };
        buffer.add(&chunk);
        while let Some(raw) = buffer.next() {
            *failures = 0;
            if raw.id.is_some() {
                last.clone_from(&raw.id);
            }
            match raw.event()? {
                Some(Event::Ended) => {
                    tell(Event::Ended);
                    return Ok(true);
                }
                Some(event) => tell(event),
                None => {}
            }
        }
    }
}

/// What has come in and is not a whole event yet.
#[derive(Default)]
struct Buffer(Vec<u8>);

/// An event as it stands in the stream.
#[derive(Debug, Default, PartialEq)]
struct Raw {
    id: Option<String>,
    name: String,
    data: String,
}

impl Buffer {
    fn add(&mut self, bytes: &[u8]) {
        // The portal ends lines by \n; something in between may make \r\n of it.
        self.0.extend(bytes.iter().filter(|byte| **byte != b'\r'));
    }

    fn next(&mut self) -> Option<Raw> {
        let end = self.0.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = self.0.drain(..end + 2).collect();
        let mut raw = Raw::default();
        for line in String::from_utf8_lossy(&block).lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => raw.id = Some(value.to_owned()),
                "event" => value.clone_into(&mut raw.name),
                "data" if raw.data.is_empty() => value.clone_into(&mut raw.data),
                "data" => raw.data = format!("{}\n{value}", raw.data),
                // Comments, which keep the stream open, and what the future brings.
                _ => {}
            }
        }
        Some(raw)
    }
}

impl Raw {
    fn event(&self) -> Result<Option<Event>, Failure> {
        let unreadable = |error| Failure::unreadable("an event", &error);
        Ok(match self.name.as_str() {
            "state" => Some(Event::State(
                serde_json::from_str(&self.data).map_err(unreadable)?,
            )),
            "step" => Some(Event::Step(
                serde_json::from_str(&self.data).map_err(unreadable)?,
            )),
            "ended" => Some(Event::Ended),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_pieces() {
        let mut buffer = Buffer::default();
        let stream =
            "retry: 1000\n\n: \n\nevent: step\nid: 3\ndata: {\"a\":\ndata: 1}\r\n\r\nevent: e";
        let mut found = Vec::new();
        for byte in stream.bytes() {
            buffer.add(&[byte]);
            found.extend(buffer.next());
        }
        let step = Raw {
            id: Some("3".to_owned()),
            name: "step".to_owned(),
            data: "{\"a\":\n1}".to_owned(),
        };
        assert_eq!(found, [Raw::default(), Raw::default(), step]);
    }
}
