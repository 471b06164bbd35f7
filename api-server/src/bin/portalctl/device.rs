//! `portalctl device`.

use api_server::http::bodies::{CredentialsBody, DeviceBody, SipAccountBody};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::Context;
use crate::bulk::export::{self, Export};
use crate::bulk::import::{self, Import};
use crate::bulk::{EXPORT_DEVICES, IMPORT_DEVICES};
use crate::failure::Failure;
use crate::fields::{Fields, Key};
use crate::operations::{
    CREATE_DEVICE, DELETE_DEVICE, GET_DEVICE, LIST_DEVICES, REVEAL_DEVICE, ROTATE_DEVICE,
    UPDATE_DEVICE,
};
use crate::output::{or_nothing, time, yes_no};
use crate::resource::{self, Paging};
use crate::user;

#[derive(Subcommand, Debug)]
pub(crate) enum DeviceCommand {
    /// List devices
    #[command(
        alias = "ls",
        after_help = "Examples:\n  portalctl device list --user 1000\n  \
                                          portalctl device list --enabled false --all"
    )]
    List {
        /// Only those whose label holds this
        #[arg(short, value_name = "TEXT")]
        q: Option<String>,
        /// Only those of this user: id, e-mail address or extension
        #[arg(long)]
        user: Option<String>,
        /// Only those that are in service, or are not
        #[arg(long, value_name = "true|false")]
        enabled: Option<bool>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a device
    #[command(
        after_help = "Examples:\n  portalctl device show 01a1fc42-4875-723a-87d9-c29037074fe1"
    )]
    Show {
        /// Its id, as `device list` shows it
        id: String,
    },
    /// Create a device; its SIP password is shown this once
    #[command(
        after_help = "Examples:\n  portalctl device create --user 1000 --label Mobile --codecs \
                            opus,alaw"
    )]
    Create(NewDevice),
    /// Change a device: what is named, and nothing else
    #[command(after_help = "Examples:\n  portalctl device edit \
                            01a1fc42-4875-723a-87d9-c29037074fe1 --enabled false")]
    Edit(DeviceChange),
    /// Delete a device
    #[command(
        alias = "rm",
        after_help = "Examples:\n  portalctl device delete \
                                          01a1fc42-4875-723a-87d9-c29037074fe1"
    )]
    Delete {
        /// Its id, as `device list` shows it
        id: String,
    },
    /// Make a new SIP password, which is shown this once
    #[command(after_help = "Examples:\n  portalctl device rotate \
                            01a1fc42-4875-723a-87d9-c29037074fe1 --overlap 3600")]
    Rotate(Rotation),
    /// Show a SIP password that was not shown when it was made, once
    #[command(after_help = "Examples:\n  portalctl device reveal \
                            01a1fc42-4875-723a-87d9-c29037074fe1")]
    Reveal {
        /// Its id, as `device list` shows it
        id: String,
        #[command(flatten)]
        key: Key,
    },
    /// Create and change devices by a table: first shown, then asked about
    #[command(
        after_help = "Columns are called as `device export` writes them: `user_email` and `label` are \
                      enough for a new one. A file that came from there changes nothing.\n\nExamples:\n  portalctl \
                            device import devices.csv --preview\n  portalctl --tenant acme device import \
                            devices.csv --encoding windows-1252 --result passwords.csv\n  portalctl \
                            device import devices.csv --per-line --yes"
    )]
    Import(Import),
    /// Write all devices as a table
    #[command(
        after_help = "Examples:\n  portalctl device export -o devices.csv\n  portalctl device \
                            export --format json | jq length"
    )]
    Export(Export),
}

/// What a new device is.
#[derive(Args, Debug)]
pub(crate) struct NewDevice {
    /// Whose: id, e-mail address or extension
    #[arg(long)]
    user: String,
    /// What people call it
    #[arg(long)]
    label: String,
    #[command(flatten)]
    settings: Settings,
    /// Do not show the password now: `device reveal` shows it, once
    #[arg(long)]
    hide_password: bool,
    #[command(flatten)]
    key: Key,
}

