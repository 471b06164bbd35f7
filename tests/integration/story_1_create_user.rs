//! Story 1 of the specification: create a user with an extension.

use serde_json::json;
use tests::lab::PortalLab;

use crate::crowd::{create_users, numbers, stored_numbers};

#[tokio::test]
async fn scenario_1_1_the_first_user_gets_extension_1000() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    assert_eq!(
        lab.client.get("/users").await?.expect(200)?.json()?,
        json!([])
    );

    let metadata = json!({ "room": "3.14", "tags": ["a", 1, null] });
    let request = json!({ "name": "Ann", "email": "Ann@example.org", "metadata": metadata });
    let reply = lab.client.post("/users", &request).await?.expect(201)?;
    let created = reply.json()?;
    let id = created["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reply.header("location"), format!("/users/{id}"));
    assert_eq!(created["extension"], 1000);
    assert_eq!(created["name"], "Ann");
    assert_eq!(created["email"], "Ann@example.org");
    assert_eq!(created["metadata"], metadata);
    assert_eq!(created["sip"]["username"], "1000");

    // Stored, and readable under the address that the reply gave.
    let user = lab
        .client
        .get(reply.header("location"))
        .await?
        .expect(200)?
        .json()?;
    let mut without_account = created.clone();
    without_account
        .as_object_mut()
        .and_then(|user| user.remove("sip"));
    assert_eq!(user, without_account);
    let pool = lab.database.pool().await?;
    let stored: (String, String, String, i32) = sqlx::query_as(
        r#"select u.user_id::text, u.name, u.email, e.number
           from "user" u join extension e using (user_id)"#,
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(
        stored,
        (id, "Ann".to_owned(), "Ann@example.org".to_owned(), 1000)
    );
    Ok(())
}

#[tokio::test]
async fn scenario_1_2_the_next_user_gets_the_lowest_free_extension() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let bob = lab.create_user("Bob", "bob@example.org").await?;
    let cid = lab.create_user("Cid", "cid@example.org").await?;
    assert_eq!(numbers(&[ann, bob.clone(), cid]), [1000, 1001, 1002]);

    // A gap is filled before the range grows (FR-002).
    lab.client
        .delete(&format!("/users/{}", bob.id))
        .await?
        .expect(204)?;
    assert_eq!(
        lab.create_user("Dan", "dan@example.org").await?.extension,
        1001
    );
    assert_eq!(
        lab.create_user("Eve", "eve@example.org").await?.extension,
        1003
    );
    Ok(())
}

#[tokio::test]
async fn scenario_1_3_with_999_allocated_the_last_extension_is_1999() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    create_users(&lab.client, 999).await?;
    let pool = lab.database.pool().await?;
    assert_eq!(
        stored_numbers(&pool).await?,
        (1000..=1998).collect::<Vec<_>>()
    );
    assert_eq!(
        lab.create_user("Last", "last@example.org").await?.extension,
        1999
    );
    Ok(())
}

#[tokio::test]
async fn scenario_1_4_with_1000_allocated_the_pool_is_exhausted() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let users = create_users(&lab.client, 1000).await?;
    assert_eq!(numbers(&users), (1000..=1999).collect::<Vec<_>>());

    let request = json!({ "name": "Late", "email": "late@example.org" });
    let reply = lab.client.post("/users", &request).await?;
    assert_eq!(reply.problem(409)?, "extension_pool_exhausted");
    let detail = reply.json()?["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        detail.contains("1000") && detail.contains("1999"),
        "which pool? {detail}"
    );

    // Nobody was stored without an extension, and the address is not taken.
    let pool = lab.database.pool().await?;
    let stored: i64 = sqlx::query_scalar(r#"select count(*) from "user""#)
        .fetch_one(&pool)
        .await?;
    assert_eq!(stored, 1000);
    let freed = &users[500];
    lab.client
        .delete(&format!("/users/{}", freed.id))
        .await?
        .expect(204)?;
    let late = lab.create_user("Late", "late@example.org").await?;
    assert_eq!(late.extension, freed.extension);
    Ok(())
}

#[tokio::test]
async fn scenario_1_5_every_missing_field_is_named() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (request, named, code) in [
        (json!({}), &["email", "name"][..], "missing"),
        (json!({ "name": "Ann" }), &["email"], "missing"),
        (json!({ "email": "ann@example.org" }), &["name"], "missing"),
        (json!({ "metadata": {} }), &["email", "name"], "missing"),
        (
            json!({ "name": null, "email": null }),
            &["email", "name"],
            "wrong_type",
        ),
    ] {
        let reply = lab.client.post("/users", &request).await?;
        assert_eq!(reply.problem(400)?, "validation_failed", "{reply}");
        let document = reply.json()?;
        let errors = document["errors"].as_array().expect("a list of errors");
        let mut found: Vec<_> = errors.iter().map(|error| error["field"].as_str()).collect();
        found.sort_unstable();
        assert_eq!(
            found,
            named.iter().map(|name| Some(*name)).collect::<Vec<_>>(),
            "{reply}"
        );
        assert!(errors.iter().all(|error| error["code"] == code), "{reply}");
    }
    assert_eq!(lab.client.get("/users").await?.json()?, json!([]));
    Ok(())
}
