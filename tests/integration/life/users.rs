use serde_json::{Map, Value, json};
use tests::lab::PortalLab;

use super::{delete_if, listed, patch, patch_if, read, user};

/// Everything of a user's row.
async fn row(lab: &PortalLab, id: &str) -> anyhow::Result<Map<String, Value>> {
    let pool = lab.database.pool().await?;
    let row: Value = sqlx::query_scalar(
        r#"select to_jsonb(u) || jsonb_build_object('number', e.number)
           from "user" u join extension e using (tenant_id, user_id) where user_id::text = $1"#,
    )
    .bind(id)
    .fetch_one(&pool)
    .await?;
    Ok(row.as_object().cloned().unwrap_or_default())
}

/// Each field alone: the column that it means changes, and the mark of the change; nothing else.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn a_patch_changes_what_it_names_and_nothing_else() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let path = format!("/users/{}", ann.id);
    let forward = |field: &str, to: Value| json!({ "call_forward": { field: to } });
    for (changes, column, value) in [
        (json!({ "name": "Anna" }), "name", json!("Anna")),
        (
            json!({ "email": "anna@example.org" }),
            "email",
            json!("anna@example.org"),
        ),
        // Another spelling of the same address.
        (
            json!({ "email": "Anna@example.org" }),
            "email",
            json!("Anna@example.org"),
        ),
        (json!({ "extension": 1234 }), "number", json!(1234)),
        (
            json!({ "status": "suspended" }),
            "status",
            json!("suspended"),
        ),
        (json!({ "role": "operator" }), "role", json!("operator")),
        (
            json!({ "outbound_caller_id": "+420123" }),
            "outbound_caller_id",
            json!("+420123"),
        ),
        (
            json!({ "voicemail": { "enabled": true } }),
            "voicemail_enabled",
            json!(true),
        ),
        (json!({ "dnd": true }), "dnd_enabled", json!(true)),
        (
            forward("always", json!("1001")),
            "forward_always",
            json!("1001"),
        ),
        (
            forward("busy", json!("00420")),
            "forward_busy",
            json!("00420"),
        ),
        (
            forward("no_answer", json!("+1")),
            "forward_no_answer",
            json!("+1"),
        ),
        (
            forward("unregistered", json!("1002")),
            "forward_unregistered",
            json!("1002"),
        ),
        (
            forward("delay_seconds", json!(60)),
            "forward_delay_seconds",
            json!(60),
        ),
        (
            json!({ "metadata": { "a": { "b": 1 } } }),
            "metadata",
            json!({ "a": { "b": 1 } }),
        ),
        (
            json!({ "metadata": { "a": { "c": 2 } } }),
            "metadata",
            json!({ "a": { "b": 1, "c": 2 } }),
        ),
        (json!({ "metadata": { "a": null } }), "metadata", json!({})),
        (
            forward("always", Value::Null),
            "forward_always",
            Value::Null,
        ),
        (
            json!({ "outbound_caller_id": null }),
            "outbound_caller_id",
            Value::Null,
        ),
    ] {
        let before = row(&lab, &ann.id).await?;
        patch(&lab.client, &path, &changes).await?.expect(200)?;
        let after = row(&lab, &ann.id).await?;
        assert_eq!(after[column], value, "{changes}");
        for (name, old) in &before {
            let marks = ["version", "updated_at", column].contains(&name.as_str());
            assert!(marks || after[name] == *old, "{changes} changed {name}");
        }
        assert_eq!(
            after["version"].as_i64(),
            before["version"].as_i64().map(|v| v + 1)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_pin_is_stored_hashed_and_never_shown() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let body = json!({ "name": "Ann", "email": "ann@example.org",
        "voicemail": { "enabled": true, "pin": "471147" } });
    let created = lab.client.post("/users", &body).await?.expect(201)?;
    assert_eq!(
        created.json()?["voicemail"],
        json!({ "enabled": true, "pin_set": true })
    );
    let path = created.header("location").to_owned();
    let id = path.trim_start_matches("/users/");
    let hash = row(&lab, id).await?["voicemail_pin_hash"].clone();
    let hash = hash.as_str().unwrap_or_default();
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{hash}"
    );
    let changed = patch(
        &lab.client,
        &path,
        &json!({ "voicemail": { "pin": "471147" } }),
    )
    .await?;
    assert!(!changed.expect(200)?.text().contains("471147"));
    assert_ne!(
        row(&lab, id).await?["voicemail_pin_hash"],
        hash,
        "a salt of its own"
    );
    let gone = patch(&lab.client, &path, &json!({ "voicemail": { "pin": null } })).await?;
    assert_eq!(
        gone.expect(200)?.json()?["voicemail"],
        json!({ "enabled": true, "pin_set": false })
    );
    assert!(!lab.portal.log().contains("471147"));
    Ok(())
}

