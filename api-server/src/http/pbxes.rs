//! `/pbxes`.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::tls::Identity;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::etag::{IfMatch, Tag, Tagged};
use super::extract::{Body, By, PatchBody};
use super::fields::{FieldError, Fields, text};
use super::once::{Answer, Once};
use super::openapi::{
    BodyProblems, ByHeader, IdProblems, MatchHeader, NoneMatchHeader, NotModified, OnceHeader,
    OnceProblems, PatchProblems, QueryProblems, RequiredMatchProblems,
};
use super::page::{Filter, ListParams, ListQuery, Listed};
use super::texts::{AgentAddressText, AgentIdentityText, PbxNameText, RealmText, SectionText};
use crate::clock::os_rng;
use crate::domain::device::{Transport, TransportSection};
use crate::domain::patch::Patch;
use crate::domain::pbx::{
    DEFAULT_PBX, NewPbx, Pbx, PbxPatch, PbxRef, Transports, agent_identity, identity_of,
};
use crate::domain::{Invalid, PbxName, SipRealm};
use crate::services::pbxes::PbxSort;
use crate::services::{Error, Portal, pbxes};

/// What a PBX is made from. Fields of other names are refused.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `new_pbx` reads the fields one by one"
)]
struct NewPbxBody {
    /// Unique among the PBXes in service.
    name: PbxNameText,
    /// Where the agent on its host listens. No two PBXes have the same.
    agent_address: AgentAddressText,
    /// Whom the agent's certificate names; `spiffe://pbx.internal/agent/<name>` when absent. No two
    /// PBXes have the same.
    agent_identity: Option<AgentIdentityText>,
    /// The realm of SIP digests; that of the default PBX when absent.
    sip_realm: Option<RealmText>,
    /// Its transports.
    #[schema(nullable = false)]
    transports: Option<TransportsBody>,
}

/// What shall be otherwise (RFC 7396): fields that are absent stay as they are.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `patch` reads the fields one by one"
)]
struct PbxPatchBody {
    /// As of a new PBX.
    #[schema(nullable = false)]
    name: Option<PbxNameText>,
    /// As of a new PBX. Only while no apply runs.
    #[schema(nullable = false)]
    agent_address: Option<AgentAddressText>,
    /// As of a new PBX. Only while no apply runs.
    #[schema(nullable = false)]
    agent_identity: Option<AgentIdentityText>,
    /// As of a new PBX. Phones keep working with the old one until the next apply.
    #[schema(nullable = false)]
    sip_realm: Option<RealmText>,
    /// Transports that are not named stay; null takes one away.
    #[schema(nullable = false)]
    transports: Option<TransportsBody>,
}

/// The name of each transport's section in the PBX's own pjsip.conf; null: it has none.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the document shows it; `transports` reads the fields"
)]
struct TransportsBody {
    udp: Option<SectionText>,
    tcp: Option<SectionText>,
    tls: Option<SectionText>,
    ws: Option<SectionText>,
    wss: Option<SectionText>,
}

/// An Asterisk host with its agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PbxBody {
    pub id: Uuid,
    #[schema(example = "default")]
    pub name: String,
    /// Where the agent on its host listens.
    #[schema(example = "pbx.example:50051")]
    pub agent_address: String,
    /// Whom the agent's certificate names.
    #[schema(example = "spiffe://pbx.internal/agent/default")]
    pub agent_identity: String,
    /// The realm of SIP digests.
    #[schema(example = "synergycall")]
    pub sip_realm: String,
    /// The name of the transport's section in the PBX's own pjsip.conf, by transport.
    pub transports: BTreeMap<String, String>,
    /// Whether it is the default PBX: its agent and realm are set by the portal's environment.
    pub default: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl From<Pbx> for PbxBody {
    fn from(pbx: Pbx) -> Self {
        let section = |(transport, section): (Transport, TransportSection)| {
            (transport.name().to_owned(), section.as_str().to_owned())
        };
        Self {
            id: pbx.id.0,
            name: pbx.name.to_string(),
            agent_address: pbx.agent_address.as_str().to_owned(),
            agent_identity: pbx.agent_identity.to_string(),
            sip_realm: pbx.sip_realm.to_string(),
            transports: pbx.transports.0.into_iter().map(section).collect(),
            default: pbx.id == DEFAULT_PBX,
            created_at: pbx.created_at,
        }
    }
}

