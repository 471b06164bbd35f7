//! The trail can be added to and nothing else, by whatever role.

use anyhow::{Context as _, ensure};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::portal::SECRET_KEY;
use tests::postgres::TestDatabase;
use tests::process::Program;

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

/// A database with a role for the schema and another one for the service; their URLs.
async fn two_roles(database: &TestDatabase) -> anyhow::Result<[String; 2]> {
    let admin = &database.url;
    let name = admin.split(['/', '?']).nth(3).context("no name")?;
    // In upper case, so that it must be quoted.
    let roles = [format!("owner_{name}"), format!("Service_{name}")];
    let mut connection = PgConnection::connect(admin).await?;
    for sql in [
        format!("create role \"{}\" login", roles[0]),
        format!("create role \"{}\" login", roles[1]),
        format!("alter database {name} owner to \"{}\"", roles[0]),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
    }
    Ok(roles.map(|role| admin.replacen("portal@", &format!("{role}@"), 1)))
}

#[tokio::test]
async fn the_role_of_the_service_cannot_switch_the_triggers_off_either() -> anyhow::Result<()> {
    let mut database = TestDatabase::create().await?;
    let [owner, service] = two_roles(&database).await?;
    let migrate = Program::new(tests::agent::binary("api-server")?)
        .arg("migrate")
        .env("DATABASE_URL", &service)
        .env("MIGRATION_DATABASE_URL", &owner);
    let said = migrate.run(DEADLINE).await?.success()?;
    assert!(said.contains("Service_"), "{said}");
    database.url.clone_from(&service);
    // From here on, without the owner's role.
    let mut lab = PortalLab::start_with(database, &[]).await?;

    // Everything works.
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let path = format!("/users/{}", ann.id);
    let change = lab.client.request(reqwest::Method::PATCH, &path);
    let change = change.body("application/merge-patch+json", "{\"name\": \"Anna\"}");
    change.send().await?.expect(200)?;
    let reply = lab.client.post_nothing("/apply").await?;
    assert_eq!(reply.problem(503)?, "agent_unreachable");
    lab.client.delete(&path).await?.expect(204)?;
    let seat = json!({ "role": "platform_admin", "login": "bob", "name": "Bob" });
    lab.client.post("/accounts", &seat).await?.expect(201)?;
    lab.client.get("/accounts").await?.expect(200)?;

    for sql in REFUSED.iter().chain(OF_THE_OWNER) {
        refusal(&service, sql).await?;
    }
    let found = verify(&service).await?;
    assert!(faults(&found)?.is_empty(), "{found:?}");

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
    Ok(())
}

/// The portal may also do it itself, and says when the two roles are none.
#[tokio::test]
async fn a_portal_that_is_given_the_owner_makes_the_schema_as_that() -> anyhow::Result<()> {
    const WARNING: &str = "owns the audit trail";
    let mut database = TestDatabase::create().await?;
    let admin = database.url.clone();
    let [owner, service] = two_roles(&database).await?;
    database.url.clone_from(&service);
    let owned_by = |url: &str| [("MIGRATION_DATABASE_URL".to_owned(), url.to_owned())];
    let lab = PortalLab::start_with(database, &owned_by(&owner)).await?;
    lab.create_user("Ann", "ann@example.org").await?;
    for sql in REFUSED.iter().chain(OF_THE_OWNER) {
        refusal(&service, sql).await?;
    }
    assert!(!lab.portal.log().contains(WARNING));

    let mut database = TestDatabase::create().await?;
    database.url = admin;
    let same = PortalLab::start_with(database, &owned_by(&owner)).await?;
    assert!(same.portal.log().contains(WARNING));
    Ok(())
}