#[tokio::test]
async fn what_a_patch_may_not_say_is_refused_by_name_and_nothing_changes() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let bob = user(&lab.client, "", "Bob").await?;
    let path = format!("/users/{}", ann.id);
    let before = row(&lab, &ann.id).await?;
    let bad = json!({
        "id": ann.id, "name": null, "email": "x", "extension": 1, "status": "deleted",
        "role": "admin", "outbound_caller_id": "1;2", "voicemail": { "pin": "12", "x": 1 },
        "dnd": "yes", "call_forward": { "busy": "${EXTEN}", "delay_seconds": 4 }, "y": 1,
    });
    let refused = patch(&lab.client, &path, &bad).await?.expect(400)?.json()?;
    let mut named: Vec<&str> = refused["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|error| error["field"].as_str())
        .collect();
    named.sort_unstable();
    let expected = [
        "call_forward.busy",
        "call_forward.delay_seconds",
        "dnd",
        "email",
        "extension",
        "id",
        "name",
        "outbound_caller_id",
        "role",
        "status",
        "voicemail.pin",
        "voicemail.x",
        "y",
    ];
    assert_eq!(named, expected);
    for (changes, status, code) in [
        (
            json!({ "name": "New", "email": "BOB@example.org" }),
            409,
            "email_taken",
        ),
        (
            json!({ "name": "New", "extension": bob.extension }),
            409,
            "extension_taken",
        ),
        (
            json!({ "name": "New", "extension": 2000 }),
            400,
            "validation_failed",
        ),
        (
            json!({ "name": "New", "metadata": { "x": "y".repeat(5000) } }),
            400,
            "validation_failed",
        ),
    ] {
        let reply = patch(&lab.client, &path, &changes).await?;
        assert_eq!(reply.problem(status)?, code, "{changes}");
    }
    assert_eq!(row(&lab, &ann.id).await?, before);
    Ok(())
}

#[tokio::test]
async fn a_number_can_be_chosen_and_the_lowest_free_one_is_found_around_it() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let create = async |name: &str, extension: Value| {
        let email = format!("{name}@example.org");
        let body = json!({ "name": name, "email": email, "extension": extension });
        lab.client.post("/users", &body).await
    };
    let chosen = create("ann", json!(1001)).await?.expect(201)?.json()?;
    assert_eq!(
        (&chosen["extension"], &chosen["sip"]["username"]),
        (&json!(1001), &json!("1001"))
    );
    assert_eq!(
        create("bob", json!(1001)).await?.problem(409)?,
        "extension_taken"
    );
    for outside in [999, 2000] {
        let reply = create("bob", json!(outside)).await?.expect(400)?.json()?;
        assert_eq!(reply["errors"][0]["field"], "extension");
    }
    for expected in [1000, 1002] {
        let name = format!("u{expected}");
        let created = create(&name, Value::Null).await?.expect(201)?.json()?;
        assert_eq!(created["extension"], expected);
    }
    // A number that somebody leaves is the next one.
    let ann = format!("/users/{}", chosen["id"].as_str().unwrap_or_default());
    patch(&lab.client, &ann, &json!({ "extension": 1500 }))
        .await?
        .expect(200)?;
    assert_eq!(
        create("cid", Value::Null).await?.expect(201)?.json()?["extension"],
        1001
    );
    Ok(())
}

