use std::time::Duration;

use serde_json::json;
use tests::lab::{PortalLab, create_user};
use tests::process::wait_until;
use tokio::task::JoinSet;

use super::{import, people, rows};

/// How long to wait for what must come.
const DEADLINE: Duration = Duration::from_secs(30);

/// Imports, and people who create users by hand meanwhile: no number and no address is given twice, and
/// nobody hears of a fault of the portal.
#[tokio::test]
async fn imports_and_single_users_at_once() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let client = lab.client.clone();
        tasks.spawn(async move {
            let users = people(0..100);
            let table = format!("name,email\n{users}Own,own{number}@example.org\n");
            let reply = import(&client, "/imports/users?mode=per_line", &table).await?;
            anyhow::ensure!([200, 503].contains(&reply.status), "{reply}");
            anyhow::Ok(())
        });
    }
    for number in 0..40 {
        let client = lab.client.clone();
        tasks.spawn(async move {
            let body = json!({ "name": "Hand", "email": format!("hand{number}@example.org") });
            let reply = client.post("/users", &body).await?;
            // They wait for the import, all connections at last.
            anyhow::ensure!([201, 503].contains(&reply.status), "{reply}");
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let pool = lab.database.pool().await?;
    let (users, numbers, most): (i64, i64, i32) = sqlx::query_as(
        r#"select (select count(*) from "user"), count(distinct number), max(number) from extension"#,
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(users, numbers);
    assert_eq!(i64::from(most), 1000 + users - 1, "without a gap");
    Ok(())
}

/// A portal that is killed in the middle leaves nothing of an import, or all of it.
#[tokio::test]
async fn a_killed_portal_leaves_all_or_nothing() -> anyhow::Result<()> {
    let mut lab = PortalLab::start().await?;
    create_user(&lab.client, "Ann", "ann@example.org").await?;
    let before = rows(&lab).await?;
    let users = people(0..900);
    let table = format!("name,email\n{users}");
    let client = lab.client.clone();
    let sent = tokio::spawn(async move { import(&client, "/imports/users", &table).await });
    let pool = lab.database.pool().await?;
    // Its transaction holds the tenant's row once it creates users.
    let busy = "select count(*) from pg_stat_activity where datname = current_database() \
        and pid <> pg_backend_pid() and state <> 'idle' and xact_start is not null \
        and backend_xid is not null";
    let transactions = async || sqlx::query_scalar::<_, i64>(busy).fetch_one(&pool).await;
    let writes = async || transactions().await.is_ok_and(|open| open > 0);
    wait_until("the import writes", DEADLINE, writes).await?;
    lab.portal.kill();
    assert!(sent.await?.is_err());
    let gone = async || transactions().await.is_ok_and(|open| open == 0);
    wait_until("the transaction is gone", DEADLINE, gone).await?;
    assert_eq!(rows(&lab).await?, before);
    Ok(())
}
