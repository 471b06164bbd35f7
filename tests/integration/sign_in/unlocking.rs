//! Signing in while somebody is let in again: nobody waits for whom waits for it.

use reqwest::Method;
use serde_json::json;

use super::{PASSWORD, ann, lab, try_from};
use crate::crowd::at_once;

/// How many do something at once, and how often.
const WORKERS: usize = 12;
const TIMES: usize = 240;

#[tokio::test]
async fn unlocking_and_signing_in_at_once_stop_nobody() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (_, id) = ann(&lab).await?;
    let (client, portal) = (lab.client.clone(), std::sync::Arc::new(lab.portal));
    let statuses = at_once(WORKERS, TIMES, move |number| {
        let (client, portal) = (client.clone(), std::sync::Arc::clone(&portal));
        let address = format!("198.51.{}.{}", 100 + number / 250, number % 250);
        async move {
            let reply = match number % 8 {
                0 | 1 => try_from(&client, &address, "ann", PASSWORD).await?,
                2 | 3 => try_from(&client, &address, "ann", "wrong").await?,
                4 if number % 80 == 4 => {
                    portal.command(&["account", "unlock", "ann"]).await?;
                    return Ok(200);
                }
                _ => {
                    let path = format!("/accounts/{id}/unlock");
                    client.post_nothing(&path).await?
                }
            };
            Ok(reply.status)
        }
    });
    let statuses = statuses.await?;
    assert!(statuses.iter().all(|status| *status < 500), "{statuses:?}");
    assert!(statuses.contains(&201), "{statuses:?}");
    Ok(())
}

/// Likewise of those who set a password, by a token or by the one before.
#[tokio::test]
async fn setting_passwords_and_signing_in_at_once_stop_nobody() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (_, id) = ann(&lab).await?;
    // From elsewhere, so that what she shows within her session is counted with the strangers'.
    let own = super::Tokens::open(&lab.client, "ann").await?;
    let (client, own) = (lab.client.clone(), lab.client.with_bearer(&own.access));
    let statuses = at_once(WORKERS, TIMES / 2, move |number| {
        let (client, own) = (client.clone(), own.clone());
        let address = format!("198.51.100.{number}");
        async move {
            let request = |client: &super::Client, path: &str| {
                let request = client.request(Method::POST, path);
                request.header("X-Forwarded-For", &address)
            };
            let reply = match number % 6 {
                0 | 1 => try_from(&client, &address, "ann", PASSWORD).await?,
                2 => try_from(&client, &address, "ann", "wrong").await?,
                3 => {
                    let body = json!({ "password": PASSWORD });
                    request(&own, "/accounts/me/totp/remove")
                        .json(&body)
                        .send()
                        .await?
                }
                _ => {
                    let reset = format!("/accounts/{id}/reset");
                    let issued = client.post_nothing(&reset).await?;
                    let token = issued.json()?["token"].clone();
                    let body = json!({ "token": token, "password": PASSWORD });
                    let anybody = client.anonymous();
                    request(&anybody, "/password-resets")
                        .json(&body)
                        .send()
                        .await?
                }
            };
            Ok(reply.status)
        }
    });
    let statuses = statuses.await?;
    assert!(statuses.iter().all(|status| *status < 500), "{statuses:?}");
    assert!(statuses.contains(&204), "{statuses:?}");
    Ok(())
}
