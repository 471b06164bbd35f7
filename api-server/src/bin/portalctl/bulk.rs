//! Many at once: CSV in and out, and the tenant file.

pub(crate) mod declaration;
pub(crate) mod export;
pub(crate) mod import;
mod result_file;
mod yaml;

use std::io::Read as _;
use std::path::Path;

use api_server::http::bodies::{ChangedFieldBody, LineErrorBody};

use crate::failure::Failure;
use crate::operations::Operation;
use crate::output::clean;

pub(crate) const IMPORT_USERS: Operation = Operation::post("import_users", "/imports/users")
    .of_tenant()
    .bulk()
    .query(&["mode", "preview"]);
pub(crate) const IMPORT_DEVICES: Operation = Operation::post("import_devices", "/imports/devices")
    .of_tenant()
    .bulk()
    .query(&["mode", "preview"]);
pub(crate) const EXPORT_USERS: Operation = Operation::get("export_users", "/exports/users")
    .of_tenant()
    .bulk()
    .query(&["format", "bom"]);
pub(crate) const EXPORT_DEVICES: Operation = Operation::get("export_devices", "/exports/devices")
    .of_tenant()
    .bulk()
    .query(&["format", "bom"]);
pub(crate) const EXPORT_DECLARATION: Operation =
    Operation::get("export_declaration", "/declaration")
        .of_tenant()
        .bulk();
pub(crate) const RECONCILE_DECLARATION: Operation =
    Operation::post("reconcile_declaration", "/declaration/reconcile")
        .of_tenant()
        .bulk()
        .query(&["preview"])
        .fields(&["tenant", "users", "remove_unlisted", "expected_digest"]);

/// All of a file; `-` is standard input.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    let read = read.map_err(|error| Failure::other(format!("{}: {error}", file.display())));
    read.map(|_| bytes)
}

/// `name: "Bob" → "Bob B.", …`
fn changes(changes: &[ChangedFieldBody]) -> String {
    let told = changes.iter().map(|change| {
        if change.before.is_null() {
            format!("{}: {}", change.field, change.after)
        } else {
            format!("{}: {} → {}", change.field, change.before, change.after)
        }
    });
    clean(&told.collect::<Vec<_>>().join(", "))
}

fn faults(faults: &[LineErrorBody]) -> String {
    let told = faults
        .iter()
        .map(|fault| format!("{}: {}", fault.field, fault.message));
    clean(&told.collect::<Vec<_>>().join("; "))
}
