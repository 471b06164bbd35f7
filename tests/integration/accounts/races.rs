//! Several at once: the database decides, and one wins.

use serde_json::json;
use tests::lab::PortalLab;

use super::second_factor::{code, enrolled};
use super::{OTHER_PASSWORD, PASSWORD, account, patch, person, redeem, reset_token, sign_in, text};
use crate::crowd::at_once;

/// How often something is tried at once.
const TIMES: usize = 6;

fn count(statuses: &[u16], wanted: u16) -> usize {
    statuses.iter().filter(|status| **status == wanted).count()
}

#[tokio::test]
async fn of_several_creations_of_one_login_one_wins() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = lab.client.clone();
    let statuses = at_once(TIMES, TIMES, move |number| {
        let client = client.clone();
        async move {
            let login = if number % 2 == 0 { "ann" } else { "ANN" };
            let body = json!({ "login": login, "name": "Ann", "role": "platform_admin" });
            Ok(client.post("/accounts", &body).await?.status)
        }
    });
    let statuses = statuses.await?;
    assert_eq!(
        (count(&statuses, 201), count(&statuses, 409)),
        (1, TIMES - 1),
        "{statuses:?}"
    );
    Ok(())
}

#[tokio::test]
async fn of_several_uses_of_a_reset_token_one_wins() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let body = json!({ "login": "ann", "name": "Ann", "role": "operator", "tenant": "default" });
    let made = account(&lab.client, &body).await?;
    let token = reset_token(&lab.client, text(&made["id"])).await?;
    let client = lab.client.clone();
    let statuses = at_once(TIMES, TIMES, move |number| {
        let (client, token) = (client.clone(), token.clone());
        async move {
            let password = [PASSWORD, OTHER_PASSWORD][number % 2];
            Ok(redeem(&client, &token, password).await?.status)
        }
    });
    let statuses = statuses.await?;
    assert_eq!(
        (count(&statuses, 204), count(&statuses, 403)),
        (1, TIMES - 1),
        "{statuses:?}"
    );
    Ok(())
}

#[tokio::test]
async fn of_several_uses_of_a_code_one_wins() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    let (secret, codes) = enrolled(&ann.client).await?;
    // The step after the one that confirming took.
    for code in [codes[0].clone(), code(&secret, 1)?] {
        let client = lab.client.clone();
        let statuses = at_once(3, 3, move |_| {
            let (client, code) = (client.clone(), code.clone());
            async move { Ok(sign_in(&client, "ann", PASSWORD, Some(&code)).await?.status) }
        });
        let statuses = statuses.await?;
        assert_eq!(
            (count(&statuses, 201), count(&statuses, 401)),
            (1, 2),
            "{statuses:?}"
        );
        lab.client
            .post_nothing(&format!("{}/unlock", ann.path()))
            .await?
            .expect(200)?;
    }
    Ok(())
}

/// Both see the other one, and may not both go.
#[tokio::test]
async fn of_the_last_two_administrators_of_the_platform_one_remains() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let mut paths = Vec::new();
    for login in ["root", "second"] {
        let body = json!({ "login": login, "name": login, "role": "platform_admin" });
        let made = account(&lab.client, &body).await?;
        paths.push(format!("/accounts/{}", text(&made["id"])));
    }
    let pool = lab.database.pool().await?;
    for round in 0..12 {
        let (client, both) = (lab.client.clone(), paths.clone());
        let statuses = at_once(2, 2, move |number| {
            let (client, path) = (client.clone(), both[number].clone());
            let changes = match round % 2 {
                0 => json!({ "status": "suspended" }),
                _ => json!({ "role": "operator", "tenant": "default" }),
            };
            async move { Ok(patch(&client, &path, &changes).await?.status) }
        });
        let statuses = statuses.await?;
        assert_eq!(
            (count(&statuses, 200), count(&statuses, 409)),
            (1, 1),
            "{statuses:?}"
        );
        let left: i64 = sqlx::query_scalar(
            "select count(*) from account where role = 'platform_admin' and status = 'active'",
        )
        .fetch_one(&pool)
        .await?;
        assert_eq!(left, 1);
        for path in &paths {
            let back = json!({ "status": "active", "role": "platform_admin" });
            patch(&lab.client, path, &back).await?.expect(200)?;
        }
    }
    Ok(())
}

/// One who was demoted while asking does not demote the one who did it.
#[tokio::test]
async fn two_administrators_do_not_remove_each_other() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let root = super::me(&lab.client).await?.json()?;
    let second = person(&lab, "second", "platform_admin", None).await?;
    let targets = [
        (lab.client.clone(), second.path()),
        (
            second.client.clone(),
            format!("/accounts/{}", text(&root["id"])),
        ),
    ];
    let statuses = at_once(2, 2, move |number| {
        let (client, path) = targets[number].clone();
        async move { Ok(client.delete(&path).await?.status) }
    });
    let statuses = statuses.await?;
    assert_eq!(count(&statuses, 204), 1, "{statuses:?}");
    let pool = lab.database.pool().await?;
    let left: i64 = sqlx::query_scalar("select count(*) from account")
        .fetch_one(&pool)
        .await?;
    assert_eq!(left, 1);
    Ok(())
}
