//! `POST /apply/verify`: everything that is in force is compared on demand.

use tests::lab::PortalLab;

use crate::events::of_kind;

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
