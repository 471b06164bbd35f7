//! What PostgreSQL does for a request costs as much in a tenant of ten thousand users as in one of a
//! hundred: by the plans of the statements as they were executed, never by how long they took.

mod plans;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::populated::{self, FIRST_NUMBER};
use tests::portal::{Client, Reply};
use tests::postgres::{Cluster, TestDatabase};

use self::plans::{Executed, Log};

/// More than a statement of a request for a page of 50 looks at, and few beside ten thousand.
const ROWS_MAX: u64 = 600;

/// PostgreSQL may plan a statement anew, for any value, from the sixth time on.
const REPETITIONS: usize = 7;

/// A portal on a cluster that writes down what it executes.
struct Explained {
    lab: PortalLab,
    log: Log,
    /// What was worse than it may be.
    faults: Vec<String>,
    _cluster: Cluster,
}

impl Explained {
    /// With what there is in the database before anything is asked.
    async fn start(
        fill: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let cluster = Cluster::temporary().await?;
        let database = TestDatabase::create_in(&cluster).await?;
        let name = database.url.split(['/', '?']).nth(3).context("no name")?;
        plans::write_down(&cluster, name).await?;
        let lab = PortalLab::start_with(database, &[]).await?;
        let mut connection = PgConnection::connect(&lab.database.url).await?;
        sqlx::query("set auto_explain.log_min_duration = -1")
            .execute(&mut connection)
            .await?;
        fill(&mut connection).await?;
        connection.close().await?;
        Ok(Self {
            lab,
            log: Log::of(&cluster)?,
            faults: Vec::new(),
            _cluster: cluster,
        })
    }

    const fn client(&self) -> &Client {
        &self.lab.client
    }

    /// Judges what was executed since the last time.
    fn judge(&mut self, what: &str) -> anyhow::Result<()> {
        self.judge_by(ROWS_MAX, what, |statement| {
            statement.read_whole().is_empty()
        })
    }

    fn judge_by(
        &mut self,
        rows_max: u64,
        what: &str,
        is_good: impl Fn(&Executed) -> bool,
    ) -> anyhow::Result<()> {
        let executed = self.log.executed()?;
        ensure!(!executed.is_empty(), "{what}: nothing was written down");
        for statement in executed {
            let (whole, rows) = (statement.read_whole(), statement.looked_at());
            if !is_good(&statement) || rows > rows_max {
                let fault = format!("{what}: {rows} rows, all of {whole:?}\n{statement}");
                self.faults.push(fault);
            }
        }
        Ok(())
    }

    async fn get(&mut self, path: &str) -> anyhow::Result<Reply> {
        let mut reply = self.client().get(path).await?.expect(200)?;
        for _ in 1..REPETITIONS {
            reply = self.client().get(path).await?.expect(200)?;
        }
        self.judge(path)?;
        Ok(reply)
    }

