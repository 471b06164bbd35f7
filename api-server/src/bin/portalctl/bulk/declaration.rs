//! `portalctl plan -f`, `portalctl apply -f` and `portalctl export -f`: what a tenant should be.

use std::path::{Path, PathBuf};

use api_server::http::bodies::{
    ReconciledBody, ReconciledChangeBody, ReconciledCountsBody, RefusalBody,
};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::export::Target;
use super::result_file::{ResultFile, hand_over};
use super::{EXPORT_DECLARATION, RECONCILE_DECLARATION, yaml};
use crate::Context;
use crate::api::{Call, Reply};
use crate::failure::{Failure, Refusal};
use crate::output::{Output, clean, one_line};

/// Which file.
#[derive(Args, Debug)]
#[command(
    after_help = "What the file does not name stays as it is. `portalctl export -f` writes one to begin \
                  with.\n\nExamples:\n  portalctl --tenant acme plan -f \
                  tenant.yaml\n  portalctl --tenant acme plan -f tenant.yaml --remove-unlisted users,devices"
)]
pub(crate) struct Plan {
    /// What the tenant should be, YAML; `-`: standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    removal: Removal,
}

/// Where to.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  portalctl --tenant acme export -f tenant.yaml\n  portalctl export -f - | less"
)]
pub(crate) struct ExportTenant {
    /// The file to write, YAML; `-`: standard output
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

/// What is removed.
#[derive(Args, Debug)]
pub(crate) struct Removal {
    /// Remove what the file does not list: `users`, `devices` or both
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "file")]
    remove_unlisted: Vec<String>,
}

/// What `apply` takes with a tenant file.
#[derive(Args, Debug)]
pub(crate) struct ApplyTenant {
    #[command(flatten)]
    removal: Removal,
    /// With -f, where to write the SIP accounts of what is created: a file that is not there yet
    #[arg(long, value_name = "FILE", requires = "file")]
    result: Option<PathBuf>,
}

/// A problem about a declaration.
#[derive(Deserialize)]
struct Refused {
    refusals: Vec<RefusalBody>,
}

pub(crate) async fn plan(context: &Context, plan: Plan) -> Result<(), Failure> {
    let body = declared(&plan.file, &plan.removal)?;
    let reply = sent(
        context,
        context
            .api
            .call(&RECONCILE_DECLARATION)
            .json(&body)
            .preview(),
    )
    .await?;
    if context.out.json() {
        context.out.reply(&reply.body);
    } else {
        let planned: ReconciledBody = reply.read("a plan")?;
        tell(&context.out, &planned, true);
        if !planned.changes.is_empty() {
            let digest = clean(&planned.digest);
            let said = format!("`apply -f` with --expected-digest {digest} does exactly this.");
            context.out.line(&said);
        }
    }
    Ok(())
}

/// Shows what would be done, asks, and does exactly that. With a `key` and no `digest` it is done
/// whatever it is by then: the same command shall be the same request, and another plan has another
/// digest.
pub(crate) async fn apply(
    context: &Context,
    file: &Path,
    tenant: &ApplyTenant,
    digest: Option<String>,
    key: Option<&str>,
) -> Result<(), Failure> {
    let mut body = declared(file, &tenant.removal)?;
    let planned_call = context.api.call(&RECONCILE_DECLARATION).json(&body);
    let reply = sent(context, planned_call.preview()).await?;
    let planned: ReconciledBody = reply.read("a plan")?;
    let out = &context.out;
    if !out.json() || !context.ask.yes {
        tell(out, &planned, true);
    }
    if !planned.changes.is_empty() {
        context.ask.confirm("Do it?")?;
    } else if key.is_none() {
        if out.json() {
            out.reply(&reply.body);
        }
        return Ok(());
    }
    let file = ResultFile::create(tenant.result.as_deref(), key)?;
    let shown = key.is_none().then_some(planned.digest);
    let digest = digest.or(shown);
    if let Some(digest) = &digest {
        body["expected_digest"] = digest.clone().into();
    }
    let call = context.api.call(&RECONCILE_DECLARATION).json(&body);
    match sent(context, call.query("preview", "false").key(key)).await {
        Ok(reply) => done(out, &reply, file),
        Err(mut failure) => {
            ResultFile::after(file, &failure);
            // The digest is a part of the request that the key is of.
            if let (Failure::Unknown(unknown), Some(digest)) = (&mut failure, digest) {
                let again = unknown.again.take();
                unknown.again = again.map(|key| format!("{key} --expected-digest {digest}"));
            }
            Err(failure)
        }
    }
}

fn done(out: &Output, reply: &Reply, file: Option<ResultFile>) -> Result<(), Failure> {
    // What cannot be read may hold passwords that nobody shows again.
    let read = reply.read("what was done");
    let done: ReconciledBody = read.inspect_err(|_| out.reply(&reply.body))?;
    if out.json() {
        out.reply(&reply.body);
    }
    let made = done.changes.iter();
    let accounts = made.filter_map(|entity| Some((entity.key.as_str(), entity.sip.as_ref()?)));
    let handed_over = hand_over(out, &accounts.collect::<Vec<_>>(), file);
    if !out.json() {
        out.line(&summary(&done.counts, false));
        out.line("`portalctl apply` brings it into force on the PBX.");
    }
    handed_over
}