/// What of a device is changed.
#[derive(Args, Debug)]
pub(crate) struct DeviceChange {
    /// Its id, as `device list` shows it
    id: String,
    /// Another owner: id, e-mail address or extension. It then has another name and password
    #[arg(long)]
    user: Option<String>,
    /// What people call it
    #[arg(long)]
    label: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// The password before this one works no longer after the next apply
    #[arg(long)]
    end_overlap: bool,
}

/// How a password is replaced.
#[derive(Args, Debug)]
pub(crate) struct Rotation {
    /// Its id, as `device list` shows it
    id: String,
    /// How long the old password works as well, in seconds
    #[arg(long, value_name = "SECONDS")]
    overlap: Option<u32>,
    /// Do not show the password now: `device reveal` shows it, once
    #[arg(long)]
    hide_password: bool,
}

/// What can be set of a new device and of one that is there.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Whether it is in service
    #[arg(long, value_name = "true|false")]
    enabled: Option<bool>,
    /// `udp`, `tcp`, `tls`, `ws` or `wss`; empty: whichever it came by
    #[arg(long)]
    transport: Option<String>,
    /// `ulaw`, `alaw`, `g722` or `opus`, the preferred one first
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    codecs: Option<Vec<String>>,
    /// `md5`, `sha256` or `sha512_256`
    #[arg(long, value_name = "NAME")]
    digest_algorithm: Option<String>,
    /// Media goes to where media comes from
    #[arg(long, value_name = "true|false")]
    rtp_symmetric: Option<bool>,
    /// Answers go to where requests come from
    #[arg(long, value_name = "true|false")]
    force_rport: Option<bool>,
    /// Calls go to where the registration came from
    #[arg(long, value_name = "true|false")]
    rewrite_contact: Option<bool>,
    /// Media may pass by the PBX
    #[arg(long, value_name = "true|false")]
    direct_media: Option<bool>,
}

impl Settings {
    fn fields(&self, fields: Fields) -> Fields {
        let nat = Fields::default()
            .set("rtp_symmetric", self.rtp_symmetric.as_ref())
            .set("force_rport", self.force_rport.as_ref())
            .set("rewrite_contact", self.rewrite_contact.as_ref())
            .set("direct_media", self.direct_media.as_ref());
        fields
            .set("enabled", self.enabled.as_ref())
            .set_or_clear("transport", self.transport.as_ref())
            .set("codecs", self.codecs.as_ref())
            .set("digest_algorithm", self.digest_algorithm.as_ref())
            .object("nat", nat)
    }
}

pub(crate) async fn run(context: &Context, command: DeviceCommand) -> Result<(), Failure> {
    let api = &context.api;
    match command {
        DeviceCommand::List {
            q,
            user,
            enabled,
            paging,
        } => {
            let user = user_id(context, user).await?;
            let enabled = enabled.map(|enabled| enabled.to_string());
            let filters = [
                ("q", q.as_deref()),
                ("user_id", user.as_deref()),
                ("enabled", enabled.as_deref()),
            ];
            let headers = &["SIP USERNAME", "LABEL", "ENABLED", "CODECS", "USER", "ID"][..];
            resource::list(context, &LIST_DEVICES, &paging, &filters, (headers, row)).await
        }
        DeviceCommand::Show { id } => {
            let id = id_of(&id)?;
            let reply = api.call(&GET_DEVICE).at(&id).send().await?;
            resource::show(context, &reply, details)
        }
        DeviceCommand::Create(new) => create(context, new).await,
        DeviceCommand::Edit(change) => edit(context, change).await,
        DeviceCommand::Rotate(rotation) => rotate(context, &rotation).await,
        DeviceCommand::Reveal { id, key } => {
            let id = id_of(&id)?;
            let reveal = api.call(&REVEAL_DEVICE).at(&id);
            let reply = reveal.key(key.given()).send().await?;
            resource::show(context, &reply, credentials)
        }
        DeviceCommand::Delete { id } => {
            let id = id_of(&id)?;
            let by = (&GET_DEVICE, &DELETE_DEVICE);
            let called =
                |device: &DeviceBody| format!("device {} ({})", device.label, device.sip_username);
            resource::delete(context, by, &id, ("Delete", called)).await
        }
        DeviceCommand::Import(wanted) => import::run(context, &IMPORT_DEVICES, wanted).await,
        DeviceCommand::Export(wanted) => export::run(context, &EXPORT_DEVICES, wanted).await,
    }
}

