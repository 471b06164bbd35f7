//! `/pbxes`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::{ETAG, IF_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::Value;
use shared::tls::Identity;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::extract::{Body, By};
use super::fields::{FieldError, Fields};
use super::openapi::{BodyProblems, HeaderProblems, ReadProblems};
use crate::clock::os_rng;
use crate::domain::pbx::{
    DEFAULT_PBX, NewPbx, Pbx, PbxPatch, PbxRef, SectionName, Transport, Transports, agent_identity,
    identity_of,
};
use crate::domain::{Invalid, PbxName, SipRealm};
use crate::services::{Error, Portal, pbxes};

/// What a PBX is made from. Fields of other names are refused.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document shows it; `new_pbx` reads the fields one by one"
)]
struct NewPbxBody {
    /// Unique among the PBXes in service: 1 to 32 of a-z, 0-9 and `-`, beginning with a letter or
    /// digit.
    #[schema(example = "branch", max_length = 32)]
    name: String,
    /// Where the agent on its host listens, `host:port`. No two PBXes have the same.
    #[schema(example = "pbx.branch.example:50051")]
    agent_address: String,
    /// Whom the agent's certificate names; `spiffe://pbx.internal/agent/<name>` when absent. No two
    /// PBXes have the same.
    #[schema(example = "spiffe://pbx.internal/agent/branch")]
    agent_identity: Option<String>,
    /// The realm of SIP digests; that of the default PBX when absent.
    #[schema(example = "synergycall")]
    sip_realm: Option<String>,
    /// The name of the transport's section in the PBX's own pjsip.conf, by `udp`, `tcp`, `tls`, `ws`
    /// or `wss`.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    transports: Option<BTreeMap<String, String>>,
}

/// What shall be otherwise (RFC 7396): fields that are absent stay as they are.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document shows it; `patch` reads the fields one by one"
)]
struct PbxPatchBody {
    /// As of a new PBX.
    #[schema(nullable = false)]
    name: Option<String>,
    /// As of a new PBX. Only while no apply runs.
    #[schema(nullable = false)]
    agent_address: Option<String>,
    /// As of a new PBX. Only while no apply runs.
    #[schema(nullable = false)]
    agent_identity: Option<String>,
    /// As of a new PBX. Phones keep working with the old one until the next apply.
    #[schema(nullable = false)]
    sip_realm: Option<String>,
    /// Transports that are not named stay; null takes one away.
    #[schema(nullable = false, value_type = Option<BTreeMap<String, Option<String>>>)]
    transports: Option<BTreeMap<String, Option<String>>>,
}

/// An Asterisk host with its agent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PbxBody {
    id: Uuid,
    #[schema(example = "default")]
    name: String,
    /// Where the agent on its host listens.
    #[schema(example = "pbx.example:50051")]
    agent_address: String,
    /// Whom the agent's certificate names.
    #[schema(example = "spiffe://pbx.internal/agent/default")]
    agent_identity: String,
    /// The realm of SIP digests.
    #[schema(example = "synergycall")]
    sip_realm: String,
    /// The name of the transport's section in the PBX's own pjsip.conf, by transport.
    transports: BTreeMap<String, String>,
    /// Whether it is the default PBX: its agent and realm are set by the portal's environment.
    default: bool,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<Pbx> for PbxBody {
    fn from(pbx: Pbx) -> Self {
        let section = |(transport, section): (Transport, SectionName)| {
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

/// The versions that `If-Match` names; `None`: any, or there is no such header.
struct Expected {
    given: bool,
    versions: Option<Vec<i64>>,
}

impl Expected {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let malformed = ApiError::InvalidHeader("If-Match", "must be entity tags, or *");
        let (mut given, mut any, mut versions) = (false, false, Vec::new());
        for value in headers.get_all(IF_MATCH) {
            given = true;
            let Ok(text) = value.to_str() else {
                return Err(malformed);
            };
            for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
                let weak = tag.starts_with("W/");
                let tag = tag.trim_start_matches("W/");
                let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                match inner {
                    _ if tag == "*" => any = true,
                    None => return Err(malformed),
                    // A weak tag, and one that is no version, match nothing.
                    Some(inner) if !weak => versions.extend(inner.parse::<i64>().ok()),
                    Some(_) => {}
                }
            }
        }
        let versions = (given && !any).then_some(versions);
        Ok(Self { given, versions })
    }
}

fn tagged(pbx: &Pbx) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", pbx.version)) {
        headers.insert(ETAG, tag);
    }
    headers
}

