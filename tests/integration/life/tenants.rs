use serde_json::json;
use tests::lab::PortalLab;

use super::{delete_if, listed, patch, patch_if, read, tenant, text, user};

#[tokio::test]
async fn a_tenant_is_created_found_changed_and_deleted() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let body = json!({ "slug": "acme", "name": "Acme", "ext_min": 200, "ext_max": 299,
        "metadata": { "contract": 7 } });
    let reply = client.post("/tenants", &body).await?.expect(201)?;
    let (path, tag) = (
        reply.header("location").to_owned(),
        reply.header("etag").to_owned(),
    );
    let created = reply.json()?;
    assert_eq!(created["status"], "active");
    assert_eq!(created["ext_min"], 200);
    assert_eq!(created["default_inbound_destination"], json!(null));
    assert_eq!(created["outbound_policy_id"], json!(null));
    for path in [path.as_str(), "/tenants/acme"] {
        assert_eq!(read(client, path).await?, created);
    }
    assert_eq!(
        listed(client, "/tenants", "slug").await?,
        ["acme", "default"]
    );
    assert_eq!(listed(client, "/tenants?q=cm", "slug").await?, ["acme"]);
    assert_eq!(
        listed(client, "/tenants?sort=-slug", "slug").await?,
        ["default", "acme"]
    );

    // The same slug is taken; the same name is not.
    assert_eq!(
        client.post("/tenants", &body).await?.problem(409)?,
        "slug_taken"
    );
    let changes = json!({ "name": "Acme Ltd.", "metadata": { "contract": null, "since": 1 } });
    let reply = patch_if(client, &path, &tag, &changes).await?.expect(200)?;
    let (tag, now) = (reply.header("etag").to_owned(), reply.json()?);
    assert_eq!(now["name"], "Acme Ltd.");
    assert_eq!(now["metadata"], json!({ "since": 1 }));
    assert_eq!(now["slug"], "acme");
    let stale = patch_if(client, &path, "\"1\"", &json!({ "name": "x" })).await?;
    assert_eq!(stale.problem(412)?, "precondition_failed");

    // Not while it has users, and never without saying which state is meant.
    let ann = user(client, "/tenants/acme", "Ann").await?;
    assert_eq!(ann.extension, 200);
    assert_eq!(ann.sip_username, "t2-200-a");
    assert_eq!(
        client.delete(&path).await?.problem(428)?,
        "precondition_required"
    );
    assert_eq!(
        delete_if(client, &path, &tag).await?.problem(409)?,
        "tenant_in_use"
    );
    let ann = format!("/tenants/acme/users/{}", ann.id);
    client.delete(&ann).await?.expect(204)?;
    delete_if(client, &path, &tag).await?.expect(204)?;
    assert_eq!(client.get(&path).await?.problem(404)?, "tenant_not_found");
    assert_eq!(client.get(&ann).await?.problem(404)?, "tenant_not_found");
    // The slug is free again, the number in names is not.
    let again = tenant(client, "acme").await?;
    assert!(again["number"].as_u64() > created["number"].as_u64());
    let name = user(client, "/tenants/acme", "Ann").await?.sip_username;
    assert_eq!(name, format!("t{}-1000-a", again["number"]));
    Ok(())
}

#[tokio::test]
async fn the_default_tenant_stays_what_it_is() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let default = read(client, "/tenants/default").await?;
    assert_eq!(
        (&default["ext_min"], &default["ext_max"]),
        (&json!(1000), &json!(1999))
    );
    for changes in [
        json!({ "slug": "x" }),
        json!({ "ext_max": 2999 }),
        json!({ "ext_min": 10 }),
        json!({ "pbx": "default" }),
    ] {
        let reply = patch(client, "/tenants/default", &changes).await?;
        assert_eq!(reply.problem(409)?, "default_tenant_fixed", "{changes}");
    }
    let reply = delete_if(client, "/tenants/default", "*").await?;
    assert_eq!(reply.problem(409)?, "default_tenant_fixed");
    let renamed = patch(client, "/tenants/default", &json!({ "name": "We" })).await?;
    assert_eq!(renamed.expect(200)?.json()?["name"], "We");

    // One handler serves both paths.
    let ann = user(client, "", "Ann").await?;
    let path = format!("/tenants/default/users/{}", ann.id);
    assert_eq!(
        read(client, &path).await?,
        read(client, &format!("/users/{}", ann.id)).await?
    );
    let by_id = format!("/tenants/{}/users/{}", text(&default["id"]), ann.id);
    assert_eq!(read(client, &by_id).await?["extension"], 1000);
    Ok(())
}

#[tokio::test]
async fn a_range_grows_and_shrinks_around_the_numbers_in_use() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let body = json!({ "slug": "a", "name": "A", "ext_min": 20, "ext_max": 21 });
    client.post("/tenants", &body).await?.expect(201)?;
    let base = "/tenants/a";
    for (name, number) in [("Ann", 20), ("Bob", 21)] {
        assert_eq!(user(client, base, name).await?.extension, number);
    }
    let full = json!({ "name": "Nobody", "email": "nobody@example.org" });
    let reply = client.post(&format!("{base}/users"), &full).await?;
    assert_eq!(reply.problem(409)?, "extension_pool_exhausted");
    for changes in [json!({ "ext_min": 21 }), json!({ "ext_max": 20 })] {
        assert_eq!(
            patch(client, base, &changes).await?.problem(409)?,
            "range_in_use"
        );
    }
    let crossed = patch(client, base, &json!({ "ext_min": 22 })).await?;
    assert_eq!(crossed.problem(400)?, "validation_failed");
    // Upwards, then downwards: always the lowest free one.
    patch(client, base, &json!({ "ext_max": 22 }))
        .await?
        .expect(200)?;
    assert_eq!(user(client, base, "Cid").await?.extension, 22);
    patch(client, base, &json!({ "ext_min": 18 }))
        .await?
        .expect(200)?;
    assert_eq!(user(client, base, "Dan").await?.extension, 18);
    assert_eq!(user(client, base, "Eve").await?.extension, 19);
    let reply = client.post(&format!("{base}/users"), &full).await?;
    assert_eq!(reply.problem(409)?, "extension_pool_exhausted");
    Ok(())
}
