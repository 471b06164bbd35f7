//! What is changed of a tenant waits for whoever changes very many things of it; others do not.

use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tests::lab::{PortalLab, create_user};
use tests::process::wait_until;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{DEADLINE, import, people};

/// Of an import.
const LARGEST: usize = 16 * 1024 * 1024;

/// More than the portal has connections.
const WAITING: usize = 40;

#[tokio::test]
async fn who_waits_for_one_tenant_takes_no_connection_from_others() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = create_user(&lab.client, "Ann", "ann@example.org").await?;
    let tenant = json!({ "slug": "other", "name": "Other", "ext_min": 2000, "ext_max": 2999 });
    lab.client.post("/tenants", &tenant).await?.expect(201)?;
    // As an import holds them.
    let mut holder = PgConnection::connect(&lab.database.url).await?;
    let mut lock = holder.begin().await?;
    for held in [
        "select from tenant where slug = 'default' for no key update",
        r#"select from "user" for no key update"#,
    ] {
        sqlx::query(held).execute(&mut *lock).await?;
    }
    let mut crowd = JoinSet::new();
    for number in 0..WAITING {
        let (client, path) = (lab.client.clone(), format!("/users/{}", ann.id));
        crowd.spawn(async move {
            let reply = match number % 4 {
                0 => {
                    let user =
                        json!({ "name": "New", "email": format!("new{number}@example.org") });
                    client.post("/users", &user).await?
                }
                1 => crate::life::patch(&client, &path, &json!({ "extension": 1500 })).await?,
                2 => crate::life::patch(&client, &path, &json!({ "dnd": true })).await?,
                _ => {
                    let table = format!("name,email\n{}", people(0..2));
                    import(&client, "/imports/users", &table).await?
                }
            };
            // The second in a queue may wait until PostgreSQL ends the statement instead.
            let code = reply.problem(503)?;
            let told = ["overloaded", "database_unavailable"].contains(&code.as_str());
            anyhow::ensure!(told, "{reply}");
            anyhow::Ok(())
        });
    }
    let pool = lab.database.pool().await?;
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    let waits = async || {
        let waiting = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await;
        waiting.is_ok_and(|waiting| waiting >= 8)
    };
    wait_until("changes of the tenant wait", DEADLINE, waits).await?;
    // As long as all of them wait.
    for n in 0..20 {
        let user = json!({ "name": "Bob", "email": format!("bob{n}@example.org") });
        let made = lab.client.post("/tenants/other/users", &user).await?;
        made.expect(201)?;
        lab.client.get("/users").await?.expect(200)?;
        if let Some(ended) = crowd.try_join_next() {
            ended??;
            break;
        }
    }
    while let Some(ended) = crowd.join_next().await {
        ended??;
    }
    lock.rollback().await?;
    create_user(&lab.client, "Bob", "bob@example.org").await?;
    Ok(())
}

/// Bodies that are never sent to their end take the room of their tenant, not that of others.
#[tokio::test]
async fn slow_imports_of_one_tenant_leave_others_their_room() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let tenant = json!({ "slug": "other", "name": "Other", "ext_min": 2000, "ext_max": 2999 });
    lab.client.post("/tenants", &tenant).await?.expect(201)?;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(lab.portal.address()).await?;
        let head = format!(
            "POST /imports/users HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n\
             Content-Length: {LARGEST}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        // More than there is room for on the way: the portal reads it.
        stream.write_all(&vec![b'\n'; LARGEST - 100]).await?;
        slow.push(stream);
    }
    let table = format!("name,email\n{}", people(0..2));
    let refused = import(&lab.client, "/imports/users", &table).await?;
    assert_eq!(refused.problem(503)?, "overloaded");
    let table = format!("{table}{}", "\n".repeat(LARGEST - table.len()));
    let made = import(&lab.client, "/tenants/other/imports/users", &table).await?;
    made.expect(200)?;
    drop(slow);
    Ok(())
}
