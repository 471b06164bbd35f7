//! What of the REST API is used: a table that the portal's own OpenAPI document is held against.

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Patch,
    Delete,
}

/// An operation of the portal, as far as it is used here. A request names no parameter or field that
/// does not stand in it.
#[derive(Debug)]
pub(crate) struct Operation {
    /// What the document calls it.
    pub(crate) id: &'static str,
    pub(crate) method: Method,
    /// With the names of its parameters, as in `/users/{id}`.
    pub(crate) path: &'static str,
    /// Whether it stands below `/tenants/{tenant}` as well.
    pub(crate) of_tenant: bool,
    /// What its query can say.
    pub(crate) query: &'static [&'static str],
    /// The fields of its body.
    pub(crate) fields: &'static [&'static str],
    /// Whether it is carried out once however often it is sent: it takes an `Idempotency-Key`.
    pub(crate) once: bool,
    /// Whether it is about so much that it takes minutes.
    pub(crate) bulk: bool,
}

impl Operation {
    const fn new(id: &'static str, method: Method, path: &'static str) -> Self {
        Self {
            id,
            method,
            path,
            of_tenant: false,
            query: &[],
            fields: &[],
            once: false,
            bulk: false,
        }
    }

    /// Reads something.
    pub(crate) const fn get(id: &'static str, path: &'static str) -> Self {
        Self::new(id, Method::Get, path)
    }

    /// Does something, once.
    pub(crate) const fn post(id: &'static str, path: &'static str) -> Self {
        Self {
            once: true,
            ..Self::new(id, Method::Post, path)
        }
    }

    /// Changes something.
    pub(crate) const fn patch(id: &'static str, path: &'static str) -> Self {
        Self::new(id, Method::Patch, path)
    }

    /// Removes something.
    pub(crate) const fn delete(id: &'static str, path: &'static str) -> Self {
        Self::new(id, Method::Delete, path)
    }

    pub(crate) const fn of_tenant(self) -> Self {
        Self {
            of_tenant: true,
            ..self
        }
    }

    pub(crate) const fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    pub(crate) const fn fields(self, fields: &'static [&'static str]) -> Self {
        Self { fields, ..self }
    }

    pub(crate) const fn bulk(self) -> Self {
        Self { bulk: true, ..self }
    }

    /// Whose answer is kept nowhere: what is sent twice is done twice.
    pub(crate) const fn kept_nowhere(self) -> Self {
        Self {
            once: false,
            ..self
        }
    }
}

pub(crate) const SIGN_IN: Operation = Operation::post("sign_in", "/sessions")
    .kept_nowhere()
    .fields(&["login", "password", "code", "kind"]);
pub(crate) const REFRESH_SESSION: Operation =
    Operation::post("refresh_session", "/sessions/refresh")
        .kept_nowhere()
        .fields(&["refresh_token"]);
pub(crate) const GET_SESSION: Operation = Operation::get("get_session", "/sessions/{session}");
pub(crate) const END_SESSION: Operation = Operation::delete("end_session", "/sessions/{session}");

pub(crate) const LIST_TENANTS: Operation = Operation::get("list_tenants", "/tenants")
    .query(&["limit", "cursor", "sort", "q", "status", "pbx_id"]);
pub(crate) const GET_TENANT: Operation = Operation::get("get_tenant", "/tenants/{tenant}");
pub(crate) const CREATE_TENANT: Operation = Operation::post("create_tenant", "/tenants")
    .fields(&["slug", "name", "pbx", "ext_min", "ext_max", "metadata"]);
pub(crate) const UPDATE_TENANT: Operation = Operation::patch("update_tenant", "/tenants/{tenant}")
    .fields(&[
        "slug", "name", "pbx", "ext_min", "ext_max", "status", "metadata",
    ]);
pub(crate) const DELETE_TENANT: Operation = Operation::delete("delete_tenant", "/tenants/{tenant}");

pub(crate) const LIST_USERS: Operation =
    Operation::get("list_users", "/users").of_tenant().query(&[
        "limit",
        "cursor",
        "sort",
        "q",
        "status",
        "role",
        "extension",
        "email",
    ]);
pub(crate) const GET_USER: Operation = Operation::get("get_user", "/users/{id}").of_tenant();
pub(crate) const CREATE_USER: Operation = Operation::post("create_user", "/users")
    .of_tenant()
    .fields(&[
        "name",
        "email",
        "extension",
        "role",
        "outbound_caller_id",
        "voicemail",
        "dnd",
        "call_forward",
        "metadata",
    ]);
pub(crate) const UPDATE_USER: Operation = Operation::patch("update_user", "/users/{id}")
    .of_tenant()
    .fields(&[
        "name",
        "email",
        "extension",
        "status",
        "role",
        "outbound_caller_id",
        "voicemail",
        "dnd",
        "call_forward",
        "metadata",
    ]);
pub(crate) const DELETE_USER: Operation =
    Operation::delete("delete_user", "/users/{id}").of_tenant();

pub(crate) const LIST_DEVICES: Operation = Operation::get("list_devices", "/devices")
    .of_tenant()
    .query(&["limit", "cursor", "sort", "q", "user_id", "enabled"]);
pub(crate) const GET_DEVICE: Operation = Operation::get("get_device", "/devices/{id}").of_tenant();
pub(crate) const CREATE_DEVICE: Operation = Operation::post("create_device", "/devices")
    .of_tenant()
    .fields(&[
        "user_id",
        "label",
        "enabled",
        "transport",
        "nat",
        "codecs",
        "digest_algorithm",
        "reveal",
    ]);
