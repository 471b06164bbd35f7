//! The layers of the portal point down only (`ARCHITECTURE.md`): a file may name a layer below its
//! own, never one above or beside it.

use std::path::{Path, PathBuf};

/// A layer and what it may name. What stands in no list (`clock`, `config`, …) is for all.
const LAYERS: [(&str, &[&str]); 6] = [
    ("http", &["services", "domain"]),
    ("services", &["db", "render", "agent", "domain"]),
    ("db", &["domain"]),
    ("render", &["domain"]),
    ("agent", &["domain"]),
    ("domain", &[]),
];

/// Wiring: knows every layer, and no layer knows it.
const WIRING: [&str; 2] = ["app", "main"];

/// What the client of the API may name of the portal: what is served, and what belongs to no layer.
const OF_CLIENT: [&str; 3] = ["http", "clock", "causes"];

fn source_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(source_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The layer that a file below `src` belongs to: `http/users.rs` and `http.rs` are both `http`.
fn layer_of(relative: &Path) -> String {
    let first = relative.iter().next().map(|first| first.to_string_lossy());
    first.map_or_else(String::new, |first| {
        first.trim_end_matches(".rs").to_owned()
    })
}

/// Every module of the crate's root that the text names, as in `crate::db::users`. Comments name
/// what they like, and unit tests may build what a layer below answers.
fn named(text: &str) -> Vec<String> {
    let text = text
        .split_once("#[cfg(test)]")
        .map_or(text, |(code, _)| code);
    let code = text
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    let code = code.collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for after in code.split("crate::").skip(1) {
        let after = after.trim_start();
        let group = after.strip_prefix('{').map_or(after, |group| {
            names.extend(top_level(
                group.split_once("};").map_or(group, |(group, _)| group),
            ));
            ""
        });
        let name: String = group
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        names.push(name);
    }
    names
}

/// The first word of each item of `{a::b, c::{d, e}}`.
fn top_level(group: &str) -> Vec<String> {
    let mut depth = 0_i32;
    let mut items = vec![String::new()];
    for char in group.chars() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            other if depth == 0 => {
                if let Some(item) = items.last_mut() {
                    item.push(other);
                }
            }
            _ => {}
        }
    }
    items
        .iter()
        .map(|item| item.split("::").next().unwrap_or("").trim().to_owned())
        .collect()
}

fn violations(layer: &str, text: &str) -> Vec<String> {
    let known: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).chain(WIRING).collect();
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return Vec::new();
    };
    let mut found = named(text);
    found.retain(|name| {
        known.contains(&name.as_str()) && name != layer && !allowed.contains(&name.as_str())
    });
    found
}

#[test]
fn layers_point_down_only() -> anyhow::Result<()> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api-server/src");
    let mut seen = Vec::new();
    for path in source_files(&src)? {
        // Unit tests in a file of their own, as those below `#[cfg(test)]`: see `named`.
        let module = path.with_extension("");
        let parent = module.parent().map(|dir| dir.with_extension("rs"));
        let declared = parent.and_then(|parent| std::fs::read_to_string(parent).ok());
        if module.ends_with("tests")
            && declared.is_some_and(|text| text.contains("#[cfg(test)]\nmod tests;"))
        {
            continue;
        }
        let layer = layer_of(path.strip_prefix(&src)?);
        let text = std::fs::read_to_string(&path)?;
        let found = violations(&layer, &text);
        assert!(found.is_empty(), "{} names {found:?}", path.display());
        seen.push(layer);
    }
    for (layer, _) in LAYERS {
        assert!(
            seen.iter().any(|name| name == layer),
            "no file of layer {layer}: renamed?"
        );
    }
    Ok(())
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    for text in [
        "use crate::http::users;",
        "use crate::{clock, http::users};",
        "fn f() { crate::http::error::x() }",
        "use crate::{domain::{a, b}, services};",
    ] {
        assert_eq!(violations("db", text).len(), 1, "{text}");
    }
    assert!(violations("db", "use crate::domain::UserId; // crate::http").is_empty());
    assert_eq!(violations("db", "use crate::render::render;").len(), 1);
    assert_eq!(violations("services", "use crate::app::App;").len(), 1);
}

/// What a text names of the portal that a client of its API has no business with.
fn beyond_a_client(text: &str) -> Vec<String> {
    let names = text.split("api_server::").skip(1).map(|after| {
        let name = after.chars();
        let name = name.take_while(|c| c.is_alphanumeric() || *c == '_');
        name.collect::<String>()
    });
    names
        .filter(|name| !OF_CLIENT.contains(&name.as_str()))
        .collect()
}

#[test]
fn the_client_knows_what_is_served_and_nothing_behind_it() -> anyhow::Result<()> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api-server/src/bin/portalctl");
    let files = source_files(&src)?;
    assert!(files.len() > 10, "renamed?");
    for path in files {
        let found = beyond_a_client(&std::fs::read_to_string(&path)?);
        assert!(found.is_empty(), "{} names {found:?}", path.display());
    }
    assert!(beyond_a_client("use api_server::http::bodies::UserBody;").is_empty());
    assert_eq!(beyond_a_client("use api_server::db::users;").len(), 1);
    assert_eq!(beyond_a_client("use api_server::{db, http};").len(), 1);
    Ok(())
}
