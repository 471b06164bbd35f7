//! What a route leads to, for whom: paths and bodies of things of one's own, of somebody else of the
//! tenant, and of another tenant.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::Client;

use super::people::{Person, Token, text, tomorrow};
use crate::http::habits::{A_USER, Route, sample};

/// The tenant of the people who ask.
pub(super) const OWN: &str = "own";

/// A tenant on another PBX.
pub(super) const OTHER: &str = "other";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Who {
    Nobody,
    /// An API token of the platform administrator without the scope that is needed.
    OtherScope,
    User,
    Operator,
    TenantAdmin,
    PlatformAdmin,
}

impl Who {
    pub(super) const ALL: [Self; 6] = [
        Self::Nobody,
        Self::OtherScope,
        Self::User,
        Self::Operator,
        Self::TenantAdmin,
        Self::PlatformAdmin,
    ];
}

/// Where something lies, as seen by somebody of the own tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is one's own.
    Mine,
    /// Of the own tenant, or of its PBX.
    OwnTenant,
    /// Of another tenant, or of another PBX.
    OtherTenant,
    /// It has no place: it is the portal's.
    Everywhere,
}

/// What kind of thing a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// What belongs to a tenant; one thing of a user, or the collection.
    OfTenant { one: bool },
    /// A tenant, or what is kept of it.
    Tenant,
    /// A PBX, or what is kept of it.
    OfPbx,
    /// An account; one, or the collection.
    Account { one: bool },
    /// Sessions and tokens, which are everybody's own; one, or the collection.
    Own { one: bool },
    /// The whole portal.
    Portal,
}

/// The area of a route; fails on one that is not known.
pub(super) fn area(path: &str) -> anyhow::Result<Area> {
    let below = path.strip_prefix("/tenants/{tenant}");
    let stripped = below.filter(|rest| !rest.is_empty()).unwrap_or(path);
    let one = stripped.contains('{');
    let first = stripped.split('/').nth(1).unwrap_or_default();
    Ok(match first {
        "users" | "devices" | "deleted-users" | "imports" | "exports" | "declaration" => {
            Area::OfTenant { one }
        }
        "tenants" | "audit" if one => Area::Tenant,
        "apply" | "applies" => Area::OfPbx,
        "accounts" => Area::Account { one },
        "sessions" if stripped == "/sessions/refresh" => Area::Portal,
        "sessions" | "api-tokens" => Area::Own { one },
        "audit" | "tenants" | "pbxes" | "events" | "revisions" | "health" | "openapi.json"
        | "password-resets" => Area::Portal,
        other => bail!("{path}: whose is {other}?"),
    })
}

impl Area {
    /// The places in which a route is tried.
    pub(super) fn places(self, path: &str) -> &'static [Place] {
        match self {
            // Without a prefix it is the default tenant's.
            Self::OfTenant { .. } if !path.starts_with("/tenants") => &[Place::OtherTenant],
            // Whoever was deleted signs in no more.
            Self::OfTenant { one: true } if path.contains("deleted-users") => {
                &[Place::OwnTenant, Place::OtherTenant]
            }
            Self::OfTenant { one: true } | Self::Account { one: true } => {
                &[Place::Mine, Place::OwnTenant, Place::OtherTenant]
            }
            Self::OfTenant { one: false } | Self::Tenant | Self::OfPbx => {
                &[Place::OwnTenant, Place::OtherTenant]
            }
            Self::Own { one: true } => &[Place::Mine, Place::OtherTenant],
            Self::Own { one: false } | Self::Account { one: false } | Self::Portal => {
                &[Place::Everywhere]
            }
        }
    }
}

/// A portal with two tenants on two PBXes, and everybody who may ask.
pub(super) struct World {
    pub(super) lab: PortalLab,
    admin: Person,
    tenant_admin: Person,
    operator: Person,
    user: Person,
    user_id: String,
    tokens: [Token; 2],
    /// Applies of the own and of the other PBX.
    applies: [String; 2],
    number: AtomicUsize,
}

/// The scopes of the two tokens: of any operation, one is another one's.
const SCOPES: [&str; 2] = ["users.read", "pbxes.read"];