#[tokio::test]
async fn a_suspended_user_keeps_the_number_a_deleted_one_is_purged() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let ann = user(client, "", "Ann").await?;
    let path = format!("/users/{}", ann.id);
    patch(client, &path, &json!({ "status": "suspended" }))
        .await?
        .expect(200)?;
    assert_eq!(user(client, "", "Bob").await?.extension, 1001);
    assert_eq!(
        listed(client, "/users?status=suspended", "id").await?,
        [ann.id.as_str()]
    );
    let back = patch(client, &path, &json!({ "status": "active" }))
        .await?
        .expect(200)?;
    assert_eq!(back.json()?["extension"], 1000);

    let left = format!("/deleted-users/{}", ann.id);
    assert_eq!(client.get(&left).await?.problem(404)?, "user_not_found");
    let stale = delete_if(client, &path, "\"1\"").await?;
    assert_eq!(stale.problem(412)?, "precondition_failed");
    client.delete(&path).await?.expect(204)?;
    assert_eq!(client.get(&path).await?.problem(404)?, "user_not_found");
    assert_eq!(
        listed(client, "/devices", "user_id").await?.len(),
        1,
        "the devices go with it"
    );
    assert_eq!(
        listed(client, "/deleted-users?q=ann", "id").await?,
        [ann.id.as_str()]
    );
    let deleted = client.get(&left).await?.expect(200)?;
    assert_eq!(deleted.json()?["deleted_by"], "trusted-network");
    assert_eq!(
        client.delete(&left).await?.problem(428)?,
        "precondition_required"
    );
    assert_eq!(
        delete_if(client, &left, "\"1\"").await?.problem(412)?,
        "precondition_failed"
    );
    delete_if(client, &left, deleted.header("etag"))
        .await?
        .expect(204)?;
    assert_eq!(client.get(&left).await?.problem(404)?, "user_not_found");
    let pool = lab.database.pool().await?;
    let rows: i64 = sqlx::query_scalar(r#"select count(*) from "user" where user_id::text = $1"#)
        .bind(&ann.id)
        .fetch_one(&pool)
        .await?;
    assert_eq!(rows, 0);
    Ok(())
}

#[tokio::test]
async fn users_are_paged_sorted_filtered_and_found() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    for name in ["Zoe", "ann", "Bob", "Bobby"] {
        user(client, "", name).await?;
    }
    assert_eq!(
        listed(client, "/users", "name").await?,
        ["Zoe", "ann", "Bob", "Bobby"]
    );
    assert_eq!(
        listed(client, "/users?sort=name", "name").await?,
        ["ann", "Bob", "Bobby", "Zoe"]
    );
    assert_eq!(
        listed(client, "/users?sort=-email", "name").await?,
        ["Zoe", "Bobby", "Bob", "ann"]
    );
    assert_eq!(
        listed(client, "/users?q=BOB", "name").await?,
        ["Bob", "Bobby"]
    );
    assert_eq!(listed(client, "/users?q=y@ex", "name").await?, ["Bobby"]);
    assert_eq!(listed(client, "/users?q=100", "name").await?.len(), 4);
    assert_eq!(listed(client, "/users?q=1002", "name").await?, ["Bob"]);
    assert_eq!(
        listed(client, "/users?extension=1001", "name").await?,
        ["ann"]
    );
    assert_eq!(
        listed(client, "/users?email=ZOE@example.org", "name").await?,
        ["Zoe"]
    );
    assert!(listed(client, "/users?q=%25", "name").await?.is_empty());
    // Page by page: each once, while others come and go.
    let (mut path, mut seen) = ("/users?limit=1&sort=name".to_owned(), Vec::new());
    loop {
        let page = client.get(&path).await?.expect(200)?;
        seen.extend(
            page.json()?
                .as_array()
                .into_iter()
                .flatten()
                .map(|u| u["name"].clone()),
        );
        if seen.len() == 1 {
            user(client, "", "Aaron").await?;
        }
        let link = page.header("link");
        let Some((next, _)) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else {
            break;
        };
        next.clone_into(&mut path);
    }
    assert_eq!(seen, ["ann", "Bob", "Bobby", "Zoe"]);
    Ok(())
}

#[tokio::test]
async fn a_change_of_an_older_state_is_refused_and_one_without_condition_is_not()
-> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let path = format!("/users/{}", ann.id);
    let tag = lab.client.get(&path).await?.header("etag").to_owned();
    patch_if(&lab.client, &path, &tag, &json!({ "dnd": true }))
        .await?
        .expect(200)?;
    let stale = patch_if(&lab.client, &path, &tag, &json!({ "name": "X" })).await?;
    assert_eq!(stale.header("etag"), "\"2\"");
    assert_eq!(stale.problem(412)?, "precondition_failed");
    patch(&lab.client, &path, &json!({ "name": "Anna" }))
        .await?
        .expect(200)?;
    let now = read(&lab.client, &path).await?;
    assert_eq!((&now["dnd"], &now["name"]), (&json!(true), &json!("Anna")));
    Ok(())
}
