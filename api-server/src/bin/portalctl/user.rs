//! `portalctl user`.

use api_server::http::bodies::{CallForwardBody, CreatedUserBody, UserBody};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::Context;
use crate::bulk::export::{self, Export};
use crate::bulk::import::{self, Import};
use crate::bulk::{EXPORT_USERS, IMPORT_USERS};
use crate::failure::Failure;
use crate::fields::{Fields, Key, Metadata};
use crate::operations::{CREATE_USER, DELETE_USER, GET_USER, LIST_USERS, UPDATE_USER};
use crate::output::{or_nothing, time, yes_no};
use crate::resource::{self, Paging};
use crate::{ask, tenant};

#[derive(Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// List users, by extension
    #[command(
        alias = "ls",
        after_help = "Examples:\n  portalctl user list -q 10\n  portalctl --tenant acme user list \
                      --all --sort -name"
    )]
    List {
        /// Only those whose name or e-mail address holds this, or whose extension begins with it
        #[arg(short, value_name = "TEXT")]
        q: Option<String>,
        /// Only those that are `active` or `suspended`
        #[arg(long)]
        status: Option<String>,
        /// Only those with this role: `user`, `operator` or `tenant_admin`
        #[arg(long)]
        role: Option<String>,
        /// Only the one with this number
        #[arg(long, value_name = "N")]
        extension: Option<u32>,
        /// Only the one with this address
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a user
    #[command(
        after_help = "Examples:\n  portalctl user show 1000\n  portalctl user show ada@example.org"
    )]
    Show {
        /// Id, e-mail address or extension
        user: String,
    },
    /// Create a user with a first device, whose SIP password is shown this once
    #[command(
        after_help = "Examples:\n  portalctl user create --name 'Ada Lovelace' --email \
                            ada@example.org\n  portalctl --tenant acme user create --name Carl \
                            --email carl@acme.example --extension 1100 --forward-busy +420123456789"
    )]
    Create(NewUser),
    /// Change a user: what is named, and nothing else
    #[command(
        after_help = "An empty text stands for none.\n\nExamples:\n  portalctl user edit 1000 \
                            --status suspended\n  portalctl user edit ada@example.org --caller-id '' \
                            --metadata '{\"desk\":null}'"
    )]
    Edit(UserChange),
    /// Delete a user with its devices and account
    #[command(
        alias = "rm",
        after_help = "Examples:\n  portalctl user delete 1000 --yes"
    )]
    Delete {
        /// Id, e-mail address or extension
        user: String,
    },
    /// Create and change users by a table: first shown, then asked about
    #[command(
        after_help = "Columns are called as `user export` writes them: `name` and `email` are enough for \
                      somebody new. A file that came from there changes nothing.\n\nExamples:\n  portalctl \
                            user import users.csv --preview\n  portalctl --tenant acme user import \
                            users.csv --encoding windows-1252 --result passwords.csv\n  portalctl \
                            user import users.csv --per-line --yes"
    )]
    Import(Import),
    /// Write all users as a table
    #[command(
        after_help = "Examples:\n  portalctl user export -o users.csv\n  portalctl user \
                            export --format json | jq length"
    )]
    Export(Export),
}

/// What a new user is.
#[derive(Args, Debug)]
pub(crate) struct NewUser {
    /// Shown to whoever is called
    #[arg(long)]
    name: String,
    /// Unique among the users of a tenant
    #[arg(long, value_name = "ADDRESS")]
    email: String,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    key: Key,
}

