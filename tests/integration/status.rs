//! `GET /apply/status`: what is wanted, applied, on disk and loaded, and what that means.

use serde_json::{Value, json};
use tests::lab::{Lab, PortalLab};
use tests::portal::Client;

use crate::audit::applied;
use crate::crowd::create_users;

/// The status of the one PBX.
pub(crate) async fn status(client: &Client) -> anyhow::Result<Value> {
    let body = client.get("/apply/status").await?.expect(200)?.json()?;
    anyhow::ensure!(body.as_array().map(Vec::len) == Some(1), "{body}");
    Ok(body[0].clone())
}

#[tokio::test]
async fn without_an_agent_the_database_tells_what_it_knows() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 2).await?;
    let attempt = applied(&lab.client, lab.apply().await?).await?;
    lab.agent.kill();
    let state = status(&lab.client).await?;
    assert_eq!(state["agent"], "unreachable", "{state}");
    assert_eq!(
        (&state["degraded"], &state["name"]),
        (&json!(true), &json!("default"))
    );
    assert!(
        state["reasons"][0]
            .to_string()
            .contains("cannot be reached"),
        "{state}"
    );
    assert_eq!(state["last_attempt"]["id"], attempt["id"]);
    assert_eq!(state["last_proven"]["outcome"], "applied");
    assert_eq!(state["wanted_digest"], attempt["digest"]);
    for (file, written) in [0, 1].map(|n| (&state["files"][n], &attempt["files"][n])) {
        assert_eq!(file["verdict"], "unknown", "{file}");
        assert_eq!(file["wanted"]["sha256"], written["sha256"]);
        assert_eq!(file["last_applied"]["sha256"], written["sha256"]);
        assert_eq!(file["last_applied"]["apply_id"], attempt["id"]);
        assert_eq!(
            (&file["on_disk"], &file["loaded"]),
            (&Value::Null, &Value::Null)
        );
    }
    let counter = r#"pbx_portal_applies_total{outcome="applied"}"#;
    assert_eq!(state["counters"][counter], 1, "{state}");
    Ok(())
}

#[tokio::test]
async fn before_the_first_apply_nothing_is_applied() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let state = status(&lab.client).await?;
    for field in ["last_attempt", "last_proven", "running", "active", "drift"] {
        assert_eq!(state[field], Value::Null, "{field}");
    }
    assert_eq!(state["open"], json!([]));
    assert_eq!(state["files"][0]["last_applied"], Value::Null);
    assert!(state["files"][1]["wanted"]["generation"].is_string());
    Ok(())
}
