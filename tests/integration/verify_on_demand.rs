//! `POST /apply/verify`: everything that is in force is compared on demand.

use serde_json::json;
use tests::lab::{Lab, PortalLab};
use tests::portal::{Client, Reply};

use crate::audit::applied;
use crate::crowd::create_users;
use crate::events::of_kind;
use crate::held::managed_files;
use crate::respond_async::accepted;
use crate::stand_in::{self, Reload};

#[tokio::test]
async fn an_agent_that_cannot_be_reached_is_told_and_the_question_is_audited() -> anyhow::Result<()>
{
    let lab = PortalLab::start().await?;
    let request = lab.client.request(reqwest::Method::POST, "/apply/verify");
    let reply = request.header("X-Admin-User", "anna").send().await?;
    assert_eq!(reply.problem(503)?, "agent_unreachable", "{reply}");
    let events = of_kind(&lab.client, "verify_requested").await?;
    let [event] = &events[..] else {
        anyhow::bail!("one question, one event: {events:?}");
    };
    assert_eq!(event["requested_by"], "anna");
    assert!(event["detail"].to_string().contains("no result"), "{event}");
    Ok(())
}

async fn verify(client: &Client) -> anyhow::Result<Reply> {
    client.post_nothing("/apply/verify").await
}

#[tokio::test]
async fn what_is_in_force_is_compared_in_full_and_nothing_is_changed() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    assert_eq!(verify(&lab.client).await?.problem(409)?, "nothing_applied");
    create_users(&lab.client, 3).await?;
    let attempt = applied(&lab.client, lab.apply().await?).await?;
    let files = managed_files(&lab.asterisk)?;
    let found = verify(&lab.client).await?.expect(200)?.json()?;
    assert_eq!(
        (&found["in_force"], &found["mismatches"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(
        (&found["revision"], &found["digest"]),
        (&json!(1), &attempt["digest"])
    );
    assert!(found["compared"].as_u64() >= Some(3 * 4), "{found}");

    // Nobody can see that in a file.
    lab.asterisk
        .rx("dialplan remove extension 1001@synergy-internal")
        .await?;
    let found = verify(&lab.client).await?.expect(200)?.json()?;
    assert_eq!(found["in_force"], false, "{found}");
    let [mismatch] = found["mismatches"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
    else {
        anyhow::bail!("one thing is missing: {found}");
    };
    assert_eq!(
        (&mismatch["object"], &mismatch["kind"]),
        (&json!("extension"), &json!("missing"))
    );
    assert!(mismatch["name"].to_string().contains("1001"), "{found}");
    assert_eq!(managed_files(&lab.asterisk)?, files);

    let events = of_kind(&lab.client, "verify_requested").await?;
    let details: Vec<String> = events
        .iter()
        .map(|event| event["detail"].to_string())
        .collect();
    assert_eq!(details.len(), 3, "{details:?}");
    assert!(details[0].contains("is not in force"), "{details:?}");
    assert!(details[1].contains("revision 1 is in force"), "{details:?}");
    assert!(details[2].contains("no result"), "{details:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_compared_while_an_apply_runs() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    let reply = verify(&lab.client).await?;
    assert_eq!(reply.problem(409)?, "apply_busy", "{reply}");
    assert!(reply.text().contains(&id), "{reply}");
    drop(hold);
    Ok(())
}
