//! Whoever comes to do more starts afresh: what others may have got hold of while it did less is worth
//! nothing.

use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::api_tokens::token;
use super::{OTHER_PASSWORD, account, me, patch, person, redeem, reset_token, signed_in, text};

/// A tenant's administrator can set the password of an operator, and so could become who that is later.
#[tokio::test]
async fn a_reset_of_before_is_worth_nothing_after_a_promotion() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let chief = person(&lab, "chief", "tenant_admin", Some("default")).await?;
    for (number, change) in [
        json!({ "role": "platform_admin" }),
        json!({ "role": "tenant_admin" }),
        json!({ "tenant": "elsewhere" }),
    ]
    .into_iter()
    .enumerate()
    {
        if number == 0 {
            super::tenant(&lab.client, "elsewhere").await?;
        }
        let login = format!("olga{number}");
        let olga = person(&lab, &login, "operator", Some("default")).await?;
        let (program, _) = token(&olga.client, "Program", &["users.read"]).await?;
        let kept = reset_token(&chief.client, &olga.id).await?;
        patch(&lab.client, &olga.path(), &json!({ "name": "Olga" }))
            .await?
            .expect(200)?;
        me(&olga.client).await?.expect(200)?;
        program.get("/users").await?.expect(200)?;
        patch(&lab.client, &olga.path(), &change)
            .await?
            .expect(200)?;
        let refused = redeem(&lab.client, &kept, OTHER_PASSWORD).await?;
        assert_eq!(refused.problem(403)?, "reset_refused", "{change}");
        for client in [&olga.client, &program] {
            let reply = client.get("/users").await?;
            assert_eq!(reply.problem(401)?, "unauthenticated", "{change}");
        }
    }
    let revoked = super::trail(&lab, "api_token.revoked").await?;
    assert_eq!(revoked.len(), 3);
    Ok(())
}

/// Likewise of a user, whose role is changed there.
#[tokio::test]
async fn the_account_of_a_user_starts_afresh_with_its_role() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let user = lab.create_user("Ann", "ann@example.org").await?;
    let path = format!("/users/{}", user.id);
    let body = json!({ "login": "ann", "name": "Ann", "user_id": user.id, "tenant": "default" });
    let ann = signed_in(&lab, &account(&lab.client, &body).await?).await?;
    let kept = reset_token(&lab.client, &ann.id).await?;
    patch(&lab.client, &path, &json!({ "role": "operator" }))
        .await?
        .expect(200)?;
    let refused = redeem(&lab.client, &kept, OTHER_PASSWORD).await?;
    assert_eq!(refused.problem(403)?, "reset_refused");
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");
    Ok(())
}

/// Whoever comes to do less goes on with less; only the reset is gone.
#[tokio::test]
async fn a_demotion_leaves_sessions_and_ends_resets() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let chief = person(&lab, "chief", "tenant_admin", Some("default")).await?;
    let kept = reset_token(&lab.client, &chief.id).await?;
    patch(&lab.client, &chief.path(), &json!({ "role": "operator" }))
        .await?
        .expect(200)?;
    let own: Value = me(&chief.client).await?.expect(200)?.json()?;
    assert_eq!(text(&own["role"]), "operator");
    let refused = redeem(&lab.client, &kept, OTHER_PASSWORD).await?;
    assert_eq!(refused.problem(403)?, "reset_refused");
    Ok(())
}
