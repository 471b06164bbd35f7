//! By document.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Kind, Route, in_default_tenant, routes, sample};

const PROBLEM_JSON: &str = "application/problem+json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Collections that are called by a word for the whole.
const COLLECTIVE: [&str; 1] = ["audit"];

fn document() -> anyhow::Result<Value> {
    let printed = api_server::http::document().to_json()?;
    Ok(serde_json::from_str(&printed)?)
}

/// What a route's documentation lacks.
fn lacks(route: &Route) -> Vec<String> {
    let mut lacks = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            lacks.push(what.to_owned());
        }
    };
    let query = |name: &str| route.parameter("query", name).is_some();
    let header = |name: &str| route.parameter("header", name).is_some();
    let answers_with = |status: u16, name: &str| {
        let response = &route.operation["responses"][status.to_string()];
        response["headers"].get(name).is_some()
    };
    match route.kind {
        Kind::List => {
            for name in ["limit", "cursor", "sort"] {
                must(query(name), name);
            }
            must(answers_with(200, "Link"), "Link");
            must(route.has_response(400), "400");
            let noun = route.path.rsplit('/').next().unwrap_or_default();
            must(
                noun.ends_with('s') || COLLECTIVE.contains(&noun),
                "a plural",
            );
        }
        Kind::Single => {
            must(answers_with(200, "ETag"), "ETag");
            must(header("If-None-Match"), "If-None-Match");
            must(route.has_response(304), "304");
            must(route.has_response(404), "404");
        }
        Kind::Create => {
            must(route.has_response(201), "201");
            must(answers_with(201, "Location"), "Location");
            must(answers_with(201, "ETag"), "ETag");
        }
        Kind::Report | Kind::Action => {}
        Kind::Change => {
            let body = &route.operation["requestBody"]["content"];
            must(body.get(MERGE_PATCH).is_some(), MERGE_PATCH);
            must(answers_with(200, "ETag"), "ETag");
            must(route.has_response(415), "415");
        }
        Kind::Delete => must(route.has_response(204) || route.has_response(200), "204"),
    }
    if route.is_keyed() {
        must(header("Idempotency-Key"), "Idempotency-Key");
        must(route.has_response(409), "409");
        must(route.has_response(422), "422");
    }
    if matches!(route.kind, Kind::Change | Kind::Delete) {
        must(header("If-Match"), "If-Match");
        must(route.has_response(404), "404");
        must(route.has_response(412), "412");
    }
    if !matches!(route.kind, Kind::List | Kind::Single | Kind::Report) {
        must(header("X-Admin-User"), "X-Admin-User");
    }
    if header("If-Match") {
        must(route.has_response(412), "412 beside If-Match");
    }
    must(
        query("before") == query("after"),
        "a cursor instead of before",
    );
    lacks
}

#[test]
fn every_route_documents_what_it_is_to_keep() -> anyhow::Result<()> {
    let document = document()?;
    let lacking: Vec<_> = routes(&document)?
        .iter()
        .map(|route| (route.name(), lacks(route)))
        .filter(|(_, lacks)| !lacks.is_empty())
        .collect();
    assert!(lacking.is_empty(), "{lacking:#?}");
    Ok(())
}

#[test]
fn every_route_that_takes_something_has_a_sample() -> anyhow::Result<()> {
    for route in routes(&document()?)? {
        if route.is_keyed() || route.kind == Kind::Change {
            sample(&route)?;
        }
    }
    Ok(())
}

/// The judge can say no.
#[test]
fn what_lacks_is_noticed() -> anyhow::Result<()> {
    let whole = document()?;
    for (pointer, member) in [
        ("/paths/~1users/get/responses/200", "headers"),
        ("/paths/~1users/get", "parameters"),
        ("/paths/~1users/post", "parameters"),
        ("/paths/~1users/post/responses", "422"),
        ("/paths/~1users/post/responses/201", "headers"),
        ("/paths/~1users~1{id}/get/responses", "304"),
        ("/paths/~1users~1{id}/delete/responses", "412"),
        ("/paths/~1users~1{id}/delete", "parameters"),
        ("/paths/~1apply/post", "parameters"),
    ] {
        let mut document = whole.clone();
        let object = document.pointer_mut(pointer).and_then(Value::as_object_mut);
        let removed = object.and_then(|object| object.remove(member));
        assert!(removed.is_some(), "{pointer} has no {member}");
        let noticed = routes(&document)?
            .iter()
            .any(|route| !lacks(route).is_empty());
        assert!(noticed, "{pointer} without {member}");
    }
    // Neither is a route known that nobody has thought of.
    let mut document = whole;
    document["paths"]["/phones/{id}"] = serde_json::json!({ "put": { "responses": {} } });
    assert!(routes(&document).is_err());
    Ok(())
}