    /// A list from its beginning, and from deep within it.
    async fn list(&mut self, path: &str) -> anyhow::Result<()> {
        self.get(&format!("{path}&limit=50")).await?;
        let mut next = Some(format!("{path}&limit=200"));
        for _ in 0..6 {
            let Some(path) = next else { return Ok(()) };
            let reply = self.client().get(&path).await?.expect(200)?;
            next = reply.next().map(str::to_owned);
            if let Some(next) = &next {
                let collection = path.split('?').next().unwrap_or_default();
                ensure!(
                    next.starts_with(&format!("{collection}?")),
                    "{path} leads to {next}"
                );
            }
        }
        // Pages of 200 are four times as long, and are not judged.
        self.log.executed()?;
        match next {
            Some(deep) => {
                let deep = deep.replace("limit=200", "limit=50");
                self.get(&deep).await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// A filter with the ids of what it names.
    async fn named(&self, filter: &str) -> anyhow::Result<String> {
        let mut filter = filter.to_owned();
        for (name, sql) in [
            (
                "APPLY",
                "select apply_id::text from apply where revision = 7777",
            ),
            (
                "SMALL",
                "select tenant_id::text from tenant where slug = 'small-1'",
            ),
            (
                "LARGE",
                "select tenant_id::text from tenant where slug = 'large-1'",
            ),
        ] {
            if filter.contains(name) {
                let mut connection = PgConnection::connect(&self.lab.database.url).await?;
                sqlx::query("set auto_explain.log_min_duration = -1")
                    .execute(&mut connection)
                    .await?;
                let id: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
                filter = filter.replace(name, &id);
            }
        }
        Ok(filter)
    }

    async fn send(&mut self, method: Method, path: &str, body: &Value) -> anyhow::Result<Reply> {
        let mut request = self.client().request(method.clone(), path);
        if method == Method::POST {
            let key = uuid::Uuid::now_v7().to_string();
            request = request.header("Idempotency-Key", &format!("\"{key}\""));
        }
        if method != Method::GET && method != Method::POST {
            request = request.header("If-Match", "*");
        }
        if path.ends_with("rotate") {
            request = request.header("If-Match", "*");
        }
        if !body.is_null() {
            request = if method == Method::PATCH {
                request.body("application/merge-patch+json", body.to_string())
            } else {
                request.json(body)
            };
        }
        let reply = request.send().await?;
        ensure!(reply.status < 300, "{reply}");
        self.judge(&format!("{method} {path}"))?;
        Ok(reply)
    }

    fn end(self) -> anyhow::Result<()> {
        ensure!(self.faults.is_empty(), "{}", self.faults.join("\n"));
        Ok(())
    }
}

/// Tenants and users by the thousand, and their history.
async fn very_many(connection: &mut PgConnection) -> anyhow::Result<()> {
    populated::fill(connection, "small", 100, 100).await?;
    populated::fill(connection, "large", 1, 10_000).await?;
    populated::fill(connection, "empty", 2_000, 0).await?;
    history(connection).await
}

/// Users of a tenant that PostgreSQL has not counted yet.
const YOUNG: u32 = 3_000;

async fn a_young_tenant(connection: &mut PgConnection) -> anyhow::Result<()> {
    populated::fill(connection, "old", 20, 100).await?;
    for sql in [
        "analyze",
        r#"alter table "user" set (autovacuum_enabled = false)"#,
        "alter table extension set (autovacuum_enabled = false)",
        "alter table device set (autovacuum_enabled = false)",
    ] {
        sqlx::query(sql).execute(&mut *connection).await?;
    }
    populated::add(connection, "young", 1, YOUNG).await
}

/// By what it knows of others, PostgreSQL takes the users of a tenant that was just imported for very few.
/// Nothing may look through all of them for each of them.
#[tokio::test]
async fn a_tenant_that_was_just_imported_is_read_but_once() -> anyhow::Result<()> {
    let mut explained = Explained::start(a_young_tenant).await?;
    for list in [
        "users?limit=50",
        "users?limit=50&sort=name",
        "users?limit=50&sort=email&extension=10077",
        "users?limit=50&email=user77@young-1.example.org",
        "users?limit=50&q=user77@",
        "users?limit=50&q=1007",
        "devices?limit=50",
        "devices?limit=50&sort=label",
        "declaration",
        "exports/users",
    ] {
        let path = format!("/tenants/young-1/{list}");
        explained.client().get(&path).await?.expect(200)?;
        // Each user with its number and its device, and some to spare.
        explained.judge_by(u64::from(YOUNG) * 6, &path, |_| true)?;
    }
    explained.end()
}

/// Attempts, events and answers to repetitions by the thousand.
async fn history(connection: &mut PgConnection) -> anyhow::Result<()> {
    for sql in [
        "insert into apply (
            apply_id, pbx_id, revision, digest, on_reload_failure, outcome, requested_by, request_id,
            source_address, started_at, ended_at, failure_code, failure_message, user_count
        )
        select gen_random_uuid(), p.pbx_id, n, decode(repeat('00', 32), 'hex'), 'roll_back',
            case when n % 500 = 0 then 'rolled_back' else 'applied' end,
            case when n % 400 = 0 then 'berta' else 'anna' end, gen_random_uuid()::text, '127.0.0.1',
            now() - n * interval '1 minute', now() - n * interval '1 minute',
            case when n % 500 = 0 then 'reload_failed' end,
            case when n % 500 = 0 then 'Asterisk says no' end, 3
        from pbx p, generate_series(1, 10000) n",
        "update pbx set last_revision = 10000",
        "insert into pbx_event (pbx_id, kind, detail, at, requested_by, request_id, source_address)
        select p.pbx_id,
            case when n % 300 = 0 then 'verify_requested' else 'peer_refused' end,
            case when n % 300 = 0 then 'all as it should be' else 'no certificate' end,
            now() - n * interval '1 minute', case when n % 300 = 0 then 'berta' end,
            case when n % 300 = 0 then n::text end, case when n % 300 = 0 then '127.0.0.1' end
        from pbx p, generate_series(1, 10000) n",
        "insert into idempotency_key (
            actor, key, fingerprint, status, answer_encrypted, created_at
        )
        select 'anna', n::text, decode(repeat('00', 32), 'hex'), 201, '\\x00', now()
        from generate_series(1, 10000) n",
        // Of ten thousand changes most are in force, by one apply that carried them all and by many
        // that carried some; a few wait.
        "insert into audit_entry (
            audit_entry_id, lane, position, previous_hash, hash, at, actor_kind, actor_name, action,
            entity_type, entity_id, entity_name, tenant_id, pbx_ids, before, after, source_address,
            request_id
        )
        select gen_random_uuid(), 9, n, decode(repeat('00', 32), 'hex'),
            decode(repeat('00', 32), 'hex'), now() - n * interval '1 minute', 'account',
            case when n % 300 = 0 then 'berta' else 'anna' end,
            case when n % 200 = 0 then 'tenant.changed' else 'user.changed' end,
            case when n % 200 = 0 then 'tenant' else 'user' end, (n % 1000)::text,
            'Somebody ' || n, t.tenant_id, '{}', '{}', '{}', '127.0.0.1', n::text
        from generate_series(1, 10000) n
        join tenant t on t.slug = case when n % 100 = 0 then 'small-1' else 'large-1' end",
        "insert into apply_change (apply_id, audit_entry_id, at)
        select a.apply_id, e.audit_entry_id, e.at
        from audit_entry e join apply a on a.revision = 7777 or a.revision = e.position
        where e.lane = 9",
        "insert into audit_pending (pbx_id, audit_entry_id, at)
        select p.pbx_id, e.audit_entry_id, e.at from pbx p, audit_entry e where e.lane = 9 and e.position < 1000",
        "insert into account (
            account_id, login, name, tenant_id, role, status, created_at, created_by, updated_at
        )
        select gen_random_uuid(), 'staff' || n, 'Olga ' || n,
            case when n % 500 > 0 then t.tenant_id end,
            case when n % 500 = 0 then 'platform_admin' when n % 300 = 0 then 'tenant_admin'
                else 'operator' end,
            case when n % 400 = 0 then 'suspended' else 'active' end,
            now() - n * interval '1 minute', 'anna', now()
        from tenant t, generate_series(1, 10000) n where t.slug = 'large-1'",
        "analyze",
    ] {
        sqlx::query(sql).execute(&mut *connection).await?;
    }
    Ok(())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn lists_and_searches_go_by_index() -> anyhow::Result<()> {
    let mut explained = Explained::start(very_many).await?;
    for (collection, sorts, filters) in [
        (
            "/tenants/large-1/users",
            &["extension", "name", "email", "created_at"][..],
            &[
                "status=suspended",
                "status=active",
                "role=operator",
                "extension=14711",
                "email=user77@large-1.example.org",
                "q=olga%20k",
                "q=user4711@",
                "q=nobody-at-all",
                "q=1471",
                "q=14711",
            ][..],
        ),
        (
            "/tenants/large-1/devices",
            &["created_at", "label"],
            &["enabled=false", "enabled=true", "q=headset", "q=nobody"],
        ),
        (
            "/tenants",
            &["name", "slug"],
            &[
                "status=active",
                "status=suspended",
                "q=small",
                "q=Large%201",
            ],
        ),
        (
            "/accounts",
            &["login", "created_at"],
            &[
                "role=operator",
                "role=tenant_admin",
                "role=platform_admin",
                "status=active",
                "status=suspended",
                "q=olga%2047",
                "q=staff4711",
                "q=nobody-at-all",
            ],
        ),
        (
            "/applies",
            &["started_at"],
            &[
                "outcome=applied",
                "outcome=rolled_back",
                "requested_by=berta",
                "q=says%20no",
                "q=nobody",
            ],
        ),
        (
            "/revisions",
            &["revision"],
            &["outcome=rolled_back", "requested_by=berta", "q=says%20no"],
        ),
        (
            "/audit",
            &["at"],
            &[
                "actor=berta",
                "action=tenant.changed",
                "entity_type=tenant",
                "entity_type=user",
                "entity_id=77",
                "request_id=4711",
                "since=2020-01-01T00:00:00Z",
                "until=2020-01-01T00:00:00Z",
                "apply=APPLY",
                "tenant_id=SMALL",
                "tenant_id=LARGE",
                "q=Somebody%204711",
                "q=berta",
                "q=nobody-at-all",
            ],
        ),
        (
            "/events",
            &["id", "at"],
            &[
                "kind=peer_refused",
                "kind=verify_requested",
                "requested_by=berta",
                "q=as%20it%20should",
                "q=nobody",
            ],
        ),
    ] {
        for sort in sorts {
            for sign in ["", "-"] {
                explained
                    .list(&format!("{collection}?sort={sign}{sort}"))
                    .await?;
            }
            for filter in filters {
                let filter = explained.named(filter).await?;
                let path = format!("{collection}?sort={sort}&{filter}");
                explained.list(&path).await?;
            }
        }
    }
    explained.end()
}

