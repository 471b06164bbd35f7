//! `portalctl history`: attempts to apply, and how they are told of.

use api_server::http::bodies::{ApplyBody, CountsBody, ShownApplyBody, StepBody, SummaryBody};
use clap::Args;

use crate::Context;
use crate::failure::Failure;
use crate::operations::{GET_APPLY, LIST_APPLIES};
use crate::output::{Output, clean, one_line, or_nothing, time, yes_no};
use crate::resource::{self, Paging};
use crate::words;

/// Which attempts.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  portalctl history --pbx branch --outcome rolled_back\n  portalctl history \
                  01a1fecc-ffa4-79ac-ae21-8a8538b5e265"
)]
pub(crate) struct History {
    /// Only this one, with all its steps
    #[arg(conflicts_with_all = ["q", "pbx", "outcome", "requested_by", "limit", "all", "sort"])]
    id: Option<String>,
    /// Only those whose requester, request or failure holds this
    #[arg(short, value_name = "TEXT")]
    q: Option<String>,
    /// Only those of the PBX of this id or name
    #[arg(long)]
    pbx: Option<String>,
    /// Only those that ended so, as in `applied`
    #[arg(long)]
    outcome: Option<String>,
    /// Only those that somebody of this name asked for
    #[arg(long, value_name = "NAME")]
    requested_by: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

pub(crate) async fn run(context: &Context, history: History) -> Result<(), Failure> {
    if let Some(id) = &history.id {
        let id = resource::id(id, "history")?;
        let reply = context.api.call(&GET_APPLY).at(&id).send().await?;
        resource::show(context, &reply, details)?;
        if !context.out.json() {
            whole(&context.out, &reply.read("an apply")?);
        }
        return Ok(());
    }
    let filters = [
        ("q", history.q.as_deref()),
        ("pbx", history.pbx.as_deref()),
        ("outcome", history.outcome.as_deref()),
        ("requested_by", history.requested_by.as_deref()),
    ];
    let headers = &[
        "STARTED",
        "PBX",
        "REVISION",
        "OUTCOME",
        "BY",
        "USERS",
        "RESTORABLE",
        "ID",
    ][..];
    resource::list(
        context,
        &LIST_APPLIES,
        &history.paging,
        &filters,
        (headers, row),
    )
    .await
}

fn row(apply: &ApplyBody) -> Vec<String> {
    vec![
        time(apply.started_at),
        apply.pbx.clone(),
        or_nothing(apply.revision.as_ref()),
        apply.outcome.to_string(),
        apply.requested_by.clone(),
        apply
            .changes
            .as_ref()
            .map(|changes| counts(&changes.users))
            .unwrap_or_default(),
        yes_no(apply.restorable),
        apply.id.to_string(),
    ]
}

/// `+1 ~0 -2`
pub(crate) fn counts(counts: &CountsBody) -> String {
    format!("+{} ~{} -{}", counts.added, counts.changed, counts.removed)
}

fn details(shown: &ShownApplyBody) -> Vec<(&'static str, String)> {
    let apply = &shown.apply;
    let restored = apply.restored_from.as_ref();
    let restored = restored.map(|from| format!("revision {} ({})", from.revision, from.apply_id));
    let failure = apply.failure.as_ref();
    vec![
        ("outcome", apply.outcome.to_string()),
        (
            "failure",
            failure
                .map(|failure| words::of_portal(&failure.message))
                .unwrap_or_default(),
        ),
        ("PBX", apply.pbx.clone()),
        ("revision", or_nothing(apply.revision.as_ref())),
        ("restored from", restored.unwrap_or_default()),
        ("digest", or_nothing(apply.digest.as_ref())),
        ("users", apply.user_count.to_string()),
        (
            "changes",
            apply.changes.as_ref().map(summary).unwrap_or_default(),
        ),
        ("restorable", yes_no(apply.restorable)),
        ("requested by", apply.requested_by.clone()),
        ("from", apply.source_address.clone()),
        ("request", apply.request_id.clone()),
        ("started", time(apply.started_at)),
        ("ended", apply.ended_at.map(time).unwrap_or_default()),
        ("id", apply.id.to_string()),
    ]
}

fn summary(summary: &SummaryBody) -> String {
    let against = summary
        .against_revision
        .map(|revision| format!(" against revision {revision}"));
    format!(
        "users {}, objects {}{}",
        counts(&summary.users),
        counts(&summary.objects),
        against.unwrap_or_default()
    )
}

fn whole(out: &Output, shown: &ShownApplyBody) {
    for taken in &shown.apply.steps {
        for line in step(out, taken) {
            out.line(&line);
        }
    }
    remarks(out, &shown.apply);
    if !shown.carried.is_empty() {
        out.line("Carried:");
        let rows = shown.carried.iter().map(|change| {
            let name = change.entity_name.as_deref().unwrap_or(&change.entity_id);
            vec![
                format!("  {}", time(change.at)),
                change.actor.clone(),
                change.action.clone(),
                name.to_owned(),
            ]
        });
        out.table(&["  AT", "ACTOR", "ACTION", "OF"], rows.collect());
    }
}

/// What the portal does while an apply is on its way, in words.
pub(crate) fn state(state: &str) -> &str {
    match state {
        "waiting" => "waits for its turn",
        "rendering" => "renders the configuration",
        "sending" | "started" => "goes to the agent",
        "running" => "the agent brings it into force",
        "agent_lost" => "the agent's answer was lost, the portal asks again",
        "outcome_unknown" => "the agent does not answer, the portal goes on asking",
        "database_lost" => "the database does not answer, the portal goes on asking",
        other => other,
    }
}

/// A step: one line, and what was said when it failed.
pub(crate) fn step(out: &Output, step: &StepBody) -> Vec<String> {
    let ok = if step.ok {
        out.paint("32", "ok    ")
    } else {
        out.paint("1;31", "FAILED")
    };
    let (phase, action) = (one_line(&step.phase), one_line(&step.action));
    let mut lines = vec![format!(
        "{ok} {phase:<12} {action} ({} ms)",
        step.duration_ms
    )];
    if !step.ok {
        lines.extend(
            clean(&step.said)
                .lines()
                .map(|line| format!("         {line}")),
        );
    }
    lines
}

/// How an attempt ended.
pub(crate) fn outcome(out: &Output, apply: &ApplyBody) {
    let pbx = clean(&apply.pbx);
    let revision = apply
        .revision
        .map(|revision| format!(" revision {revision}"));
    let revision = revision.unwrap_or_default();
    let proven = ["applied", "unchanged"].contains(&apply.outcome.as_ref());
    let color = if proven { "1;32" } else { "1;31" };
    let end = out.paint(color, &one_line(&apply.outcome));
    let changes = apply
        .changes
        .as_ref()
        .map(|changes| format!(" ({})", summary(changes)));
    out.line(&format!(
        "{pbx}:{revision} {end}{}",
        changes.unwrap_or_default()
    ));
    if let Some(failure) = &apply.failure {
        let said = format!("{} ({})", words::of_portal(&failure.message), failure.code);
        out.line(&format!("  {}", one_line(&said)));
    }
    remarks(out, apply);
    if !proven {
        out.line(&format!(
            "  Look closer with: portalctl history {}",
            apply.id
        ));
    }
}

fn remarks(out: &Output, apply: &ApplyBody) {
    for mismatch in &apply.mismatches {
        let (kind, object) = (&mismatch.kind, &mismatch.object);
        let (name, detail) = (&mismatch.name, &mismatch.detail);
        let said = one_line(&format!("{kind}: {object} {name}: {detail}"));
        out.line(&out.paint("31", &format!("  {said}")));
    }
    for note in &apply.notes {
        out.line(&format!(
            "  {} {}",
            out.paint("33", "note:"),
            clean(&words::of_portal(note))
        ));
    }
}
