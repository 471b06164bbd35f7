//! `portalctl pbx`.

use std::collections::BTreeMap;

use api_server::http::bodies::PbxBody;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::Context;
use crate::failure::Failure;
use crate::fields::{Fields, pair};
use crate::operations::{CREATE_PBX, DELETE_PBX, GET_PBX, LIST_PBXES, UPDATE_PBX};
use crate::output::{time, yes_no};
use crate::resource::{self, Paging};

#[derive(Subcommand, Debug)]
pub(crate) enum PbxCommand {
    /// List PBXes
    #[command(alias = "ls", after_help = "Examples:\n  portalctl pbx list")]
    List {
        /// Only those whose name holds this
        #[arg(short, value_name = "TEXT")]
        q: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a PBX
    #[command(after_help = "Examples:\n  portalctl pbx show default")]
    Show {
        /// Name or id
        name: String,
    },
    /// Take a PBX into service
    #[command(
        after_help = "Examples:\n  portalctl pbx create --name branch --agent-address \
                            pbx.branch.example:50051 --transport tls=transport-tls"
    )]
    Create {
        /// 1 to 32 of a-z, 0-9 and -
        #[arg(long)]
        name: String,
        /// Where its agent listens
        #[arg(long, value_name = "HOST:PORT")]
        agent_address: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change a PBX: what is named, and nothing else
    #[command(
        after_help = "Examples:\n  portalctl pbx edit branch --transport tls=transport-tls \
                            --transport ws="
    )]
    Edit {
        /// Name or id
        pbx: String,
        /// 1 to 32 of a-z, 0-9 and -
        #[arg(long)]
        name: Option<String>,
        /// Where its agent listens
        #[arg(long, value_name = "HOST:PORT")]
        agent_address: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Take a PBX out of service that no tenant is on
    #[command(alias = "rm", after_help = "Examples:\n  portalctl pbx delete branch")]
    Delete {
        /// Name or id
        name: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Settings {
    #[arg(
        long,
        value_name = "ID",
        help = "Whom the agent's certificate names, as in spiffe://pbx.internal/agent/branch"
    )]
    agent_identity: Option<String>,
    /// The realm of SIP digests
    #[arg(long, value_name = "REALM")]
    sip_realm: Option<String>,
    /// The section of pjsip.conf by `udp`, `tcp`, `tls`, `ws` or `wss`; empty: none. Several times
    #[arg(long = "transport", value_name = "NAME=SECTION", value_parser = pair)]
    transports: Vec<(String, String)>,
}

impl Settings {
    fn fields(&self, fields: Fields) -> Fields {
        let named = self.transports.iter().cloned().map(|(name, section)| {
            let section = (!section.is_empty()).then_some(section);
            (name, Value::from(section))
        });
        let named: BTreeMap<String, Value> = named.collect();
        fields
            .set("agent_identity", self.agent_identity.as_ref())
            .set("sip_realm", self.sip_realm.as_ref())
            .set("transports", (!named.is_empty()).then_some(&named))
    }
}

pub(crate) async fn run(context: &Context, command: PbxCommand) -> Result<(), Failure> {
    let api = &context.api;
    match command {
        PbxCommand::List { q, paging } => {
            let headers = &["NAME", "AGENT", "SIP REALM", "TRANSPORTS", "ID"][..];
            let filters = [("q", q.as_deref())];
            resource::list(context, &LIST_PBXES, &paging, &filters, (headers, row)).await
        }
        PbxCommand::Show { name } => {
            let reply = api.call(&GET_PBX).at(&name).send().await?;
            resource::show(context, &reply, details)
        }
        PbxCommand::Create {
            name,
            agent_address,
            settings,
        } => {
            let fields = Fields::default()
                .set("name", Some(&name))
                .set("agent_address", Some(&agent_address));
            let body = settings.fields(fields).body();
            let reply = api.call(&CREATE_PBX).json(&body).send().await?;
            resource::show(context, &reply, details)
        }
        PbxCommand::Edit {
            pbx,
            name,
            agent_address,
            settings,
        } => {
            let fields = Fields::default()
                .set("name", name.as_ref())
                .set("agent_address", agent_address.as_ref());
            let body = settings.fields(fields).changes()?;
            let by = (&GET_PBX, &UPDATE_PBX);
            let reply = resource::edit(context, by, &pbx, &body).await?;
            resource::show(context, &reply, details)
        }
        PbxCommand::Delete { name } => {
            let by = (&GET_PBX, &DELETE_PBX);
            let called = |pbx: &PbxBody| format!("PBX {}", pbx.name);
            resource::delete(context, by, &name, ("Delete", called)).await
        }
    }
}

fn transports(pbx: &PbxBody) -> String {
    let named = pbx.transports.iter();
    let named = named.map(|(transport, section)| format!("{transport}={section}"));
    named.collect::<Vec<_>>().join(",")
}

fn row(pbx: &PbxBody) -> Vec<String> {
    vec![
        pbx.name.clone(),
        pbx.agent_address.clone(),
        pbx.sip_realm.clone(),
        transports(pbx),
        pbx.id.to_string(),
    ]
}

fn details(pbx: &PbxBody) -> Vec<(&'static str, String)> {
    vec![
        ("name", pbx.name.clone()),
        ("agent", pbx.agent_address.clone()),
        ("agent identity", pbx.agent_identity.clone()),
        ("SIP realm", pbx.sip_realm.clone()),
        ("transports", transports(pbx)),
        ("default", yes_no(pbx.default)),
        ("created", time(pbx.created_at)),
        ("id", pbx.id.to_string()),
    ]
}
