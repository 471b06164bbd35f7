use anyhow::Context as _;
use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::{credentials, delete_if, device, listed, patch, read, rotate, text, user};

fn path(device: &Value) -> String {
    format!("/devices/{}", text(&device["id"]))
}

#[tokio::test]
async fn devices_take_the_lowest_free_place_and_are_named_by_it() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let ann = user(client, "", "Ann").await?;
    assert_eq!(ann.sip_username, "1000");
    let [second, third] = [
        device(client, "", &ann.id, "Desk").await?,
        device(client, "", &ann.id, "Mobile").await?,
    ];
    assert_eq!(credentials(&second).0, "t1-1000-b");
    assert_eq!(credentials(&third).0, "t1-1000-c");
    let devices = format!("/devices?user_id={}", ann.id);
    assert_eq!(
        listed(client, &devices, "label").await?,
        ["Phone", "Desk", "Mobile"]
    );
    assert_eq!(
        listed(client, "/devices?sort=label", "label").await?,
        ["Desk", "Mobile", "Phone"]
    );
    assert_eq!(listed(client, "/devices?q=OBI", "label").await?, ["Mobile"]);
    client.delete(&path(&second)).await?.expect(204)?;
    assert_eq!(
        client.get(&path(&second)).await?.problem(404)?,
        "device_not_found"
    );
    // The place is free, and the number is the first device's.
    assert_eq!(
        credentials(&device(client, "", &ann.id, "New").await?).0,
        "t1-1000-b"
    );
    let first = text(&ann.body["device_id"]).to_owned();
    client
        .delete(&format!("/devices/{first}"))
        .await?
        .expect(204)?;
    assert_eq!(
        credentials(&device(client, "", &ann.id, "Newer").await?).0,
        "1000"
    );
    // Names follow the number.
    patch(
        client,
        &format!("/users/{}", ann.id),
        &json!({ "extension": 1700 }),
    )
    .await?
    .expect(200)?;
    let mut names = listed(client, &devices, "sip_username").await?;
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["1700", "t1-1700-b", "t1-1700-c"]);
    for _ in 3..26 {
        device(client, "", &ann.id, "One more").await?;
    }
    let body = json!({ "user_id": ann.id, "label": "Too many" });
    assert_eq!(
        client.post("/devices", &body).await?.problem(409)?,
        "too_many_devices"
    );
    Ok(())
}

#[tokio::test]
async fn a_patch_of_a_device_changes_what_it_names() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let ann = user(client, "", "Ann").await?;
    let path = format!("/devices/{}", text(&ann.body["device_id"]));
    let nat = |field: &str| json!({ "nat": { field: false } });
    patch(
        client,
        "/pbxes/default",
        &json!({ "transports": { "tcp": "transport-tcp" } }),
    )
    .await?
    .expect(200)?;
    for (changes, pointer, value) in [
        (json!({ "label": "Desk" }), "/label", json!("Desk")),
        (json!({ "enabled": false }), "/enabled", json!(false)),
        (
            json!({ "codecs": ["opus", "alaw"] }),
            "/codecs",
            json!(["opus", "alaw"]),
        ),
        (
            json!({ "digest_algorithm": "sha256" }),
            "/digest_algorithm",
            json!("sha256"),
        ),
        (json!({ "transport": "tcp" }), "/transport", json!("tcp")),
        (json!({ "transport": null }), "/transport", json!(null)),
        (nat("rtp_symmetric"), "/nat/rtp_symmetric", json!(false)),
        (nat("force_rport"), "/nat/force_rport", json!(false)),
        (nat("rewrite_contact"), "/nat/rewrite_contact", json!(false)),
        (
            json!({ "nat": { "direct_media": true } }),
            "/nat/direct_media",
            json!(true),
        ),
    ] {
        let mut expected = read(client, &path).await?;
        let changed = patch(client, &path, &changes).await?.expect(200)?.json()?;
        *expected.pointer_mut(pointer).context("the field")? = value;
        expected["updated_at"] = changed["updated_at"].clone();
        assert_eq!(changed, expected, "{changes}");
        assert_eq!(read(client, &path).await?, expected);
    }
    for (changes, field) in [
        (json!({ "codecs": [] }), "codecs"),
        (json!({ "codecs": ["ulaw", "ulaw"] }), "codecs"),
        (json!({ "codecs": ["g729"] }), "codecs"),
        (json!({ "transport": "tls" }), "transport"),
        (json!({ "transport": "x" }), "transport"),
        (json!({ "sip_username": "x" }), "sip_username"),
        (
            json!({ "overlap_until": "2030-01-01T00:00:00Z" }),
            "overlap_until",
        ),
        (json!({ "nat": { "x": true } }), "nat.x"),
        (json!({ "label": "a\nb" }), "label"),
    ] {
        let refused = patch(client, &path, &changes).await?.expect(400)?.json()?;
        assert_eq!(refused["errors"][0]["field"], field, "{changes}");
    }
    // What a device uses cannot be taken away.
    patch(client, &path, &json!({ "transport": "tcp" }))
        .await?
        .expect(200)?;
    let gone = patch(
        client,
        "/pbxes/default",
        &json!({ "transports": { "tcp": null } }),
    )
    .await?;
    assert_eq!(gone.problem(409)?, "transport_in_use");
    Ok(())
}

