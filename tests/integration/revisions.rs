//! `GET /revisions`: the history of a PBX, and how much of it is kept.

use serde_json::{Value, json};
use tests::lab::{Lab, PortalLab};
use tests::portal::Client;

use crate::audit::applied;
use crate::preview::users;
use crate::status::{status, warning_codes};

async fn revisions(client: &Client, query: &str) -> anyhow::Result<Vec<Value>> {
    let reply = client
        .get(&format!("/revisions{query}"))
        .await?
        .expect(200)?;
    Ok(serde_json::from_value(reply.json()?)?)
}

fn each<'a>(revisions: &'a [Value], key: &str) -> Vec<&'a Value> {
    revisions.iter().map(|revision| &revision[key]).collect()
}

#[tokio::test]
async fn the_history_tells_who_when_what_and_what_is_in_force() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    assert!(revisions(&lab.client, "").await?.is_empty());
    for (name, admin) in [("Ann", "anna"), ("Bob", "berta")] {
        lab.create_user(name, &format!("{name}@example.org"))
            .await?;
        let request = lab.client.request(reqwest::Method::POST, "/apply");
        let reply = request.header("X-Admin-User", admin).send().await?;
        applied(&lab.client, reply).await?;
    }
    lab.create_user("Carl", "carl@example.org").await?;
    lab.agent.stop().await?;
    let lost = lab.apply().await?.expect(503)?.json()?["apply"].clone();

    let all = revisions(&lab.client, "").await?;
    assert_eq!(each(&all, "revision"), [3, 2, 1]);
    assert_eq!(each(&all, "proven"), [false, true, true]);
    assert_eq!(each(&all, "in_force"), [false, true, false]);
    assert_eq!(each(&all, "restorable"), [false, true, true]);
    assert_eq!(
        each(&all, "requested_by"),
        ["trusted-network", "berta", "anna"]
    );
    assert_eq!(
        each(&all, "outcome"),
        ["agent_unreachable", "applied", "applied"]
    );
    assert_eq!(each(&all, "user_count"), [3, 2, 1]);
    assert_eq!(all[0]["apply_id"], lost["id"]);
    assert_eq!(all[0]["changes"], lost["changes"]);
    assert_eq!(users(&all[1]["changes"]["user_names"]), ["added Bob"]);
    assert_eq!(all[1]["changes"]["against_revision"], 1);

    let first = lab.client.get("/revisions?limit=1").await?;
    let next = first
        .next()
        .unwrap_or_default()
        .trim_start_matches("/revisions")
        .to_owned();
    assert_eq!(each(&revisions(&lab.client, &next).await?, "revision"), [2]);
    let rising = revisions(&lab.client, "?sort=revision&outcome=applied").await?;
    assert_eq!(each(&rising, "revision"), [1, 2]);
    let refused = lab.client.get("/revisions?cursor=x").await?;
    assert_eq!(refused.problem(400)?, "validation_failed");
    Ok(())
}

#[tokio::test]
async fn while_it_is_open_what_asterisk_holds_nothing_is_said_to_be_in_force() -> anyhow::Result<()>
{
    let mut lab = Lab::builder()
        .portal_env("ON_RELOAD_FAILURE", "keep_new_files")
        .start()
        .await?;
    lab.create_user("Ann", "ann@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    lab.create_user("Bob", "bob@example.org").await?;
    lab.asterisk.stop().await?;
    lab.apply().await?.expect(502)?;
    let all = revisions(&lab.client, "").await?;
    assert_eq!(each(&all, "proven"), [false, true]);
    assert_eq!(each(&all, "in_force"), [&Value::Null, &Value::Null]);
    let preview = lab
        .client
        .get("/apply/preview")
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(preview["compared_with"]["certain"], false, "{preview}");
    lab.asterisk.resume().await?;
    applied(&lab.client, lab.apply().await?).await?;
    let all = revisions(&lab.client, "").await?;
    assert_eq!(each(&all, "in_force"), [true, false, false]);
    Ok(())
}

#[tokio::test]
async fn only_so_many_bundles_are_kept_and_the_rows_for_ever() -> anyhow::Result<()> {
    let lab = Lab::builder()
        .portal_env("BUNDLES_KEPT", "2")
        .start()
        .await?;
    for number in 0..4 {
        lab.create_user("User", &format!("user{number}@example.org"))
            .await?;
        applied(&lab.client, lab.apply().await?).await?;
    }
    let all = revisions(&lab.client, "").await?;
    assert_eq!(each(&all, "restorable"), [true, true, false, false]);
    let pool = lab.database.pool().await?;
    let kept: Vec<i64> = sqlx::query_scalar(
        "select revision from apply where bundle_encrypted is not null order by revision",
    )
    .fetch_all(&pool)
    .await?;
    assert_eq!(kept, [3, 4]);
    let restore = |index: usize| {
        let id = all[index]["apply_id"].as_str().unwrap_or_default();
        format!("/applies/{id}/restore")
    };
    let refused = lab.client.post_nothing(&restore(3)).await?;
    assert_eq!(refused.problem(409)?, "nothing_to_restore");
    let restored = applied(&lab.client, lab.client.post_nothing(&restore(1)).await?).await?;
    assert_eq!(restored["restored_from"]["revision"], json!(3));
    Ok(())
}

/// Three attempts that say what is in force, as of rows: what casts doubt, and what ends it.
#[tokio::test]
async fn doubt_lasts_until_something_is_proven() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let pool = lab.database.pool().await?;
    for _ in 0..3 {
        lab.client.post_nothing("/apply").await?.expect(503)?;
    }
    let set = async |revision: i64, outcome: &'static str| {
        let update = sqlx::query(
            "update apply set outcome = $2,
                ended_at = case when $2 = 'started' then null else now() end
             where revision = $1",
        );
        update.bind(revision).bind(outcome).execute(&pool).await
    };
    set(1, "applied").await?;
    for (second, third, doubted) in [
        ("rollback_failed", "rejected", Some("revision 2")),
        ("rollback_failed", "agent_unreachable", Some("revision 2")),
        ("rollback_failed", "started", Some("revision 2")),
        ("rejected", "started", None),
        ("interrupted", "reload_unknown", Some("revision 3")),
        ("rollback_failed", "rolled_back", None),
        ("rollback_failed", "unchanged", None),
        (
            "rolled_back",
            "reload_failed_files_kept",
            Some("revision 3"),
        ),
    ] {
        set(2, second).await?;
        set(3, third).await?;
        let state = status(&lab.client).await?;
        let ready = lab.client.get("/health/ready").await?.json()?;
        for body in [&state, &ready] {
            let told = body["warnings"].to_string();
            let expected = doubted.map_or_else(Vec::new, |_| vec!["pbx_in_doubt"]);
            assert_eq!(warning_codes(body), expected, "{second}, {third}: {told}");
            assert!(told.contains(doubted.unwrap_or_default()), "{told}");
        }
        let certain = doubted.is_none() && third != "started";
        let in_force = &state["pending"]["in_force"];
        assert_eq!(in_force["certain"], certain, "{second}, {third}");
    }
    Ok(())
}
