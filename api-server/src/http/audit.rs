//! `/audit`: the audit trail.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::bundle::ApplyId;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use super::etag::TaggedByContent;
use super::extract::{By, Id};
use super::openapi::{IdProblems, NoneMatchHeader, NotModified, QueryProblems};
use super::page::{Filter, ListParams, ListQuery, Listed, Takes};
use crate::domain::TenantId;
use crate::domain::audit::{
    AppliedBy, AuditEntryId, AuditFilter, AuditSort, CarriedChange, Written,
};
use crate::services::{Portal, audit};

/// A change, or something that was refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditEntryBody {
    pub id: Uuid,
    /// When the change was begun.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The login of an account, the name that was given in trusted-network mode, `unknown`, `portal`
    /// or `command-line`.
    #[schema(example = "ann")]
    pub actor: String,
    #[schema(value_type = ActorKindBody)]
    pub actor_kind: Cow<'static, str>,
    /// The account, if it was one.
    pub account_id: Option<Uuid>,
    /// The session or the API token.
    pub credential_id: Option<Uuid>,
    #[schema(example = "user.changed")]
    pub action: String,
    #[schema(example = "user")]
    pub entity_type: String,
    /// Which one: an id, or of a refusal the operation.
    pub entity_id: String,
    /// What it was called.
    #[schema(example = "Ann Example")]
    pub entity_name: Option<String>,
    /// Whose it is; null: of the whole portal.
    pub tenant_id: Option<Uuid>,
    /// What it was; null when there was nothing before. Secrets are `<secret>`.
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// What it became; null when it is gone. A secret that is another one than before is
    /// `<secret, changed>`.
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
    /// Where the request came from; null: from the portal's own host.
    pub source_address: Option<String>,
    pub request_id: Option<String>,
    /// The apply that brought it into force; null when it waits for one, or concerns no PBX.
    pub applied_by: Option<AppliedByBody>,
    /// The PBXes that it waits for an apply of.
    pub pending_on: Vec<Uuid>,
    /// Where it stands in the chain that `api-server audit verify` verifies.
    pub chain: ChainBody,
}

/// Who did it.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document shows it; the domain has the names")]
enum ActorKindBody {
    Account,
    TrustedNetwork,
    Unknown,
    Portal,
}

/// The apply that brought a change into force: the first that was proven of those that carried it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AppliedByBody {
    pub apply_id: Uuid,
    #[schema(example = 7)]
    pub revision: Option<u64>,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// The place of an entry in the chain.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChainBody {
    #[schema(example = 1)]
    pub lane: i32,
    #[schema(example = 4711)]
    pub position: i64,
    /// 64 hexadecimal digits.
    pub hash: String,
}

impl From<AppliedBy> for AppliedByBody {
    fn from(applied: AppliedBy) -> Self {
        Self {
            apply_id: applied.apply.0,
            revision: applied.revision.map(|revision| revision.0),
            at: applied.at,
        }
    }
}

impl From<Written> for AuditEntryBody {
    fn from(entry: Written) -> Self {
        Self {
            id: entry.id.0,
            at: entry.at,
            actor: entry.author,
            actor_kind: entry.author_kind.name().into(),
            account_id: entry.account.map(|account| account.0),
            credential_id: entry.credential,
            action: entry.action,
            entity_type: entry.entity,
            entity_id: entry.entity_id,
            entity_name: entry.entity_name,
            tenant_id: entry.tenant.map(|tenant| tenant.0),
            before: entry.before,
            after: entry.after,
            source_address: entry.source,
            request_id: entry.request_id,
            applied_by: entry.applied_by.map(AppliedByBody::from),
            pending_on: entry.pending_on.into_iter().map(|pbx| pbx.0).collect(),
            chain: ChainBody {
                lane: entry.place.lane,
                position: entry.place.position,
                hash: shared::bundle::Digest(entry.place.hash).to_string(),
            },
        }
    }
}

/// A change that an apply carried, in brief.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CarriedBody {
    /// Of the entry: `GET /audit/{id}`.
    pub id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub actor: String,
    #[schema(example = "user.changed")]
    pub action: String,
    pub entity_type: String,
    pub entity_id: String,
    pub entity_name: Option<String>,
}

