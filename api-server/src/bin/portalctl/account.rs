//! `portalctl account`.

use api_server::http::bodies::{AccountBody, IssuedBody};
use clap::{Args, Subcommand};
use uuid::Uuid;

use crate::Context;
use crate::failure::Failure;
use crate::fields::Fields;
use crate::operations::{
    CREATE_ACCOUNT, DELETE_ACCOUNT, GET_ACCOUNT, LIST_ACCOUNTS, RESET_PASSWORD, UNLOCK_ACCOUNT,
    UPDATE_ACCOUNT,
};
use crate::output::{clean, or_nothing, time, yes_no};
use crate::password;
use crate::resource::{self, Paging};
use crate::{tenant, user};

#[derive(Subcommand, Debug)]
pub(crate) enum AccountCommand {
    /// List accounts
    #[command(
        alias = "ls",
        after_help = "Examples:\n  portalctl account list --role tenant_admin"
    )]
    List {
        /// Only those whose login or name holds this
        #[arg(short, value_name = "TEXT")]
        q: Option<String>,
        /// Only those with this role
        #[arg(long)]
        role: Option<String>,
        /// Only those that are `active` or `suspended`
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an account
    #[command(after_help = "Examples:\n  portalctl account show ann\n  portalctl account show me")]
    Show {
        /// Id, login or `me`
        account: String,
    },
    /// Create an account; `account reset-password` then makes a token that sets its password
    #[command(
        after_help = "--tenant says whose it is.\n\nExamples:\n  portalctl account create --login \
                            ann --name 'Ann Meier' --role platform_admin\n  portalctl --tenant acme \
                            account create --login carl --name Carl --user 1100"
    )]
    Create(NewAccount),
    /// Change an account: what is named, and nothing else
    #[command(after_help = "Examples:\n  portalctl account edit ann --status suspended")]
    Edit(AccountChange),
    /// Delete an account
    #[command(alias = "rm", after_help = "Examples:\n  portalctl account delete ann")]
    Delete {
        /// Id or login
        account: String,
    },
    /// Let an account be signed in to again at once after too many failures
    #[command(after_help = "Examples:\n  portalctl account unlock ann")]
    Unlock {
        /// Id or login
        account: String,
    },
    /// Make a token with which `account set-password` sets the password of an account once, within a
    /// day
    #[command(after_help = "Examples:\n  portalctl account reset-password ann")]
    ResetPassword {
        /// Id or login
        account: String,
    },
    /// Set the password of the account that a token of `account reset-password` is for
    SetPassword(password::Set),
}

/// What a new account is.
#[derive(Args, Debug)]
pub(crate) struct NewAccount {
    /// What is typed at sign-in
    #[arg(long)]
    login: String,
    /// Who that is, in words
    #[arg(long)]
    name: String,
    /// `platform_admin`, `tenant_admin` or `operator`; of an account that is no user's
    #[arg(long, required_unless_present = "user")]
    role: Option<String>,
    /// Whose it is: id, e-mail address or extension. Its role is that user's
    #[arg(long, conflicts_with = "role")]
    user: Option<String>,
}

/// What of an account is changed.
#[derive(Args, Debug)]
pub(crate) struct AccountChange {
    /// Id, login or `me`
    account: String,
    /// What is typed at sign-in
    #[arg(long)]
    login: Option<String>,
    /// Who that is, in words
    #[arg(long)]
    name: Option<String>,
    /// `active` or `suspended`, which ends its sessions
    #[arg(long)]
    status: Option<String>,
    /// Of an account that is no user's
    #[arg(long)]
    role: Option<String>,
    /// Slug or id of another tenant; of an account that is no user's
    #[arg(long, value_name = "SLUG|ID")]
    move_to: Option<String>,
}

