//! What some give up and others get by the same table: numbers, addresses, labels, a whole range.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tests::lab::{PortalLab, create_user};
use tests::portal::Client;

use super::{import, lines, outcomes, rows};

/// Imports users that must all become something, `outcome`.
async fn must(client: &Client, table: &str, outcome: &str) -> anyhow::Result<()> {
    let told = import(client, "/imports/users", table).await?;
    let told = told.expect(200)?.json()?;
    let outcomes = outcomes(&told);
    anyhow::ensure!(outcomes.iter().all(|one| one == outcome), "{told}");
    Ok(())
}

/// The number, name and id of each user by its address, as the database has them; no row may be of
/// another kind.
async fn users(lab: &PortalLab) -> anyhow::Result<BTreeMap<String, (i32, String, uuid::Uuid)>> {
    let pool = lab.database.pool().await?;
    let rows: Vec<(String, i32, String, uuid::Uuid)> = sqlx::query_as(
        r#"select email, number, name, user_id from "user" full join extension using (user_id)
           where deleted_at is null"#,
    )
    .fetch_all(&pool)
    .await?;
    let one = |(email, number, name, id)| (email, (number, name, id));
    Ok(rows.into_iter().map(one).collect())
}

/// The number that the next newcomer gets, which is undone again.
async fn lowest_free(lab: &PortalLab) -> anyhow::Result<Option<u32>> {
    let table = "name,email\nNew,new@example.org";
    let told = import(&lab.client, "/imports/users?preview=true", table).await?;
    let number = told.expect(200)?.json()?["lines"][0]["extension"].as_u64();
    Ok(number.map(u32::try_from).transpose()?)
}

/// A table that gives twenty users the numbers from 1000 on, in another order.
fn renumbered(number: impl Fn(u32) -> u32) -> String {
    let lines = (0..20).map(|n| format!("u{n}@example.org,User {n},{}\n", number(n)));
    format!("email,name,extension\n{}", lines.collect::<String>())
}

#[tokio::test]
async fn numbers_are_exchanged_in_any_order_and_in_circles() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    must(&lab.client, &renumbered(|n| 1000 + n), "created").await?;
    let ids = |users: &BTreeMap<String, (i32, String, uuid::Uuid)>| -> Vec<_> {
        users
            .iter()
            .map(|(email, user)| (email.clone(), user.2))
            .collect()
    };
    let before = ids(&users(&lab).await?);
    let up = |n| 1001 + n;
    let down = |n| 1000 + n;
    let turned = |n| 1000 + (n + 8) % 20;
    let mirrored = |n| 1019 - n;
    let steps: [(&str, &dyn Fn(u32) -> u32); 4] = [
        ("up", &up),
        ("down", &down),
        ("mirrored", &mirrored),
        ("turned", &turned),
    ];
    for (step, number) in steps {
        must(&lab.client, &renumbered(number), "changed").await?;
        let now = users(&lab).await?;
        for n in 0..20 {
            let has = u32::try_from(now[&format!("u{n}@example.org")].0)?;
            assert_eq!(has, number(n), "{step}");
        }
        assert_eq!(ids(&now), before);
        let taken: BTreeSet<u32> = (0..20).map(number).collect();
        let free = (1000..2000).find(|number| !taken.contains(number));
        assert_eq!(lowest_free(&lab).await?, free, "{step}");
        must(&lab.client, &renumbered(number), "unchanged").await?;
    }
    // One change of each user a step, told of what it was and what it is.
    let pool = lab.database.pool().await?;
    let strange: i64 = sqlx::query_scalar(
        "select count(*) from audit_entry where action = 'user.changed'
            and ((before->>'extension')::int < 1000 or (after->>'extension')::int < 1000
                or before->>'extension' = after->>'extension')",
    )
    .fetch_one(&pool)
    .await?;
    let changes: i64 =
        sqlx::query_scalar("select count(*) from audit_entry where action = 'user.changed'")
            .fetch_one(&pool)
            .await?;
    assert_eq!((strange, changes), (0, 80));
    Ok(())
}

