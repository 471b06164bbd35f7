//! PBXes, and the registry of those that this portal works on.

mod registry;

pub use registry::{DefaultPbx, Pbx, Pbxes, find, keep, named_or_default, refresh};