/// The `{pbx}` of a path: an id or a name. What can be neither names nothing.
pub(super) struct Named(pub(super) PbxRef);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let named = path.ok().and_then(|Path(text)| text.parse().ok());
        named.map(Self).ok_or(Error::PbxNotFound.into())
    }
}

/// What PBXes are listed by.
pub(super) struct Listing;

impl Listed for Listing {
    type Sort = PbxSort;
    const FILTERS: &'static [Filter] = &[];
    const SEARCH: Option<&'static str> = Some("the name");
}

/// Take a PBX into service
///
/// From then on its agent is watched, tenants can be put on it, and `POST /apply` includes it. The
/// agent need not be there yet.
#[utoipa::path(
    post, path = "/pbxes", tag = "pbxes", operation_id = "create_pbx",
    params(ByHeader, OnceHeader),
    request_body = NewPbxBody,
    responses(
        (status = 201, description = "In service", body = PbxBody, headers(
            ("Location" = String, description = "The path of the PBX"),
            ("ETag" = String, description = "Its state"),
            ("Idempotency-Replayed" = Option<String>, description = "`true`: answered before"),
        )),
        (status = 409, description = "`pbx_name_taken`; `agent_taken`: another PBX has this agent; \
            `idempotency_key_in_use`",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        OnceProblems,
    )
)]
pub(super) async fn create(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    once: Once,
    Body(fields): Body,
) -> Result<Response, ApiError> {
    let realm = portal.pbxes.default().sip_realm();
    let new = new_pbx(fields, realm).map_err(ApiError::InvalidFields)?;
    let created = once
        .run(&portal, &actor, async |work| {
            let created = pbxes::create(work, new, &mut os_rng()).await?;
            let location = format!("/pbxes/{}", created.id);
            let tag = Tag::version(created.version);
            Answer::created(location, &tag, &PbxBody::from(created))
        })
        .await?;
    pbxes::learn(&portal).await;
    Ok(created)
}

/// List the PBXes
///
/// Those in service, by name.
#[utoipa::path(
    get, path = "/pbxes", tag = "pbxes", operation_id = "list_pbxes",
    params(ListParams<Listing>),
    responses(
        (status = 200, description = "The PBXes", body = [PbxBody],
            headers(("Link" = Option<String>, description = "`rel=\"next\"`: the next page"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Listing>()?;
    let pbxes = pbxes::list(&portal, &wanted.page, wanted.search.as_deref()).await?;
    Ok(wanted.answer(pbxes.map(PbxBody::from)))
}

/// Show a PBX
#[utoipa::path(
    get, path = "/pbxes/{pbx}", tag = "pbxes", operation_id = "get_pbx",
    params(("pbx" = String, Path, description = "Its id or its name"), NoneMatchHeader),
    responses(
        (status = 200, description = "The PBX", body = PbxBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        NotModified,
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    Named(named): Named,
) -> Result<Tagged<PbxBody>, ApiError> {
    let pbx = pbxes::get(&portal, &named).await?;
    Ok(Tagged(Tag::version(pbx.version), pbx.into()))
}

/// Change a PBX
///
/// A merge patch (RFC 7396): only what is named changes. Agent and realm of the default PBX are set
/// by the portal's environment.
#[utoipa::path(
    patch, path = "/pbxes/{pbx}", tag = "pbxes", operation_id = "update_pbx",
    params(
        ("pbx" = String, Path, description = "Its id or its name"), ByHeader, MatchHeader,
    ),
    request_body(content = PbxPatchBody, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The PBX as it is now", body = PbxBody,
            headers(("ETag" = String, description = "Its state"))),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`pbx_name_taken`; `agent_taken`: another PBX has this agent; \
            `set_by_environment`; `transport_in_use`: devices are reached by it; `apply_busy`: its \
            agent cannot be changed while an apply runs",
            body = Problem, content_type = "application/problem+json"),
        PatchProblems,
    )
)]
pub(super) async fn change(
    State(portal): State<Arc<Portal>>,
    Named(named): Named,
    By(actor): By,
    IfMatch(expected): IfMatch,
    PatchBody(fields): PatchBody,
) -> Result<Tagged<PbxBody>, ApiError> {
    let patch = patch(fields).map_err(ApiError::InvalidFields)?;
    let pbx = pbxes::change(&portal, &actor, &named, &patch, &expected).await?;
    Ok(Tagged(Tag::version(pbx.version), pbx.into()))
}