/// Take a PBX into service
///
/// From then on its agent is watched, tenants can be put on it, and `POST /apply` includes it. The
/// agent need not be there yet.
#[utoipa::path(
    post, path = "/pbxes", tag = "pbxes", operation_id = "create_pbx",
    params(("X-Admin-User" = Option<String>, Header, description = "Who asks; `anonymous` when absent")),
    request_body = NewPbxBody,
    responses(
        (status = 201, description = "In service", body = PbxBody, headers(
            ("Location" = String, description = "The path of the PBX"),
            ("ETag" = String, description = "Its version"),
        )),
        (status = 409, description = "`pbx_name_taken`; `agent_taken`: another PBX has this agent",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn create(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    Body(fields): Body,
) -> Result<(StatusCode, HeaderMap, Json<PbxBody>), ApiError> {
    let realm = portal.pbxes.default().sip_realm();
    let new = new_pbx(fields, realm).map_err(ApiError::InvalidFields)?;
    let created = pbxes::create(&portal, &actor, new, &mut os_rng()).await?;
    let mut headers = tagged(&created);
    if let Ok(location) = HeaderValue::from_str(&format!("/pbxes/{}", created.id)) {
        headers.insert(LOCATION, location);
    }
    Ok((StatusCode::CREATED, headers, Json(created.into())))
}

/// List the PBXes
///
/// Those in service, by name.
#[utoipa::path(
    get, path = "/pbxes", tag = "pbxes", operation_id = "list_pbxes",
    responses((status = 200, description = "The PBXes", body = [PbxBody]), ReadProblems)
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
) -> Result<Json<Vec<PbxBody>>, ApiError> {
    let pbxes = pbxes::list(&portal).await?;
    Ok(Json(pbxes.into_iter().map(PbxBody::from).collect()))
}

/// Show a PBX
#[utoipa::path(
    get, path = "/pbxes/{pbx}", tag = "pbxes", operation_id = "get_pbx",
    params(("pbx" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, description = "The PBX", body = PbxBody,
            headers(("ETag" = String, description = "Its version"))),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    Named(named): Named,
) -> Result<(HeaderMap, Json<PbxBody>), ApiError> {
    let pbx = pbxes::get(&portal, &named).await?;
    Ok((tagged(&pbx), Json(pbx.into())))
}

/// Change a PBX
///
/// A merge patch (RFC 7396): only what is named changes. Agent and realm of the default PBX are set
/// by the portal's environment.
#[utoipa::path(
    patch, path = "/pbxes/{pbx}", tag = "pbxes", operation_id = "change_pbx",
    params(
        ("pbx" = String, Path, description = "Its id or its name"),
        ("X-Admin-User" = Option<String>, Header, description = "Who asks; `anonymous` when absent"),
        ("If-Match" = Option<String>, Header, description = "The version that was seen"),
    ),
    request_body(content(
        (PbxPatchBody = "application/merge-patch+json"), (PbxPatchBody = "application/json"),
    )),
    responses(
        (status = 200, description = "The PBX as it is now", body = PbxBody,
            headers(("ETag" = String, description = "Its version"))),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`pbx_name_taken`; `agent_taken`: another PBX has this agent; \
            `set_by_environment`; `transport_in_use`: devices are reached by it; `apply_busy`: its \
            agent cannot be changed while an apply runs",
            body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`: it was changed meanwhile",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
    )
)]
pub(super) async fn change(
    State(portal): State<Arc<Portal>>,
    Named(named): Named,
    By(actor): By,
    headers: HeaderMap,
    Body(fields): Body,
) -> Result<(HeaderMap, Json<PbxBody>), ApiError> {
    let expected = Expected::read(&headers)?.versions;
    let patch = patch(fields).map_err(ApiError::InvalidFields)?;
    let pbx = pbxes::change(&portal, &actor, &named, &patch, expected.as_deref()).await?;
    Ok((tagged(&pbx), Json(pbx.into())))
}

/// Take a PBX out of service
///
/// Only one that no tenant is on. What was applied there stays as it is on the PBX host, and in the
/// audit trail.
#[utoipa::path(
    delete, path = "/pbxes/{pbx}", tag = "pbxes", operation_id = "delete_pbx",
    params(
        ("pbx" = String, Path, description = "Its id or its name"),
        ("X-Admin-User" = Option<String>, Header, description = "Who asks; `anonymous` when absent"),
        ("If-Match" = String, Header, description = "The version that was seen, or `*`"),
    ),
    responses(
        (status = 204, description = "Out of service"),
        (status = 404, description = "`pbx_not_found`",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`pbx_in_use`: a tenant is on it; `default_pbx`; `apply_busy`: \
            an apply runs or waits",
            body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`: it was changed meanwhile",
            body = Problem, content_type = "application/problem+json"),
        (status = 428, description = "`precondition_required`: without `If-Match`",
            body = Problem, content_type = "application/problem+json"),
        HeaderProblems,
    )
)]
pub(super) async fn delete(
    State(portal): State<Arc<Portal>>,
    Named(named): Named,
    By(actor): By,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let expected = Expected::read(&headers)?;
    if !expected.given {
        return Err(Error::VersionNotNamed.into());
    }
    pbxes::delete(&portal, &actor, &named, expected.versions.as_deref()).await?;
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
    for name in ["id", "default", "created_at"] {
        if fields.take(name).is_some() {
            fields.refuse(name, "read_only", "cannot be changed");
        }
    }
    let mut patch = PbxPatch::default();
    change_to(&mut fields, "name", text, &mut patch.name);
    change_to(&mut fields, "agent_address", text, &mut patch.agent_address);
    change_to(
        &mut fields,
        "agent_identity",
        identity,
        &mut patch.agent_identity,
    );
    change_to(&mut fields, "sip_realm", text, &mut patch.sip_realm);
    let transports = transports(&mut fields);
    fields.finish(transports.map(|transports| PbxPatch {
        transports,
        ..patch
    }))
}

