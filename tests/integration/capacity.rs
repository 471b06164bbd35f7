//! The whole range of extensions, and many clients at once. What is compared is always what the
//! database and Asterisk say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::PgPool;
use tests::lab::{Lab, NewUser, create_user};
use tests::portal::Client;
use tokio::sync::watch;

use crate::audit::{applied, included};
use crate::crowd::{at_once, numbers, stored_numbers};
use crate::held::{Held, assert_exactly};

/// How many clients come at once.
const CLIENTS: usize = 50;

/// SC-003 and SC-006.
#[tokio::test]
async fn a_thousand_users_of_fifty_clients_have_no_duplicates_and_no_gaps() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let client = lab.client.clone();
    let create = move |number: usize| {
        let client = client.clone();
        async move {
            create_user(
                &client,
                "Somebody",
                &format!("somebody{number}@example.org"),
            )
            .await
        }
    };
    let users = at_once(CLIENTS, 1000, create).await?;
    let all: Vec<u64> = (1000..=1999).collect();
    assert_eq!(numbers(&users), all, "by the replies");
    let pool = lab.database.pool().await?;
    assert_eq!(stored_numbers(&pool).await?, all, "by the database");
    let passwords: BTreeSet<_> = users.iter().map(|user| &user.sip_password).collect();
    assert_eq!(passwords.len(), 1000, "a password was given twice");

    let late = json!({ "name": "Late", "email": "late@example.org" });
    let reply = lab.client.post("/users", &late).await?;
    assert_eq!(reply.problem(409)?, "extension_pool_exhausted");
    assert_eq!(stored_numbers(&pool).await?, all);

    let attempt = applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(attempt["user_count"], 1000);
    assert_eq!(included(&attempt), all);
    assert_exactly(&lab.asterisk, all).await?;

    // The last one can register: what was rendered for 1000 is not only listed.
    let last = users
        .iter()
        .find(|user| user.extension == 1999)
        .expect("someone has 1999");
    lab.phone(last)?.register().await?.accepted()?;
    Ok(())
}

/// How many users each client creates; it deletes every second one of them again.
const EACH: usize = 8;

#[tokio::test]
async fn fifty_clients_create_and_delete_while_applies_run() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let pool = lab.database.pool().await?;
    let (done, mut clients_done) = watch::channel(false);
    let clients = async {
        let client = lab.client.clone();
        let churned = at_once(CLIENTS, CLIENTS, move |who| churn(client.clone(), who)).await;
        done.send_replace(true);
        churned
    };
    let applier = async {
        let mut snapshots = Vec::new();
        loop {
            let last = *clients_done.borrow_and_update();
            snapshots.push(apply_and_compare(&lab).await?);
            if last {
                return anyhow::Ok(snapshots);
            }
        }
    };
    let (churned, snapshots) = tokio::join!(clients, applier);
    let (living, gone): (Vec<_>, Vec<_>) = churned?
        .into_iter()
        .flatten()
        .partition(|(_, lives)| *lives);

    // Nobody was ever given a number that somebody else had: each apply saw each number once, with
    // a user whom a reply had given that very number.
    let given: BTreeMap<&str, u64> = living
        .iter()
        .chain(&gone)
        .map(|(user, _)| (user.id.as_str(), user.extension))
        .collect();
    assert_eq!(given.len(), CLIENTS * EACH);
    for (id, extension) in snapshots?.iter().flatten() {
        assert_eq!(given.get(id.as_str()), Some(extension));
    }

    // The database holds those who live, with the numbers that they were given.
    let mut expected: Vec<(String, u64)> = living
        .iter()
        .map(|(user, _)| (user.id.clone(), user.extension))
        .collect();
    expected.sort_by_key(|(_, extension)| *extension);
    assert_eq!(stored(&pool).await?, expected);
    let mut numbers: Vec<u64> = expected
        .into_iter()
        .map(|(_, extension)| extension)
        .collect();
    assert_exactly(&lab.asterisk, numbers.clone()).await?;

    // Whatever gaps were left are filled from below.
    while numbers.len() < usize::try_from(numbers[numbers.len() - 1] - 999)? {
        let gap = (1000..=1999)
            .find(|number| !numbers.contains(number))
            .unwrap_or_default();
        let user = lab
            .create_user("Gap", &format!("gap{gap}@example.org"))
            .await?;
        assert_eq!(user.extension, gap);
        numbers.push(gap);
        numbers.sort_unstable();
    }
    assert_eq!(stored_numbers(&pool).await?, numbers);
    Ok(())
}

/// Creates users and deletes every second one at once; says which of them live.
async fn churn(client: Client, who: usize) -> anyhow::Result<Vec<(NewUser, bool)>> {
    let mut users = Vec::new();
    for number in 0..EACH {
        let email = format!("churn{who}x{number}@example.org");
        let user = create_user(&client, "Churn", &email).await?;
        let lives = number % 2 == 0;
        if !lives {
            client
                .delete(&format!("/users/{}", user.id))
                .await?
                .expect(204)?;
        }
        users.push((user, lives));
    }
    Ok(users)
}

/// Applies, and compares Asterisk with what the apply says it included: id and extension of each.
async fn apply_and_compare(lab: &Lab) -> anyhow::Result<Vec<(String, u64)>> {
    let attempt = lab.apply().await?.expect(200)?.json()?;
    let users = attempt["users"].as_array().map_or(&[][..], Vec::as_slice);
    let pair = |user: &Value| Some((user["id"].as_str()?.to_owned(), user["extension"].as_u64()?));
    let pairs: Vec<_> = users.iter().filter_map(pair).collect();
    assert_eq!(pairs.len(), users.len(), "{attempt}");
    let held = Held::read(&lab.asterisk).await?;
    assert_eq!(held, Held::exactly(included(&attempt)));
    Ok(pairs)
}

/// Id and number of every living user, by number.
async fn stored(pool: &PgPool) -> anyhow::Result<Vec<(String, u64)>> {
    let rows: Vec<(String, i32)> = sqlx::query_as(
        r#"select user_id::text, e.number from extension e join "user" u using (tenant_id, user_id)
           where u.deleted_at is null order by e.number"#,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(id, number)| Ok((id, number.try_into()?)))
        .collect()
}
