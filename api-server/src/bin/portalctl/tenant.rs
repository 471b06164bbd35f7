//! `portalctl tenant`.

use api_server::http::bodies::TenantBody;
use clap::{Args, Subcommand};

use crate::Context;
use crate::failure::Failure;
use crate::fields::{Fields, Metadata};
use crate::operations::{
    CREATE_TENANT, DELETE_TENANT, GET_PBX, GET_TENANT, LIST_TENANTS, UPDATE_TENANT,
};
use crate::output::time;
use crate::resource::{self, Paging};

#[derive(Subcommand, Debug)]
pub(crate) enum TenantCommand {
    /// List tenants
    #[command(
        alias = "ls",
        after_help = "Examples:\n  portalctl tenant list --status suspended"
    )]
    List {
        /// Only those whose name holds this
        #[arg(short, value_name = "TEXT")]
        q: Option<String>,
        /// Only those that are `active` or `suspended`
        #[arg(long)]
        status: Option<String>,
        /// Only those that the PBX of this id or name serves
        #[arg(long)]
        pbx: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a tenant
    #[command(after_help = "Examples:\n  portalctl tenant show acme")]
    Show {
        /// Slug or id
        name: String,
    },
    /// Create a tenant
    #[command(
        after_help = "Examples:\n  portalctl tenant create --slug acme --name 'Acme Ltd.' \
                            --ext-min 1000 --ext-max 1499"
    )]
    Create {
        #[command(flatten)]
        create: NewTenant,
    },
    /// Change a tenant: what is named, and nothing else
    #[command(
        after_help = "Examples:\n  portalctl tenant edit acme --ext-max 1999\n  \
                            portalctl tenant edit acme --status suspended"
    )]
    Edit {
        /// Slug or id
        #[arg(value_name = "NAME")]
        tenant_name: String,
        #[command(flatten)]
        edit: TenantChange,
    },
    /// Delete a tenant that has no users
    #[command(alias = "rm", after_help = "Examples:\n  portalctl tenant delete acme")]
    Delete {
        /// Slug or id
        name: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct NewTenant {
    /// What addresses call it: 1 to 32 of a-z, 0-9 and -
    #[arg(long)]
    slug: String,
    /// What people call it
    #[arg(long)]
    name: String,
    /// Its lowest extension
    #[arg(long, value_name = "N")]
    ext_min: u32,
    /// Its highest
    #[arg(long, value_name = "N")]
    ext_max: u32,
    /// Id or name of the PBX that serves it; the default one when absent
    #[arg(long)]
    pbx: Option<String>,
    #[command(flatten)]
    metadata: Metadata,
}

#[derive(Args, Debug)]
pub(crate) struct TenantChange {
    /// What addresses call it
    #[arg(long)]
    slug: Option<String>,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Its lowest extension
    #[arg(long, value_name = "N")]
    ext_min: Option<u32>,
    /// Its highest
    #[arg(long, value_name = "N")]
    ext_max: Option<u32>,
    /// Another PBX: its phones must be told where to register
    #[arg(long)]
    pbx: Option<String>,
    /// `active` or `suspended`
    #[arg(long)]
    status: Option<String>,
    #[command(flatten)]
    metadata: Metadata,
}

pub(crate) async fn run(context: &Context, command: TenantCommand) -> Result<(), Failure> {
    let api = &context.api;
    match command {
        TenantCommand::List {
            q,
            status,
            pbx,
            paging,
        } => {
            let pbx = match pbx {
                Some(name) => Some(pbx_id(context, &name).await?),
                None => None,
            };
            let filters = [
                ("q", q.as_deref()),
                ("status", status.as_deref()),
                ("pbx_id", pbx.as_deref()),
            ];
            let headers = &["SLUG", "NAME", "EXTENSIONS", "STATUS", "NUMBER", "ID"][..];
            resource::list(context, &LIST_TENANTS, &paging, &filters, (headers, row)).await
        }
        TenantCommand::Show { name } => {
            let reply = api.call(&GET_TENANT).at(&name).send().await?;
            resource::show(context, &reply, details)
        }
        TenantCommand::Create { create } => {
            let fields = Fields::default()
                .set("slug", Some(&create.slug))
                .set("name", Some(&create.name))
                .set("ext_min", Some(&create.ext_min))
                .set("ext_max", Some(&create.ext_max))
                .set("pbx", create.pbx.as_ref());
            let body = create.metadata.fields(fields).body();
            let reply = api.call(&CREATE_TENANT).json(&body).send().await?;
            resource::show(context, &reply, details)
        }
        TenantCommand::Edit { tenant_name, edit } => {
            let body = changes(&edit)?;
            let by = (&GET_TENANT, &UPDATE_TENANT);
            let reply = resource::edit(context, by, &tenant_name, &body).await?;
            resource::show(context, &reply, details)
        }
        TenantCommand::Delete { name } => {
            let by = (&GET_TENANT, &DELETE_TENANT);
            let called = |tenant: &TenantBody| format!("tenant {} ({})", tenant.slug, tenant.name);
            resource::delete(context, by, &name, ("Delete", called)).await
        }
    }
}

fn changes(edit: &TenantChange) -> Result<serde_json::Value, Failure> {
    let fields = Fields::default()
        .set("slug", edit.slug.as_ref())
        .set("name", edit.name.as_ref())
        .set("ext_min", edit.ext_min.as_ref())
        .set("ext_max", edit.ext_max.as_ref())
        .set("pbx", edit.pbx.as_ref())
        .set("status", edit.status.as_ref());
    edit.metadata.fields(fields).changes()
}

/// The id of a PBX by its id or name.
async fn pbx_id(context: &Context, name: &str) -> Result<String, Failure> {
    let pbx = context.api.call(&GET_PBX).at(name).send().await?;
    let pbx: api_server::http::bodies::PbxBody = pbx.read("a PBX")?;
    Ok(pbx.id.to_string())
}

/// The id of a tenant by its id or slug.
pub(crate) async fn id_of(context: &Context, name: &str) -> Result<String, Failure> {
    let tenant = context.api.call(&GET_TENANT).at(name).send().await?;
    let tenant: TenantBody = tenant.read("a tenant")?;
    Ok(tenant.id.to_string())
}

fn row(tenant: &TenantBody) -> Vec<String> {
    vec![
        tenant.slug.clone(),
        tenant.name.clone(),
        format!("{}-{}", tenant.ext_min, tenant.ext_max),
        tenant.status.to_string(),
        tenant.number.to_string(),
        tenant.id.to_string(),
    ]
}

fn details(tenant: &TenantBody) -> Vec<(&'static str, String)> {
    vec![
        ("slug", tenant.slug.clone()),
        ("name", tenant.name.clone()),
        (
            "extensions",
            format!("{}-{}", tenant.ext_min, tenant.ext_max),
        ),
        ("status", tenant.status.to_string()),
        ("number", tenant.number.to_string()),
        ("PBX", tenant.pbx_id.to_string()),
        ("metadata", metadata(&tenant.metadata)),
        ("created", time(tenant.created_at)),
        ("updated", time(tenant.updated_at)),
        ("id", tenant.id.to_string()),
    ]
}

/// What people keep beside an entity; nothing when it is empty.
pub(crate) fn metadata(metadata: &serde_json::Map<String, serde_json::Value>) -> String {
    if metadata.is_empty() {
        return String::new();
    }
    serde_json::to_string(metadata).unwrap_or_default()
}