pub(crate) const UPDATE_DEVICE: Operation = Operation::patch("update_device", "/devices/{id}")
    .of_tenant()
    .fields(&[
        "user_id",
        "label",
        "enabled",
        "transport",
        "nat",
        "codecs",
        "digest_algorithm",
        "overlap_until",
    ]);
pub(crate) const DELETE_DEVICE: Operation =
    Operation::delete("delete_device", "/devices/{id}").of_tenant();
pub(crate) const ROTATE_DEVICE: Operation =
    Operation::post("rotate_device_password", "/devices/{id}/rotate")
        .of_tenant()
        .fields(&["overlap_seconds", "reveal"]);
pub(crate) const REVEAL_DEVICE: Operation =
    Operation::post("reveal_device_password", "/devices/{id}/reveal").of_tenant();

pub(crate) const LIST_TOKENS: Operation =
    Operation::get("list_api_tokens", "/api-tokens").query(&["limit", "cursor", "sort"]);
pub(crate) const GET_TOKEN: Operation = Operation::get("get_api_token", "/api-tokens/{id}");
pub(crate) const CREATE_TOKEN: Operation =
    Operation::post("create_api_token", "/api-tokens").fields(&["name", "scopes", "expires_at"]);
pub(crate) const REVOKE_TOKEN: Operation =
    Operation::delete("revoke_api_token", "/api-tokens/{id}");

pub(crate) const LIST_ACCOUNTS: Operation = Operation::get("list_accounts", "/accounts").query(&[
    "limit",
    "cursor",
    "sort",
    "q",
    "tenant_id",
    "role",
    "status",
]);
pub(crate) const GET_ACCOUNT: Operation = Operation::get("get_account", "/accounts/{account}");
pub(crate) const CREATE_ACCOUNT: Operation = Operation::post("create_account", "/accounts")
    .fields(&["login", "name", "user_id", "role", "tenant"]);
pub(crate) const UPDATE_ACCOUNT: Operation =
    Operation::patch("update_account", "/accounts/{account}")
        .fields(&["login", "name", "status", "role", "tenant"]);
pub(crate) const DELETE_ACCOUNT: Operation =
    Operation::delete("delete_account", "/accounts/{account}");
pub(crate) const UNLOCK_ACCOUNT: Operation =
    Operation::post("unlock_account", "/accounts/{account}/unlock");
pub(crate) const RESET_PASSWORD: Operation =
    Operation::post("issue_password_reset", "/accounts/{account}/reset");
pub(crate) const USE_PASSWORD_RESET: Operation =
    Operation::post("use_password_reset", "/password-resets")
        .kept_nowhere()
        .fields(&["token", "password"]);
pub(crate) const CHANGE_PASSWORD: Operation =
    Operation::post("change_password", "/accounts/{account}/password")
        .kept_nowhere()
        .fields(&["current_password", "new_password"]);

pub(crate) const LIST_AUDIT: Operation = Operation::get("list_audit", "/audit").query(&[
    "limit",
    "cursor",
    "sort",
    "q",
    "actor",
    "action",
    "entity_type",
    "entity_id",
    "tenant_id",
    "request_id",
    "apply",
    "since",
    "until",
]);
pub(crate) const GET_AUDIT: Operation = Operation::get("get_audit_entry", "/audit/{id}");

pub(crate) const LIST_PBXES: Operation =
    Operation::get("list_pbxes", "/pbxes").query(&["limit", "cursor", "sort", "q"]);
pub(crate) const GET_PBX: Operation = Operation::get("get_pbx", "/pbxes/{pbx}");
pub(crate) const CREATE_PBX: Operation = Operation::post("create_pbx", "/pbxes").fields(&[
    "name",
    "agent_address",
    "agent_identity",
    "sip_realm",
    "transports",
]);
pub(crate) const UPDATE_PBX: Operation = Operation::patch("update_pbx", "/pbxes/{pbx}").fields(&[
    "name",
    "agent_address",
    "agent_identity",
    "sip_realm",
    "transports",
]);
pub(crate) const DELETE_PBX: Operation = Operation::delete("delete_pbx", "/pbxes/{pbx}");

pub(crate) const APPLY: Operation = Operation::post("apply", "/apply").fields(&[
    "pbx",
    "on_reload_failure",
    "expected_digest",
    "force",
]);
pub(crate) const PREVIEW: Operation =
    Operation::get("preview_apply", "/apply/preview").query(&["pbx"]);
pub(crate) const STATUS: Operation = Operation::get("status", "/apply/status").query(&["pbx"]);
pub(crate) const LIST_APPLIES: Operation = Operation::get("list_applies", "/applies").query(&[
    "limit",
    "cursor",
    "sort",
    "q",
    "pbx",
    "outcome",
    "requested_by",
]);
pub(crate) const GET_APPLY: Operation = Operation::get("get_apply", "/applies/{id}");
pub(crate) const FOLLOW_APPLY: Operation = Operation::get("follow_apply", "/applies/{id}/events");
pub(crate) const RESTORE: Operation = Operation::post("restore_apply", "/applies/{id}/restore")
    .fields(&["on_reload_failure", "expected_digest", "force"]);

#[cfg(test)]
mod tests;