/// What of a user is changed.
#[derive(Args, Debug)]
pub(crate) struct UserChange {
    /// Id, e-mail address or extension
    user: String,
    /// Shown to whoever is called
    #[arg(long)]
    name: Option<String>,
    /// Unique among the users of a tenant
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// `suspended` keeps the number and ends the service with the next apply; or `active`
    #[arg(long)]
    status: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

/// What can be set of a new user and of one that is there.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// A free number of the tenant's range; the lowest free one when absent
    #[arg(long, value_name = "N")]
    extension: Option<u32>,
    /// What the user may do in the portal: `user`, `operator` or `tenant_admin`
    #[arg(long)]
    role: Option<String>,
    /// Shown to whoever is called outside
    #[arg(long, value_name = "NUMBER")]
    caller_id: Option<String>,
    /// Voicemail
    #[arg(long, value_name = "true|false")]
    voicemail: Option<bool>,
    /// Ask for the PIN of the voicemail, 4 to 10 digits: at the terminal, or a line of standard input
    #[arg(long)]
    ask_pin: bool,
    /// Voicemail without a PIN
    #[arg(long, conflicts_with = "ask_pin")]
    no_pin: bool,
    /// Do not disturb
    #[arg(long, value_name = "true|false")]
    dnd: Option<bool>,
    /// Where every call goes
    #[arg(long, value_name = "NUMBER")]
    forward_always: Option<String>,
    /// Where calls go while the user speaks
    #[arg(long, value_name = "NUMBER")]
    forward_busy: Option<String>,
    /// Where calls go that nobody takes
    #[arg(long, value_name = "NUMBER")]
    forward_no_answer: Option<String>,
    /// Where calls go while no phone is registered
    #[arg(long, value_name = "NUMBER")]
    forward_unregistered: Option<String>,
    /// How long to ring before --forward-no-answer, in seconds
    #[arg(long, value_name = "SECONDS")]
    forward_delay: Option<u8>,
    #[command(flatten)]
    metadata: Metadata,
}

impl Settings {
    fn fields(&self, fields: Fields) -> Result<Fields, Failure> {
        let mut voicemail = Fields::default().set("enabled", self.voicemail.as_ref());
        if self.no_pin {
            voicemail = voicemail.value("pin", serde_json::Value::Null);
        }
        if self.ask_pin {
            voicemail = voicemail.value("pin", pin()?);
        }
        let forward = Fields::default()
            .set_or_clear("always", self.forward_always.as_ref())
            .set_or_clear("busy", self.forward_busy.as_ref())
            .set_or_clear("no_answer", self.forward_no_answer.as_ref())
            .set_or_clear("unregistered", self.forward_unregistered.as_ref())
            .set("delay_seconds", self.forward_delay.as_ref());
        let fields = fields
            .set("extension", self.extension.as_ref())
            .set("role", self.role.as_ref())
            .set_or_clear("outbound_caller_id", self.caller_id.as_ref())
            .object("voicemail", voicemail)
            .set("dnd", self.dnd.as_ref())
            .object("call_forward", forward);
        Ok(self.metadata.fields(fields))
    }
}

fn pin() -> Result<serde_json::Value, Failure> {
    use std::io::IsTerminal as _;
    let pin = if std::io::stdin().is_terminal() {
        Some(ask::secret("PIN: ", "send it to standard input")?)
    } else {
        ask::secret_line()?
    };
    let pin = pin.ok_or(Failure::Usage("standard input: there is no PIN".to_owned()))?;
    Ok(pin.expose_secret().into())
}

pub(crate) async fn run(context: &Context, command: UserCommand) -> Result<(), Failure> {
    let api = &context.api;
    match command {
        UserCommand::List {
            q,
            status,
            role,
            extension,
            email,
            paging,
        } => {
            let extension = extension.map(|extension| extension.to_string());
            let filters = [
                ("q", q.as_deref()),
                ("status", status.as_deref()),
                ("role", role.as_deref()),
                ("extension", extension.as_deref()),
                ("email", email.as_deref()),
            ];
            let headers = &["EXTENSION", "NAME", "E-MAIL", "STATUS", "ROLE", "ID"][..];
            resource::list(context, &LIST_USERS, &paging, &filters, (headers, row)).await
        }
        UserCommand::Show { user } => {
            let id = id_of(context, &user).await?;
            let reply = api.call(&GET_USER).at(&id).send().await?;
            resource::show(context, &reply, details)
        }
        UserCommand::Create(new) => create(context, &new).await,
        UserCommand::Edit(change) => edit(context, &change).await,
        UserCommand::Import(wanted) => import::run(context, &IMPORT_USERS, wanted).await,
        UserCommand::Export(wanted) => export::run(context, &EXPORT_USERS, wanted).await,
        UserCommand::Delete { user } => {
            let id = id_of(context, &user).await?;
            let by = (&GET_USER, &DELETE_USER);
            resource::delete(context, by, &id, ("Delete", called)).await
        }
    }
}

