//! Numbers and addresses that users of a table give up and others of it get, in whatever order they
//! stand, also in a circle: before anybody gets one, whoever gives it up is moved aside.

use std::collections::{HashMap, HashSet};

use super::known::{Known, folded};
use super::{Wanted, locked};
use crate::db;
use crate::domain::user::User;
use crate::domain::{ExtensionNumber, UserId, Within};
use crate::services::Error;
use crate::services::bulk::is_refusal;
use crate::services::work::Work;

/// Users who are locked and moved aside, as they were before that.
pub(super) type Aside = HashMap<UserId, User>;

/// What users of some lines of a table hand over to each other.
pub(super) struct Exchange<'a> {
    /// The lines, by their place in the table.
    pub(super) lines: &'a [usize],
    wanted: &'a [Wanted],
    known: &'a Known,
    numbers: HashMap<ExtensionNumber, Vec<usize>>,
    emails: HashMap<String, Vec<usize>>,
    /// Who gives up what others want; by its place among the lines, as everywhere here.
    givers: Vec<usize>,
    /// Who keeps it nevertheless.
    kept: HashSet<usize>,
}

impl<'a> Exchange<'a> {
    pub(super) fn of(lines: &'a [usize], wanted: &'a [Wanted], known: &'a Known) -> Self {
        let mut exchange = Self {
            lines,
            wanted,
            known,
            numbers: HashMap::new(),
            emails: HashMap::new(),
            givers: Vec::new(),
            kept: HashSet::new(),
        };
        for (at, line) in lines.iter().enumerate() {
            let patch = &wanted[*line].patch;
            if let Some(number) = patch.extension {
                exchange.numbers.entry(number).or_default().push(at);
            }
            if let Some(email) = &patch.email {
                exchange.emails.entry(folded(email)).or_default().push(at);
            }
        }
        let gives_way = |(wanted, user): (&Wanted, Option<&User>)| {
            user.is_some_and(|user| {
                exchange.gives_number(wanted, user) || exchange.gives_email(wanted, user)
            })
        };
        let each = exchange.each().enumerate();
        exchange.givers = each
            .filter_map(|(at, line)| gives_way(line).then_some(at))
            .collect();
        exchange
    }

    /// What each line wants, and whom it means.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'a Wanted, Option<&'a User>)> {
        self.lines.iter().map(|line| self.line(*line))
    }

    fn line(&self, line: usize) -> (&'a Wanted, Option<&'a User>) {
        let wanted = &self.wanted[line];
        (wanted, self.known.find(wanted))
    }

    /// Whether a user gets another number, and somebody wants the one that it has.
    fn gives_number(&self, wanted: &Wanted, user: &User) -> bool {
        let other = wanted
            .patch
            .extension
            .is_some_and(|number| number != user.extension);
        other && self.numbers.contains_key(&user.extension)
    }

    /// Likewise of its address.
    fn gives_email(&self, wanted: &Wanted, user: &User) -> bool {
        let has = folded(&user.email);
        let other = wanted
            .patch
            .email
            .as_ref()
            .is_some_and(|email| folded(email) != has);
        other && self.emails.contains_key(&has)
    }

    /// Whose turn it is to give way.
    pub(super) fn givers(&self) -> impl Iterator<Item = usize> {
        let givers = self.givers.iter().copied();
        givers.filter(|giver| !self.kept.contains(giver))
    }

    /// Moves aside who gives way: others may get what it has. Who was changed or removed since it was
    /// looked up is left where it is when there is nothing to give any more.
    pub(super) async fn set_aside(
        &self,
        work: &mut Work<'_>,
        within: Within,
    ) -> Result<Aside, Error> {
        let mut aside = Aside::new();
        let (mut numbers, mut emails) = (Vec::new(), Vec::new());
        for giver in self.givers() {
            let (wanted, Some(seen)) = self.line(self.lines[giver]) else {
                continue;
            };
            let user = match locked(work, within, seen.id, wanted).await {
                Ok(user) => user,
                // Its line hears of it.
                Err(error) if is_refusal(&error) => continue,
                Err(error) => return Err(error),
            };
            let gives = (
                self.gives_number(wanted, &user),
                self.gives_email(wanted, &user),
            );
            if gives.0 {
                numbers.push(user.id);
            }
            if gives.1 {
                emails.push(user.id);
            }
            if gives.0 || gives.1 {
                aside.insert(user.id, user);
            }
        }
        let tenant = within.tenant();
        db::extensions::set_aside(work.connection(), tenant, &numbers).await?;
        db::users::set_email_aside(work.connection(), tenant, &emails).await?;
        Ok(aside)
    }

    /// Lets those keep what they have who were refused, and so those who would get it.
    pub(super) fn keep(&mut self, mut refused: Vec<usize>) {
        while let Some(one) = refused.pop() {
            if !self.kept.insert(one) {
                continue;
            }
            let (_, Some(user)) = self.line(self.lines[one]) else {
                continue;
            };
            let wanting = self.numbers.get(&user.extension).into_iter();
            let wanting = wanting.chain(self.emails.get(&folded(&user.email)));
            refused.extend(wanting.flatten());
        }
    }
}
