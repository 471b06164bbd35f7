//! Logging set-up, the same for both services, and what ties their lines together.
//!
//! A request to the portal is the root of a trace. The portal names it to the agent in W3C Trace
//! Context (`traceparent`), so that the spans of both sides, down to each step of an apply, carry
//! one `trace_id`, and each `parent_id` is the `span_id` of a span on the other side.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use uuid::Uuid;

/// The header, and the metadata key, that carries a [`TraceContext`].
pub const TRACEPARENT: &str = "traceparent";

/// Logs to standard error: text on a terminal, JSON lines elsewhere. `LOG` filters, in the syntax
/// of `tracing_subscriber::EnvFilter`; the default is `info`.
pub fn init() {
    let filter = EnvFilter::try_from_env("LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}

/// A place in a trace: which trace, and which span of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
}

impl TraceContext {
    /// A new span below `parent`; without one, the root of a new trace. `fresh` must be a new
    /// UUID with random bits at its end, as version 7 has.
    pub fn below(parent: Option<Self>, fresh: Uuid) -> Self {
        let (_, span) = fresh.as_u64_pair();
        let trace = parent.map_or(fresh.as_u128(), |parent| parent.trace);
        Self { trace, span }
    }

    /// Reads a `traceparent`. What is not one by the letter of the specification is none: half a
    /// context ties together what does not belong together.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hexadecimal = |part: &str, length: usize| {
            let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            part.len() == length && part.bytes().all(digit)
        };
        let well_formed = hexadecimal(version, 2)
            && hexadecimal(trace, 32)
            && hexadecimal(span, 16)
            && hexadecimal(flags, 2);
        // Later versions may append parts; version 00 has exactly these.
        if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok()?;
        let span = u64::from_str_radix(span, 16).ok()?;
        (trace != 0 && span != 0).then_some(Self { trace, span })
    }

    /// As `traceparent` says it.
    pub fn header(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// 16 hexadecimal digits.
    pub fn span_id(self) -> String {
        format!("{:016x}", self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_child_stays_in_the_trace() {
        let parent = TraceContext::parse(SAMPLE);
        let child = TraceContext::below(parent, Uuid::from_u128(7 << 64 | 9));
        assert_eq!(child.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(child.span_id(), "0000000000000009");
        assert_eq!(TraceContext::parse(&child.header()), Some(child));
        let root = TraceContext::below(None, Uuid::from_u128(7 << 64 | 9));
        assert_ne!(root.trace_id(), child.trace_id());
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
        let later = format!("01{}-more", &SAMPLE[2..]);
        assert!(TraceContext::parse(&later).is_some());
    }
}
