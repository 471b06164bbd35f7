//! What the table of `domain::access` says of each operation, for readers: in the OpenAPI document,
//! and as Markdown.

use std::fmt::Write as _;

use utoipa::openapi::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};

use super::openapi::{also, problems};
use super::twins;
use crate::domain::access::{self, Needs};
use crate::domain::{Permission, Role};

/// The name of the scheme of access tokens and API tokens.
const BEARER: &str = "bearer";

/// The name of the scheme of browsers.
const COOKIE: &str = "cookie";

/// The cookie of a browser's session.
const SESSION_COOKIE: &str = "__Host-session";

/// Where nobody signs in.
const MISDIRECTED: (&str, &str) = (
    "421",
    "`host_not_permitted`: in trusted-network mode, under a name that is not set",
);

/// The bodies of those who are not signed in are smaller.
const UNKNOWN_TOO_LARGE: (&str, &str) = ("413", "`body_too_large`: over 8 KiB here");

/// Says of each operation what it needs, and what becomes of whoever does not have it.
pub(super) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An access token of `POST /sessions`, or an API token. Not asked for where the portal is \
             set to trust its network.",
        ))
        .build();
    let cookie = ApiKeyValue::with_description(
        SESSION_COOKIE,
        "The cookie that `POST /sessions` sets for a browser",
    );
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(cookie));
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    components.add_security_scheme(COOKIE, cookie);
    for item in document.paths.paths.values_mut() {
        let reads = item.get.as_mut().map(|read| (read, false));
        let changes = [&mut item.post, &mut item.patch, &mut item.delete];
        let changes = changes.into_iter().flatten().map(|change| (change, true));
        for (operation, changes) in reads.into_iter().chain(changes) {
            let id = operation.operation_id.as_deref();
            if let Some(needs) = id.and_then(access::needs) {
                describe_one(operation, needs, changes);
            }
        }
    }
}

fn describe_one(operation: &mut Operation, needs: Needs, changes: bool) {
    let schemes = || {
        let named = |name: &str| SecurityRequirement::new::<_, _, &str>(name, []);
        vec![named(BEARER), named(COOKIE)]
    };
    operation.security = Some(match needs {
        Needs::Nothing => Vec::new(),
        Needs::NothingOr(_) => {
            let mut with_none = schemes();
            with_none.insert(0, SecurityRequirement::default());
            with_none
        }
        Needs::Session | Needs::SessionOr(_) | Needs::Permission(_) => schemes(),
    });
    let known = &mut operation.responses.responses;
    for (status, code) in refusals(needs, changes) {
        also(known, problems(&[(status, code)]));
    }
    also(known, problems(&[MISDIRECTED]));
    if needs == Needs::Nothing && known.contains_key("413") {
        also(known, problems(&[UNKNOWN_TOO_LARGE]));
    }
    if let Some(permission) = permission(needs) {
        let named = Extensions::builder().add("x-permission", permission.name());
        operation
            .extensions
            .get_or_insert_default()
            .merge(named.build());
    }
    let said = operation.description.take();
    let said = said.map_or_else(String::new, |said| format!("{}\n\n", said.trim_end()));
    operation.description = Some(format!("{said}{}", sentence(needs)));
}

/// What may be the answer to somebody who is not known, or may not, or whom another site sends.
fn refusals(needs: Needs, changes: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let unknown = ("401", "`unauthenticated`");
    let (unknown, refused) = match needs {
        Needs::Nothing | Needs::NothingOr(_) => (None, None),
        Needs::Session => (Some(unknown), Some(("403", "`session_needed`"))),
        Needs::SessionOr(_) | Needs::Permission(_) => (Some(unknown), Some(("403", "`forbidden`"))),
    };
    let cross_site = changes.then_some(("403", "`cross_site`"));
    let by_cookie = unknown
        .filter(|_| changes)
        .map(|_| ("403", "`csrf_token_needed`"));
    [cross_site, by_cookie, refused, unknown]
        .into_iter()
        .flatten()
}

const fn permission(needs: Needs) -> Option<Permission> {
    match needs {
        Needs::Nothing | Needs::Session => None,
        Needs::NothingOr(permission)
        | Needs::SessionOr(permission)
        | Needs::Permission(permission) => Some(permission),
    }
}

/// Who may carry out an operation, in words.
fn sentence(needs: Needs) -> String {
    match needs {
        Needs::Nothing => "Nobody needs to sign in.".to_owned(),
        Needs::NothingOr(permission) => {
            format!("Nobody needs to sign in; details need `{permission}` (platform_admin).")
        }
        Needs::Session => {
            "Needs a session, for what is one's own; an API token does not suffice.".to_owned()
        }
        Needs::SessionOr(permission) => format!(
            "Needs a session for what is one's own, and `{permission}` ({}) for what is others'.",
            holders(permission)
        ),
        Needs::Permission(permission) => {
            format!("Needs `{permission}` ({}).", holders(permission))
        }
    }
}