pub(crate) async fn export_tenant(context: &Context, wanted: ExportTenant) -> Result<(), Failure> {
    let path = Some(wanted.file.as_path()).filter(|path| *path != Path::new("-"));
    let target = path.map(|path| Target::open(path, &context.ask));
    let target = target.transpose()?;
    let reply = context.api.call(&EXPORT_DECLARATION).send().await?;
    let unreadable = |said| Failure::other(format!("the declaration: {said}"));
    let text = yaml::of_json(&reply.body).map_err(unreadable)?;
    let Some(mut target) = target else {
        context.out.raw(text.as_bytes());
        return Ok(());
    };
    target.write(text.as_bytes())?;
    target.keep()
}

/// What a file says, as the portal takes it.
fn declared(file: &Path, removal: &Removal) -> Result<Value, Failure> {
    let unreadable = |said: String| Failure::other(format!("{}: {said}", file.display()));
    let wrong = |said: String| Failure::Input(format!("{}: {said}", file.display()));
    let text = String::from_utf8(super::read(file)?);
    let text = text.map_err(|_| unreadable("is no text (UTF-8)".to_owned()))?;
    let mut body = yaml::to_json(&text).map_err(unreadable)?;
    let Some(fields) = body.as_object_mut() else {
        return Err(wrong(
            "must be a mapping, as `portalctl export -f` writes it".to_owned(),
        ));
    };
    for field in fields.keys() {
        if !["tenant", "users", "remove_unlisted"].contains(&field.as_str()) {
            let said = format!("{field} is none of tenant, users and remove_unlisted");
            return Err(wrong(said));
        }
    }
    if !removal.remove_unlisted.is_empty() {
        fields.insert(
            "remove_unlisted".to_owned(),
            removal.remove_unlisted.clone().into(),
        );
    }
    Ok(body)
}

async fn sent(context: &Context, call: Call<'_>) -> Result<Reply, Failure> {
    let sent = call.send().await;
    if let Err(Failure::Refused(refusal)) = &sent
        && !context.out.json()
    {
        why(&context.out, refusal);
    }
    sent
}

fn why(out: &Output, refusal: &Refusal) {
    if let Ok(Refused { refusals }) = serde_json::from_slice::<Refused>(&refusal.body) {
        for refused in refusals {
            let (entity, key) = (&refused.entity, &refused.key);
            let said = format!("{entity} {key}: {}", super::faults(&refused.errors));
            out.note(&one_line(&said));
        }
    }
}

fn tell(out: &Output, planned: &ReconciledBody, preview: bool) {
    for entity in &planned.changes {
        let (sign, color) = match entity.action.as_str() {
            "created" => ("+", "32"),
            "deleted" => ("-", "31"),
            _ => ("~", "33"),
        };
        out.aside(&out.paint(color, &change(sign, entity)));
    }
    if planned.changes.is_empty() {
        out.aside("Nothing would change.");
    } else {
        out.aside(&summary(&planned.counts, preview));
    }
}

fn change(sign: &str, of: &ReconciledChangeBody) -> String {
    let changes = super::changes(&of.changes);
    let mark = if changes.is_empty() { "" } else { ": " };
    one_line(&format!("{sign} {} {}{mark}{changes}", of.entity, of.key))
}

fn summary(counts: &ReconciledCountsBody, preview: bool) -> String {
    let would = if preview { "would be " } else { "" };
    format!(
        "{} {would}created, {} {would}changed, {} {would}deleted, {} unchanged.",
        counts.created, counts.changed, counts.deleted, counts.unchanged
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(text: &str, remove: &[&str]) -> Result<Value, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tenant.yaml");
        let mut written = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
        written.write_all(text.as_bytes()).unwrap();
        written.persist(&file).unwrap();
        let remove_unlisted = remove.iter().map(|&name| name.to_owned()).collect();
        declared(&file, &Removal { remove_unlisted })
    }

    #[test]
    fn a_file_is_sent_as_it_is() {
        let body = read("users: [{email: a@b.c, name: no}]", &["users"]).unwrap();
        let expected = serde_json::json!({
            "users": [{"email": "a@b.c", "name": "no"}], "remove_unlisted": ["users"],
        });
        assert_eq!(body, expected);
        for (wrong, status) in [
            ("- a", 5),
            ("user: []", 5),
            ("expected_digest: x", 5),
            ("users: [", 1),
            ("users: []\nusers: []", 1),
        ] {
            let failure = read(wrong, &[]).unwrap_err();
            assert_eq!(failure.exit_code(), status, "{wrong}");
            assert!(!failure.brief().contains("Polic"), "{}", failure.brief());
        }
    }

    #[test]
    fn a_plan_is_read() {
        let planned: ReconciledBody = serde_json::from_str(
            r#"{"preview":true,"digest":"ab","counts":{"created":1,"changed":0,"unchanged":2,"deleted":0},
            "changes":[{"entity":"user","action":"created","key":"ann@example.com","id":null,"extension":1000,
            "changes":[{"field":"name","before":null,"after":"Ann"}],"sip":null}]}"#,
        )
        .unwrap();
        assert_eq!(
            summary(&planned.counts, true),
            "1 would be created, 0 would be changed, 0 would be deleted, 2 unchanged."
        );
        assert_eq!(
            change("+", &planned.changes[0]),
            "+ user ann@example.com: name: \"Ann\""
        );
        let mut hostile = planned.changes[0].clone();
        hostile.entity = "\u{1b}[2J".to_owned();
        hostile.key = "a\nb\u{9b}".to_owned();
        hostile.changes.clear();
        assert_eq!(change("~", &hostile), "~ \\u{1b}[2J a ⏎ b\\u{9b}");
    }
}