async fn create(context: &Context, new: NewDevice) -> Result<(), Failure> {
    let user = user::id_of(context, &new.user).await?;
    let fields = Fields::default()
        .set("user_id", Some(&user))
        .set("label", Some(&new.label))
        .set("reveal", new.hide_password.then_some(&false));
    let body = new.settings.fields(fields).body();
    let create = context.api.call(&CREATE_DEVICE).json(&body);
    let reply = create.key(new.key.given()).send().await?;
    resource::show(context, &reply, credentials)
}

async fn edit(context: &Context, change: DeviceChange) -> Result<(), Failure> {
    let id = id_of(&change.id)?;
    let user = user_id(context, change.user).await?;
    let mut fields = Fields::default()
        .set("user_id", user.as_ref())
        .set("label", change.label.as_ref());
    if change.end_overlap {
        fields = fields.value("overlap_until", Value::Null);
    }
    let body = change.settings.fields(fields).changes()?;
    let by = (&GET_DEVICE, &UPDATE_DEVICE);
    let reply = resource::edit(context, by, &id, &body).await?;
    resource::show(context, &reply, details)
}

async fn rotate(context: &Context, rotation: &Rotation) -> Result<(), Failure> {
    let id = id_of(&rotation.id)?;
    let body = Fields::default()
        .set("overlap_seconds", rotation.overlap.as_ref())
        .set("reveal", rotation.hide_password.then_some(&false))
        .body();
    let by = (&GET_DEVICE, &ROTATE_DEVICE);
    let reply = resource::edit(context, by, &id, &body).await?;
    resource::show(context, &reply, credentials)
}

fn id_of(given: &str) -> Result<String, Failure> {
    resource::id(given, "device list")
}

async fn user_id(context: &Context, user: Option<String>) -> Result<Option<String>, Failure> {
    Ok(match user {
        Some(user) => Some(user::id_of(context, &user).await?),
        None => None,
    })
}

fn row(device: &DeviceBody) -> Vec<String> {
    vec![
        device.sip_username.clone(),
        device.label.clone(),
        yes_no(device.enabled),
        device.codecs.join(","),
        device.user_id.to_string(),
        device.id.to_string(),
    ]
}

fn details(device: &DeviceBody) -> Vec<(&'static str, String)> {
    let nat = &device.nat;
    let nat = [
        ("rtp_symmetric", nat.rtp_symmetric),
        ("force_rport", nat.force_rport),
        ("rewrite_contact", nat.rewrite_contact),
        ("direct_media", nat.direct_media),
    ];
    let nat = nat
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name));
    vec![
        ("label", device.label.clone()),
        ("SIP username", device.sip_username.clone()),
        ("enabled", yes_no(device.enabled)),
        ("transport", or_nothing(device.transport.as_ref())),
        ("codecs", device.codecs.join(",")),
        ("NAT", nat.collect::<Vec<_>>().join(",")),
        ("digest", device.digest_algorithm.to_string()),
        ("password set", time(device.password_set_at)),
        ("password shown", yes_no(device.password_revealed)),
        (
            "old password until",
            device.overlap_until.map(time).unwrap_or_default(),
        ),
        ("user", device.user_id.to_string()),
        ("created", time(device.created_at)),
        ("updated", time(device.updated_at)),
        ("id", device.id.to_string()),
    ]
}

/// What a phone registers with.
pub(crate) fn account(account: &SipAccountBody) -> Vec<(&'static str, String)> {
    vec![
        ("SIP username", account.username.clone()),
        ("SIP password", account.password.clone().unwrap_or_default()),
        ("SIP realm", account.realm.clone()),
    ]
}

fn credentials(credentials: &CredentialsBody) -> Vec<(&'static str, String)> {
    let mut all = details(&credentials.device);
    all.retain(|(name, _)| *name != "SIP username");
    all.extend(account(&credentials.sip));
    all
}