#[tokio::test]
async fn a_password_is_shown_once() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let ann = user(client, "", "Ann").await?;
    let later = json!({ "user_id": ann.id, "label": "Later", "reveal": false });
    let created = client.post("/devices", &later).await?.expect(201)?.json()?;
    assert_eq!(created["sip"]["password"], json!(null));
    let path = path(&created);
    assert_eq!(read(client, &path).await?["password_revealed"], false);
    let reveal = format!("{path}/reveal");
    let shown = client.post_nothing(&reveal).await?.expect(200)?.json()?;
    assert_eq!(credentials(&shown).1.len(), 24);
    assert_eq!(shown["password_revealed"], true);
    assert_eq!(
        client.post_nothing(&reveal).await?.problem(409)?,
        "password_revealed"
    );
    // One that was shown when it was made has been shown.
    let first = format!("/devices/{}/reveal", text(&ann.body["device_id"]));
    assert_eq!(
        client.post_nothing(&first).await?.problem(409)?,
        "password_revealed"
    );

    let rotated = rotate(client, &path, &json!({ "reveal": false })).await?;
    assert_eq!(rotated["sip"]["password"], json!(null));
    let again = client.post_nothing(&reveal).await?.expect(200)?.json()?;
    assert_ne!(credentials(&again).1, credentials(&shown).1);
    Ok(())
}

#[tokio::test]
async fn rotating_needs_the_state_that_is_meant() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let ann = user(client, "", "Ann").await?;
    let path = format!("/devices/{}", text(&ann.body["device_id"]));
    let rotate_path = format!("{path}/rotate");
    let blind = client.post_nothing(&rotate_path).await?;
    assert_eq!(blind.problem(428)?, "precondition_required");
    let rotated = rotate(client, &path, &json!({ "overlap_seconds": 3600 })).await?;
    assert!(rotated["overlap_until"].is_string());
    assert_ne!(credentials(&rotated).1, ann.sip_password);
    let stale = client
        .request(reqwest::Method::POST, &rotate_path)
        .header("If-Match", "\"1\"");
    assert_eq!(stale.send().await?.problem(412)?, "precondition_failed");
    let ended = patch(client, &path, &json!({ "overlap_until": null }))
        .await?
        .expect(200)?;
    assert_eq!(ended.json()?["overlap_until"], json!(null));
    for bad in [
        json!({ "overlap_seconds": -1 }),
        json!({ "overlap_seconds": 2_592_001 }),
    ] {
        let request = client
            .request(reqwest::Method::POST, &rotate_path)
            .header("If-Match", "*");
        let refused = request.json(&bad).send().await?.expect(400)?.json()?;
        assert_eq!(refused["errors"][0]["field"], "overlap_seconds");
    }
    assert_eq!(
        delete_if(client, &path, "\"1\"").await?.problem(412)?,
        "precondition_failed"
    );
    Ok(())
}

#[tokio::test]
async fn a_new_owner_gets_a_name_and_a_password_of_its_own() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let (ann, bob) = (
        user(client, "", "Ann").await?,
        user(client, "", "Bob").await?,
    );
    let path = format!("/devices/{}", text(&ann.body["device_id"]));
    let moved = patch(client, &path, &json!({ "user_id": bob.id }))
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(moved["sip_username"], "t1-1001-b");
    assert_eq!(moved["password_revealed"], false);
    let shown = client
        .post_nothing(&format!("{path}/reveal"))
        .await?
        .expect(200)?
        .json()?;
    assert_ne!(credentials(&shown).1, ann.sip_password);
    // Naming the owner again changes nothing.
    let same = patch(client, &path, &json!({ "user_id": bob.id }))
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(same["sip_username"], "t1-1001-b");
    assert_eq!(same["password_revealed"], true);
    Ok(())
}
