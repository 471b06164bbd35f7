//! What a partial change says about one value.

/// What a partial change says about a value that may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Nothing: it stays.
    #[default]
    Keep,
    /// It goes.
    Clear,
    /// It becomes this.
    Set(T),
}

impl<T> Patch<T> {
    /// Nothing, where the value is so already.
    #[must_use]
    pub fn unless_already(self, value: Option<&T>) -> Self
    where
        T: PartialEq,
    {
        match (&self, value) {
            (Self::Clear, None) => Self::Keep,
            (Self::Set(new), Some(value)) if new == value => Self::Keep,
            _ => self,
        }
    }

    /// Changes `value` accordingly.
    pub fn apply(self, value: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *value = None,
            Self::Set(new) => *value = Some(new),
        }
    }
}

/// Replaces `value` where a partial change names a new one.
pub fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}
