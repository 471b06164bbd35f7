//! Who may do what to whom.

use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::{Client, Reply};

use super::{account, me, patch, person, text};

/// Asks for something, whatever comes of it.
async fn ask(client: &Client, method: &Method, path: &str) -> anyhow::Result<Reply> {
    let request = client.request(method.clone(), path);
    let request = match *method {
        Method::PATCH => request.json(&json!({ "name": "Taken over" })),
        _ if path.ends_with("/totp") => request.json(&json!({ "password": super::PASSWORD })),
        _ => request,
    };
    request.send().await
}

#[tokio::test]
async fn a_tenants_administrator_stays_within_its_tenant_and_role() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    for slug in ["a", "b"] {
        super::tenant(&lab.client, slug).await?;
    }
    let ann = person(&lab, "ann", "tenant_admin", Some("a")).await?;
    let new = |login: &str, role: &str, tenant: Value| json!({ "login": login, "name": "New", "role": role, "tenant": tenant });
    let refusals = [
        (
            new("x1", "platform_admin", Value::Null),
            403,
            "role_above_own",
        ),
        (new("x2", "operator", json!("b")), 404, "tenant_not_found"),
        (
            new("x3", "operator", json!("default")),
            404,
            "tenant_not_found",
        ),
        (
            new("x4", "operator", json!("nobody")),
            404,
            "tenant_not_found",
        ),
    ];
    for (body, status, code) in refusals {
        let reply = ann.client.post("/accounts", &body).await?;
        assert_eq!(reply.problem(status)?, code, "{body}");
    }
    // Its own tenant is meant unless another one is said.
    let made = account(&ann.client, &new("olga", "operator", Value::Null)).await?;
    assert_eq!(
        made["tenant_id"],
        me(&ann.client).await?.json()?["tenant_id"]
    );
    account(&ann.client, &new("peer", "tenant_admin", json!("a"))).await?;
    let olga = format!("/accounts/{}", text(&made["id"]));
    for (changes, status, code) in [
        (json!({ "role": "platform_admin" }), 403, "role_above_own"),
        (json!({ "tenant": "b" }), 404, "tenant_not_found"),
        (
            json!({ "role": "tenant_admin", "tenant": "b" }),
            404,
            "tenant_not_found",
        ),
    ] {
        let reply = patch(&ann.client, &olga, &changes).await?;
        assert_eq!(reply.problem(status)?, code, "{changes}");
    }
    // Within its tenant it does what is needed.
    patch(&ann.client, &olga, &json!({ "role": "tenant_admin" }))
        .await?
        .expect(200)?;
    ann.client
        .post_nothing(&format!("{olga}/reset"))
        .await?
        .expect(200)?;
    ann.client.delete(&olga).await?.expect(204)?;
    Ok(())
}

/// Neither what is another tenant's nor what is above is found, whatever is asked of it.
#[tokio::test]
async fn accounts_beyond_reach_are_not_found() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    for slug in ["a", "b"] {
        super::tenant(&lab.client, slug).await?;
    }
    let ann = person(&lab, "ann", "tenant_admin", Some("a")).await?;
    let bob = json!({ "login": "bob", "name": "Bob", "role": "operator", "tenant": "b" });
    let foreign = account(&lab.client, &bob).await?;
    let above = me(&lab.client).await?.json()?;
    let nobody = json!("01900000-0000-7000-8000-00000000ffff");
    for id in [&foreign["id"], &above["id"], &nobody] {
        let path = format!("/accounts/{}", text(id));
        let before = lab.client.get(&path).await?;
        for (method, below) in [
            (Method::GET, ""),
            (Method::PATCH, ""),
            (Method::DELETE, ""),
            (Method::POST, "/reset"),
            (Method::POST, "/unlock"),
            (Method::POST, "/totp"),
            (Method::POST, "/totp/remove"),
        ] {
            let reply = ask(&ann.client, &method, &format!("{path}{below}")).await?;
            assert_eq!(
                reply.problem(404)?,
                "account_not_found",
                "{method} {path}{below}"
            );
        }
        if before.status == 200 {
            assert_eq!(lab.client.get(&path).await?.body, before.body);
        }
    }
    let listed = ann.client.get("/accounts").await?.expect(200)?.json()?;
    let listed: Vec<&str> = listed.as_array().map_or(Vec::new(), |items| {
        items.iter().map(|item| text(&item["login"])).collect()
    });
    assert_eq!(listed, ["ann"]);
    let elsewhere = format!("/accounts?tenant_id={}", text(&foreign["tenant_id"]));
    assert_eq!(
        ann.client.get(&elsewhere).await?.expect(200)?.json()?,
        json!([])
    );
    Ok(())
}

