//! The table held against the document that the portal serves.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::bulk;

const ALL: &[&Operation] = &[
    &SIGN_IN,
    &REFRESH_SESSION,
    &GET_SESSION,
    &END_SESSION,
    &LIST_TENANTS,
    &GET_TENANT,
    &CREATE_TENANT,
    &UPDATE_TENANT,
    &DELETE_TENANT,
    &LIST_USERS,
    &GET_USER,
    &CREATE_USER,
    &UPDATE_USER,
    &DELETE_USER,
    &LIST_DEVICES,
    &GET_DEVICE,
    &CREATE_DEVICE,
    &UPDATE_DEVICE,
    &DELETE_DEVICE,
    &ROTATE_DEVICE,
    &REVEAL_DEVICE,
    &LIST_TOKENS,
    &GET_TOKEN,
    &CREATE_TOKEN,
    &REVOKE_TOKEN,
    &LIST_ACCOUNTS,
    &GET_ACCOUNT,
    &CREATE_ACCOUNT,
    &UPDATE_ACCOUNT,
    &DELETE_ACCOUNT,
    &UNLOCK_ACCOUNT,
    &RESET_PASSWORD,
    &USE_PASSWORD_RESET,
    &CHANGE_PASSWORD,
    &LIST_AUDIT,
    &GET_AUDIT,
    &LIST_PBXES,
    &GET_PBX,
    &CREATE_PBX,
    &UPDATE_PBX,
    &DELETE_PBX,
    &APPLY,
    &PREVIEW,
    &STATUS,
    &LIST_APPLIES,
    &GET_APPLY,
    &FOLLOW_APPLY,
    &RESTORE,
];

/// Those of `bulk`.
const BULK: &[&Operation] = &[
    &bulk::IMPORT_USERS,
    &bulk::IMPORT_DEVICES,
    &bulk::EXPORT_USERS,
    &bulk::EXPORT_DEVICES,
    &bulk::EXPORT_DECLARATION,
    &bulk::RECONCILE_DECLARATION,
];

/// What is wrong with one operation, against the document.
fn faults(document: &Value, of: &Operation) -> Vec<String> {
    let mut faults = described(document, of, of.id, of.path);
    if of.of_tenant {
        let (verb, rest) = of.id.split_once('_').unwrap();
        let id = format!("{verb}_tenant_{rest}");
        let path = format!("/tenants/{{tenant}}{}", of.path);
        faults.extend(described(document, of, &id, &path));
    }
    faults
}

fn described(document: &Value, of: &Operation, id: &str, path: &str) -> Vec<String> {
    let method = format!("{:?}", of.method).to_lowercase();
    let operation = &document["paths"][path][&method];
    if operation["operationId"] != id {
        return vec![format!("{id}: not at {method} {path}")];
    }
    let named = |place: &str| -> BTreeSet<String> {
        let parameters = operation["parameters"].as_array();
        let parameters = parameters.into_iter().flatten();
        let of_place = parameters.filter(|parameter| parameter["in"] == place);
        let names = of_place.filter_map(|parameter| parameter["name"].as_str());
        names.map(str::to_owned).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut faults = Vec::new();
    let mut differ = |what: &str, here: BTreeSet<String>, there: BTreeSet<String>| {
        if here != there {
            faults.push(format!("{id}: {what}: here {here:?}, there {there:?}"));
        }
    };
    differ("query", set(of.query), named("query"));
    let in_path = path.split(['{', '}']).skip(1).step_by(2);
    differ("path", in_path.map(str::to_owned).collect(), named("path"));
    differ("fields", set(of.fields), fields(document, operation));
    if of.once != named("header").contains("Idempotency-Key") {
        faults.push(format!("{id}: Idempotency-Key"));
    }
    faults
}

/// The names of the fields of the body.
fn fields(document: &Value, operation: &Value) -> BTreeSet<String> {
    let content = operation["requestBody"]["content"].as_object();
    let schema = content.and_then(|content| content.values().next());
    let Some(schema) = schema.map(|media| &media["schema"]) else {
        return BTreeSet::new();
    };
    let schema = match schema.get("oneOf").and_then(Value::as_array) {
        Some(several) => several
            .iter()
            .find(|one| one.get("$ref").is_some())
            .unwrap(),
        None => schema,
    };
    // Of no object, as of a table.
    let Some(reference) = schema["$ref"].as_str() else {
        return BTreeSet::new();
    };
    let schema = document
        .pointer(reference.strip_prefix('#').unwrap())
        .unwrap();
    let properties = schema["properties"].as_object().unwrap();
    properties.keys().cloned().collect()
}

fn document() -> Value {
    serde_json::to_value(api_server::http::document()).unwrap()
}

#[test]
fn the_portal_has_what_is_used_of_it() {
    let document = document();
    let faults: Vec<String> = ALL.iter().flat_map(|of| faults(&document, of)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// As soon as the portal has one of them, it must have them all.
#[test]
fn the_portal_has_what_is_used_of_it_for_many_at_once() {
    let document = document();
    let text = document.to_string();
    if !BULK
        .iter()
        .any(|of| text.contains(&format!("\"{}\"", of.id)))
    {
        return;
    }
    let faults: Vec<String> = BULK.iter().flat_map(|of| faults(&document, of)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_operation_of_the_table_is_checked() {
    let table = include_str!("../operations.rs");
    let declared = table.matches(": Operation =").count();
    assert_eq!(declared, ALL.len());
    let table = include_str!("../bulk.rs");
    assert_eq!(table.matches(": Operation =").count(), BULK.len());
}

#[test]
fn whatever_differs_is_found() {
    let document = document();
    for wrong in [
        Operation::get("list_user", "/users"),
        Operation::get("list_users", "/people"),
        Operation::post("list_users", "/users"),
        Operation::get("list_devices", "/devices").query(&["limit"]),
        Operation::post("create_tenant", "/tenants").fields(&["slug", "nam"]),
        Operation::post("sign_in", "/sessions").fields(SIGN_IN.fields),
        Operation::get("list_pbxes", "/pbxes")
            .query(LIST_PBXES.query)
            .of_tenant(),
    ] {
        assert!(!faults(&document, &wrong).is_empty(), "{wrong:?}");
    }
}
