//! What one bundle changes against another: object by object, user by user. Pure.
//!
//! Objects are read from the files as Asterisk would read them, not by today's vocabulary: what was
//! stored by an earlier version can be compared as well.

mod compare;

use std::collections::{BTreeMap, BTreeSet};

use shared::bundle::{Bundle, Revision};
use shared::conf::ReadError;
use shared::names::{self, Owner};

use self::compare::{compare, compare_users, read};
use super::apply::IncludedUser;
use super::viewer::Confined;

/// Options whose values may be shown. Whatever is not named here counts as a secret, so that an
/// option that somebody adds later is hidden until somebody decides.
const SHOWN: [&str; 25] = [
    "accountcode",
    "allow",
    "aors",
    "auth",
    "auth_type",
    "callerid",
    "context",
    "direct_media",
    "disallow",
    "exten",
    "force_rport",
    "max_contacts",
    "maximum_expiration",
    "qualify_frequency",
    "realm",
    "remove_existing",
    "rewrite_contact",
    "rtp_symmetric",
    "supported_algorithms_uac",
    "supported_algorithms_uas",
    "transport",
    "type",
    "username",
    "voicemail_extension",
    // Of a dialplan entry: see `extensions`.
    STEPS,
];

/// The field of a dialplan entry that holds what it does.
const STEPS: &str = "steps";

/// Whether the value of an option must never be shown.
pub fn is_secret(option: &str) -> bool {
    !SHOWN.contains(&option)
}

/// What happens to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is new.
    Added,
    /// It was there and becomes different.
    Changed,
    /// It goes.
    Removed,
}

impl Action {
    const ALL: [Self; 3] = [Self::Added, Self::Changed, Self::Removed];

    /// The word that the database and the API use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New ones.
    pub added: usize,
    /// Different ones.
    pub changed: usize,
    /// Ones that go.
    pub removed: usize,
}

impl Counts {
    fn of(actions: impl Iterator<Item = Action>) -> Self {
        let mut counts = Self::default();
        actions.for_each(|action| counts.count(action));
        counts
    }

    const fn count(&mut self, action: Action) {
        match action {
            Action::Added => self.added += 1,
            Action::Changed => self.changed += 1,
            Action::Removed => self.removed += 1,
        }
    }

    /// All of them.
    pub const fn total(&self) -> usize {
        self.added + self.changed + self.removed
    }
}

/// An object of Asterisk, by type and name.
///
/// The order puts the objects of an extension together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its name; of a dialplan entry, `extension@context`.
    pub name: String,
    /// `endpoint`, `auth`, `aor`, `extension`.
    pub kind: String,
}

impl ObjectName {
    /// The number of the tenant whose object it is; `None`: nobody's that is known.
    fn tenant(&self) -> Option<u32> {
        let context = match self.kind.as_str() {
            "context" => self.name.as_str(),
            "extension" => self.name.split_once('@')?.1,
            _ => return Some(names::owner_of_object(&self.name)?.tenant),
        };
        names::tenant_of_context(context)
    }

    fn is_of(&self, to: Confined) -> bool {
        self.tenant() == Some(to.number.get())
    }
}

/// What is to be shown of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// There is none.
    Absent,
    /// The value.
    Value(String),
    /// There is one, and it is nobody's business.
    Secret,
}

/// An option that becomes another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The option.
    pub field: String,
    /// What it was.
    pub old: Shown,
    /// What it becomes.
    pub new: Shown,
}

/// An object that differs between two bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// Which object.
    pub object: ObjectName,
    /// What happens to it.
    pub action: Action,
    /// What differs; empty unless it is changed.
    pub fields: Vec<FieldChange>,
}

impl ObjectChange {
    /// Whose object it is, if it is a user's.
    fn owner(&self) -> Option<Owner> {
        let ObjectName { name, kind } = &self.object;
        if kind != "extension" {
            return names::owner_of_object(name);
        }
        let (extension, context) = name.split_once('@')?;
        Some(Owner {
            tenant: names::tenant_of_context(context)?,
            extension: names::number(extension)?,
        })
    }
}

/// A user that a change concerns, as the newer of the two bundles knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserChange {
    /// What happens to the user on the PBX.
    pub action: Action,
    /// Who.
    pub user: IncludedUser,
}

/// Everything that one bundle changes against another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Every object that differs, sorted by name; the generation markers, which differ whenever
    /// anything does, are left out.
    pub objects: Vec<ObjectChange>,
    /// Every user that differs, by tenant and extension.
    pub users: Vec<UserChange>,
}