#[tokio::test]
async fn changes_and_single_reads_go_by_index() -> anyhow::Result<()> {
    let mut explained = Explained::start(very_many).await?;
    let tenant = "/tenants/large-1";
    let id = |reply: &Reply| -> anyhow::Result<String> {
        let body = reply.json()?;
        Ok(body["id"].as_str().context("no id")?.to_owned())
    };
    let users = explained
        .get(&format!("{tenant}/users?sort=-name&limit=50"))
        .await?
        .json()?;
    for n in 0..REPETITIONS {
        let user = users[n]["id"].as_str().context("no user")?;
        explained.get(&format!("{tenant}/users/{user}")).await?;
        let path = format!("{tenant}/devices?user_id={user}");
        let devices = explained.get(&path).await?.json()?;
        let device = devices[0]["id"].as_str().context("no device")?;
        let device = format!("{tenant}/devices/{device}");
        explained.get(&device).await?;
        explained
            .send(Method::PATCH, &device, &json!({ "label": "Desk" }))
            .await?;
        let overlap = json!({ "overlap_seconds": 60 });
        explained
            .send(Method::POST, &format!("{device}/rotate"), &overlap)
            .await?;

        let email = format!("lowest{n}@example.org");
        let body = json!({ "name": "Lowest", "email": email });
        let lowest = explained
            .send(Method::POST, &format!("{tenant}/users"), &body)
            .await?;
        let number = FIRST_NUMBER + 20_000 + u32::try_from(n)?;
        let body = json!({ "name": "Chosen", "email": format!("c{email}"), "extension": number });
        let chosen = explained
            .send(Method::POST, &format!("{tenant}/users"), &body)
            .await?;
        let (lowest, chosen) = (id(&lowest)?, id(&chosen)?);
        for patch in [
            json!({ "name": "Changed" }),
            json!({ "email": format!("changed{n}@example.org"), "dnd": true }),
            json!({ "extension": number + 1000 }),
        ] {
            explained
                .send(Method::PATCH, &format!("{tenant}/users/{chosen}"), &patch)
                .await?;
        }
        let body = json!({ "user_id": lowest, "label": "Headset" });
        let second = explained
            .send(Method::POST, &format!("{tenant}/devices"), &body)
            .await?;
        let second = id(&second)?;
        for path in [
            format!("devices/{second}"),
            format!("users/{chosen}"),
            format!("deleted-users/{chosen}"),
        ] {
            explained
                .send(Method::DELETE, &format!("{tenant}/{path}"), &Value::Null)
                .await?;
        }
    }
    explained.end()
}
