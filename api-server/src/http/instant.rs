//! Times that clients say: RFC 3339, of the years that both the portal and its database can reckon with.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// Reads a time, in UTC from then on; `None` when it is none, or of another age.
pub(super) fn instant(text: &str) -> Option<OffsetDateTime> {
    of_our_calendar(OffsetDateTime::parse(text, &Rfc3339).ok()?)
}

/// A time of the years 1 to 9999 in UTC. An offset can lead beyond what a date can be, and PostgreSQL
/// holds fewer years than a date can have.
pub(super) fn of_our_calendar(time: OffsetDateTime) -> Option<OffsetDateTime> {
    let time = time.checked_to_offset(UtcOffset::UTC)?;
    (1..=9999).contains(&time.year()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_from_1_to_9999_in_utc() {
        for good in [
            "2026-01-31T12:00:00+02:00",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            let read = instant(good);
            assert!(read.is_some_and(|time| time.offset().is_utc()), "{good}");
        }
        for bad in [
            "",
            "2026-01-31",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+00:01",
            "0000-12-31T23:59:59Z",
        ] {
            assert!(instant(bad).is_none(), "{bad}");
        }
    }
}
