//! Story 3 of the specification: list users.

use serde_json::{Value, json};
use tests::lab::PortalLab;

use crate::crowd::{create_users, numbers};

#[tokio::test]
async fn scenario_3_1_all_users_with_extension_name_and_metadata() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let mut expected = Vec::new();
    for (name, metadata) in [
        ("Ann", json!({ "room": 1 })),
        ("Bob", json!({})),
        ("Čeněk", json!({ "x": [] })),
    ] {
        let email = format!("user{}@example.org", expected.len());
        let request = json!({ "name": name, "email": email, "metadata": metadata });
        let mut user = lab
            .client
            .post("/users", &request)
            .await?
            .expect(201)?
            .json()?;
        let account = user.as_object_mut().and_then(|user| user.remove("sip"));
        assert!(
            account.is_some(),
            "no SIP account in the reply to POST /users"
        );
        assert_eq!(
            (&user["name"], &user["metadata"]),
            (&json!(name), &metadata)
        );
        expected.push(user);
    }
    let listed = lab.client.get("/users").await?.expect(200)?.json()?;
    assert_eq!(listed, Value::Array(expected));
    Ok(())
}

#[tokio::test]
async fn scenario_3_2_no_users_are_an_empty_array() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let reply = lab.client.get("/users").await?.expect(200)?;
    assert_eq!(reply.content_type(), "application/json");
    assert_eq!(reply.text(), "[]");
    Ok(())
}

#[tokio::test]
async fn scenario_3_3_500_users_are_listed() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let created = create_users(&lab.client, 500).await?;
    let reply = lab.client.get("/users").await?.expect(200)?;
    let listed = reply.json()?;
    let listed = listed.as_array().expect("an array");
    let extensions: Vec<_> = listed
        .iter()
        .filter_map(|user| user["extension"].as_u64())
        .collect();
    assert_eq!(extensions, numbers(&created), "by extension, each once");
    for user in &created {
        let found = listed.iter().find(|found| found["id"] == user.id.as_str());
        let found = found.unwrap_or_else(|| panic!("{} is not listed", user.id));
        for field in ["name", "email", "extension", "metadata", "created_at"] {
            assert_eq!(found[field], user.body[field], "{field} of {}", user.id);
        }
        assert!(
            !reply.text().contains(&user.sip_password),
            "a password is listed"
        );
    }
    Ok(())
}
