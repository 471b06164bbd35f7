//! Whom the lines of a table mean.

use std::collections::{HashMap, HashSet};

use super::Wanted;
use crate::db;
use crate::domain::user::User;
use crate::domain::{Email, UserId, Within};
use crate::services::Error;
use crate::services::bulk::LOOKED_UP;
use crate::services::work::Work;

/// The users that are meant, as they are.
pub(super) struct Known {
    by_id: HashMap<UserId, User>,
    by_email: HashMap<String, UserId>,
    /// Addresses that somebody who is named by its id gives up: whoever has one then is another.
    given_up: HashSet<String>,
}

impl Known {
    pub(super) async fn of(
        work: &mut Work<'_>,
        within: Within,
        wanted: &[Wanted],
    ) -> Result<Self, Error> {
        let mut known = Self {
            by_id: HashMap::new(),
            by_email: HashMap::new(),
            given_up: HashSet::new(),
        };
        for some in wanted.chunks(LOOKED_UP) {
            let ids: Vec<UserId> = some.iter().filter_map(|one| one.id).collect();
            let emails: Vec<&Email> = some
                .iter()
                .filter(|one| one.id.is_none())
                .filter_map(|one| one.patch.email.as_ref())
                .collect();
            let tenant = within.tenant();
            let found = db::users::find_many(work.connection(), tenant, &ids, &emails).await?;
            for user in found.into_iter().filter(|user| within.has(user.id)) {
                known.by_email.insert(folded(&user.email), user.id);
                known.by_id.insert(user.id, user);
            }
        }
        for one in wanted {
            let named = one.id.and_then(|id| known.by_id.get(&id));
            if let Some((user, email)) = named.zip(one.patch.email.as_ref())
                && folded(&user.email) != folded(email)
            {
                known.given_up.insert(folded(&user.email));
            }
        }
        Ok(known)
    }

    pub(super) fn find(&self, wanted: &Wanted) -> Option<&User> {
        let by_email = || {
            let email = folded(wanted.patch.email.as_ref()?);
            let given_up = self.given_up.contains(&email);
            self.by_email.get(&email).filter(|_| !given_up).copied()
        };
        let id = wanted.id.or_else(by_email)?;
        self.by_id.get(&id)
    }
}

/// Who stood in what was sent already.
#[derive(Default)]
pub(super) struct Seen {
    users: HashSet<UserId>,
    emails: HashSet<String>,
}

impl Seen {
    pub(super) fn of(users: &[UserId]) -> Self {
        Self {
            users: users.iter().copied().collect(),
            emails: HashSet::new(),
        }
    }

    /// What of it stood there already.
    pub(super) fn has(&mut self, before: Option<&User>, wanted: &Wanted) -> Option<&'static str> {
        let by_id = wanted.id.is_some();
        let user = before.is_some_and(|user| !self.users.insert(user.id));
        let email = wanted.patch.email.as_ref();
        let email = email.is_some_and(|email| !self.emails.insert(folded(email)));
        match (user, email) {
            (true, _) if by_id => Some("id"),
            (false, false) => None,
            (_, _) => Some("email"),
        }
    }
}

/// Addresses are compared whatever their case.
pub(super) fn folded(email: &Email) -> String {
    email.as_str().to_ascii_lowercase()
}
