//! `extensions.d/synergycall/generated_routing.conf` (FR-008): who rings when an extension is
//! dialled. A tenant has a context of its own, which knows its own extensions alone.

use shared::bundle::{GENERATION_EXTENSION, GENERATION_MARKER};

use super::text::ConfText;
use super::{Generation, Tenant};
use crate::domain::device::endpoint_name;

/// How long an extension rings (FR-008).
const RING_SECONDS: u16 = 25;

/// Everything but the marker.
pub(super) fn body(tenants: &[Tenant<'_>]) -> String {
    let mut text = ConfText::new();
    for tenant in tenants {
        text.context_section(&tenant.context);
        for user in &tenant.users {
            let extension = user.known.extension;
            let name = |slot| endpoint_name(tenant.number, extension, slot);
            let devices = user.devices.iter().map(|device| name(device.slot));
            text.dial(extension, devices, RING_SECONDS);
        }
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