/// The roles that hold a permission.
fn holders(permission: Permission) -> String {
    let roles = Role::ALL.into_iter().rev();
    let names = roles
        .filter(|role| permission.is_held_by(*role))
        .map(|role| match role {
            Role::User => "user for itself",
            Role::Operator | Role::TenantAdmin | Role::PlatformAdmin => role.name(),
        });
    names.collect::<Vec<_>>().join(", ")
}

/// How far a role reaches.
const fn reach(role: Role) -> &'static str {
    match role {
        Role::User => "itself",
        Role::Operator | Role::TenantAdmin => "its tenant",
        Role::PlatformAdmin => "everywhere",
    }
}

/// Who holds which permission, and what each operation of the document needs, as two tables in
/// Markdown.
pub(super) fn permissions(document: &OpenApi) -> String {
    let mut text = String::new();
    let roles: Vec<Role> = Role::ALL.into_iter().rev().collect();
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    writeln!(text, "| permission | permits to | {} |", names.join(" | ")).ok();
    writeln!(text, "|---|---|{}", "---|".repeat(roles.len())).ok();
    for permission in Permission::ALL {
        let held = roles.iter().map(|role| {
            let held = permission.is_held_by(*role);
            if held { reach(*role) } else { "" }
        });
        let held = held.collect::<Vec<_>>().join(" | ");
        writeln!(
            text,
            "| `{permission}` | {} | {held} |",
            permission.meaning()
        )
        .ok();
    }
    text.push_str("\n| operation | needs |\n|---|---|\n");
    for (method, path, needs) in operations(document) {
        let needs = match needs {
            Needs::Nothing => "nothing".to_owned(),
            Needs::NothingOr(permission) => format!("nothing; `{permission}` for details"),
            Needs::Session => "a session".to_owned(),
            Needs::SessionOr(permission) => {
                format!("a session; `{permission}` for what is others'")
            }
            Needs::Permission(permission) => format!("`{permission}`"),
        };
        writeln!(text, "| `{method} {path}` | {needs} |").ok();
    }
    text
}

/// Each operation but those below a tenant, which need what their twins do.
fn operations(document: &OpenApi) -> Vec<(&'static str, &str, Needs)> {
    let mut found = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ] {
            let id = operation
                .as_ref()
                .and_then(|known| known.operation_id.as_deref());
            let needs = id.and_then(access::needs);
            found.extend(needs.map(|needs| (method, path.as_str(), needs)));
        }
    }
    found.retain(|(_, path, _)| !path.starts_with(twins::PREFIX));
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The ids of the document, those of twins as those of their twins.
    fn documented() -> BTreeSet<String> {
        let mut document = super::super::document();
        let items = document.paths.paths.values_mut();
        let operations = items.flat_map(|item| twins::operations(item).collect::<Vec<_>>());
        let ids = operations.filter_map(|operation| operation.operation_id.clone());
        ids.map(|id| id.replacen("_tenant_", "_", 1)).collect()
    }

    #[test]
    fn the_table_has_each_operation_and_no_other() {
        let known = access::OPERATIONS.iter().map(|(id, _)| (*id).to_owned());
        assert_eq!(documented(), known.collect());
    }

    #[test]
    fn the_document_says_what_each_operation_needs() {
        let document = serde_json::to_value(super::super::document()).unwrap();
        let list = &document["paths"]["/tenants/{tenant}/users"]["get"];
        assert_eq!(list["x-permission"], "users.read");
        assert_eq!(
            list["security"],
            serde_json::json!([{ "bearer": [] }, { "cookie": [] }])
        );
        let said = list["description"].as_str().unwrap();
        let needs = "Needs `users.read` (platform_admin, tenant_admin, operator, user for itself).";
        assert!(said.ends_with(needs), "{said}");
        for status in ["401", "403"] {
            assert!(list["responses"].get(status).is_some(), "{status}");
        }
        let live = &document["paths"]["/health/live"]["get"];
        assert_eq!(live["security"], serde_json::json!([]));
        assert!(live["responses"].get("401").is_none());
    }

    #[test]
    fn the_readme_prints_the_tables() {
        let readme = include_str!("../../../README.md");
        let tables = permissions(&super::super::document());
        assert!(
            readme.contains(&tables),
            "README.md lacks what `api-server permissions` prints:\n{tables}"
        );
    }
}
