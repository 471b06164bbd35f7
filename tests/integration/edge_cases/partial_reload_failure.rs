//! "How does system handle partial Asterisk reload failure (PJSIP succeeds, dialplan fails)? Must log
//! detailed error and notify admin of inconsistent state."

use serde_json::{Value, json};
use tests::lab::Lab;

use crate::audit::{applied, audited, step};
use crate::crowd::create_users;
use crate::held::{assert_exactly, live_files, sections};
use crate::status::{status, warning_codes};

/// PJSIP takes the new configuration and the dialplan cannot: `pbx_config.so` is unloaded, so that
/// Asterisk does not know `dialplan reload`, answers so with exit status 0, and has no dialplan.
async fn lab_without_dialplan_module() -> anyhow::Result<Lab> {
    let lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    lab.create_user("Late", "late@example.org").await?;
    lab.asterisk.rx("module unload pbx_config.so").await?;
    Ok(lab)
}

fn assert_both_told(attempt: &Value) -> anyhow::Result<()> {
    assert_eq!(step(attempt, "'pjsip reload'")?["ok"], true);
    let dialplan = step(attempt, "'dialplan reload'")?;
    assert_eq!(dialplan["ok"], false);
    let said = dialplan["said"].as_str().unwrap_or_default();
    assert!(said.contains("No such command"), "{said}");
    let reason = attempt["failure"]["message"].as_str().unwrap_or_default();
    assert!(reason.contains("PJSIP: was reloaded"), "{reason}");
    assert!(
        reason.contains("Dialplan: ") && reason.contains("No such command"),
        "{reason}"
    );
    Ok(())
}

#[tokio::test]
async fn partial_reload_failure_is_told_and_the_files_stay() -> anyhow::Result<()> {
    let lab = lab_without_dialplan_module().await?;
    let keep = json!({ "on_reload_failure": "keep_new_files" });
    let reply = lab.client.post("/apply", &keep).await?;
    assert_eq!(reply.problem(502)?, "apply_reload_failed_files_kept");
    assert_both_told(&audited(&lab.client, &reply).await?)?;
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    assert_eq!(sections(&endpoints, "endpoint").len(), 3);
    assert!(routing.contains("Dial(PJSIP/1001,25)"));

    // Loading the module reads the new dialplan; nothing but an apply calls it proven.
    lab.asterisk.rx("module load pbx_config.so").await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

/// What readiness says while everything that it is about works.
async fn readiness(lab: &Lab) -> anyhow::Result<Value> {
    lab.client.get("/health/ready").await?.expect(200)?.json()
}

#[tokio::test]
async fn partial_reload_failure_that_cannot_be_rolled_back_is_told() -> anyhow::Result<()> {
    let lab = lab_without_dialplan_module().await?;
    let proven = live_files(&lab.asterisk)?;
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(502)?, "apply_rollback_failed");
    let attempt = audited(&lab.client, &reply).await?;
    assert_both_told(&attempt)?;
    // The old dialplan could not be loaded either, but both files are of one revision again.
    assert_eq!(live_files(&lab.asterisk)?, proven);
    // The portal can do its work, and says what is in doubt; no refused apply hides that.
    let nothing = json!({ "expected_digest": "00".repeat(32) });
    let refused = lab.client.post("/apply", &nothing).await?;
    assert_eq!(refused.problem(412)?, "preview_outdated");
    let id = attempt["id"].as_str().unwrap_or_default();
    for body in [readiness(&lab).await?, status(&lab.client).await?] {
        assert!(warning_codes(&body).contains(&"pbx_in_doubt"), "{body}");
        let warnings = body["warnings"].to_string();
        assert!(
            warnings.contains("'rollback_failed'") && warnings.contains(id),
            "{body}"
        );
    }
    let state = status(&lab.client).await?;
    assert_eq!(state["last_attempt"]["id"], id, "{state}");
    assert_eq!(state["degraded"], true, "{state}");
    // Asterisk answers, and has no dialplan.
    let routing = &state["files"][1];
    assert_eq!(routing["verdict"], "not_loaded", "{state}");
    assert_eq!(routing["loaded"], Value::Null);
    assert!(
        routing["loaded_detail"]
            .to_string()
            .contains("nothing of it"),
        "{routing}"
    );
    assert_eq!(state["files"][0]["loaded_detail"], Value::Null);

    lab.asterisk.rx("module load pbx_config.so").await?;
    applied(&lab.client, lab.apply().await?).await?;
    for body in [readiness(&lab).await?, status(&lab.client).await?] {
        assert_eq!(warning_codes(&body), [""; 0], "{body}");
    }
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}