#[tokio::test]
async fn those_who_administer_nothing_see_to_themselves() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let olga = person(&lab, "olga", "operator", Some("default")).await?;
    let peer = person(&lab, "peer", "operator", Some("default")).await?;
    let body = json!({ "login": "x1", "name": "X", "role": "operator", "tenant": "default" });
    for reply in [
        olga.client.get("/accounts").await?,
        olga.client.post("/accounts", &body).await?,
        olga.client.get(&peer.path()).await?,
        olga.client
            .get("/accounts/01900000-0000-7000-8000-00000000ffff")
            .await?,
        patch(&olga.client, &peer.path(), &json!({ "name": "X" })).await?,
        olga.client.delete(&peer.path()).await?,
        olga.client.delete("/accounts/me").await?,
        olga.client
            .post_nothing(&format!("{}/reset", peer.path()))
            .await?,
        olga.client
            .post_nothing(&format!("{}/unlock", peer.path()))
            .await?,
        olga.client
            .post_nothing(&format!("{}/totp/remove", peer.path()))
            .await?,
        patch(
            &olga.client,
            "/accounts/me",
            &json!({ "role": "tenant_admin" }),
        )
        .await?,
        patch(&olga.client, "/accounts/me", &json!({ "login": "admin2" })).await?,
        patch(
            &olga.client,
            "/accounts/me",
            &json!({ "status": "suspended" }),
        )
        .await?,
    ] {
        assert_eq!(reply.problem(403)?, "forbidden", "{reply}");
    }
    let own = olga.client.get(&olga.path()).await?.expect(200)?;
    assert_eq!(own.json()?["role"], "operator");
    patch(&olga.client, "/accounts/me", &json!({ "name": "Olga" }))
        .await?
        .expect(200)?;
    let of_nobody = lab.client.anonymous().get("/accounts/me").await?;
    assert_eq!(of_nobody.problem(401)?, "unauthenticated");
    Ok(())
}

#[tokio::test]
async fn an_administrator_of_the_platform_always_remains() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let body = json!({ "login": "root", "name": "Root", "role": "platform_admin" });
    let root = account(&lab.client, &body).await?;
    let root = format!("/accounts/{}", text(&root["id"]));
    let demotion = json!({ "role": "operator", "tenant": "default" });
    let suspension = json!({ "status": "suspended" });
    let second = json!({ "login": "second", "name": "Second", "role": "platform_admin" });
    let second = account(&lab.client, &second).await?;
    let second = format!("/accounts/{}", text(&second["id"]));
    patch(&lab.client, &second, &suspension)
        .await?
        .expect(200)?;
    // One that is suspended is none.
    for reply in [
        patch(&lab.client, &root, &demotion).await?,
        patch(&lab.client, &root, &suspension).await?,
        lab.client.delete(&root).await?,
    ] {
        assert_eq!(reply.problem(409)?, "last_platform_admin");
    }
    patch(&lab.client, &root, &json!({ "name": "Still there" }))
        .await?
        .expect(200)?;
    patch(&lab.client, &second, &json!({ "status": "active" }))
        .await?
        .expect(200)?;
    patch(&lab.client, &root, &demotion).await?.expect(200)?;
    assert_eq!(
        lab.client.delete(&second).await?.problem(409)?,
        "last_platform_admin"
    );
    lab.client.delete(&root).await?.expect(204)?;
    Ok(())
}
