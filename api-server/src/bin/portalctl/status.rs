//! `portalctl status`: what is wanted, applied, on disk and loaded.

use api_server::http::bodies::{FileStatusBody, PbxStatusBody};
use clap::Args;

use crate::Context;
use crate::failure::Failure;
use crate::history::counts;
use crate::operations::STATUS;
use crate::output::{Output, clean, one_line, time};
use crate::words;

/// Digits of a SHA-256 that are shown.
const SHORT: usize = 12;

/// Of which PBX.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  portalctl status\n  portalctl status --pbx branch --check || page-somebody"
)]
pub(crate) struct Status {
    /// Only the PBX of this id or name
    #[arg(long)]
    pbx: Option<String>,
    /// Exit status 6 when something is wrong with one of them
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(context: &Context, wanted: Status) -> Result<(), Failure> {
    let call = context
        .api
        .call(&STATUS)
        .query_if("pbx", wanted.pbx.as_deref());
    let reply = call.send().await?;
    let out = &context.out;
    if out.json() {
        out.reply(&reply.body);
    }
    let all: Vec<PbxStatusBody> = reply.read("a status")?;
    if !out.json() {
        for pbx in &all {
            tell(out, pbx);
        }
    }
    let degraded = all.iter().filter(|pbx| pbx.degraded);
    let degraded: Vec<&str> = degraded.map(|pbx| pbx.name.as_str()).collect();
    if wanted.check && !degraded.is_empty() {
        let said = format!("something is wrong with {}", degraded.join(", "));
        return Err(Failure::NotInForce(said));
    }
    Ok(())
}

fn tell(out: &Output, pbx: &PbxStatusBody) {
    let health = if pbx.degraded {
        out.paint("1;31", "something is wrong")
    } else {
        out.paint("1;32", "well")
    };
    let name = out.paint("1", &format!("PBX {}", clean(&pbx.name)));
    out.line(&format!("{name}: {health}"));
    for reason in &pbx.reasons {
        out.line(&format!(
            "  {}",
            out.paint("31", &clean(&words::of_portal(reason)))
        ));
    }
    for warning in &pbx.warnings {
        let said = one_line(&format!(
            "warning: {} ({})",
            words::of_portal(&warning.message),
            warning.code
        ));
        out.line(&format!("  {}", out.paint("33", &said)));
    }
    let asterisk = pbx
        .asterisk
        .as_ref()
        .map_or("not known".to_owned(), |asterisk| {
            let answers = if asterisk.answering {
                "answers"
            } else {
                "does not answer"
            };
            format!("{answers}, {}", clean(&asterisk.detail))
        });
    let agent = one_line(&format!("{}, {}", pbx.agent, pbx.agent_detail));
    out.line(&format!("  agent:    {agent}"));
    out.line(&format!("  Asterisk: {asterisk}"));
    if let Some(proven) = &pbx.last_proven {
        let revision = proven
            .revision
            .map(|revision| format!("revision {revision}"));
        let (revision, by) = (revision.unwrap_or_default(), clean(&proven.requested_by));
        out.line(&format!(
            "  in force: {revision} of {} by {by}",
            time(proven.started_at)
        ));
    }
    if let Some(running) = &pbx.running {
        out.line(&format!("  running:  apply {}", running.id));
    }
    if pbx.queued > 0 {
        out.line(&format!("  waiting:  {} applies", pbx.queued));
    }
    out.line(&format!("  pending:  {}", pending(pbx)));
    let headers = [
        "  FILE", "VERDICT", "WANTED", "APPLIED", "ON DISK", "LOADED",
    ];
    out.table(&headers, pbx.files.iter().map(row).collect());
}

fn pending(pbx: &PbxStatusBody) -> String {
    let pending = &pbx.pending;
    match (pending.differs, &pending.changes) {
        (None, _) => format!(
            "cannot be rendered: {}",
            clean(pbx.wanted_problem.as_deref().unwrap_or_default())
        ),
        (Some(false), _) => "nothing".to_owned(),
        (Some(true), None) => "changes".to_owned(),
        (Some(true), Some(changes)) => format!(
            "users {}, objects {}: `portalctl preview` shows them",
            counts(&changes.users),
            counts(&changes.objects)
        ),
    }
}

fn row(file: &FileStatusBody) -> Vec<String> {
    let short = |sha256: &str| sha256.chars().take(SHORT).collect::<String>();
    let none = || "-".to_owned();
    let applied = file.last_applied.as_ref();
    let loaded = file.loaded.as_ref().map(|loaded| match loaded.revision {
        Some(revision) => format!("revision {revision}"),
        None => loaded.generation.clone(),
    });
    let disk = match (&file.on_disk, &file.problem) {
        (Some(content), _) => short(&content.sha256),
        (None, Some(problem)) => problem.clone(),
        (None, None) => none(),
    };
    vec![
        format!("  {}", file.slot),
        file.verdict.to_string(),
        file.wanted
            .as_ref()
            .map_or_else(none, |wanted| short(&wanted.sha256)),
        applied.map_or_else(none, |last| match &last.sha256 {
            Some(sha256) => format!("{} (revision {})", short(sha256), last.revision),
            None => format!("revision {}", last.revision),
        }),
        disk,
        loaded.unwrap_or_else(none),
    ]
}
