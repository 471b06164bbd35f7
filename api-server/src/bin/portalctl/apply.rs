//! `portalctl apply` and `portalctl restore`: bring something into force, with the steps as they
//! happen.

mod display;

use std::path::PathBuf;

use api_server::http::bodies::{AppliedBody, ApplyBody, PbxApplyBody, ShownApplyBody};
use clap::Args;
use futures_util::future::join_all;
use reqwest::header::HeaderName;

use self::display::Display;
use crate::Context;
use crate::api::Reply;
use crate::bulk::declaration::{self, ApplyTenant};
use crate::events::follow;
use crate::failure::Failure;
use crate::fields::{Fields, Key};
use crate::history;
use crate::operations::{APPLY, GET_APPLY, RESTORE};
use crate::output::{one_line, time};
use crate::resource;
use crate::words;

/// How to apply.
#[derive(Args, Debug)]
#[command(
    after_help = "Each step is shown as it happens. Exit status 0 only when Asterisk was read back and \
                  holds what was sent, on every PBX.\n\nWith -f exactly what was shown is done, or \
                  nothing; with --idempotency-key that needs --expected-digest as \
                  well.\n\nExamples:\n  portalctl apply\n  portalctl apply \
                  --pbx branch --expected-digest 9af61bba7167…\n  portalctl apply --json | jq -r \
                  '.[].outcome'\n  portalctl --tenant acme apply -f tenant.yaml"
)]
pub(crate) struct Apply {
    /// Make a tenant what this file says, YAML, in the database alone; shows first what would
    /// change. `-`: standard input, with --yes
    #[arg(short, long, value_name = "FILE",
        conflicts_with_all = ["pbx", "keep_new_files", "roll_back", "force"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    tenant: ApplyTenant,
    /// Only the PBX of this id or name; every one that has changes when absent
    #[arg(long)]
    pbx: Option<String>,
    /// The digest that `preview` showed, or with -f `plan`: when the data says something else by now,
    /// nothing happens
    #[arg(long, value_name = "SHA256")]
    expected_digest: Option<String>,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    policy: Policy,
}

/// Which earlier state, and how.
#[derive(Args, Debug)]
#[command(
    after_help = "The database stays as it is: until the next apply it says something else than the PBX \
                  runs.\n\nExamples:\n  portalctl history\n  portalctl restore \
                  01a1fecc-ffa4-79ac-ae21-8a8538b5e265"
)]
pub(crate) struct Restore {
    /// The apply whose configuration is brought back, as `history` shows it
    id: String,
    /// The digest that it must have
    #[arg(long, value_name = "SHA256")]
    expected_digest: Option<String>,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    policy: Policy,
}

#[derive(Args, Debug)]
struct Policy {
    /// When Asterisk does not take the new files, leave them for investigation
    #[arg(long, conflicts_with = "roll_back")]
    keep_new_files: bool,
    /// When Asterisk does not take the new files, go back to those that were proven last
    #[arg(long)]
    roll_back: bool,
    /// Let an agent in safe mode set aside what is damaged and go on
    #[arg(long)]
    force: bool,
}

impl Policy {
    fn fields(&self, fields: Fields, digest: Option<&String>) -> Fields {
        let policy = match (self.keep_new_files, self.roll_back) {
            (true, _) => Some("keep_new_files"),
            (false, true) => Some("roll_back"),
            (false, false) => None,
        };
        fields
            .set("expected_digest", digest)
            .set("on_reload_failure", policy.as_ref())
            .set("force", self.force.then_some(&true))
    }
}

/// An attempt that stands in line.
struct Begun {
    pbx: String,
    id: String,
}