async fn create(context: &Context, new: &NewUser) -> Result<(), Failure> {
    let fields = Fields::default()
        .set("name", Some(&new.name))
        .set("email", Some(&new.email));
    let body = new.settings.fields(fields)?.body();
    let create = context.api.call(&CREATE_USER).json(&body);
    let reply = create.key(new.key.given()).send().await?;
    resource::show(context, &reply, created)
}

async fn edit(context: &Context, change: &UserChange) -> Result<(), Failure> {
    let fields = Fields::default()
        .set("name", change.name.as_ref())
        .set("email", change.email.as_ref())
        .set("status", change.status.as_ref());
    let body = change.settings.fields(fields)?.changes()?;
    let id = id_of(context, &change.user).await?;
    let by = (&GET_USER, &UPDATE_USER);
    let reply = resource::edit(context, by, &id, &body).await?;
    resource::show(context, &reply, details)
}

fn called(user: &UserBody) -> String {
    format!(
        "user {} ({}, {}) with all devices",
        user.name, user.extension, user.email
    )
}

/// The id of a user by its id, e-mail address or extension.
pub(crate) async fn id_of(context: &Context, named: &str) -> Result<String, Failure> {
    if let Ok(id) = Uuid::try_parse(named) {
        return Ok(id.to_string());
    }
    let by = if named.contains('@') {
        "email"
    } else if named.bytes().all(|byte| byte.is_ascii_digit()) && !named.is_empty() {
        "extension"
    } else {
        let said = format!("{named}: must be the id, e-mail address or extension of a user");
        return Err(Failure::Usage(said));
    };
    let call = context.api.call(&LIST_USERS).query("limit", "1");
    let found: Vec<UserBody> = call.query(by, named).send().await?.read("users")?;
    let found = found.first().map(|user| user.id.to_string());
    found.ok_or_else(|| Failure::NotFound(format!("there is no user {named}")))
}

fn row(user: &UserBody) -> Vec<String> {
    vec![
        user.extension.to_string(),
        user.name.clone(),
        user.email.clone(),
        user.status.to_string(),
        user.role.to_string(),
        user.id.to_string(),
    ]
}

fn details(user: &UserBody) -> Vec<(&'static str, String)> {
    let pin = if user.voicemail.pin_set {
        "yes, with a PIN"
    } else {
        "yes, without a PIN"
    };
    let voicemail = if user.voicemail.enabled { pin } else { "no" };
    vec![
        ("extension", user.extension.to_string()),
        ("name", user.name.clone()),
        ("e-mail", user.email.clone()),
        ("status", user.status.to_string()),
        ("role", user.role.to_string()),
        (
            "caller id outside",
            or_nothing(user.outbound_caller_id.as_ref()),
        ),
        ("voicemail", voicemail.to_owned()),
        ("do not disturb", yes_no(user.dnd)),
        ("forwarding", forwarding(&user.call_forward)),
        ("metadata", tenant::metadata(&user.metadata)),
        ("tenant", user.tenant_id.to_string()),
        ("created", time(user.created_at)),
        ("updated", time(user.updated_at)),
        ("id", user.id.to_string()),
    ]
}

fn forwarding(forward: &CallForwardBody) -> String {
    let no_answer = forward
        .no_answer
        .as_ref()
        .map(|number| format!("{number} after {} s", forward.delay_seconds));
    let all = [
        ("always", forward.always.clone()),
        ("busy", forward.busy.clone()),
        ("no answer", no_answer),
        ("unregistered", forward.unregistered.clone()),
    ];
    let set = all
        .into_iter()
        .filter_map(|(when, to)| Some(format!("{when}: {}", to?)));
    set.collect::<Vec<_>>().join(", ")
}

fn created(created: &CreatedUserBody) -> Vec<(&'static str, String)> {
    let mut all = details(&created.user);
    let account = &created.sip.account;
    all.push(("device", created.sip.device_id.to_string()));
    all.extend(crate::device::account(account));
    all
}
