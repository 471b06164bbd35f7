//! `portalctl token`: one's own API tokens.

use api_server::clock::{Clock as _, SystemClock};
use api_server::http::bodies::{ApiTokenBody, CreatedTokenBody};
use clap::Subcommand;
use time::Duration;
use time::format_description::well_known::Rfc3339;

use crate::Context;
use crate::failure::Failure;
use crate::fields::Fields;
use crate::operations::{CREATE_TOKEN, GET_TOKEN, LIST_TOKENS, REVOKE_TOKEN};
use crate::output::time;
use crate::resource::{self, Paging};

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// List your API tokens
    #[command(alias = "ls", after_help = "Examples:\n  portalctl token list")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an API token, without what is presented
    #[command(
        after_help = "Examples:\n  portalctl token show 01a1fc42-4875-723a-87d9-c29037074fe1"
    )]
    Show {
        /// Its id, as `token list` shows it
        id: String,
    },
    /// Create an API token for a program that does something in your name; it is shown this once
    #[command(
        after_help = "`api-server permissions` and the portal's /docs name the permissions.\n\n\
                            Examples:\n  portalctl token create --name Provisioning --scopes \
                            users.read,users.write --days 90"
    )]
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
        /// Permissions that it may use, each one that your role holds
        #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// For how many days it counts, 366 at most
        #[arg(long, value_name = "N", default_value_t = 90)]
        days: u16,
        /// Until when it counts, as in 2030-12-31T23:59:59Z
        #[arg(long, value_name = "TIME", conflicts_with = "days")]
        expires_at: Option<String>,
    },
    /// Revoke an API token: it is refused from the next request on
    #[command(
        alias = "delete",
        after_help = "Examples:\n  portalctl token revoke 01a1fc42-4875-723a-87d9-c29037074fe1"
    )]
    Revoke {
        /// Its id, as `token list` shows it
        id: String,
    },
}

pub(crate) async fn run(context: &Context, command: TokenCommand) -> Result<(), Failure> {
    let api = &context.api;
    match command {
        TokenCommand::List { paging } => {
            let headers = &["NAME", "SCOPES", "EXPIRES", "LAST USED", "ID"][..];
            resource::list(context, &LIST_TOKENS, &paging, &[], (headers, row)).await
        }
        TokenCommand::Show { id } => {
            let id = resource::id(&id, "token list")?;
            let reply = api.call(&GET_TOKEN).at(&id).send().await?;
            resource::show(context, &reply, details)
        }
        TokenCommand::Create {
            name,
            scopes,
            days,
            expires_at,
        } => {
            let until = SystemClock.now() + Duration::days(days.into());
            let until = until.format(&Rfc3339).unwrap_or_default();
            let body = Fields::default()
                .set("name", Some(&name))
                .set("scopes", Some(&scopes))
                .set("expires_at", Some(&expires_at.unwrap_or(until)))
                .body();
            let reply = api.call(&CREATE_TOKEN).json(&body).send().await?;
            resource::show(context, &reply, |created: &CreatedTokenBody| {
                let mut all = details(&created.about);
                all.push(("token", created.token.clone()));
                all
            })
        }
        TokenCommand::Revoke { id } => {
            let id = resource::id(&id, "token list")?;
            let by = (&GET_TOKEN, &REVOKE_TOKEN);
            let called = |token: &ApiTokenBody| format!("API token {}", token.name);
            resource::delete(context, by, &id, ("Revoke", called)).await
        }
    }
}

fn row(token: &ApiTokenBody) -> Vec<String> {
    vec![
        token.name.clone(),
        token.scopes.join(","),
        time(token.expires_at),
        token.last_used_at.map_or("never".to_owned(), time),
        token.id.to_string(),
    ]
}

fn details(token: &ApiTokenBody) -> Vec<(&'static str, String)> {
    let from = token.last_used_address.clone();
    vec![
        ("name", token.name.clone()),
        ("scopes", token.scopes.join(",")),
        ("created", time(token.created_at)),
        ("expires", time(token.expires_at)),
        (
            "last used",
            token.last_used_at.map_or("never".to_owned(), time),
        ),
        ("last used from", from.unwrap_or_default()),
        ("id", token.id.to_string()),
    ]
}