pub(crate) async fn run(context: &Context, apply: Apply) -> Result<(), Failure> {
    if let Some(file) = &apply.file {
        let (digest, key) = (apply.expected_digest, apply.key.given());
        return declaration::apply(context, file, &apply.tenant, digest, key).await;
    }
    let fields = Fields::default().set("pbx", apply.pbx.as_ref());
    let fields = apply.policy.fields(fields, apply.expected_digest.as_ref());
    let call = context.api.call(&APPLY).json(&fields.body());
    let call = call.key(apply.key.given());
    let sent = call.header(PREFER, RESPOND_ASYNC).send().await;
    // What failed at once on one PBX does not keep the others from going on.
    let (all, failure) = match sent {
        Ok(reply) => (reply.read::<AppliedBody>("an apply")?.applies, None),
        Err(Failure::Refused(mut refusal)) => {
            let applies = refusal
                .problem
                .as_mut()
                .and_then(|problem| problem.applies.take());
            (applies.unwrap_or_default(), Some(Failure::Refused(refusal)))
        }
        Err(other) => return Err(other),
    };
    let mut failed = Vec::new();
    let begun = all
        .into_iter()
        .filter_map(|of| begun(context, of, &mut failed));
    let begun: Vec<Begun> = begun.collect();
    let ended = if begun.is_empty() && context.out.json() && failure.is_some() {
        Ok(())
    } else {
        ended(context, &begun).await
    };
    match (failure, failed.as_slice()) {
        (Some(failure), _) => Err(failure),
        (None, []) => ended,
        (None, failed) => ended.and(Err(Failure::NotInForce(format!(
            "not applied on {}",
            failed.join(", ")
        )))),
    }
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const RESPOND_ASYNC: &str = "respond-async";

/// What can be followed; what was left alone or failed before is said.
fn begun(context: &Context, of: PbxApplyBody, failed: &mut Vec<String>) -> Option<Begun> {
    if let Some(id) = of.apply_id {
        let id = id.to_string();
        return Some(Begun { pbx: of.pbx, id });
    }
    if of.skipped.is_some() {
        if !context.out.json() {
            let said = format!("{}: nothing to do, it is in force already", of.pbx);
            context.out.line(&one_line(&said));
        }
    } else if let Some(failure) = of.failure {
        let message = words::of_portal(&failure.message);
        let said = format!("{}: {message} ({})", of.pbx, failure.code);
        if context.out.json() {
            failed.push(said);
        } else {
            context.out.note(&one_line(&said));
            failed.push(of.pbx);
        }
    }
    None
}

pub(crate) async fn restore(context: &Context, restore: Restore) -> Result<(), Failure> {
    let id = resource::id(&restore.id, "history")?;
    let source = context.api.call(&GET_APPLY).at(&id).send().await?;
    let source: ShownApplyBody = source.read("an apply")?;
    let source = source.apply;
    let question = format!(
        "Bring {} on PBX {} back into force, which {} applied at {}?",
        revision(&source),
        source.pbx,
        source.requested_by,
        time(source.started_at)
    );
    context.ask.confirm(&question)?;
    let digest = restore.expected_digest.as_ref();
    let body = restore.policy.fields(Fields::default(), digest).body();
    let call = context.api.call(&RESTORE).at(&id).json(&body);
    let call = call.key(restore.key.given());
    let reply = call.header(PREFER, RESPOND_ASYNC).send().await?;
    let attempt: ApplyBody = reply.read("an apply")?;
    let begun = Begun {
        pbx: attempt.pbx,
        id: attempt.id.to_string(),
    };
    ended(context, &[begun]).await
}

fn revision(apply: &ApplyBody) -> String {
    let revision = apply
        .revision
        .map(|revision| format!("revision {revision}"));
    revision.unwrap_or_else(|| "no revision".to_owned())
}

/// Follows all to their end and tells how that was.
async fn ended(context: &Context, begun: &[Begun]) -> Result<(), Failure> {
    let display = Display::new(&context.out, begun.len() > 1);
    let records = join_all(begun.iter().map(|of| async {
        let line = display.add(&of.pbx);
        let followed = follow(&context.api, &of.id, |event| line.tell(event)).await;
        line.end();
        followed?;
        context.api.call(&GET_APPLY).at(&of.id).send().await
    }))
    .await;
    let mut failure = None;
    let mut bodies = Vec::new();
    for (of, record) in begun.iter().zip(records) {
        match record.and_then(|record| told(context, &record).map(|proven| (record, proven))) {
            Ok((record, proven)) => {
                bodies.push(record.body);
                if !proven && failure.is_none() {
                    failure = Some(Failure::NotInForce(format!("not in force on {}", of.pbx)));
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    if context.out.json() {
        let bodies = bodies.iter().map(|body| String::from_utf8_lossy(body));
        let all = bodies.collect::<Vec<_>>().join(",");
        context.out.line(&format!("[{all}]"));
    }
    failure.map_or(Ok(()), Err)
}

/// Tells how an attempt ended; whether it is proven.
fn told(context: &Context, record: &Reply) -> Result<bool, Failure> {
    let shown: ShownApplyBody = record.read("an apply")?;
    let apply = &shown.apply;
    let proven = ["applied", "unchanged"].contains(&apply.outcome.as_ref());
    if !context.out.json() {
        history::outcome(&context.out, apply);
    }
    Ok(proven)
}
