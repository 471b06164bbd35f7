//! `portalctl audit`.

use api_server::http::bodies::AuditEntryBody;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::Context;
use crate::failure::Failure;
use crate::operations::{GET_AUDIT, LIST_AUDIT};
use crate::output::{clean, or_nothing, time};
use crate::resource::{self, Paging};
use crate::tenant;

#[derive(Subcommand, Debug)]
pub(crate) enum AuditCommand {
    /// List the audit trail, the newest first
    #[command(
        alias = "ls",
        after_help = "--tenant shows only what is of that tenant.\n\nExamples:\n  portalctl audit list \
                      --actor ann --since 2026-11-01T00:00:00Z\n  portalctl audit list --action \
                      user.changed --all --json"
    )]
    List {
        #[command(flatten)]
        filter: Box<Filter>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an entry with what it changed
    #[command(
        after_help = "Examples:\n  portalctl audit show 01a1fc42-4875-723a-87d9-c29037074fe1"
    )]
    Show {
        /// Its id, as `audit list` shows it
        id: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Filter {
    /// Only those that hold this
    #[arg(short, value_name = "TEXT")]
    q: Option<String>,
    /// Only what somebody of this name did
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, as in user.changed
    #[arg(long)]
    action: Option<String>,
    /// Only what happened to entities of this kind, as in user
    #[arg(long, value_name = "KIND")]
    entity_type: Option<String>,
    /// Only what happened to the one of this id
    #[arg(long, value_name = "ID")]
    entity_id: Option<String>,
    /// Only what this request did
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Only the changes that this apply carried
    #[arg(long, value_name = "ID")]
    apply: Option<String>,
    /// Nothing that was earlier, as in 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was earlier
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(crate) async fn run(context: &Context, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::List { filter, paging } => {
            let tenant = match context.api.tenant() {
                Some(tenant) => Some(tenant::id_of(context, tenant).await?),
                None => None,
            };
            let filters = [
                ("q", filter.q.as_deref()),
                ("actor", filter.actor.as_deref()),
                ("action", filter.action.as_deref()),
                ("entity_type", filter.entity_type.as_deref()),
                ("entity_id", filter.entity_id.as_deref()),
                ("tenant_id", tenant.as_deref()),
                ("request_id", filter.request_id.as_deref()),
                ("apply", filter.apply.as_deref()),
                ("since", filter.since.as_deref()),
                ("until", filter.until.as_deref()),
            ];
            let headers = &["AT", "ACTOR", "ACTION", "OF", "FROM", "IN FORCE", "ID"][..];
            resource::list(context, &LIST_AUDIT, &paging, &filters, (headers, row)).await
        }
        AuditCommand::Show { id } => {
            let id = resource::id(&id, "audit list")?;
            let reply = context.api.call(&GET_AUDIT).at(&id).send().await?;
            resource::show(context, &reply, details)?;
            if !context.out.json() {
                changes(context, &reply.read("an entry")?);
            }
            Ok(())
        }
    }
}

fn row(entry: &AuditEntryBody) -> Vec<String> {
    let name = entry.entity_name.as_deref().unwrap_or(&entry.entity_id);
    vec![
        time(entry.at),
        entry.actor.clone(),
        entry.action.clone(),
        format!("{} {name}", entry.entity_type),
        entry.source_address.clone().unwrap_or_default(),
        in_force(entry),
        entry.id.to_string(),
    ]
}

fn in_force(entry: &AuditEntryBody) -> String {
    match &entry.applied_by {
        Some(applied) => match applied.revision {
            Some(revision) => format!("revision {revision}"),
            None => "yes".to_owned(),
        },
        None if entry.pending_on.is_empty() => String::new(),
        None => "waits".to_owned(),
    }
}

fn details(entry: &AuditEntryBody) -> Vec<(&'static str, String)> {
    vec![
        ("at", time(entry.at)),
        ("actor", format!("{} ({})", entry.actor, entry.actor_kind)),
        ("action", entry.action.clone()),
        ("of", format!("{} {}", entry.entity_type, entry.entity_id)),
        ("called", or_nothing(entry.entity_name.as_ref())),
        ("tenant", or_nothing(entry.tenant_id.as_ref())),
        ("from", or_nothing(entry.source_address.as_ref())),
        ("in force", in_force(entry)),
        ("request", or_nothing(entry.request_id.as_ref())),
        (
            "chain",
            format!(
                "{}/{} {}",
                entry.chain.lane, entry.chain.position, entry.chain.hash
            ),
        ),
        ("id", entry.id.to_string()),
    ]
}

/// What was before and what came after, field by field.
fn changes(context: &Context, entry: &AuditEntryBody) {
    let fields = |value: &Option<Value>| {
        let object = value.as_ref().and_then(Value::as_object);
        object.cloned().unwrap_or_default()
    };
    let (before, after) = (fields(&entry.before), fields(&entry.after));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let out = &context.out;
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old == new {
            continue;
        }
        if let Some(old) = old {
            out.line(&out.paint(
                "31",
                &format!("- {}: {}", clean(name), clean(&old.to_string())),
            ));
        }
        if let Some(new) = new {
            out.line(&out.paint(
                "32",
                &format!("+ {}: {}", clean(name), clean(&new.to_string())),
            ));
        }
    }
}
