//! The schema belongs to one role and the service is another one: everything works all the same.

use anyhow::Context as _;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::portal::Access;
use tests::postgres::TestDatabase;
use tests::process::{Program, wait_until};

use super::DEADLINE;

/// A role that may own a database and one that may not: their names and addresses.
pub(super) struct Roles {
    name: String,
    admin: String,
    owner_name: String,
    service_name: String,
    pub(super) owner: String,
    pub(super) service: String,
}

impl Roles {
    /// Makes the roles for a database, which is the superuser's.
    pub(super) async fn of(database: &TestDatabase) -> anyhow::Result<Self> {
        let admin = database.url.clone();
        let name = admin.split(['/', '?']).nth(3).context("no name")?;
        // In upper case, so that it must be quoted.
        let (owner_name, service_name) = (format!("owner_{name}"), format!("Service_{name}"));
        let as_role = |role: &str| admin.replacen("portal@", &format!("{role}@"), 1);
        let roles = Self {
            name: name.to_owned(),
            owner: as_role(&owner_name),
            service: as_role(&service_name),
            owner_name,
            service_name,
            admin,
        };
        for role in [&roles.owner_name, &roles.service_name] {
            roles.run(&format!("create role \"{role}\" login")).await?;
        }
        Ok(roles)
    }

    async fn run(&self, sql: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.admin).await?;
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut connection).await?;
        Ok(())
    }

    /// Gives the database to the owner.
    pub(super) async fn to_owner(&self) -> anyhow::Result<()> {
        let Self {
            name, owner_name, ..
        } = self;
        self.run(&format!("alter database {name} owner to \"{owner_name}\""))
            .await
    }
}

/// Signs in, is known by the session, and changes something.
async fn works(lab: &PortalLab) -> anyhow::Result<()> {
    let root = lab.administrator.as_ref().context("nobody signs in")?;
    let client = lab.client.sign_in(&root.login, &root.password).await?;
    client.get("/accounts").await?.expect(200)?;
    let email = format!("{}@example.org", uuid::Uuid::now_v7().simple());
    let user = json!({ "name": "Ann", "email": email });
    client.post("/users", &user).await?.expect(201)?;
    Ok(())
}

#[tokio::test]
async fn who_signs_in_needs_no_role_that_owns_the_schema() -> anyhow::Result<()> {
    let mut database = TestDatabase::create().await?;
    let roles = Roles::of(&database).await?;
    roles.to_owner().await?;
    database.url.clone_from(&roles.service);
    let env = [("MIGRATION_DATABASE_URL".to_owned(), roles.owner)];
    let lab = PortalLab::reached_by(Access::LOGIN, database, &env).await?;
    works(&lab).await
}

/// As the README says for a database that is in use.
#[tokio::test]
async fn a_schema_in_use_is_given_to_a_role_of_its_own() -> anyhow::Result<()> {
    let mut database = TestDatabase::create().await?;
    let roles = Roles::of(&database).await?;
    let (name, service) = (&roles.name, &roles.service_name);
    let to_service = format!("alter database {name} owner to \"{service}\"");
    roles.run(&to_service).await?;
    database.url.clone_from(&roles.service);
    let mut lab = PortalLab::reached_by(Access::LOGIN, database, &[]).await?;
    works(&lab).await?;
    lab.portal.stop().await?;

    let owner = &roles.owner_name;
    let reassign = format!("reassign owned by \"{service}\" to \"{owner}\"");
    roles.run(&reassign).await?;
    roles.to_owner().await?;
    let migrate = Program::new(tests::agent::binary("api-server")?)
        .arg("migrate")
        .env("DATABASE_URL", &roles.service)
        .env("MIGRATION_DATABASE_URL", &roles.owner);
    migrate.run(DEADLINE).await?.success()?;
    lab.portal.resume().await?;
    let ready = async || {
        let ready = lab.client.get("/health/ready").await;
        ready.is_ok_and(|r| r.json().is_ok_and(|body| body["database"]["ok"] == true))
    };
    wait_until("the database is ready", DEADLINE, ready).await?;
    works(&lab).await
}
