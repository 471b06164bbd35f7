//! Accounts of users: what becomes of the one becomes of the other.

use serde_json::json;
use tests::lab::PortalLab;

use super::{PASSWORD, Person, account, me, patch, refused, sign_in, signed_in, text, trail};

#[tokio::test]
async fn an_account_has_role_status_and_life_of_its_user() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let user = lab.create_user("Ann", "ann@example.org").await?;
    let body = json!({ "login": "ann", "name": "Ann", "user_id": user.id, "tenant": "default" });
    let made = account(&lab.client, &body).await?;
    assert_eq!(
        (&made["role"], &made["user_id"]),
        (&json!("user"), &json!(user.id))
    );
    let second = json!({ "login": "ann2", "name": "Ann", "user_id": user.id, "tenant": "default" });
    let second = lab.client.post("/accounts", &second).await?;
    assert_eq!(second.problem(409)?, "user_has_account");

    let ann = signed_in(&lab, &made).await?;
    assert_eq!(ann.client.get("/applies").await?.problem(403)?, "forbidden");
    let before = lab.client.get(&ann.path()).await?.expect(200)?;
    let user_path = format!("/users/{}", user.id);
    patch(&lab.client, &user_path, &json!({ "role": "operator" }))
        .await?
        .expect(200)?;
    let after = lab.client.get(&ann.path()).await?.expect(200)?;
    assert_eq!(after.json()?["role"], "operator");
    assert_ne!(after.header("etag"), before.header("etag"));
    // It does more from the next sign-in on.
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");
    let ann = Person {
        client: lab.client.sign_in("ann", PASSWORD).await?,
        ..ann
    };
    ann.client.get("/applies").await?.expect(200)?;

    for changes in [
        json!({ "role": "tenant_admin" }),
        json!({ "tenant": "default" }),
    ] {
        let reply = patch(&lab.client, &ann.path(), &changes).await?;
        assert_eq!(refused(&reply)?.1, "read_only");
    }
    patch(&lab.client, &user_path, &json!({ "status": "suspended" }))
        .await?
        .expect(200)?;
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");
    let suspended = sign_in(&lab.client, "ann", PASSWORD, None).await?;
    assert_eq!(suspended.problem(403)?, "account_suspended");
    patch(&lab.client, &user_path, &json!({ "status": "active" }))
        .await?
        .expect(200)?;
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");

    let again = lab.client.sign_in("ann", PASSWORD).await?;
    lab.client.delete(&user_path).await?.expect(204)?;
    assert_eq!(me(&again).await?.problem(401)?, "unauthenticated");
    assert_eq!(
        lab.client.get(&ann.path()).await?.problem(404)?,
        "account_not_found"
    );
    lab.client
        .delete(&format!("/deleted-users/{}", user.id))
        .await?;
    assert!(trail(&lab, "account.deleted").await?.len() == 1);
    // Nobody of that name is left behind for whoever comes next.
    let pool = lab.database.pool().await?;
    let rows: i64 = sqlx::query_scalar(
        "select (select count(*) from account where login = 'ann')
            + (select count(*) from session where account_id::text = $1)",
    )
    .bind(&ann.id)
    .fetch_one(&pool)
    .await?;
    assert_eq!(rows, 0);
    Ok(())
}

/// Neither by the account nor by the user.
#[tokio::test]
async fn nobody_does_to_itself_what_cannot_be_undone() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let user = lab.create_user("Ann", "ann@example.org").await?;
    let user_path = format!("/users/{}", user.id);
    patch(&lab.client, &user_path, &json!({ "role": "tenant_admin" }))
        .await?
        .expect(200)?;
    let body = json!({ "login": "ann", "name": "Ann", "user_id": user.id, "tenant": "default" });
    let ann = signed_in(&lab, &account(&lab.client, &body).await?).await?;
    for reply in [
        patch(&ann.client, &user_path, &json!({ "status": "suspended" })).await?,
        patch(&ann.client, &user_path, &json!({ "role": "user" })).await?,
        ann.client.delete(&user_path).await?,
        patch(
            &ann.client,
            "/accounts/me",
            &json!({ "status": "suspended" }),
        )
        .await?,
        ann.client.delete("/accounts/me").await?,
        ann.client.post_nothing("/accounts/me/reset").await?,
        ann.client
            .post_nothing(&format!("{}/reset", ann.path()))
            .await?,
    ] {
        assert_eq!(reply.problem(409)?, "own_account", "{reply}");
    }
    let unchanged = ann.client.get(&user_path).await?.expect(200)?.json()?;
    assert_eq!(
        (text(&unchanged["status"]), text(&unchanged["role"])),
        ("active", "tenant_admin")
    );
    patch(&ann.client, &user_path, &json!({ "name": "Anna" }))
        .await?
        .expect(200)?;
    Ok(())
}

/// A tenant that is out of service takes its people's sign-in with it.
#[tokio::test]
async fn a_suspended_tenant_lets_nobody_in() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    super::tenant(&lab.client, "other").await?;
    let ann = super::person(&lab, "ann", "tenant_admin", Some("other")).await?;
    me(&ann.client).await?.expect(200)?;
    let suspend = json!({ "status": "suspended" });
    patch(&lab.client, "/tenants/other", &suspend)
        .await?
        .expect(200)?;
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");
    let refused = sign_in(&lab.client, "ann", PASSWORD, None).await?;
    assert_eq!(refused.problem(403)?, "account_suspended");
    patch(
        &lab.client,
        "/tenants/other",
        &json!({ "status": "active" }),
    )
    .await?
    .expect(200)?;
    me(&ann.client).await?.expect(200)?;
    Ok(())
}