pub(crate) async fn run(context: &Context, command: AccountCommand) -> Result<(), Failure> {
    let api = &context.api;
    match command {
        AccountCommand::List {
            q,
            role,
            status,
            paging,
        } => {
            let tenant = match api.tenant() {
                Some(tenant) => Some(tenant::id_of(context, tenant).await?),
                None => None,
            };
            let filters = [
                ("q", q.as_deref()),
                ("role", role.as_deref()),
                ("status", status.as_deref()),
                ("tenant_id", tenant.as_deref()),
            ];
            let headers = &["LOGIN", "NAME", "ROLE", "STATUS", "LAST SIGN-IN", "ID"][..];
            resource::list(context, &LIST_ACCOUNTS, &paging, &filters, (headers, row)).await
        }
        AccountCommand::Show { account } => {
            let id = id_of(context, &account).await?;
            let reply = api.call(&GET_ACCOUNT).at(&id).send().await?;
            resource::show(context, &reply, details)
        }
        AccountCommand::Create(new) => create(context, new).await,
        AccountCommand::Edit(change) => edit(context, &change).await,
        AccountCommand::Delete { account } => {
            let id = id_of(context, &account).await?;
            let by = (&GET_ACCOUNT, &DELETE_ACCOUNT);
            let called = |account: &AccountBody| format!("account {}", account.login);
            resource::delete(context, by, &id, ("Delete", called)).await
        }
        AccountCommand::Unlock { account } => {
            let id = id_of(context, &account).await?;
            let reply = api.call(&UNLOCK_ACCOUNT).at(&id).send().await?;
            resource::show(context, &reply, details)
        }
        AccountCommand::ResetPassword { account } => {
            let id = id_of(context, &account).await?;
            let reply = api.call(&RESET_PASSWORD).at(&id).send().await?;
            resource::show(context, &reply, issued)?;
            hint(
                context,
                "`portalctl account set-password` sets the password with it, once.",
            );
            Ok(())
        }
        AccountCommand::SetPassword(wanted) => password::set(context, &wanted).await,
    }
}

async fn create(context: &Context, new: NewAccount) -> Result<(), Failure> {
    let user = match new.user {
        Some(user) => Some(user::id_of(context, &user).await?),
        None => None,
    };
    let body = Fields::default()
        .set("login", Some(&new.login))
        .set("name", Some(&new.name))
        .set("role", new.role.as_ref())
        .set("user_id", user.as_ref())
        .set("tenant", context.api.tenant().as_ref())
        .body();
    let reply = context.api.call(&CREATE_ACCOUNT).json(&body).send().await?;
    resource::show(context, &reply, details)?;
    let login = clean(&new.login);
    hint(
        context,
        &format!(
            "It has no password: `portalctl account reset-password {login}` makes a token, with which \
             `portalctl account set-password` sets one."
        ),
    );
    Ok(())
}

fn issued(issued: &IssuedBody) -> Vec<(&'static str, String)> {
    vec![
        ("token", issued.token.clone()),
        ("good until", time(issued.expires_at)),
    ]
}

/// What to do next, for people.
fn hint(context: &Context, said: &str) {
    if !context.out.json() {
        context.out.line(said);
    }
}

async fn edit(context: &Context, change: &AccountChange) -> Result<(), Failure> {
    let body = Fields::default()
        .set("login", change.login.as_ref())
        .set("name", change.name.as_ref())
        .set("status", change.status.as_ref())
        .set("role", change.role.as_ref())
        .set("tenant", change.move_to.as_ref())
        .changes()?;
    let id = id_of(context, &change.account).await?;
    let by = (&GET_ACCOUNT, &UPDATE_ACCOUNT);
    let reply = resource::edit(context, by, &id, &body).await?;
    resource::show(context, &reply, details)
}

/// The id of an account by its id or login; `me` stays what it is.
async fn id_of(context: &Context, named: &str) -> Result<String, Failure> {
    if named == "me" {
        return Ok(named.to_owned());
    }
    if let Ok(id) = Uuid::try_parse(named) {
        return Ok(id.to_string());
    }
    let login = named.to_lowercase();
    let mut cursor = None;
    loop {
        // The search finds also those whose login merely holds it.
        let call = context.api.call(&LIST_ACCOUNTS).query("limit", "200");
        let call = call
            .query("q", &login)
            .query_if("cursor", cursor.as_deref());
        let reply = call.send().await?;
        let found: Vec<AccountBody> = reply.read("accounts")?;
        if let Some(account) = found.iter().find(|account| account.login == login) {
            return Ok(account.id.to_string());
        }
        cursor = reply.next;
        if cursor.is_none() {
            return Err(Failure::NotFound(format!("there is no account {named}")));
        }
    }
}

fn row(account: &AccountBody) -> Vec<String> {
    vec![
        account.login.clone(),
        account.name.clone(),
        account.role.to_string(),
        account.status.to_string(),
        account.last_sign_in_at.map_or("never".to_owned(), time),
        account.id.to_string(),
    ]
}

pub(crate) fn details(account: &AccountBody) -> Vec<(&'static str, String)> {
    vec![
        ("login", account.login.clone()),
        ("name", account.name.clone()),
        ("role", account.role.to_string()),
        ("status", account.status.to_string()),
        ("tenant", or_nothing(account.tenant_id.as_ref())),
        ("user", or_nothing(account.user_id.as_ref())),
        ("second factor", yes_no(account.second_factor)),
        (
            "password set",
            account.password_set_at.map_or("never".to_owned(), time),
        ),
        (
            "last sign-in",
            account.last_sign_in_at.map_or("never".to_owned(), time),
        ),
        ("created", time(account.created_at)),
        ("updated", time(account.updated_at)),
        ("id", account.id.to_string()),
    ]
}
