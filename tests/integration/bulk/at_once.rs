use anyhow::Context as _;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tests::lab::{PortalLab, create_user};
use tests::portal::Reply;
use tests::process::wait_until;
use tokio::task::JoinSet;

use super::{DEADLINE, import, lines, outcomes, people, rows};

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

/// An import that has read whom it means and waits for one of them, until what is done meanwhile is done.
async fn beside_an_import(
    table: &'static str,
    meanwhile: impl AsyncFnOnce(&PortalLab) -> anyhow::Result<()>,
) -> anyhow::Result<(PortalLab, Reply)> {
    let lab = PortalLab::start().await?;
    for name in ["Ann", "Bob"] {
        let email = format!("{}@example.org", name.to_lowercase());
        create_user(&lab.client, name, &email).await?;
    }
    let mut holder = PgConnection::connect(&lab.database.url).await?;
    let mut lock = holder.begin().await?;
    sqlx::query(r#"select from "user" where name = 'Ann' for no key update"#)
        .execute(&mut *lock)
        .await?;
    let client = lab.client.clone();
    let importing =
        tokio::spawn(async move { import(&client, "/imports/users?mode=per_line", table).await });
    waiting(&lab, 1).await?;
    meanwhile(&lab).await?;
    lock.rollback().await?;
    Ok((lab, importing.await??))
}

/// Waits until so many wait for a lock.
async fn waiting(lab: &PortalLab, count: i64) -> anyhow::Result<()> {
    let pool = lab.database.pool().await?;
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    let waits = async || {
        let waiting = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await;
        waiting.is_ok_and(|waiting| waiting == count)
    };
    wait_until("waiting for locks", DEADLINE, waits).await
}

#[tokio::test]
async fn whoever_gives_up_an_address_meanwhile_is_not_meant_by_it() -> anyhow::Result<()> {
    let table = "name,email\nAnna,ann@example.org\nBobby,bob@example.org\n";
    let (lab, told) = beside_an_import(table, async |lab| {
        let bob = lab
            .client
            .get("/users?email=bob@example.org")
            .await?
            .json()?;
        let path = format!("/users/{}", bob[0]["id"].as_str().unwrap_or_default());
        let moved = json!({ "email": "moved@example.org" });
        crate::life::patch(&lab.client, &path, &moved)
            .await?
            .expect(200)?;
        Ok(())
    })
    .await?;
    let told = lines(&told.expect(200)?.json()?);
    assert_eq!(
        (&*told[0].1, &*told[1].2),
        ("changed", &["email outdated".to_owned()][..])
    );
    let bob = lab
        .client
        .get("/users?email=moved@example.org")
        .await?
        .json()?;
    assert_eq!(bob[0]["name"], "Bob");
    Ok(())
}

/// The address of the one who is created is that of the import's last line. Nobody holds it while it waits
/// for the numbers that the import holds.
#[tokio::test]
async fn an_import_and_a_newcomer_of_one_address_do_not_wait_for_each_other() -> anyhow::Result<()>
{
    let table = "name,email\nAnna,ann@example.org\nZed,zed@example.org\n";
    let mut creating = None;
    let (_lab, told) = beside_an_import(table, async |lab| {
        let client = lab.client.clone();
        creating = Some(tokio::spawn(async move {
            let zed = json!({ "name": "Zed", "email": "zed@example.org" });
            client.post("/users", &zed).await
        }));
        waiting(lab, 2).await
    })
    .await?;
    assert_eq!(outcomes(&told.expect(200)?.json()?), ["changed", "created"]);
    let created = creating.context("nobody was created")?.await??;
    assert_eq!(created.problem(409)?, "email_taken");
    Ok(())
}

/// Who changes numbers locks the tenant before the user, as an import does: nobody waits for somebody who
/// waits for it.
#[tokio::test]
async fn an_import_beside_new_numbers_and_deletions() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let table = format!("name,email\n{}", people(0..120));
    let made = import(&lab.client, "/imports/users", &table).await?;
    let made = made.expect(200)?.json()?;
    let ids: Vec<String> = made["lines"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|line| line["id"].as_str().map(str::to_owned))
        .collect();
    let mut tasks = JoinSet::new();
    for (number, id) in ids.into_iter().enumerate().rev().take(60) {
        let client = lab.client.clone();
        tasks.spawn(async move {
            let path = format!("/users/{id}");
            if number % 4 == 0 {
                let gone = client.delete(&path).await?;
                anyhow::ensure!(gone.status == 204 || gone.status == 503, "{gone}");
                return anyhow::Ok(());
            }
            let body = json!({ "extension": 1500 + number });
            let moved = crate::life::patch(&client, &path, &body).await?;
            anyhow::ensure!(moved.status == 200 || moved.status == 503, "{moved}");
            Ok(())
        });
    }
    let names = (0..120).map(|n| format!("Other {n},u{n}@example.org\n"));
    let table = format!("name,email\n{}", names.collect::<Vec<_>>().concat());
    import(&lab.client, "/imports/users", &table)
        .await?
        .expect(200)?;
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let pool = lab.database.pool().await?;
    let deadlocks: i64 = sqlx::query_scalar(
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(deadlocks, 0);
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
