//! What all entities have: lists, single ones, changes under the state that was seen.

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::Context;
use crate::api::Reply;
use crate::failure::Failure;
use crate::operations::Operation;

/// How many rows the portal puts on a page at most.
const PAGE_MAX: usize = 200;

/// Which part of a list, in which order.
#[derive(Args, Debug)]
pub(crate) struct Paging {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// A field to order by, with - in front for the highest first
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
}

/// Prints a list: `filters` are sent with every page.
pub(crate) async fn list<T: DeserializeOwned>(
    context: &Context,
    operation: &'static Operation,
    paging: &Paging,
    filters: &[(&str, Option<&str>)],
    (headers, row): (&[&str], impl Fn(&T) -> Vec<String>),
) -> Result<(), Failure> {
    let wanted = if paging.all {
        usize::MAX
    } else {
        paging.limit as usize
    };
    let (mut pages, mut found, mut cursor) = (Vec::new(), 0, None::<String>);
    loop {
        let limit = (wanted - found).min(PAGE_MAX).to_string();
        let mut call = context.api.call(operation).query("limit", &limit);
        call = call.query_if("sort", paging.sort.as_deref());
        for (name, value) in filters {
            call = call.query_if(name, *value);
        }
        let reply = call.query_if("cursor", cursor.as_deref()).send().await?;
        let count = reply.read::<Vec<&RawValue>>("a list")?.len();
        found += count;
        cursor.clone_from(&reply.next);
        pages.push(reply);
        if cursor.is_none() || found >= wanted || count == 0 || context.out.closed() {
            break;
        }
    }
    print(context, &pages, headers, row)?;
    if cursor.is_some() {
        context
            .out
            .note(&format!("The first {found}. --all shows all of them."));
    }
    Ok(())
}

fn print<T: DeserializeOwned>(
    context: &Context,
    pages: &[Reply],
    headers: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<(), Failure> {
    if context.out.json() {
        context.out.reply(&joined(pages)?);
        return Ok(());
    }
    let mut rows = Vec::new();
    for page in pages {
        rows.extend(page.read::<Vec<T>>("a list")?.iter().map(&row));
    }
    if rows.is_empty() {
        context.out.note("There are none.");
    } else {
        context.out.table(headers, rows);
    }
    Ok(())
}

/// One array of what the pages hold, each element as it came.
fn joined(pages: &[Reply]) -> Result<Vec<u8>, Failure> {
    if let [page] = pages {
        return Ok(page.body.clone());
    }
    let mut elements = Vec::new();
    for page in pages {
        elements.extend(
            page.read::<Vec<&RawValue>>("a list")?
                .into_iter()
                .map(RawValue::get),
        );
    }
    Ok(format!("[{}]", elements.join(",")).into_bytes())
}

/// Prints one: as the portal tells it, or as `details` does.
pub(crate) fn show<T: DeserializeOwned>(
    context: &Context,
    reply: &Reply,
    details: impl FnOnce(&T) -> Vec<(&'static str, String)>,
) -> Result<(), Failure> {
    if context.out.json() {
        context.out.reply(&reply.body);
    } else {
        // What cannot be read may hold a password that nobody shows again.
        let read = reply.read("an entity");
        let entity = read.inspect_err(|_| context.out.reply(&reply.body))?;
        context.out.details(details(&entity));
    }
    Ok(())
}

/// An id that somebody gave; `shown_by` is the command that shows such ids.
///
/// # Errors
/// It is none.
pub(crate) fn id(given: &str, shown_by: &str) -> Result<String, Failure> {
    let id = Uuid::try_parse(given).map(|id| id.to_string());
    id.map_err(|_| {
        let said = format!("{given}: must be an id as `portalctl {shown_by}` shows it");
        Failure::Usage(said)
    })
}

/// How one is looked at, and what is then done to it.
type SeeAndDo = (&'static Operation, &'static Operation);

/// Looks at one, and changes it as long as it is what was seen.
pub(crate) async fn edit(
    context: &Context,
    (see, change): SeeAndDo,
    id: &str,
    body: &Value,
) -> Result<Reply, Failure> {
    let seen = context.api.call(see).at(id).send().await?;
    let change = context.api.call(change).at(id).json(body);
    change.if_match(seen.etag.as_deref()).send().await
}

/// Looks at one, asks, and removes it as long as it is what was seen.
pub(crate) async fn delete<T: DeserializeOwned>(
    context: &Context,
    (see, delete): SeeAndDo,
    id: &str,
    (verb, called): (&str, impl FnOnce(&T) -> String),
) -> Result<(), Failure> {
    let seen = context.api.call(see).at(id).send().await?;
    let called = called(&seen.read("an entity")?);
    context.ask.confirm(&format!("{verb} {called}?"))?;
    let delete = context.api.call(delete).at(id);
    delete.if_match(seen.etag.as_deref()).send().await?;
    if !context.out.json() {
        let past = if verb == "Revoke" {
            "Revoked"
        } else {
            "Deleted"
        };
        context
            .out
            .line(&format!("{past} {}.", crate::output::clean(&called)));
    }
    Ok(())
}
