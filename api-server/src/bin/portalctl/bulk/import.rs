//! `portalctl user import` and `portalctl device import`.

use std::path::PathBuf;

use api_server::http::bodies::{ImportBody, ImportCountsBody};
use clap::Args;
use serde::Deserialize;

use super::result_file::{ResultFile, hand_over};
use crate::Context;
use crate::api::{Call, Reply};
use crate::failure::{Failure, Refusal};
use crate::fields::Key;
use crate::operations::Operation;
use crate::output::{Output, or_nothing};
use crate::words;

/// Lines of a preview that are shown before the question; refused ones always are.
const SHOWN_BEFORE_QUESTION: usize = 40;

/// Lines of a preview: what happens to them.
const HEADERS: [&str; 5] = ["LINE", "OUTCOME", "KEY", "EXTENSION", "WHAT"];

/// What is imported, and how.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// CSV with a line of column names, as `export` writes it and spreadsheets do; `-`: standard input
    file: PathBuf,
    /// Only show what would become of each line
    #[arg(long, conflicts_with = "idempotency_key")]
    preview: bool,
    /// Do what can be done; otherwise all lines are good or nothing is done
    #[arg(long)]
    per_line: bool,
    /// The encoding, as in windows-1252; UTF-8 when absent
    #[arg(long, value_name = "LABEL")]
    encoding: Option<String>,
    /// Where to write the SIP accounts of what is created, with their passwords: a file that is not
    /// there yet. Without it they are printed
    #[arg(long, value_name = "FILE", conflicts_with = "preview")]
    result: Option<PathBuf>,
    #[command(flatten)]
    key: Key,
}

/// A problem about an import.
#[derive(Deserialize)]
struct Refused {
    import: ImportBody,
}

pub(crate) async fn run(
    context: &Context,
    operation: &'static Operation,
    import: Import,
) -> Result<(), Failure> {
    let csv = super::read(&import.file)?;
    let out = &context.out;
    if import.preview {
        let reply = previewed(context, operation, &import, &csv).await?;
        let outcome: ImportBody = reply.read("an import")?;
        if out.json() {
            out.reply(&reply.body);
        } else {
            table(out, &outcome, usize::MAX);
            out.line(&summary(&outcome.counts, true));
        }
        return refused(&outcome);
    }
    let key = import.key.given();
    if !context.ask.yes {
        let reply = previewed(context, operation, &import, &csv).await?;
        let outcome: ImportBody = reply.read("an import")?;
        table(out, &outcome, SHOWN_BEFORE_QUESTION);
        let nothing = changes_nothing(&outcome);
        out.aside(&if nothing && outcome.counts.refused == 0 {
            "Nothing would change.".to_owned()
        } else {
            summary(&outcome.counts, true)
        });
        let stopped = outcome.counts.refused > 0 && !import.per_line;
        // Under a key it may have been done before, and the answer is asked for.
        if stopped || (nothing && key.is_none()) {
            if out.json() {
                out.reply(&reply.body);
            }
            return refused(&outcome);
        }
        if !nothing {
            context.ask.confirm("Do it?")?;
        }
    }
    let file = ResultFile::create(import.result.as_deref(), key)?;
    let call = call(context, operation, &import, &csv).query("preview", "false");
    match call.key(key).send().await {
        Ok(reply) => done(context, &reply, file),
        Err(failure) => {
            ResultFile::after(file, &failure);
            if let Failure::Refused(refusal) = &failure {
                why(out, refusal);
            }
            Err(failure)
        }
    }
}

async fn previewed(
    context: &Context,
    operation: &'static Operation,
    import: &Import,
    csv: &[u8],
) -> Result<Reply, Failure> {
    let call = call(context, operation, import, csv);
    call.preview().send().await
}

fn call<'a>(
    context: &'a Context,
    operation: &'static Operation,
    import: &Import,
    csv: &[u8],
) -> Call<'a> {
    let mode = if import.per_line {
        "per_line"
    } else {
        "all_or_nothing"
    };
    let media_type = match &import.encoding {
        Some(label) => format!("text/csv; charset={label}"),
        None => "text/csv".to_owned(),
    };
    let call = context.api.call(operation).query("mode", mode);
    call.body(&media_type, csv)
}