#[tokio::test]
async fn addresses_are_exchanged_and_given_to_newcomers() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let [ann, bob] = [
        create_user(&lab.client, "Ann", "ann@example.org").await?,
        create_user(&lab.client, "Bob", "bob@example.org").await?,
    ];
    // Addresses and numbers at once.
    let table = format!(
        "id,email,extension\n{},BOB@example.org,1001\n{},ann@example.org,1000\n",
        ann.id, bob.id
    );
    must(&lab.client, &table, "changed").await?;
    let now = users(&lab).await?;
    assert_eq!(
        now["BOB@example.org"],
        (1001, "Ann".to_owned(), ann.id.parse::<uuid::Uuid>()?)
    );
    assert_eq!(
        now["ann@example.org"],
        (1000, "Bob".to_owned(), bob.id.parse::<uuid::Uuid>()?)
    );
    // One address is wanted twice.
    let table = format!(
        "id,email\n{},x@example.org\n{},X@example.org\n",
        ann.id, bob.id
    );
    let told = import(&lab.client, "/imports/users?preview=true", &table).await?;
    assert_eq!(lines(&told.expect(200)?.json()?)[1].2, ["email repeated"]);
    // Somebody new gets the address that another line gives up, before or after it.
    let table = format!(
        "id,email,name\n,ann@example.org,New\n{},bobby@example.org,\n",
        bob.id
    );
    let told = import(&lab.client, "/imports/users", &table).await?;
    assert_eq!(outcomes(&told.expect(200)?.json()?), ["created", "changed"]);
    let now = users(&lab).await?;
    assert_eq!(now["bobby@example.org"].2, bob.id.parse::<uuid::Uuid>()?);
    assert_eq!(now["ann@example.org"].1, "New");
    Ok(())
}

/// One of a circle is refused: it keeps its number, and so do all who counted on it, in words that say
/// so; whoever is in no need of them is changed.
#[tokio::test]
async fn who_counted_on_somebody_refused_is_refused_too() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    must(&lab.client, &renumbered(|n| 1000 + n), "created").await?;
    let before = users(&lab).await?;
    // A circle of the first eight, one of whom wants an address that is taken; a swap of the next two;
    // and two who want the same number, which is taken.
    let id = |n: u32| before[&format!("u{n}@example.org")].2;
    let mut table: Vec<_> = (0..7).map(|n| format!("{},,{}", id(n), 1001 + n)).collect();
    table.push(format!("{},u19@example.org,1000", id(7)));
    let wanting = [(8, 1009), (9, 1008), (10, 1011), (12, 1011)];
    table.extend(wanting.map(|(n, number)| format!("{},,{number}", id(n))));
    let table = format!("id,email,extension\n{}", table.join("\n"));
    let state = rows(&lab).await?;
    let refused = import(&lab.client, "/imports/users", &table).await?;
    assert_eq!(refused.problem(422)?, "import_refused");
    assert_eq!(rows(&lab).await?, state);
    let told = import(&lab.client, "/imports/users?mode=per_line", &table).await?;
    let told = told.expect(200)?.json()?;
    let errors: Vec<_> = lines(&told)
        .into_iter()
        .map(|(_, _, errors)| errors.concat())
        .collect();
    let taken = "extension extension_taken";
    let mut expected = vec![taken; 12];
    (expected[7], expected[8], expected[9]) = ("email email_taken", "", "");
    assert_eq!(errors, expected);
    let mut expected = before.clone();
    for (n, number) in [(8, 1009), (9, 1008)] {
        if let Some(user) = expected.get_mut(&format!("u{n}@example.org")) {
            user.0 = number;
        }
    }
    assert_eq!(users(&lab).await?, expected);
    // Every change that counts stands in the trail, and no other.
    let pool = lab.database.pool().await?;
    let trail: i64 =
        sqlx::query_scalar("select count(*) from audit_entry where action = 'user.changed'")
            .fetch_one(&pool)
            .await?;
    assert_eq!(trail, 2);
    Ok(())
}