impl From<CarriedChange> for CarriedBody {
    fn from(change: CarriedChange) -> Self {
        Self {
            id: change.id.0,
            at: change.at,
            actor: change.author,
            action: change.action,
            entity_type: change.entity,
            entity_id: change.entity_id,
            entity_name: change.entity_name,
        }
    }
}

/// List the audit trail
///
/// Every change with what it changed, who made it and from where; sign-ins, and what was refused. The
/// newest first. Whoever is confined to a tenant sees what is of that tenant.
#[utoipa::path(
    get, path = "/audit", tag = "audit", operation_id = "list_audit",
    params(ListParams<Audit>),
    responses(
        (status = 200, description = "The entries", body = [AuditEntryBody],
            headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`"))),
        QueryProblems,
    )
)]
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    query: ListQuery,
) -> Result<Response, ApiError> {
    let wanted = query.read::<Audit>()?;
    let text = |name| wanted.text(name).map(str::to_owned);
    let filter = AuditFilter {
        actor: text("actor"),
        action: text("action"),
        entity: text("entity_type"),
        entity_id: text("entity_id"),
        tenant: wanted.id("tenant_id").map(TenantId),
        request_id: text("request_id"),
        apply: wanted.id("apply").map(ApplyId),
        since: wanted.time("since"),
        until: wanted.time("until"),
        search: wanted.search.clone(),
    };
    let entries = audit::list(&portal, &actor, filter, &wanted.page).await?;
    Ok(wanted.answer(entries.map(AuditEntryBody::from)))
}

/// What `/audit` can be asked for.
struct Audit;

impl Listed for Audit {
    type Sort = AuditSort;
    const FILTERS: &'static [Filter] = &[
        Filter {
            name: "actor",
            takes: Takes::Text,
            description: "Only what somebody of this name did",
        },
        Filter {
            name: "action",
            takes: Takes::Text,
            description: "Only this action, as in `user.changed`",
        },
        Filter {
            name: "entity_type",
            takes: Takes::Text,
            description: "Only what happened to entities of this kind, as in `user`",
        },
        Filter {
            name: "entity_id",
            takes: Takes::Text,
            description: "Only what happened to the one of this id",
        },
        Filter {
            name: "tenant_id",
            takes: Takes::Id,
            description: "Only what is of this tenant",
        },
        Filter {
            name: "request_id",
            takes: Takes::Text,
            description: "Only what this request did",
        },
        Filter {
            name: "apply",
            takes: Takes::Id,
            description: "Only the changes that this apply carried",
        },
        Filter {
            name: "since",
            takes: Takes::Time,
            description: "Nothing that was earlier",
        },
        Filter {
            name: "until",
            takes: Takes::Time,
            description: "Only what was earlier",
        },
    ];
    const SEARCH: Option<&'static str> =
        Some("`actor`, `action`, `entity_name` and `source_address`");
}

/// Show an entry of the audit trail
#[utoipa::path(
    get, path = "/audit/{id}", tag = "audit", operation_id = "get_audit_entry",
    params(("id" = Uuid, Path, description = "The entry"), NoneMatchHeader),
    responses(
        (status = 200, description = "The entry", body = AuditEntryBody,
            headers(("ETag" = String, description = "Its state"))),
        NotModified,
        (status = 404, description = "`audit_entry_not_found`",
            body = Problem, content_type = "application/problem+json"),
        IdProblems,
    )
)]
pub(super) async fn get(
    State(portal): State<Arc<Portal>>,
    By(actor): By,
    Id(id): Id,
) -> Result<TaggedByContent<AuditEntryBody>, ApiError> {
    let entry = audit::get(&portal, &actor, AuditEntryId(id)).await?;
    Ok(TaggedByContent(entry.into()))
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;
    use crate::domain::audit::AuthorKind;

    #[test]
    fn the_document_names_every_kind_of_actor() {
        let schema = serde_json::to_value(ActorKindBody::schema()).unwrap();
        let names = AuthorKind::ALL.map(AuthorKind::name);
        assert_eq!(schema["enum"], serde_json::json!(names));
    }
}