fn done(context: &Context, reply: &Reply, file: Option<ResultFile>) -> Result<(), Failure> {
    let out = &context.out;
    // What cannot be read may hold passwords that nobody shows again.
    let read = reply.read("an import");
    let outcome: ImportBody = read.inspect_err(|_| out.reply(&reply.body))?;
    if out.json() {
        out.reply(&reply.body);
    } else {
        table(out, &outcome, 0);
    }
    let accounts = outcome.lines.iter().filter_map(|line| {
        let key = line.key.as_deref().unwrap_or_default();
        Some((key, line.sip.as_ref()?))
    });
    let handed_over = hand_over(out, &accounts.collect::<Vec<_>>(), file);
    if !out.json() {
        out.line(&summary(&outcome.counts, false));
    }
    handed_over.and(refused(&outcome))
}

/// A table of what was refused or changes; of other lines than refused ones at most `most`.
fn table(out: &Output, outcome: &ImportBody, most: usize) {
    let mut others = 0;
    let mut rows = Vec::new();
    for line in &outcome.lines {
        if line.outcome != "refused" {
            others += 1;
            if others > most {
                continue;
            }
        }
        let what = if line.errors.is_empty() {
            super::changes(&line.changes)
        } else {
            super::faults(&line.errors)
        };
        rows.push(vec![
            line.line.to_string(),
            line.outcome.clone(),
            line.key.clone().unwrap_or_default(),
            or_nothing(line.extension.as_ref()),
            what,
        ]);
    }
    if !rows.is_empty() {
        out.table_aside(&HEADERS, rows);
    }
    if most > 0 && others > most {
        out.aside(&format!(
            "… and {} more; --preview shows all",
            others - most
        ));
    }
}

/// Whether no line creates or changes anything, or does what this version does not know.
fn changes_nothing(outcome: &ImportBody) -> bool {
    let mut lines = outcome.lines.iter();
    lines.all(|line| ["unchanged", "refused"].contains(&line.outcome.as_ref()))
}

fn summary(counts: &ImportCountsBody, preview: bool) -> String {
    let would = if preview { "would be " } else { "" };
    format!(
        "{} {would}created, {} {would}changed, {} unchanged, {} refused.",
        counts.created, counts.changed, counts.unchanged, counts.refused
    )
}

/// What was refused fails the command, whatever was done beside it.
fn refused(outcome: &ImportBody) -> Result<(), Failure> {
    match outcome.counts.refused {
        0 => Ok(()),
        count => Err(Failure::Input(format!("{} refused", words::lines(count)))),
    }
}

fn why(out: &Output, refusal: &Refusal) {
    if let Ok(refused) = serde_json::from_slice::<Refused>(&refusal.body)
        && !out.json()
    {
        table(out, &refused.import, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"mode":"all_or_nothing","preview":false,
        "counts":{"created":1,"changed":1,"unchanged":0,"refused":1},
        "lines":[
          {"line":2,"outcome":"created","id":null,"key":"ann@example.com","extension":1000,
           "changes":[{"field":"name","before":null,"after":"Ann"}],"errors":[],
           "sip":{"device_id":"00000000-0000-7000-8000-000000000001","username":"1000","password":"p","realm":"r"}},
          {"line":3,"outcome":"changed","id":null,"key":"bob@example.com","extension":1001,
           "changes":[{"field":"name","before":"Bob","after":"Bob B."}],"errors":[],"sip":null},
          {"line":4,"outcome":"refused","id":null,"key":null,"extension":null,"changes":[],
           "errors":[{"field":"email","code":"email_taken","message":"is taken"}],"sip":null}]}"#;

    #[test]
    fn what_became_of_each_line() {
        let outcome: ImportBody = serde_json::from_str(ANSWER).unwrap();
        assert_eq!(
            super::super::changes(&outcome.lines[0].changes),
            "name: \"Ann\""
        );
        assert_eq!(
            super::super::changes(&outcome.lines[1].changes),
            "name: \"Bob\" → \"Bob B.\""
        );
        assert_eq!(
            super::super::faults(&outcome.lines[2].errors),
            "email: is taken"
        );
        assert_eq!(
            summary(&outcome.counts, true),
            "1 would be created, 1 would be changed, 0 unchanged, 1 refused."
        );
        assert_eq!(refused(&outcome).unwrap_err().exit_code(), 5);
        let problem = format!(r#"{{"code":"import_refused","import":{ANSWER}}}"#);
        let problem: Refused = serde_json::from_str(&problem).unwrap();
        assert_eq!(problem.import.lines.len(), 3);
    }
}
