//! Which operations must have succeeded at least once while they were fuzzed: refusals alone show
//! little of an operation.

use anyhow::{Context as _, ensure};
use api_server::domain::Role;
use api_server::domain::access::Needs;
use serde_json::Value;

/// What does not succeed here, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("apply", "there is no agent"),
    ("ready", "likewise"),
    ("verify", "likewise"),
    ("restore_apply", "likewise"),
];

/// What does not succeed for whoever is a user and no more.
const EXCEPTIONS_OF_USERS: &[(&str, &str)] = &[
    ("get_deleted_user", "nobody signs in who was deleted"),
    ("get_tenant_deleted_user", "likewise"),
];

/// Whether whoever has the role may do what an operation needs, to what is its own at least.
fn may(role: Option<Role>, needs: Needs) -> bool {
    match (needs, role) {
        (Needs::Nothing | Needs::NothingOr(_), _) => true,
        (Needs::Session | Needs::SessionOr(_), role) => role.is_some(),
        (Needs::Permission(permission), role) => {
            role.is_some_and(|role| permission.is_held_by(role))
        }
    }
}

/// Fails with the operations that the role may carry out and that never succeeded. `answers` counts
/// those of each operation by status.
pub(super) fn check(role: Option<Role>, document: &Value, answers: &Value) -> anyhow::Result<()> {
    let items = document["paths"].as_object().context("no paths")?.values();
    let operations =
        items.flat_map(|item| item.as_object().into_iter().flat_map(|item| item.values()));
    let of_users = EXCEPTIONS_OF_USERS
        .iter()
        .filter(|_| role == Some(Role::User));
    let exceptions: Vec<&str> = EXCEPTIONS
        .iter()
        .chain(of_users)
        .map(|(id, _)| *id)
        .collect();
    let mut never = Vec::new();
    for operation in operations {
        let id = operation["operationId"].as_str().context("no id")?;
        let answers = answers[id]
            .as_object()
            .with_context(|| format!("{id}: never asked"))?;
        let succeeded = answers.keys().any(|status| status.starts_with('2'));
        let excepted = exceptions.contains(&id);
        let needs = api_server::domain::access::needs(id)
            .with_context(|| format!("{id}: what does it need?"))?;
        if may(role, needs) && !succeeded && !excepted {
            never.push(format!("{id}: {}", Value::Object(answers.clone())));
        }
        ensure!(!(succeeded && excepted), "{id} is no exception any more");
    }
    ensure!(
        never.is_empty(),
        "as {role:?} these never succeeded:\n{}",
        never.join("\n")
    );
    Ok(())
}
