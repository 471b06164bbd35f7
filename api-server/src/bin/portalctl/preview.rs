//! `portalctl preview`: what an apply would do, and whom it would concern.

use api_server::http::bodies::{DifferenceBody, FileDifferenceBody, PreviewBody};
use clap::Args;

use crate::Context;
use crate::failure::Failure;
use crate::history::counts;
use crate::operations::PREVIEW;
use crate::output::{Output, clean, one_line, time};
use crate::words;

/// Of which PBX.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status 6 when something would keep it from coming into force.\n\nExamples:\n  \
                  portalctl preview\n  portalctl preview --pbx branch --color always | less -R\n  portalctl \
                  preview --brief"
)]
pub(crate) struct Preview {
    /// The PBX of this id or name; the default one when absent
    #[arg(long)]
    pbx: Option<String>,
    /// Only what changes for whom, without the lines of the files
    #[arg(long)]
    brief: bool,
}

pub(crate) async fn run(context: &Context, wanted: Preview) -> Result<(), Failure> {
    let call = context
        .api
        .call(&PREVIEW)
        .query_if("pbx", wanted.pbx.as_deref());
    let reply = call.send().await?;
    let out = &context.out;
    if out.json() {
        out.reply(&reply.body);
    }
    let preview: PreviewBody = reply.read("a preview")?;
    if !out.json() {
        compared(out, &preview);
        if let Some(changes) = &preview.changes {
            if !wanted.brief {
                changes.files.iter().for_each(|file| diff(out, file));
            }
            concerned(out, changes);
        }
        remarks(out, &preview);
        verdict(out, &preview);
    }
    if preview.would_apply == Some(false) {
        let said = format!("it would not come into force on {}", preview.pbx);
        return Err(Failure::NotInForce(said));
    }
    Ok(())
}

fn compared(out: &Output, preview: &PreviewBody) {
    let against = match &preview.compared_with {
        None => "nothing was ever applied".to_owned(),
        Some(with) => {
            let by = clean(&with.requested_by);
            let doubt = if with.certain {
                ""
            } else {
                "; what is in force since is not certain"
            };
            format!(
                "revision {} of {} by {by}{doubt}",
                with.revision,
                time(with.proven_at)
            )
        }
    };
    let title = format!("PBX {}, against {against}", clean(&preview.pbx));
    out.line(&out.paint("1", &title));
    if let Some(why) = &preview.changes_unknown {
        out.line(&format!(
            "The two cannot be compared: {}",
            clean(&words::of_portal(why))
        ));
    }
}

fn diff(out: &Output, file: &FileDifferenceBody) {
    if file.diff.is_empty() {
        return;
    }
    out.line("");
    let title = format!(
        "{} +{} -{}",
        file.path, file.lines_added, file.lines_removed
    );
    out.line(&out.paint("1", &one_line(&title)));
    for line in clean(&file.diff).lines() {
        let color = match line.as_bytes() {
            [b'+', ..] => Some("32"),
            [b'-', ..] => Some("31"),
            [b'@', ..] => Some("36"),
            _ => None,
        };
        match color {
            Some(color) => out.line(&out.paint(color, line)),
            None => out.line(line),
        }
    }
    if file.truncated {
        out.line("… and more lines");
    }
}

/// The blast radius: who and what is concerned, and which phones that ring now.
fn concerned(out: &Output, changes: &DifferenceBody) {
    out.line("");
    let tenants = changes.tenants.iter().map(|tenant| clean(&tenant.name));
    let tenants = tenants.collect::<Vec<_>>().join(", ");
    let (objects, users) = (
        counts(&changes.objects.counts),
        counts(&changes.users.counts),
    );
    out.line(&format!("Users {users}, objects {objects}"));
    if !tenants.is_empty() {
        out.line(&format!("Tenants: {tenants}"));
    }
    for user in &changes.users.list {
        let (sign, color) = match user.action.as_ref() {
            "added" => ("+", "32"),
            "removed" => ("-", "31"),
            _ => ("~", "33"),
        };
        let said = format!("  {sign} {} {}", user.extension, clean(&user.name));
        out.line(&out.paint(color, &said));
    }
    if changes.users.truncated {
        out.line("  … and more users");
    }
    match &changes.phones {
        None => {
            let why = changes.phones_unknown.as_deref().unwrap_or_default();
            out.line(&format!(
                "Registered phones that it concerns: not known. {}",
                clean(why)
            ));
        }
        Some(phones) => {
            out.line(&format!(
                "Registered phones that it concerns: {}",
                phones.count
            ));
            for phone in &phones.list {
                let (aor, uri) = (clean(&phone.aor), clean(&phone.uri));
                out.line(&format!("  {aor} at {uri} {}", clean(&phone.user_agent)));
            }
            if phones.truncated {
                out.line("  … and more phones");
            }
        }
    }
}

fn remarks(out: &Output, preview: &PreviewBody) {
    for finding in &preview.findings {
        let place = finding.slot.as_deref().unwrap_or(&finding.source);
        let line = if finding.line > 0 {
            format!(":{}", finding.line)
        } else {
            String::new()
        };
        let said = one_line(&format!("finding: {place}{line}: {}", finding.message));
        out.line(&out.paint("31", &said));
    }
    for warning in &preview.warnings {
        let said = one_line(&format!(
            "warning: {} ({})",
            words::of_portal(&warning.message),
            warning.code
        ));
        out.line(&out.paint("33", &said));
    }
    for note in &preview.notes {
        out.line(&format!("note: {}", clean(&words::of_portal(note))));
    }
}

fn verdict(out: &Output, preview: &PreviewBody) {
    out.line("");
    let detail = clean(&words::of_portal(&preview.check.detail));
    let drifted = preview.warnings.iter();
    let drifted = drifted.filter(|warning| warning.code == "drift").count();
    let nothing = preview.changes_nothing && drifted == 0;
    let said = match preview.would_apply {
        Some(true) if nothing => "Nothing would change.".to_owned(),
        Some(true) if preview.changes_nothing => {
            let files = match drifted {
                1 => "1 file that was".to_owned(),
                count => format!("{count} files that were"),
            };
            format!("The data is the same; {files} changed on the PBX would be written anew.")
        }
        Some(true) => out.paint("1;32", "It would come into force."),
        Some(false) => out.paint("1;31", "It would not come into force."),
        None => format!("Whether it would come into force is not known: {detail}"),
    };
    out.line(&said);
    if let Some(digest) = preview.digest.as_ref().filter(|_| !nothing) {
        let pbx = &preview.pbx;
        let said = format!("Exactly this: portalctl apply --pbx {pbx} --expected-digest {digest}");
        out.line(&one_line(&said));
    }
}
