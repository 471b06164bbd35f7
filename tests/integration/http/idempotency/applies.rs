//! Applies under a key.

use super::*;

#[tokio::test]
async fn an_apply_is_carried_out_once() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let pool = lab.database.pool().await?;
    let first = post(&lab.client, "/apply", "k", &json!({}))
        .await?
        .expect(200)?;
    let again = post(&lab.client, "/apply", "k", &json!({}))
        .await?
        .expect(200)?;
    assert!(!is_replay(&first) && is_replay(&again));
    assert_eq!(first.body, again.body);
    let other = post(&lab.client, "/apply", "k", &json!({ "force": true })).await?;
    assert_problem(&other, 422, "idempotency_key_reused")?;

    // Whether it is waited for is a part of what is asked.
    let later = async |key: &str| {
        let request = lab.client.request(Method::POST, "/apply");
        let request = request.header("Prefer", "respond-async");
        request.header("Idempotency-Key", key).send().await
    };
    assert_problem(&later("k").await?, 422, "idempotency_key_reused")?;
    let first = later("l").await?.expect(202)?;
    let again = later("l").await?.expect(202)?;
    assert_eq!(first.body, again.body);
    assert!(is_replay(&again));
    for name in ["location", "preference-applied"] {
        assert_eq!(first.header(name), again.header(name));
    }
    let path = first.header("location").to_owned();
    let ended = async || {
        let attempt = async { lab.client.get(&path).await?.json() };
        attempt
            .await
            .is_ok_and(|attempt| attempt["ended_at"].is_string())
    };
    wait_until("the accepted apply has ended", LIMIT, ended).await?;
    assert_eq!(count(&pool, "select count(*) from apply").await?, 2);

    let id = again.json()?["id"].as_str().unwrap_or_default().to_owned();
    let restore = format!("/applies/{id}/restore");
    let first = post(&lab.client, &restore, "r", &json!({}))
        .await?
        .expect(200)?;
    let again = post(&lab.client, &restore, "r", &json!({}))
        .await?
        .expect(200)?;
    assert!(first.body == again.body && is_replay(&again));
    let first = post(&lab.client, "/apply/verify", "v", &json!({}))
        .await?
        .expect(200)?;
    let again = post(&lab.client, "/apply/verify", "v", &json!({}))
        .await?
        .expect(200)?;
    assert!(first.body == again.body && is_replay(&again));
    let asked = "select count(*) from pbx_event where kind = 'verify_requested'";
    assert_eq!(count(&pool, asked).await?, 1);
    Ok(())
}

/// Says that the portal that carried a request out is gone, as 20 s without a sign of life do.
async fn lease_is_over(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query("update idempotency_key set lease_until = now() - interval '1 second'")
        .execute(pool)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_portal_killed_before_it_kept_the_answer_of_an_apply_leaves_its_attempt()
-> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let pool = lab.database.pool().await?;
    // The claim is an insertion and passes; the answer is an update of its status.
    let mut gate = Gate::close(&lab.database.url, "update of status").await?;
    let request = {
        let client = lab.client.clone();
        tokio::spawn(async move { post(&client, "/apply", "k", &json!({})).await })
    };
    gate.somebody_waits(&pool).await?;
    lab.portal.kill();
    gate.turn_away(&pool).await?;
    gate.open().await?;
    assert!(request.await?.is_err(), "an answer came through");
    sqlx::raw_sql("drop trigger gate on idempotency_key; drop function gate")
        .execute(&pool)
        .await?;
    lab.portal.resume().await?;
    let waits = post(&lab.client, "/apply", "k", &json!({})).await?;
    assert_problem(&waits, 409, "idempotency_key_in_use")?;
    assert!(!waits.header("retry-after").is_empty());
    lease_is_over(&pool).await?;
    let reply = post(&lab.client, "/apply", "k", &json!({}))
        .await?
        .expect(200)?;
    assert!(is_replay(&reply));
    let kept: Value = lab.client.get("/applies").await?.expect(200)?.json()?;
    assert_eq!(kept.as_array().map(Vec::len), Some(1), "{kept}");
    assert_eq!(kept[0]["id"], reply.json()?["id"]);
    Ok(())
}

#[tokio::test]
async fn a_portal_killed_before_its_apply_was_recorded_changed_nothing() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let pool = lab.database.pool().await?;
    // No row of `apply` can be written, and nothing is sent without one.
    let mut holder = pool.begin().await?;
    sqlx::query("lock table apply in share mode")
        .execute(&mut *holder)
        .await?;
    let request = {
        let client = lab.client.clone();
        tokio::spawn(async move { post(&client, "/apply", "k", &json!({})).await })
    };
    let waiting = "select count(*) from pg_locks l join pg_class c on c.oid = l.relation
        where c.relname = 'apply' and not l.granted";
    let waits = async || count(&pool, waiting).await.is_ok_and(|waiting| waiting > 0);
    wait_until("the apply waits for its row", LIMIT, waits).await?;
    lab.portal.kill();
    holder.rollback().await?;
    assert!(request.await?.is_err(), "an answer came through");
    lab.portal.resume().await?;
    lease_is_over(&pool).await?;
    let reply = post(&lab.client, "/apply", "k", &json!({}))
        .await?
        .expect(200)?;
    assert!(!is_replay(&reply), "{reply}");
    let again = post(&lab.client, "/apply", "k", &json!({}))
        .await?
        .expect(200)?;
    assert!(is_replay(&again) && again.body == reply.body);
    assert_eq!(count(&pool, "select count(*) from apply").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_portal_killed_before_it_said_202_has_accepted_all_the_same() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let pool = lab.database.pool().await?;
    let later = |client: &Client| {
        let request = client.request(Method::POST, "/apply");
        let request = request.header("Prefer", "respond-async");
        request.header("Idempotency-Key", "k").send()
    };
    // It stays in line: no row of `apply` can be written.
    let mut holder = pool.begin().await?;
    sqlx::query("lock table apply in share mode")
        .execute(&mut *holder)
        .await?;
    let mut gate = Gate::close(&lab.database.url, "update of status").await?;
    let request = tokio::spawn(later(&lab.client));
    gate.somebody_waits(&pool).await?;
    lab.portal.kill();
    holder.rollback().await?;
    gate.turn_away(&pool).await?;
    gate.open().await?;
    assert!(request.await?.is_err(), "an answer came through");
    sqlx::raw_sql("drop trigger gate on idempotency_key; drop function gate")
        .execute(&pool)
        .await?;
    lab.portal.resume().await?;
    lease_is_over(&pool).await?;
    let reply = later(&lab.client).await?.expect(202)?;
    assert!(is_replay(&reply));
    let kept: Value = lab.client.get("/applies").await?.expect(200)?.json()?;
    assert_eq!(kept.as_array().map(Vec::len), Some(1), "{kept}");
    assert_eq!(kept[0]["id"], reply.json()?["id"]);
    Ok(())
}
