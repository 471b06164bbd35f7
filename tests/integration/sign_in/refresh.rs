//! Stolen refresh tokens: whoever comes second ends the session for both.

use super::{Tokens, ann, assert_out, lab, noted, refresh};

#[tokio::test]
async fn a_stolen_refresh_token_ends_the_session_for_thief_and_owner() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    // Once the thief is first, once the owner: nobody can tell them apart.
    for _ in 0..2 {
        let owner = Tokens::open(&lab.client, "ann").await?;
        let first = Tokens::of(&refresh(&lab.client, &owner.refresh).await?.expect(200)?)?;
        let second = refresh(&lab.client, &owner.refresh).await?;
        assert_eq!(second.problem(401)?, "refresh_reused");
        for access in [&owner.access, &first.access] {
            assert_out(&lab.client.with_bearer(access), "ended").await?;
        }
        let late = refresh(&lab.client, &first.refresh).await?;
        assert_eq!(late.problem(401)?, "refresh_refused");
        let reason: String =
            sqlx::query_scalar("select end_reason from session where session_id = $1::uuid")
                .bind(&owner.id)
                .fetch_one(&pool)
                .await?;
        assert_eq!(reason, "refresh_reused");
        let (_, which, after) = noted(&pool, "session.ended").await?.remove(0);
        assert_eq!(
            (which.as_str(), &after["reason"]),
            (owner.id.as_str(), &"refresh_reused".into())
        );
        // Also the other token is known as used: it does not end the session twice.
        assert_eq!(
            refresh(&lab.client, &owner.refresh).await?.problem(401)?,
            "refresh_reused"
        );
        assert_eq!(noted(&pool, "session.ended").await?[0].1, owner.id);
    }
    assert_eq!(noted(&pool, "session.ended").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn of_several_at_once_one_gets_the_next_token() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    let many = (0..8).map(|_| {
        let (client, token) = (lab.client.clone(), tokens.refresh.clone());
        tokio::spawn(async move { refresh(&client, &token).await })
    });
    let mut got = Vec::new();
    for reply in many.collect::<Vec<_>>() {
        let reply = reply.await??;
        match reply.status {
            200 => got.push(Tokens::of(&reply)?),
            _ => assert_eq!(reply.problem(401)?, "refresh_reused"),
        }
    }
    assert_eq!(got.len(), 1);
    assert_out(&lab.client.with_bearer(&got[0].access), "reused").await
}

#[tokio::test]
async fn an_old_token_and_no_token_are_refused_alike() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    sqlx::query("update refresh_token set expires_at = now() - interval '1 second'")
        .execute(&pool)
        .await?;
    let unknown = format!("pbxr_{}", "A".repeat(43));
    for token in [&tokens.refresh, &unknown] {
        assert_eq!(
            refresh(&lab.client, token).await?.problem(401)?,
            "refresh_refused"
        );
    }
    // That harms nobody: the session goes on.
    tokens.current(&lab.client).await?.expect(200)?;
    for bad in ["", "pbxr_", &tokens.access, &unknown[1..]] {
        let reply = refresh(&lab.client, bad).await?;
        assert_eq!(reply.problem(400)?, "validation_failed", "{bad}");
    }
    Ok(())
}
