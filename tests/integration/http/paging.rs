//! `GET /applies`: the audit trail in pages.

use serde_json::Value;
use tests::lab::PortalLab;

use super::problems::assert_problem;
use crate::audit::trail;

fn ids(page: &Value) -> Vec<String> {
    let attempts = page.as_array().map_or(&[][..], Vec::as_slice);
    attempts
        .iter()
        .filter_map(|attempt| attempt["id"].as_str())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn pages_hold_every_attempt_once_the_newest_first() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    assert_eq!(lab.client.get("/applies").await?.expect(200)?.text(), "[]");
    let mut made = Vec::new();
    for _ in 0..7 {
        // There is no agent: each fails before anything was sent, and is an attempt all the same.
        let reply = lab.client.post_nothing("/apply").await?.expect(503)?;
        made.insert(
            0,
            reply.json()?["apply"]["id"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        );
    }
    assert_eq!(ids(&Value::Array(trail(&lab.client).await?)), made);

    let mut seen: Vec<String> = Vec::new();
    let mut path = "/applies?limit=3".to_owned();
    for length in [3, 3, 1, 0] {
        let page = lab.client.get(&path).await?.expect(200)?.json()?;
        assert_eq!(ids(&page).len(), length, "{path}");
        seen.extend(ids(&page));
        let last = seen.last().map_or("", String::as_str);
        path = format!("/applies?before={last}&limit=3");
    }
    assert_eq!(seen, made);

    // A list only counts the users, a single attempt names them.
    let one = lab
        .client
        .get(&format!("/applies/{}", made[0]))
        .await?
        .expect(200)?
        .json()?;
    assert!(one["users"].is_array());
    let listed = lab.client.get("/applies?limit=1").await?.json()?;
    assert!(
        listed[0].get("users").is_none() && listed[0]["user_count"] == 0,
        "{listed}"
    );
    Ok(())
}

#[tokio::test]
async fn queries_that_mean_nothing_are_refused() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e2", "limit"),
        ("limit=", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("before=1", "before"),
        ("before=' or 1=1", "before"),
        ("before=%00", "before"),
        ("limit=%zz", "limit"),
        ("limit=%ff", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=1", "offset"),
    ] {
        for list in ["/applies", "/revisions", "/events"] {
            if query == "before=1" && list != "/applies" {
                continue;
            }
            let reply = lab.client.get(&format!("{list}?{query}")).await?;
            let body = assert_problem(&reply, 400, "validation_failed")?;
            assert_eq!(body["errors"][0]["field"], field, "{query}: {reply}");
        }
    }
    lab.client.get("/applies?limit=200").await?.expect(200)?;
    Ok(())
}
