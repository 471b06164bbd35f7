//! The options of an object, small: the largest bundles have some hundred thousand objects, and the
//! agent holds those of two bundles at a time.

use std::collections::HashSet;
use std::sync::Arc;

/// The options of one PJSIP object, without its `type`, sorted by name.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Options(Vec<(&'static str, Arc<str>)>);

impl Options {
    /// None yet, and so many to come.
    pub(super) fn with_room_for(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// The value of an option.
    pub fn get(&self, option: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (*known).cmp(option));
        at.ok().map(|at| &*self.0[at].1)
    }

    /// Whether there is such an option.
    pub fn contains_key(&self, option: &str) -> bool {
        self.get(option).is_some()
    }

    /// All of them with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(option, value)| (*option, &**value))
    }

    /// Sets an option; `false` when it had a value, which is replaced.
    pub fn insert(&mut self, option: &'static str, value: impl Into<Arc<str>>) -> bool {
        let value = value.into();
        match self.0.binary_search_by(|(known, _)| (*known).cmp(option)) {
            Ok(at) => {
                self.0[at].1 = value;
                false
            }
            Err(at) => {
                self.0.insert(at, (option, value));
                true
            }
        }
    }
}

/// Texts that many objects have in common are kept once.
#[derive(Default)]
pub(super) struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// The one copy of `text`.
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }
}
