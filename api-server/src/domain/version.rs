//! Which state of a row somebody has seen.

/// How often a row was written: 1 when it was created, one more with each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub i64);

impl Version {
    /// Of what was just created.
    pub const FIRST: Self = Self(1);

    /// After one more change.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Which states of a row may be changed, as `If-Match` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is: nothing was said.
    Anything,
    /// It must be there, in whatever state.
    Existing,
    /// One of these. There may be none, when no tag of the header can be one of a row.
    OneOf(Vec<Version>),
}

/// The row is in another state than the caller expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The state that it is in.
    pub current: Version,
}

impl Expected {
    /// Whether a row in state `current` may be changed. To be asked under a lock on the row, or in
    /// the statement that changes it.
    pub fn check(&self, current: Version) -> Result<(), Moved> {
        match self {
            Self::Anything | Self::Existing => Ok(()),
            Self::OneOf(versions) if versions.contains(&current) => Ok(()),
            Self::OneOf(_) => Err(Moved { current }),
        }
    }
}
