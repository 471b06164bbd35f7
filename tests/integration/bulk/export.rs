use serde_json::{Value, json};
use tests::lab::{PortalLab, create_user};

use super::{exported, import, outcomes, people, rows};

/// Names and values that tables have trouble with.
async fn staff(lab: &PortalLab) -> anyhow::Result<()> {
    let names = [
        "Zoë \"Z\", Ltd; & Co",
        "=HYPERLINK(\"http://x\")",
        "'=1",
        "@cmd",
        "-1",
        "李雷",
        "O'Neil",
        "＝1+1",
        "'＠cmd",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let user = create_user(&lab.client, name, &format!("u{number}@example.org")).await?;
        let changes = json!({
            "metadata": { "note": "a,\"b\";\nc", "n": [1, null] },
            "outbound_caller_id": "+420123456789",
            "call_forward": { "busy": "00420", "delay_seconds": 60 },
            "voicemail": { "enabled": true, "pin": "4711" },
        });
        let path = format!("/users/{}", user.id);
        crate::life::patch(&lab.client, &path, &changes)
            .await?
            .expect(200)?;
        let device =
            json!({ "user_id": user.id, "label": "Desk, \"left\"", "codecs": ["opus", "alaw"] });
        lab.client.post("/devices", &device).await?.expect(201)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_exported_changes_nothing() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    staff(&lab).await?;
    let before = rows(&lab).await?;
    for entity in ["users", "devices"] {
        for query in ["", "?format=csv", "?bom=true"] {
            let table = exported(&lab.client, &format!("/exports/{entity}{query}")).await?;
            let told = import(&lab.client, &format!("/imports/{entity}"), &table).await?;
            let outcomes = outcomes(&told.expect(200)?.json()?);
            assert_eq!(
                outcomes,
                vec!["unchanged"; if entity == "users" { 9 } else { 18 }]
            );
        }
    }
    assert_eq!(rows(&lab).await?, before);
    let table = exported(&lab.client, "/exports/users").await?;
    assert!(
        table.contains("'=HYPERLINK") && table.contains("''=1"),
        "{table}"
    );
    assert!(
        table.contains(",'＝1+1") && table.contains(",''＠cmd"),
        "{table}"
    );
    assert!(!table.contains("4711"));
    Ok(())
}

#[tokio::test]
async fn json_has_the_same_columns() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    assert_eq!(
        exported(&lab.client, "/exports/users?format=json")
            .await?
            .trim(),
        "[]"
    );
    staff(&lab).await?;
    for entity in ["users", "devices"] {
        let table = exported(&lab.client, &format!("/exports/{entity}")).await?;
        let json = exported(&lab.client, &format!("/exports/{entity}?format=json")).await?;
        let json: Value = serde_json::from_str(&json)?;
        let mut head: Vec<&str> = table
            .lines()
            .next()
            .unwrap_or_default()
            .split(',')
            .collect();
        let row = json[0].as_object().cloned().unwrap_or_default();
        let mut names: Vec<&str> = row.keys().map(String::as_str).collect();
        head.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, head);
    }
    Ok(())
}

/// More than a page, in order, each once.
#[tokio::test]
async fn an_export_has_every_row_once() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let users = people(0..999);
    import(
        &lab.client,
        "/imports/users",
        &format!("name,email\n{users}"),
    )
    .await?
    .expect(200)?;
    let json: Value =
        serde_json::from_str(&exported(&lab.client, "/exports/users?format=json").await?)?;
    let numbers: Vec<u64> = json
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["extension"].as_u64())
        .collect();
    assert_eq!(numbers, (1000..1999).collect::<Vec<u64>>());
    let table = exported(&lab.client, "/exports/devices").await?;
    assert_eq!(table.lines().count(), 1000);
    assert_eq!(
        lab.client
            .get("/exports/users?format=xml")
            .await?
            .problem(400)?,
        "validation_failed"
    );
    Ok(())
}