impl World {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let lab = PortalLab::login().await?;
        let admin = &lab.client;
        let pbx = json!({ "name": OWN, "agent_address": "127.0.0.1:1" });
        admin.post("/pbxes", &pbx).await?.expect(201)?;
        for (slug, pbx) in [(OWN, OWN), (OTHER, "default")] {
            let tenant = json!({
                "slug": slug, "name": slug, "pbx": pbx, "ext_min": 1000, "ext_max": 9999,
            });
            admin.post("/tenants", &tenant).await?.expect(201)?;
        }
        let user = new_user(admin, OWN, 0).await?;
        let staff = |role| json!({ "role": role, "tenant": OWN });
        let platform = json!({ "role": "platform_admin" });
        let boss = Person::create(admin, "boss", &platform).await?;
        let of_user = json!({ "user_id": user, "tenant": OWN });
        Ok(Self {
            tenant_admin: Person::create(admin, "chief", &staff("tenant_admin")).await?,
            operator: Person::create(admin, "operator", &staff("operator")).await?,
            user: Person::create(admin, "ann", &of_user).await?,
            tokens: [
                boss.token("one", &SCOPES[..1]).await?,
                boss.token("other", &SCOPES[1..]).await?,
            ],
            applies: [
                attempt(&boss.client, OWN).await?,
                attempt(&boss.client, "default").await?,
            ],
            admin: boss,
            user_id: user,
            number: AtomicUsize::new(1),
            lab,
        })
    }

    /// Applies of the other PBX.
    pub(super) fn applies_of_others(&self) -> [String; 1] {
        [self.applies[1].clone()]
    }

    fn next(&self) -> usize {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// The person that somebody is; of an API token, its owner.
    fn person(&self, who: Who) -> &Person {
        match who {
            Who::Nobody | Who::OtherScope | Who::PlatformAdmin => &self.admin,
            Who::TenantAdmin => &self.tenant_admin,
            Who::Operator => &self.operator,
            Who::User => &self.user,
        }
    }

    /// The client of somebody who asks for what needs `permission`.
    pub(super) fn client(&self, who: Who, permission: Option<&str>) -> Client {
        match who {
            Who::Nobody => self.admin.client.anonymous(),
            Who::OtherScope => {
                let other = usize::from(permission == Some(SCOPES[0]));
                self.tokens[other].client.clone()
            }
            known => self.person(known).client.clone(),
        }
    }

    /// Path and body of a route, to something that is there.
    pub(super) async fn target(
        &self,
        route: &Route,
        who: Who,
        place: Place,
    ) -> anyhow::Result<(String, Value)> {
        let mut path = route.path.clone();
        let tenant = match place {
            Place::OtherTenant if path.starts_with("/tenants/{tenant}") => OTHER,
            Place::OtherTenant => "default",
            Place::Mine | Place::OwnTenant | Place::Everywhere => OWN,
        };
        if path == "/tenants/{tenant}" && who == Who::PlatformAdmin {
            path = format!("/tenants/{}", self.fresh_tenant().await?);
        }
        path = path.replace("{tenant}", tenant);
        for parameter in ["{id}", "{account}", "{session}", "{pbx}"] {
            if let Some((collection, _)) = path.clone().split_once(&format!("/{parameter}")) {
                let id = self
                    .resource((&route.method, collection), tenant, (who, place))
                    .await?;
                path = path.replace(parameter, &id);
            }
        }
        ensure!(!path.contains('{'), "{path}: what is that parameter?");
        if route.parameter("query", "pbx").is_some() && area(&route.path)? == Area::OfPbx {
            path = format!("{path}?pbx={}", pbx(place));
        }
        Ok((path, self.body(route, tenant, place).await?))
    }

    /// A body that a route takes.
    async fn body(&self, route: &Route, tenant: &str, place: Place) -> anyhow::Result<Value> {
        if !["POST", "PATCH"].contains(&route.method.as_str()) {
            return Ok(Value::Null);
        }
        let number = self.next();
        Ok(match (route.method.as_str(), route.path.as_str()) {
            ("POST", "/apply" | "/apply/verify") => json!({ "pbx": pbx(place) }),
            // What a user may change as well.
            ("PATCH", path) if path.ends_with("/users/{id}") => json!({ "dnd": true }),
            (_, path) if of_accounts(path, number, place).is_some() => {
                of_accounts(path, number, place).unwrap_or_default()
            }
            _ => {
                // Even numbers are those without extras.
                let mut body = (sample(route)?.body)(1000 + 2 * number);
                if body["user_id"] == A_USER {
                    let user = new_user(&self.admin.client, tenant, number).await?;
                    body["user_id"] = json!(user);
                }
                let table = body.as_str().filter(|table| table.contains(A_USER));
                if let Some(table) = table {
                    let user = new_user(&self.admin.client, tenant, number).await?;
                    let path = format!("/tenants/{tenant}/users/{user}");
                    let user = self.admin.client.get(&path).await?.expect(200)?.json()?;
                    body = json!(table.replace(A_USER, &text(&user, "email")?));
                }
                body
            }
        })
    }

    /// The id of something of a collection: fresh, where it can be changed.
    async fn resource(
        &self,
        (method, collection): (&Method, &str),
        tenant: &str,
        (who, place): (Who, Place),
    ) -> anyhow::Result<String> {
        let (admin, number) = (&self.admin.client, self.next());
        let mine = place == Place::Mine;
        let user = async || {
            // Others delete what they may.
            if mine && who == Who::User {
                Ok(self.user_id.clone())
            } else {
                new_user(admin, tenant, number).await
            }
        };
        match collection.rsplit('/').next().unwrap_or_default() {
            "users" => user().await,
            "deleted-users" => {
                let id = new_user(admin, tenant, number).await?;
                let path = format!("/tenants/{tenant}/users/{id}");
                admin.delete(&path).await?.expect(204)?;
                Ok(id)
            }
            "devices" => {
                let body = json!({ "user_id": user().await?, "label": "x", "reveal": false });
                let path = format!("/tenants/{tenant}/devices");
                created(admin, &path, &body).await
            }
            "pbxes" => {
                let address = format!("127.0.0.2:{}", 1 + number);
                let body = json!({ "name": format!("pbx{number}"), "agent_address": address });
                created(admin, "/pbxes", &body).await
            }
            "audit" => {
                new_user(admin, tenant, number).await?;
                let tenant = admin.get(&format!("/tenants/{tenant}")).await?;
                let of = text(&tenant.expect(200)?.json()?, "id")?;
                let entries = admin.get(&format!("/audit?tenant_id={of}&limit=1")).await?;
                text(&entries.expect(200)?.json()?[0], "id")
            }
            "applies" => Ok(self.applies[usize::from(place == Place::OtherTenant)].clone()),
            "accounts" if mine => Ok(self.person(who).account.clone()),
            "accounts" => {
                let login = format!("login{number}");
                let body =
                    json!({ "login": login, "name": "x", "role": "operator", "tenant": tenant });
                created(admin, "/accounts", &body).await
            }
            "sessions" => {
                let whose = if mine {
                    self.person(who)
                } else {
                    self.stranger(who)
                };
                // Whoever signs in too often from one address is refused for a while.
                let ends = mine && *method == Method::DELETE && who > Who::OtherScope;
                let client = if ends {
                    whose.again().await?
                } else {
                    whose.client.clone()
                };
                let current = client.get("/sessions/current").await?;
                text(&current.expect(200)?.json()?, "id")
            }
            "api-tokens" => {
                let whose = if mine {
                    self.person(who)
                } else {
                    self.stranger(who)
                };
                let scope = ["users.read"];
                Ok(whose.token(&format!("token{number}"), &scope).await?.id)
            }
            other => bail!("how is something made in {other}?"),
        }
    }

    /// Somebody else.
    fn stranger(&self, who: Who) -> &Person {
        if who == Who::TenantAdmin {
            &self.operator
        } else {
            &self.tenant_admin
        }
    }

    async fn fresh_tenant(&self) -> anyhow::Result<String> {
        let slug = format!("fresh{}", self.next());
        let body = json!({ "slug": slug, "name": slug, "ext_min": 100, "ext_max": 199 });
        created(&self.admin.client, "/tenants", &body).await
    }
}