/// A field of a patch that cannot be null.
fn change_to<T>(
    fields: &mut Fields,
    name: &str,
    parse: impl FnOnce(Value) -> Result<T, Invalid>,
    to: &mut Option<T>,
) {
    let parsed = match fields.take(name) {
        None => return,
        Some(Value::Null) => Err(Invalid {
            code: "not_nullable",
            message: "cannot be null",
        }),
        Some(value) => parse(value),
    };
    match parsed {
        Ok(parsed) => *to = Some(parsed),
        Err(Invalid { code, message }) => fields.refuse(name, code, message),
    }
}

/// The sections by transport; null stands for none. `None` means that an error was noted.
fn transports(fields: &mut Fields) -> Option<BTreeMap<Transport, Option<SectionName>>> {
    let given = match fields.take("transports") {
        None => return Some(BTreeMap::new()),
        Some(Value::Object(given)) => given,
        Some(_) => {
            fields.refuse("transports", "wrong_type", "must be a JSON object");
            return None;
        }
    };
    let (mut sections, mut good) = (BTreeMap::new(), true);
    for (name, value) in given {
        let section = match (Transport::from_name(&name), value) {
            (None, _) => Err(Invalid {
                code: "unknown_field",
                message: "must be one of udp, tcp, tls, ws, wss",
            }),
            (Some(transport), Value::Null) => Ok((transport, None)),
            (Some(transport), value) => text(value).map(|section| (transport, Some(section))),
        };
        match section {
            Ok((transport, section)) => drop(sections.insert(transport, section)),
            Err(Invalid { code, message }) => {
                fields.refuse(&format!("transports.{name}"), code, message);
                good = false;
            }
        }
    }
    good.then_some(sections)
}

fn identity(value: Value) -> Result<Identity, Invalid> {
    agent_identity(&text::<String>(value)?)
}

fn text<T: FromStr>(value: Value) -> Result<T, Invalid>
where
    Invalid: From<T::Err>,
{
    match value {
        Value::String(text) => text.parse().map_err(Invalid::from),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(Invalid {
                code: "wrong_type",
                message: "must be a string",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::new(value.as_object().unwrap().clone())
    }

    fn faults<T>(read: Result<T, Vec<FieldError>>) -> Vec<(String, &'static str)> {
        let errors = read.err().unwrap();
        errors.into_iter().map(|e| (e.field, e.code)).collect()
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let body = json!({ "name": "b", "agent_address": "h:1" });
        let new = new_pbx(fields(&body), "realm".parse().unwrap()).unwrap();
        assert_eq!(
            new.agent_identity.to_string(),
            "spiffe://pbx.internal/agent/b"
        );
        assert_eq!(new.sip_realm.as_str(), "realm");
        assert_eq!(new.transports, Transports::default());
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let body = json!({
            "name": "B", "agent_identity": "spiffe://x/portal", "sip_realm": 7,
            "transports": { "udp": "a b", "sctp": "x", "tcp": 1 }, "x": 1,
        });
        let expected = [
            ("name", "malformed"),
            ("agent_address", "missing"),
            ("agent_identity", "malformed"),
            ("sip_realm", "wrong_type"),
            ("transports.sctp", "unknown_field"),
            ("transports.tcp", "wrong_type"),
            ("transports.udp", "malformed"),
            ("x", "unknown_field"),
        ];
        let found = faults(new_pbx(fields(&body), "realm".parse().unwrap()));
        assert_eq!(
            found,
            expected.map(|(field, code)| (field.to_owned(), code))
        );
    }

    #[test]
    fn a_patch_says_only_what_it_names() {
        let patch = patch(fields(
            &json!({ "transports": { "udp": null, "tls": "t" } }),
        ))
        .unwrap();
        assert!(patch.name.is_none() && patch.sip_realm.is_none());
        assert_eq!(patch.transports.get(&Transport::Udp), Some(&None));
        let found = faults(super::patch(fields(&json!({ "id": 1, "name": null }))));
        let expected = [("id", "read_only"), ("name", "not_nullable")];
        assert_eq!(
            found,
            expected.map(|(field, code)| (field.to_owned(), code))
        );
    }

    #[test]
    fn conditions() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::from_str(value).unwrap());
            }
            Expected::read(&headers).map(|expected| (expected.given, expected.versions))
        };
        assert_eq!(read(&[]).unwrap(), (false, None));
        assert_eq!(read(&["*"]).unwrap(), (true, None));
        assert_eq!(read(&["\"1\", \"7\""]).unwrap(), (true, Some(vec![1, 7])));
        assert_eq!(read(&["\"1\"", "W/\"2\""]).unwrap(), (true, Some(vec![1])));
        assert_eq!(read(&["\"x\""]).unwrap(), (true, Some(Vec::new())));
        assert!(read(&["1"]).is_err());
    }
}
