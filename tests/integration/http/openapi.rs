//! `/openapi.json` is true: what it tells is served, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::Method;
use serde_json::Value;
use tests::contract::Contract;
use tests::lab::PortalLab;
use uuid::Uuid;

use super::problems::assert_problem;

/// The paths that clients were promised, with their methods.
const PROMISED: &[(&str, &[&str])] = &[
    ("/applies", &["GET"]),
    ("/applies/{id}", &["GET"]),
    ("/applies/{id}/events", &["GET"]),
    ("/applies/{id}/restore", &["POST"]),
    ("/apply", &["POST"]),
    ("/apply/preview", &["GET"]),
    ("/apply/status", &["GET"]),
    ("/apply/verify", &["POST"]),
    ("/audit", &["GET"]),
    ("/audit/{id}", &["GET"]),
    ("/deleted-users", &["GET"]),
    ("/deleted-users/{id}", &["DELETE", "GET"]),
    ("/devices", &["GET", "POST"]),
    ("/devices/{id}", &["DELETE", "GET", "PATCH"]),
    ("/devices/{id}/reveal", &["POST"]),
    ("/devices/{id}/rotate", &["POST"]),
    ("/events", &["GET"]),
    ("/health/live", &["GET"]),
    ("/health/ready", &["GET"]),
    ("/openapi.json", &["GET"]),
    ("/pbxes", &["GET", "POST"]),
    ("/pbxes/{pbx}", &["DELETE", "GET", "PATCH"]),
    ("/revisions", &["GET"]),
    ("/tenants", &["GET", "POST"]),
    ("/tenants/{tenant}", &["DELETE", "GET", "PATCH"]),
    ("/tenants/{tenant}/deleted-users", &["GET"]),
    ("/tenants/{tenant}/deleted-users/{id}", &["DELETE", "GET"]),
    ("/tenants/{tenant}/devices", &["GET", "POST"]),
    (
        "/tenants/{tenant}/devices/{id}",
        &["DELETE", "GET", "PATCH"],
    ),
    ("/tenants/{tenant}/devices/{id}/reveal", &["POST"]),
    ("/tenants/{tenant}/devices/{id}/rotate", &["POST"]),
    ("/tenants/{tenant}/users", &["GET", "POST"]),
    ("/tenants/{tenant}/users/{id}", &["DELETE", "GET", "PATCH"]),
    ("/users", &["GET", "POST"]),
    ("/users/{id}", &["DELETE", "GET", "PATCH"]),
];

const METHODS: &[Method] = &[
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
];

/// The methods of each path of the document.
fn documented(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = |item: &Value| {
        let keys = item.as_object().into_iter().flat_map(|item| item.keys());
        keys.map(|key| key.to_uppercase()).collect()
    };
    paths
        .iter()
        .map(|(path, item)| (path.clone(), methods(item)))
        .collect()
}

#[tokio::test]
async fn the_document_has_every_path_that_was_promised() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let document = lab.client.openapi();
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1."))
    );
    let found = documented(document);
    for (path, methods) in PROMISED {
        let methods: BTreeSet<String> = methods.iter().map(ToString::to_string).collect();
        assert_eq!(found.get(*path), Some(&methods), "{path}");
    }
    // The same document without a portal.
    let printed = api_server::http::document().to_json()?;
    assert_eq!(&serde_json::from_str::<Value>(&printed)?, document);
    Ok(())
}

#[tokio::test]
async fn each_path_serves_its_documented_methods_and_no_others() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (path, methods) in documented(lab.client.openapi()) {
        let concrete = path
            .replace("{id}", &Uuid::from_u128(7).to_string())
            .replace("{pbx}", "nowhere")
            .replace("{tenant}", "nowhere");
        for method in METHODS {
            let request = lab.client.request(method.clone(), &concrete);
            if methods.contains(method.as_str()) {
                // The client has checked it against the document.
                let reply = request.send().await?;
                assert_ne!(reply.status, 405, "{reply}");
                let is_missing = reply.status == 404 && reply.json()?["code"] == "unknown_path";
                assert!(!is_missing, "{reply}");
                continue;
            }
            let reply = request.undocumented().send().await?;
            assert_problem(&reply, 405, "method_not_allowed")?;
            let allowed: BTreeSet<&str> = reply.header("allow").split(',').map(str::trim).collect();
            let mut expected: BTreeSet<&str> = methods.iter().map(String::as_str).collect();
            // HTTP has it wherever there is GET.
            if expected.contains("GET") {
                expected.insert("HEAD");
            }
            assert_eq!(allowed, expected, "{method} {path}");
        }
    }
    Ok(())
}

