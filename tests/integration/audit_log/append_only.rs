//! The trail can be added to and nothing else, by whatever role.

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::portal::{Access, Portal, PortalSetup, SECRET_KEY};
use tests::postgres::TestDatabase;
use tests::process::Program;

use super::two_roles::Roles;
use super::{DEADLINE, faults, verify};

/// What nobody may do to it.
const REFUSED: &[&str] = &[
    "update audit_entry set actor_name = 'eve'",
    "update audit_entry set actor_name = 'eve' where false",
    "delete from audit_entry",
    "delete from audit_entry where position = 1",
    "truncate audit_entry",
    "truncate audit_entry cascade",
    "update audit_lane set position = position - 1",
    "update audit_lane set position = 0, hash = sha256('')",
    "update audit_lane set hash = sha256('')",
    "delete from audit_lane",
    "truncate audit_lane",
    "delete from audit_key",
    "truncate audit_key",
    // With ordinary triggers this would be the way round.
    "set session_replication_role = replica; delete from audit_entry",
    "set session_replication_role = replica; update audit_lane set position = 0",
];

/// What only the owner can do.
const OF_THE_OWNER: &[&str] = &[
    "alter table audit_entry disable trigger user",
    "alter table audit_entry disable trigger all",
    "alter table audit_entry drop column request_id",
    "alter table audit_entry rename to other",
    "alter table audit_entry owner to current_user",
    "drop trigger audit_entry_append_only on audit_entry",
    "drop table audit_entry",
    "drop function refuse_audit_change() cascade",
    "create or replace function refuse_audit_change() returns trigger language plpgsql
        as $$ begin return null; end $$",
    "create trigger mine before insert on audit_entry for each row
        execute function refuse_audit_change()",
    "create rule mine as on insert to audit_entry do instead nothing",
    "drop schema public cascade",
    "delete from _sqlx_migrations",
];

/// What a role that tries gets to hear.
async fn refusal(url: &str, sql: &str) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(url).await?;
    let tried = sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await;
    let error = tried.err().with_context(|| format!("not refused: {sql}"))?;
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    let code = code.with_context(|| format!("{sql}: {error}"))?;
    // Insufficient privilege, both of the triggers and of PostgreSQL itself.
    ensure!(code == "42501", "{sql}: {error}");
    Ok(error.to_string())
}

#[tokio::test]
async fn not_even_the_superuser_changes_it_without_switching_the_triggers_off() -> anyhow::Result<()>
{
    let lab = PortalLab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let before = verify(&lab.database.url).await?;
    assert!(faults(&before)?.is_empty());
    for sql in REFUSED {
        let said = refusal(&lab.database.url, sql).await?;
        assert!(
            said.contains("append-only") || said.contains("only moves forward"),
            "{sql}: {said}"
        );
    }
    assert_eq!(verify(&lab.database.url).await?.stdout, before.stdout);
    Ok(())
}

/// With a role for the schema and another one for the service.
#[tokio::test]
async fn the_role_of_the_service_cannot_switch_the_triggers_off_either() -> anyhow::Result<()> {
    let mut database = TestDatabase::create().await?;
    let admin = database.url.clone();
    let roles = Roles::of(&database).await?;
    roles.to_owner().await?;
    let (owner, service) = (roles.owner, roles.service);
    database.url.clone_from(&service);
    let env = [("MIGRATION_DATABASE_URL".to_owned(), owner.clone())];
    let mut lab = PortalLab::start_with(database, &env).await?;

    // Everything works.
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let path = format!("/users/{}", ann.id);
    let change = lab.client.request(reqwest::Method::PATCH, &path);
    let change = change.body("application/merge-patch+json", "{\"name\": \"Anna\"}");
    change.send().await?.expect(200)?;
    let reply = lab.client.post_nothing("/apply").await?;
    assert_eq!(reply.problem(503)?, "agent_unreachable");
    lab.client.delete(&path).await?.expect(204)?;

    for sql in REFUSED.iter().chain(OF_THE_OWNER) {
        refusal(&service, sql).await?;
    }
    let found = verify(&service).await?;
    assert!(faults(&found)?.is_empty(), "{found:?}");
    assert!(!lab.portal.log().contains("owns the audit trail"));

    // Nor does the service need the owner's role, once the owner has made the schema.
    let migrate = Program::new(tests::agent::binary("api-server")?)
        .arg("migrate")
        .env("DATABASE_URL", &service)
        .env("MIGRATION_DATABASE_URL", &owner);
    let said = migrate.run(DEADLINE).await?.success()?;
    assert!(said.contains("Service_"), "{said}");
    let portal = Portal::start(PortalSetup {
        database_url: &service,
        agent: lab.agent.port(1),
        pki: &lab.pki,
        secret_key: None,
        access: Access::TRUSTED_NETWORK,
        listen: None,
        env: &[],
    })
    .await?;
    portal.client()?.get("/users").await?.expect(200)?;

    // Neither a restart nor a change of keys needs more.
    lab.portal.stop().await?;
    lab.portal.resume().await?;
    lab.create_user("Bob", "bob@example.org").await?;
    let rotate = Program::new(tests::agent::binary("api-server")?)
        .args(["secret-key", "rotate"])
        .env("DATABASE_URL", &service)
        .env("SECRET_KEY", SECRET_KEY)
        .env("NEW_SECRET_KEY", "22".repeat(32));
    rotate.run(DEADLINE).await?.success()?;
    let found = verify(&service).await?;
    assert!(faults(&found)?.is_empty(), "{found:?}");

    // A role that only seems to be another one is noticed.
    lab.portal.stop().await?;
    let env = [("MIGRATION_DATABASE_URL".to_owned(), admin.clone())];
    let mut database = TestDatabase::create().await?;
    database.url = admin;
    let same = PortalLab::start_with(database, &env).await?;
    assert!(same.portal.log().contains("owns the audit trail"));
    Ok(())
}