#[test]
fn every_refusal_is_a_problem_document() -> anyhow::Result<()> {
    for route in routes(&document()?)? {
        let responses = route.operation["responses"].as_object().cloned();
        for (status, response) in responses.unwrap_or_default() {
            let refusal = status.starts_with(['4', '5']);
            // Readiness tells of each part, whatever it is.
            if !refusal || route.path.starts_with("/health/") {
                continue;
            }
            let content = response["content"].as_object().cloned().unwrap_or_default();
            let kinds: Vec<&String> = content.keys().collect();
            assert_eq!(kinds, [PROBLEM_JSON], "{} {status}", route.name());
        }
    }
    Ok(())
}

fn is_snake_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The names of the fields of every schema below `value`.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    if let Some(properties) = value["properties"].as_object() {
        found.extend(properties.keys().cloned());
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        Value::Object(members) => members.values().for_each(|member| fields(member, found)),
        _ => {}
    }
}

#[test]
fn names_are_of_one_kind() -> anyhow::Result<()> {
    let document = document()?;
    let mut names = BTreeSet::new();
    fields(&document["components"], &mut names);
    let mut ids = BTreeSet::new();
    for route in routes(&document)? {
        let parameters = [route.parameters("query"), route.parameters("path")].concat();
        names.extend(parameters.into_iter().map(|(name, _)| name.to_owned()));
        let id = route.operation["operationId"].as_str().unwrap_or_default();
        names.insert(id.to_owned());
        assert!(ids.insert(id.to_owned()), "operation {id} twice");
        let segments = route.path.split('/').skip(1);
        let fixed = segments.filter(|segment| !segment.starts_with('{'));
        // Addresses are read by people: words of a path are divided by hyphens.
        let words = fixed.filter(|name| *name != "openapi.json");
        names.extend(words.map(|name| name.replace('-', "_")));
    }
    assert!(names.len() > 50, "{names:?}");
    let odd: Vec<&String> = names.iter().filter(|name| !is_snake_case(name)).collect();
    assert!(odd.is_empty(), "{odd:?}");
    Ok(())
}

/// Said of the longer path, whose tenant may be nobody.
const NOBODY: &str = "`tenant_not_found`";

/// An operation without what may differ between twins.
fn essence(operation: &Value) -> Value {
    let mut members: Map<String, Value> = operation.as_object().cloned().unwrap_or_default();
    for name in ["operationId", "summary", "description", "tags"] {
        members.remove(name);
    }
    if let Some(parameters) = members.get_mut("parameters").and_then(Value::as_array_mut) {
        parameters.retain(|parameter| parameter["name"] != "tenant");
        if parameters.is_empty() {
            members.remove("parameters");
        }
    }
    if let Some(responses) = members.get_mut("responses").and_then(Value::as_object_mut) {
        responses.retain(|_, response| response["description"] != NOBODY);
        if let Some(missing) = responses.get_mut("404") {
            let said = missing["description"].as_str().unwrap_or_default();
            let said = said.trim_start_matches(NOBODY).trim_start_matches(", ");
            missing["description"] = json!(said);
        }
    }
    Value::Object(members)
}

#[test]
fn what_a_tenant_has_the_default_tenant_has_as_well() -> anyhow::Result<()> {
    let document = document()?;
    let routes = routes(&document)?;
    for route in &routes {
        let twin = in_default_tenant(&route.path);
        if twin == route.path {
            continue;
        }
        let twin = routes
            .iter()
            .find(|other| other.path == twin && other.method == route.method);
        let Some(twin) = twin else {
            panic!("{} has no twin without its tenant", route.name());
        };
        assert_eq!(
            essence(&route.operation),
            essence(&twin.operation),
            "{} and its twin differ",
            route.name()
        );
    }
    if document["paths"].get("/tenants").is_some() {
        for collection in ["/users", "/users/{id}", "/devices", "/devices/{id}"] {
            let path = format!("/tenants/{{tenant}}{collection}");
            assert!(document["paths"].get(&path).is_some(), "{path} is missing");
        }
    }
    Ok(())
}