impl Changes {
    /// What of it is a tenant's.
    #[must_use]
    pub fn of_tenant(mut self, to: Confined) -> Self {
        self.objects.retain(|change| change.object.is_of(to));
        self.users.retain(|change| to.has_user(&change.user));
        self
    }

    /// Compares two bundles with the users that they were made of.
    ///
    /// # Errors
    /// One of the files cannot be read as Asterisk's configuration.
    pub fn between(old: Side<'_>, new: Side<'_>) -> Result<Self, ReadError> {
        if old.bundle.map(|bundle| &bundle.files) == new.bundle.map(|bundle| &bundle.files) {
            return Ok(Self::default());
        }
        let objects = compare(&read(old.bundle)?, &read(new.bundle)?);
        let users = compare_users(old.users, new.users, &objects);
        Ok(Self { objects, users })
    }

    /// How many objects.
    pub fn object_counts(&self) -> Counts {
        Counts::of(self.objects.iter().map(|change| change.action))
    }

    /// How many users.
    pub fn user_counts(&self) -> Counts {
        Counts::of(self.users.iter().map(|change| change.action))
    }

    /// The AORs at which a phone may be registered that notices the change.
    pub fn touched_aors(&self) -> Vec<String> {
        let known = |change: &&ObjectChange| {
            change.action != Action::Added && change.object.kind != "extension"
        };
        let touched: BTreeSet<&str> = self
            .objects
            .iter()
            .filter(known)
            .map(|change| names::device(&change.object.name))
            .collect();
        touched.into_iter().map(str::to_owned).collect()
    }

    /// What the audit trail keeps of it.
    pub fn summary(&self, against: Option<Revision>) -> Summary {
        let objects = self.objects.iter().take(NAMES_KEPT);
        let object = |change: &ObjectChange| (change.action, change.object.clone());
        Summary {
            against,
            objects: self.object_counts(),
            object_names: objects.map(object).collect(),
            users: self.user_counts(),
            user_names: self.users.iter().take(NAMES_KEPT).cloned().collect(),
            tenants: self.tenant_counts(),
        }
    }

    fn tenant_counts(&self) -> BTreeMap<u32, TenantCounts> {
        let mut tenants: BTreeMap<u32, TenantCounts> = BTreeMap::new();
        for change in &self.objects {
            if let Some(tenant) = change.object.tenant() {
                let counts = tenants.entry(tenant).or_default();
                counts.objects.count(change.action);
            }
        }
        for change in &self.users {
            let counts = tenants.entry(change.user.tenant).or_default();
            counts.users.count(change.action);
        }
        tenants
    }
}

/// One of two bundles, with the users that it was made of.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// `None`: nothing was ever in force.
    pub bundle: Option<&'a Bundle>,
    /// Who they were.
    pub users: &'a [IncludedUser],
}

/// How many names of objects, and of users, the audit trail keeps of a change.
pub const NAMES_KEPT: usize = 50;

/// What the audit trail keeps of a change: how much it was, and the first names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The revision that it was compared with; `None`: nothing was proven before.
    pub against: Option<Revision>,
    /// How many objects.
    pub objects: Counts,
    /// The first [`NAMES_KEPT`] of them.
    pub object_names: Vec<(Action, ObjectName)>,
    /// How many users.
    pub users: Counts,
    /// The first [`NAMES_KEPT`] of them.
    pub user_names: Vec<UserChange>,
    /// How many of each are of which tenant, by its number; empty when nothing changes, and in what
    /// was kept before this was counted.
    pub tenants: BTreeMap<u32, TenantCounts>,
}

/// How many changes are a tenant's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantCounts {
    /// Objects.
    pub objects: Counts,
    /// Users.
    pub users: Counts,
}

impl Summary {
    /// What of it is a tenant's: the counts, and those of the names that were kept. `None` when it
    /// was not counted and cannot be any more.
    pub fn of_tenant(mut self, to: Confined) -> Option<Self> {
        let names_all = self.objects.total() == self.object_names.len()
            && self.users.total() == self.user_names.len();
        let counted = !self.tenants.is_empty();
        self.object_names.retain(|(_, object)| object.is_of(to));
        self.user_names.retain(|change| to.has_user(&change.user));
        let counts = if counted {
            let own = self.tenants.get(&to.number.get());
            own.copied().unwrap_or_default()
        } else if names_all {
            TenantCounts {
                objects: Counts::of(self.object_names.iter().map(|(action, _)| *action)),
                users: Counts::of(self.user_names.iter().map(|change| change.action)),
            }
        } else {
            return None;
        };
        self.objects = counts.objects;
        self.users = counts.users;
        self.tenants.clear();
        Some(self)
    }
}

#[cfg(test)]
mod tests;
