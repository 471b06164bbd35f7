//! Lists in pages, the audit trail (`GET /applies`) for all of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
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
    for (length, more) in [(3, true), (3, true), (1, false)] {
        let reply = lab.client.get(&path).await?.expect(200)?;
        let page = ids(&reply.json()?);
        assert_eq!(
            (page.len(), reply.next().is_some()),
            (length, more),
            "{path}"
        );
        seen.extend(page);
        path = reply.next().unwrap_or_default().to_owned();
    }
    assert_eq!(seen, made);
    // A page that is full and the last one leads nowhere.
    let reply = lab.client.get("/applies?limit=7").await?.expect(200)?;
    assert_eq!((ids(&reply.json()?).len(), reply.next()), (7, None));

    let reply = lab.client.get("/applies?sort=started_at&limit=200").await?;
    let oldest_first: Vec<String> = made.iter().rev().cloned().collect();
    assert_eq!(ids(&reply.json()?), oldest_first);

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
        ("cursor=1", "cursor"),
        ("cursor=' or 1=1", "cursor"),
        ("cursor=%00", "cursor"),
        ("sort=", "sort"),
        ("sort=id;drop", "sort"),
        ("q=", "q"),
        ("q=%00", "q"),
        ("limit=%zz", "limit"),
        ("limit=%ff", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=1", "offset"),
    ] {
        for list in ["/applies", "/revisions", "/events"] {
            let reply = lab.client.get(&format!("{list}?{query}")).await?;
            let body = assert_problem(&reply, 400, "validation_failed")?;
            assert_eq!(body["errors"][0]["field"], field, "{query}: {reply}");
        }
    }
    lab.client.get("/applies?limit=200").await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn filters_and_search_keep_what_they_say_on_every_page() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for admin in ["anna", "berta", "anna", "50%_", "anna"] {
        let request = lab.client.request(reqwest::Method::POST, "/apply");
        request
            .header("X-Admin-User", admin)
            .send()
            .await?
            .expect(503)?;
    }
    let all = async |first: &str| {
        let (mut seen, mut path) = (Vec::new(), Some(first.to_owned()));
        while let Some(at) = path {
            let reply = lab.client.get(&at).await?.expect(200)?;
            let page = reply.json()?;
            let page = page.as_array().cloned().unwrap_or_default();
            assert!(page.len() <= 2, "{reply}");
            seen.extend(page);
            path = reply.next().map(str::to_owned);
        }
        let by = |attempt: &Value| attempt["requested_by"].as_str().map(str::to_owned);
        anyhow::Ok(seen.iter().filter_map(by).collect::<Vec<String>>())
    };
    assert_eq!(all("/applies?limit=2").await?.len(), 5);
    for query in [
        "requested_by=anna",
        "q=ANNA",
        "q=nna",
        "requested_by=anna&outcome=agent_unreachable",
    ] {
        let found = all(&format!("/applies?limit=2&{query}")).await?;
        assert_eq!(found, ["anna", "anna", "anna"], "{query}");
    }
    // What a pattern would mean is only text.
    for query in ["q=%25_", "q=50%25", "requested_by=50%25_"] {
        assert_eq!(
            all(&format!("/applies?limit=2&{query}")).await?,
            ["50%_"],
            "{query}"
        );
    }
    for query in ["q=%25%25", "q=__", "requested_by=ann", "outcome=applied"] {
        assert!(
            all(&format!("/applies?limit=2&{query}")).await?.is_empty(),
            "{query}"
        );
    }
    Ok(())
}

/// Rows that come and go between two pages neither repeat nor hide others.
#[tokio::test]
async fn a_page_goes_on_where_the_last_one_ended() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for number in 0..5 {
        lab.create_user("Same name", &format!("user{number}@example.org"))
            .await?;
    }
    let extensions = |page: &Value| -> Vec<u64> {
        let users = page.as_array().map_or(&[][..], Vec::as_slice);
        users
            .iter()
            .filter_map(|user| user["extension"].as_u64())
            .collect()
    };
    let first = lab
        .client
        .get("/users?sort=-extension&limit=2")
        .await?
        .expect(200)?;
    let page = first.json()?;
    assert_eq!(extensions(&page), [1004, 1003]);
    // The row that the cursor names goes, and one comes at the front.
    let last = page[1]["id"].as_str().unwrap_or_default();
    lab.client
        .delete(&format!("/users/{last}"))
        .await?
        .expect(204)?;
    lab.create_user("Same name", "user5@example.org").await?;
    lab.create_user("Same name", "user6@example.org").await?;
    let next = first.next().unwrap_or_default();
    let second = lab.client.get(next).await?.expect(200)?;
    assert_eq!(extensions(&second.json()?), [1002, 1001]);
    // All of one name: the id decides.
    let (mut seen, mut path) = (Vec::new(), Some("/users?sort=name&limit=1".to_owned()));
    while let Some(at) = path {
        let reply = lab.client.get(&at).await?.expect(200)?;
        seen.extend(extensions(&reply.json()?));
        path = reply.next().map(str::to_owned);
    }
    seen.sort_unstable();
    assert_eq!(seen, [1000, 1001, 1002, 1003, 1004, 1005]);
    Ok(())
}

/// Every time that RFC 3339 can say, and every number that a cursor can hold.
#[tokio::test]
async fn times_that_no_database_holds_are_refused() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for time in [
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:59-00:01",
        "0000-01-01T00:00:00Z",
        "0000-12-31T23:59:59Z",
        "0001-01-01T00:00:00%2B23:59",
        "0001-01-01T00:00:00%2B00:01",
    ] {
        for name in ["since", "until"] {
            let reply = lab.client.get(&format!("/audit?{name}={time}")).await?;
            let body = assert_problem(&reply, 400, "validation_failed")?;
            assert_eq!(body["errors"][0]["field"], name, "{time}: {reply}");
        }
    }
    for time in ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"] {
        lab.client
            .get(&format!("/audit?since={time}"))
            .await?
            .expect(200)?;
    }
    let id = "01900000-0000-7000-8000-000000000002";
    for microseconds in [
        i64::MAX,
        i64::MIN,
        253_402_300_800_000_000,
        -62_135_596_800_000_001,
        -300_000_000_000_000_000,
        -62_200_000_000_000_000,
    ] {
        for (list, sort) in [
            ("/audit", "-at"),
            ("/applies", "-started_at"),
            ("/users", "created_at"),
        ] {
            let cursor = json!([sort, microseconds, id]).to_string();
            let cursor = URL_SAFE_NO_PAD.encode(cursor);
            let path = format!("{list}?sort={sort}&cursor={cursor}");
            let reply = lab.client.get(&path).await?;
            let body = assert_problem(&reply, 400, "validation_failed")?;
            assert_eq!(body["errors"][0]["field"], "cursor", "{path}: {reply}");
            assert_eq!(body["errors"][0]["code"], "malformed", "{path}: {reply}");
        }
    }
    Ok(())
}