/// What cannot be read of a line does not make its user somebody else's line.
#[tokio::test]
async fn whom_a_line_names_that_cannot_be_read_is_nobody_else() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = create_user(&lab.client, "Ann", "ann@example.org").await?;
    let before = users(&lab).await?;
    let table = format!(
        "id,name,email,status\n{},Ann,other@example.org,activ\n,Zoe,ann@example.org,\n",
        ann.id
    );
    let told = import(&lab.client, "/imports/users?mode=per_line", &table).await?;
    let told = lines(&told.expect(200)?.json()?);
    assert_eq!(told[0].2, ["status unknown_value"]);
    assert_eq!(told[1].2, ["email repeated"]);
    assert_eq!(users(&lab).await?, before);
    let path = format!("/devices?user_id={}", ann.id);
    let devices = lab.client.get(&path).await?.json()?;
    let id = devices[0]["id"].as_str().unwrap_or_default();
    let table =
        format!("id,user_email,label,enabled\n{id},,Old,maybe\n,ann@example.org,Phone,false\n");
    let told = import(&lab.client, "/imports/devices?mode=per_line", &table).await?;
    let told = lines(&told.expect(200)?.json()?);
    assert_eq!(told[1].2, ["label repeated"]);
    assert_eq!(lab.client.get(&path).await?.json()?, devices);
    Ok(())
}

#[tokio::test]
async fn a_label_is_free_once_its_device_got_another_one() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = create_user(&lab.client, "Ann", "ann@example.org").await?;
    let devices = lab
        .client
        .get(&format!("/devices?user_id={}", ann.id))
        .await?
        .json()?;
    let id = devices[0]["id"].as_str().unwrap_or_default();
    let table = format!(
        "id,user_email,label\n,ann@example.org,Phone\n{id},,Desk\n,ann@example.org,Mobile\n"
    );
    let send = async || {
        let told = import(&lab.client, "/imports/devices", &table).await?;
        anyhow::Ok(outcomes(&told.expect(200)?.json()?))
    };
    assert_eq!(send().await?, ["created", "changed", "created"]);
    assert_eq!(send().await?, ["unchanged"; 3]);
    // The label that a device gets is no new one's.
    let table = format!("id,user_email,label\n{id},,Table\n,ann@example.org,Table\n");
    let told = import(&lab.client, "/imports/devices?mode=per_line", &table).await?;
    let told = told.expect(200)?.json()?;
    assert_eq!(lines(&told)[1].2, ["label repeated"]);
    Ok(())
}

#[tokio::test]
async fn a_range_moves_together_with_its_users() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let tenant = json!({ "slug": "acme", "name": "Acme", "ext_min": 1000, "ext_max": 1099 });
    lab.client.post("/tenants", &tenant).await?.expect(201)?;
    let reconcile = async |body: Value| {
        let path = "/tenants/acme/declaration/reconcile";
        lab.client.post(path, &body).await
    };
    let users = |numbers: &[Option<u32>]| -> Vec<Value> {
        let each = numbers.iter().enumerate();
        let user = |(n, number): (usize, &Option<u32>)| {
            let mut user =
                json!({ "email": format!("u{n}@example.org"), "name": format!("User {n}") });
            if let Some(number) = number {
                user["extension"] = json!(number);
            }
            user
        };
        each.map(user).collect()
    };
    let body = json!({ "users": users(&[Some(1000), Some(1001)]) });
    reconcile(body).await?.expect(200)?;
    let range = json!({ "ext_min": 2000, "ext_max": 2099 });
    // Whoever is not moved along is in the way.
    let body = json!({ "tenant": range, "users": users(&[Some(2000), None]) });
    let refused = reconcile(body).await?;
    assert_eq!(refused.problem(422)?, "declaration_refused");
    let refusal = &refused.json()?["refusals"][0];
    assert_eq!(
        (
            &refusal["entity"],
            &refusal["key"],
            &refusal["errors"][0]["code"]
        ),
        (&json!("tenant"), &json!("acme"), &json!("range_in_use"))
    );
    // A newcomer without a number gets one of the new range.
    let moved = json!({ "tenant": range, "users": users(&[Some(2001), Some(2000), None]) });
    let told = reconcile(moved.clone()).await?.expect(200)?.json()?;
    assert_eq!(told["counts"]["changed"], 3);
    let told = reconcile(moved).await?.expect(200)?.json()?;
    assert_eq!(told["counts"]["unchanged"], 4);
    let tenant = lab.client.get("/tenants/acme").await?.json()?;
    assert_eq!(
        (&tenant["ext_min"], &tenant["ext_max"]),
        (&json!(2000), &json!(2099))
    );
    let all = lab.client.get("/tenants/acme/users").await?.json()?;
    let numbers: Vec<_> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| &one["extension"])
        .collect();
    assert_eq!(numbers, [2000, 2001, 2002]);
    Ok(())
}