/// The router cannot be asked for its routes. So no route may come to it by a way on which it is
/// not documented as well: `routes!` takes both from the same place.
#[test]
fn no_route_bypasses_the_document() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api-server/src/http");
    let (mut registered, mut paths) = (0, vec![dir]);
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(path).unwrap();
            paths.extend(inside.map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        registered += text.matches(".routes(routes!(").count();
        // What belongs to a tenant is documented under both of its paths.
        let text = text.replace(".nest(\"/tenants/{tenant}\", of_tenant())", "");
        let text = text.replace(".nest(\"/tenants/{tenant}\", in_bulk())", "");
        let bypasses = [".route(", ".route_service(", ".nest(", ".nest_service("];
        for bypass in bypasses {
            assert!(!text.contains(bypass), "{bypass}");
        }
    }
    let document = documented(&document());
    let twins = document
        .keys()
        .filter(|path| path.starts_with("/tenants/{tenant}/"));
    assert_eq!(
        registered + twins.count(),
        document.len(),
        "one `routes!` for each path"
    );
}

fn document() -> Value {
    let printed = api_server::http::document().to_json();
    serde_json::from_str(&printed.expect("it can be written")).expect("it is JSON")
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn walk(document: &Value, value: &Value) {
        if let Some(reference) = value["$ref"].as_str() {
            let pointer = reference
                .strip_prefix('#')
                .expect("a reference into the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(document, item)),
            Value::Object(members) => members.values().for_each(|member| walk(document, member)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap_or_default();
            assert!(!id.is_empty() && ids.insert(id), "operationId {id:?}");
            assert!(operation["summary"].is_string(), "{id} has no summary");
        }
    }
}

#[test]
fn the_check_of_replies_notices_what_is_not_documented() {
    let contract = Contract::new(document()).unwrap();
    let (json, problem) = (Some("application/json"), Some("application/problem+json"));
    contract.check("GET", "/users", 200, json).unwrap();
    contract.check("POST", "/apply", 409, problem).unwrap();
    for (method, path, status, content_type) in [
        ("GET", "/users", 418, problem),
        ("GET", "/users", 200, problem),
        ("GET", "/users", 503, json),
        ("GET", "/users", 200, None),
        ("PUT", "/users", 200, json),
        ("GET", "/secrets", 200, json),
    ] {
        contract
            .check(method, path, status, content_type)
            .unwrap_err();
    }
}

#[tokio::test]
async fn docs_is_a_page_from_the_portal_itself() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    // The client follows a redirect.
    let request = || lab.client.request(Method::GET, "/docs").undocumented();
    let page = request().send().await?.expect(200)?;
    assert!(
        page.content_type().starts_with("text/html"),
        "{}",
        page.content_type()
    );
    let html = page.text();
    let mut assets = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in html.split(attribute).skip(1) {
            let address = rest.split('"').next().unwrap_or_default();
            assert!(!address.contains("//"), "from elsewhere: {address}");
            let path = format!("/docs/{}", address.trim_start_matches("./"));
            let asset = lab
                .client
                .request(Method::GET, &path)
                .undocumented()
                .send()
                .await?;
            asset.expect(200)?;
            assets += 1;
        }
    }
    assert!(assets > 3, "{html}");
    let path = "/docs/swagger-initializer.js";
    let script = lab
        .client
        .request(Method::GET, path)
        .undocumented()
        .send()
        .await?
        .expect(200)?;
    assert!(script.text().contains("/openapi.json"), "{}", script.text());
    Ok(())
}
