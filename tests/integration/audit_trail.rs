//! Every attempt to apply is in the audit trail (FR-013, SC-007), also one that ended early. Those
//! that reached the PBX: the stories and the edge cases; those that waited too long: row 17 of `faults`.

use tests::lab::PortalLab;

use crate::audit::{audited, included, steps, trail};
use crate::crowd::create_users;

#[tokio::test]
async fn an_attempt_that_cannot_be_rendered_names_the_user() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let users = create_users(&lab.client, 3).await?;
    // As after a restore with another key: what is stored for one of them cannot be read.
    let pool = lab.database.pool().await?;
    let spoiled = users[1].id.parse::<uuid::Uuid>()?;
    sqlx::query(r"update device set sip_password_encrypted = '\x00' where user_id = $1")
        .bind(spoiled)
        .execute(&pool)
        .await?;
    let reply = lab.client.post_nothing("/apply").await?;
    assert_eq!(reply.problem(500)?, "render_failed");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(attempt["outcome"], "render_failed");
    let said = attempt["failure"]["message"].as_str().unwrap_or_default();
    assert!(said.contains(&users[1].id), "whose? {said}");
    assert!(attempt["revision"].is_null() && steps(&attempt).is_empty());

    // Without that user, the next attempt comes as far as the agent, of which there is none.
    let path = format!("/users/{}", users[1].id);
    lab.client.delete(&path).await?.expect(204)?;
    let reply = lab.client.post_nothing("/apply").await?;
    assert_eq!(reply.problem(503)?, "agent_unreachable");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(included(&attempt).len(), 2);
    let outcomes = trail(&lab.client).await?;
    let outcomes: Vec<_> = outcomes.iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["agent_unreachable", "render_failed"]);
    Ok(())
}