/// Take a PBX out of service
///
/// Only one that no tenant is on. What was applied there stays as it is on the PBX host, and in the
/// audit trail.
#[utoipa::path(
    delete, path = "/pbxes/{pbx}", tag = "pbxes", operation_id = "delete_pbx",
    params(
        ("pbx" = String, Path, description = "Its id or its name"), ByHeader, MatchHeader,
    ),
    responses(
        (status = 204, description = "Out of service"),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`pbx_in_use`: a tenant is on it; `default_pbx`; `apply_busy`: \
            an apply runs or waits",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
        RequiredMatchProblems,
    )
)]
pub(super) async fn delete(
    State(portal): State<Arc<Portal>>,
    Named(named): Named,
    By(actor): By,
    condition: IfMatch,
) -> Result<StatusCode, ApiError> {
    let expected = condition.required()?;
    pbxes::delete(&portal, &actor, &named, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn new_pbx(mut fields: Fields, realm: SipRealm) -> Result<NewPbx, Vec<FieldError>> {
    let name = fields.required_text::<PbxName>("name");
    let agent_address = fields.required_text("agent_address");
    let identity = fields.or_default("agent_identity", |value| identity(value).map(Some));
    let sip_realm = fields.or_default("sip_realm", |value| text(value).map(Some));
    let transports = transports(&mut fields).map(|changes| {
        let given = |(transport, section)| Some((transport, section?));
        Transports(changes.into_iter().filter_map(given).collect())
    });
    let new = || {
        let name = name?;
        Some(NewPbx {
            agent_identity: match identity? {
                Some(identity) => identity,
                None => identity_of(&name)?,
            },
            agent_address: agent_address?,
            sip_realm: sip_realm?.unwrap_or(realm),
            transports: transports?,
            name,
        })
    };
    let new = new();
    fields.finish(new)
}

fn patch(mut fields: Fields) -> Result<PbxPatch, Vec<FieldError>> {
    fields.read_only(&["id", "default", "created_at"]);
    let name = fields.patch("name", text);
    let agent_address = fields.patch("agent_address", text);
    let agent_identity = fields.patch("agent_identity", identity);
    let sip_realm = fields.patch("sip_realm", text);
    let transports = transports(&mut fields);
    let patch = || {
        Some(PbxPatch {
            name: name?,
            agent_address: agent_address?,
            agent_identity: agent_identity?,
            sip_realm: sip_realm?,
            transports: transports?,
        })
    };
    let patch = patch();
    fields.finish(patch)
}

/// The sections by transport; null stands for none. `None` means that an error was noted.
fn transports(fields: &mut Fields) -> Option<BTreeMap<Transport, Option<TransportSection>>> {
    let sections = fields.object("transports", |fields| {
        let read = |transport: Transport| {
            let section = fields.patch_nullable(transport.name(), text)?;
            Some((transport, section))
        };
        // Every one is read, so that each error is noted.
        let read: Vec<_> = Transport::ALL.map(read).into_iter().collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    let named = |(transport, section)| match section {
        Patch::Keep => None,
        Patch::Clear => Some((transport, None)),
        Patch::Set(section) => Some((transport, Some(section))),
    };
    let sections = sections?.unwrap_or_default();
    Some(sections.into_iter().filter_map(named).collect())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a reader of fields, as the others are"
)]
fn identity(value: Value) -> Result<Identity, Invalid> {
    let text = value.as_str().ok_or(Invalid {
        code: "wrong_type",
        message: "must be a string",
    })?;
    agent_identity(text)
}

#[cfg(test)]
mod tests;
