use serde_json::json;

use super::*;

fn fields(value: &Value) -> Fields {
    Fields::new(value.as_object().unwrap().clone())
}

fn faults<T>(read: Result<T, Vec<FieldError>>) -> Vec<(String, String)> {
    let errors = read.err().unwrap();
    errors
        .into_iter()
        .map(|e| (e.field, e.code.into_owned()))
        .collect()
}

#[test]
fn what_is_not_said_has_its_default() {
    let body = json!({ "name": "b", "agent_address": "h:1" });
    let new = new_pbx(fields(&body), "realm".parse().unwrap()).unwrap();
    assert_eq!(
        new.agent_identity.to_string(),
        "spiffe://pbx.internal/agent/b"
    );
    assert_eq!(new.sip_realm.as_str(), "realm");
    assert_eq!(new.transports, Transports::default());
}

#[test]
fn every_fault_is_reported_at_once() {
    let body = json!({
        "name": "B", "agent_identity": "spiffe://x/portal", "sip_realm": 7,
        "transports": { "udp": "a b", "sctp": "x", "tcp": 1 }, "x": 1,
    });
    let expected = [
        ("name", "malformed"),
        ("agent_address", "missing"),
        ("agent_identity", "malformed"),
        ("sip_realm", "wrong_type"),
        ("transports.udp", "malformed"),
        ("transports.tcp", "wrong_type"),
        ("transports.sctp", "unknown_field"),
        ("x", "unknown_field"),
    ];
    let found = faults(new_pbx(fields(&body), "realm".parse().unwrap()));
    assert_eq!(
        found,
        expected.map(|(field, code)| (field.to_owned(), code.to_owned()))
    );
}

#[test]
fn a_patch_says_only_what_it_names() {
    let patch = patch(fields(
        &json!({ "transports": { "udp": null, "tls": "t" } }),
    ))
    .unwrap();
    assert!(patch.name.is_none() && patch.sip_realm.is_none());
    assert_eq!(patch.transports.get(&Transport::Udp), Some(&None));
    let found = faults(super::patch(fields(&json!({ "id": 1, "name": null }))));
    let expected = [("id", "read_only"), ("name", "not_nullable")];
    assert_eq!(
        found,
        expected.map(|(field, code)| (field.to_owned(), code.to_owned()))
    );
}