const fn pbx(place: Place) -> &'static str {
    match place {
        Place::OtherTenant => "default",
        Place::Mine | Place::OwnTenant | Place::Everywhere => OWN,
    }
}

async fn created(admin: &Client, path: &str, body: &Value) -> anyhow::Result<String> {
    let made = admin.post(path, body).await?.expect(201)?.json()?;
    text(&made, "id")
}

/// What routes of accounts, sessions and tokens take: fit for whoever asks, and harmless.
fn of_accounts(path: &str, number: usize, place: Place) -> Option<Value> {
    let wrong = "eleven iron kettles beside the river";
    let nobodys = "0".repeat(43);
    Some(match path {
        "/accounts" => json!({
            "login": format!("made{number}"), "name": "x", "role": "operator", "tenant": OWN,
        }),
        "/accounts/{account}" => json!({ "name": format!("Name {number}") }),
        "/accounts/{account}/password" => {
            json!({ "current_password": wrong, "new_password": wrong })
        }
        "/accounts/{account}/totp" => json!({ "password": wrong }),
        "/accounts/{account}/totp/remove" if place == Place::Mine => json!({ "password": wrong }),
        "/accounts/{account}/reset"
        | "/accounts/{account}/unlock"
        | "/accounts/{account}/totp/remove" => Value::Null,
        "/accounts/{account}/totp/confirm" | "/accounts/{account}/recovery-codes" => {
            json!({ "code": "000000" })
        }
        "/api-tokens" => json!({
            "name": format!("made{number}"), "scopes": ["users.read"], "expires_at": tomorrow(),
        }),
        "/password-resets" => json!({ "token": format!("pbxp_{nobodys}"), "password": wrong }),
        "/sessions" => json!({ "login": format!("nobody{number}"), "password": wrong }),
        "/sessions/refresh" => json!({ "refresh_token": format!("pbxr_{nobodys}") }),
        _ => return None,
    })
}

/// A fresh user of a tenant.
async fn new_user(admin: &Client, tenant: &str, number: usize) -> anyhow::Result<String> {
    let body = json!({ "name": "User", "email": format!("user{number}@example.org") });
    created(admin, &format!("/tenants/{tenant}/users"), &body).await
}

/// An attempt on a PBX that nobody can reach.
async fn attempt(admin: &Client, pbx: &str) -> anyhow::Result<String> {
    let reply = admin.post("/apply", &json!({ "pbx": pbx })).await?;
    ensure!(reply.problem(503)? == "agent_unreachable", "{reply}");
    let id = reply.json()?["apply"]["id"].as_str().map(str::to_owned);
    id.context("no attempt")
}
