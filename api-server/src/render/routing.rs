//! `extensions.d/synergycall/generated_routing.conf` (FR-008): who rings when an extension is
//! dialled.

use shared::bundle::{GENERATION_EXTENSION, GENERATION_MARKER};

use super::text::ConfText;
use super::{Generation, INTERNAL_CONTEXT};
use crate::domain::snapshot::SnapshotUser;

/// How long a phone rings (FR-008).
const RING_SECONDS: u16 = 25;

/// Everything but the marker.
pub(super) fn body(users: &[&SnapshotUser]) -> String {
    let mut text = ConfText::new();
    text.section(INTERNAL_CONTEXT);
    for user in users {
        text.dial(user.extension, RING_SECONDS);
    }
    text.finish()
}

/// The whole file: the marker's context comes last, so that whatever cuts the file short takes it
/// with it.
pub(super) fn file(body: String) -> String {
    let generation = Generation::of(&body);
    let mut text = ConfText::resume(body);
    text.section(GENERATION_MARKER);
    text.mark(GENERATION_EXTENSION, &generation.id);
    text.finish()
}
