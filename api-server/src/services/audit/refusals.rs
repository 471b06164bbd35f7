//! Requests that were refused, sign-ins among them: in the audit trail, but not as many as somebody cares
//! to send. Of one address, or of one account, some a minute are written down; the others are counted,
//! and the count is written down when the minute has passed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::causes::causes;
use crate::db;
use crate::domain::audit::{Author, Entry};
use crate::domain::{AccountId, Actor};
use crate::services::denied::Denied;
use crate::services::{Error, Portal};

/// How long is counted before the count is written down.
const WINDOW: Duration = Duration::from_mins(1);

/// Refusals of one account that are written down in that time: it is known who that is.
const OF_ACCOUNT_MAX: u64 = 20;

/// Refusals of whoever is not known: with credentials that are none, by another site's page.
const OF_ADDRESS_MAX: u64 = 1;

/// Failures of one address to sign in: as many as lock a login.
const FAILURES_MAX: u64 = 5;

/// Attempts of one address to sign in to what is locked: nothing is looked at then.
const LOCKED_MAX: u64 = 1;

/// Most sources that are told apart. All further ones are one.
const SOURCES_MAX: usize = 4096;

/// What refusals are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Account(AccountId),
    /// IPv6: the first 64 bits, which is what one host can change the rest of.
    Address(IpAddr),
    /// Likewise, of whoever fails to sign in.
    Failure(IpAddr),
    /// Likewise, of whoever tries what is locked.
    Locked(IpAddr),
    Others,
}

/// Since when, and how many.
#[derive(Debug)]
struct Window {
    since: Instant,
    limit: u64,
    written: u64,
    /// Those that were not written down, and one of them.
    counted: u64,
    last: Option<(Author, Entry)>,
}

/// The refusals of the last minute.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Source, Window>>);

impl Refusals {
    /// Whether a refusal is to be written down now; otherwise it is counted.
    fn take(
        &self,
        (source, limit): (Source, u64),
        now: Instant,
        author: &Author,
        entry: &Entry,
    ) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = windows.contains_key(&source) || windows.len() < SOURCES_MAX;
        let source = if known { source } else { Source::Others };
        let window = windows.entry(source).or_insert_with(|| Window {
            since: now,
            limit,
            written: 0,
            counted: 0,
            last: None,
        });
        if window.written < window.limit {
            window.written += 1;
            return true;
        }
        window.counted += 1;
        window.last = Some((author.clone(), entry.clone()));
        false
    }

    /// What was counted in the minutes that have passed, as entries. Whoever was counted goes on
    /// being counted.
    fn passed(&self, now: Instant) -> Vec<Entry> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        windows.retain(|_, window| {
            if now - window.since < WINDOW {
                return true;
            }
            let Some((author, entry)) = window.last.take() else {
                return false;
            };
            entries.push(counted(author, entry, window.counted));
            window.since = now;
            window.written = window.limit;
            window.counted = 0;
            true
        });
        entries
    }
}

/// An entry that stands for many: that of the last one, with their number.
fn counted(mut author: Author, mut entry: Entry, count: u64) -> Entry {
    author.request_id = None;
    if let Some(after) = &mut entry.after {
        after["count"] = count.into();
    }
    entry.by(author)
}

/// Writes down that somebody may not do what it asked for, whether it is known who that is or not.
pub async fn refused(portal: &Portal, actor: &Actor, operation: &str, denied: &Denied) {
    let permission = match denied {
        Denied::Forbidden(permission) => Some(permission.name()),
        _ => None,
    };
    let entry = Entry::new("request.refused", "operation", &operation)
        .of(actor.reach().tenant())
        .changing(
            None,
            Some(json!({
                "reason": denied.to_string(), "permission": permission, "count": 1,
            })),
        );
    let (source, limit) = match actor.account() {
        Some(known) => (Source::Account(known.account), OF_ACCOUNT_MAX),
        None => (Source::Address(block(actor.source)), OF_ADDRESS_MAX),
    };
    write(portal, (source, limit), actor, entry).await;
}

/// Whether it is to be written down that an address failed to sign in; otherwise it is counted.
pub fn is_told_of_failure(portal: &Portal, actor: &Actor, entry: &Entry) -> bool {
    let source = Source::Failure(block(actor.source));
    is_told(portal, (source, FAILURES_MAX), actor, entry)
}

/// Likewise, that it tried to sign in to what is locked.
pub fn is_told_of_locked(portal: &Portal, actor: &Actor, entry: &Entry) -> bool {
    let source = Source::Locked(block(actor.source));
    is_told(portal, (source, LOCKED_MAX), actor, entry)
}

fn is_told(portal: &Portal, source: (Source, u64), actor: &Actor, entry: &Entry) -> bool {
    let author = Author::from(actor);
    portal.refusals.take(source, Instant::now(), &author, entry)
}

/// It is refused all the same when that cannot be written down.
async fn write(portal: &Portal, source: (Source, u64), actor: &Actor, entry: Entry) {
    if !is_told(portal, source, actor, &entry) {
        return;
    }
    if let Err(error) = super::note(portal, actor, entry).await {
        tracing::warn!(
            error = causes(&error),
            "a refusal could not be written down"
        );
    }
}

/// Writes down what was counted.
pub(super) async fn write_counts(portal: &Portal) -> Result<(), Error> {
    let entries = portal.refusals.passed(Instant::now());
    if entries.is_empty() {
        return Ok(());
    }
    let mut transaction = portal.database.begin().await?;
    super::append(portal, &mut transaction, &entries).await?;
    Ok(db::commit(transaction).await?)
}

fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let block = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(block))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author() -> Author {
        Author::portal().for_request("r")
    }

    fn entry() -> Entry {
        let after = json!({ "count": 1 });
        Entry::new("request.refused", "operation", &"list_users").changing(None, Some(after))
    }

    #[test]
    fn more_than_the_limit_are_counted_and_told_after_a_minute() {
        let refusals = Refusals::default();
        let ann = Source::Address(IpAddr::from([127, 0, 0, 1]));
        let bob = Source::Address(IpAddr::from([127, 0, 0, 2]));
        let begin = Instant::now();
        let take = |source, now| refusals.take((source, 1), now, &author(), &entry());
        assert!(take(ann, begin) && !take(ann, begin) && !take(ann, begin) && take(bob, begin));
        assert!(refusals.passed(begin).is_empty());
        let told = refusals.passed(begin + WINDOW);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].after, Some(json!({ "count": 2 })));
        let by = told[0].author.as_ref();
        assert_eq!(by.map(|by| &by.request_id), Some(&None));
        // One a minute: this one was told of just now. The other one was forgotten.
        assert!(!take(ann, begin + WINDOW) && take(bob, begin + WINDOW));
        assert_eq!(refusals.passed(begin + 2 * WINDOW).len(), 1);
        assert!(refusals.passed(begin + 3 * WINDOW).is_empty());
        assert!(take(ann, begin + 3 * WINDOW));
    }

    #[test]
    fn those_beyond_the_bound_are_one() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let take = |n: u32| {
            let source = Source::Address(IpAddr::from(n.to_be_bytes()));
            refusals.take((source, 1), now, &author(), &entry())
        };
        let written = (0..10_000).filter(|n| take(*n)).count();
        assert_eq!(written, SOURCES_MAX + 1);
    }

    #[test]
    fn a_host_has_one_block_of_addresses() {
        let block_of = |text: &str| block(text.parse().unwrap()).to_string();
        assert_eq!(block_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(block_of("192.0.2.7"), "192.0.2.7");
    }
}
