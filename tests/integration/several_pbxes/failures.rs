//! Agents that hang, are down, or are others.

use super::*;

#[tokio::test]
async fn an_agent_that_hangs_holds_up_no_other_pbx() -> anyhow::Result<()> {
    let (lab, branch) = two().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    lab.apply().await?.expect(200)?;
    move_tenant(&lab.database, "branch").await?;
    branch.agent.signal(Signal::SIGSTOP)?;

    // Asked for together: the other one is proven although this one has not even begun.
    let both = tokio::spawn({
        let client = lab.client.clone();
        async move { client.post_nothing("/apply").await }
    });
    wait_until("the default PBX is applied", DEADLINE, async || {
        let newest = list(&lab.client, "/applies?pbx=default&limit=1").await;
        newest.is_ok_and(|newest| newest[0]["revision"] == 2 && newest[0]["outcome"] == "applied")
    })
    .await?;
    assert!(!both.is_finished(), "the one that hangs was not waited for");
    let open = &list(&lab.client, "/applies?pbx=branch&limit=1").await?[0];
    assert_eq!(open["outcome"], "started", "{open}");

    // Its line is its own, and so is what is asked of the other one.
    let body = json!({ "pbx": "default" });
    let reply = apply(&lab.client, body.clone()).await?.expect(200)?;
    assert_eq!(told(&reply)?, pairs([("default", "unchanged")]));
    lab.client.post("/apply/verify", &body).await?.expect(200)?;
    let preview = lab
        .client
        .get("/apply/preview?pbx=default")
        .await?
        .expect(200)?;
    assert_eq!(preview.json()?["would_apply"], true);
    let status = one(&lab.client, "/apply/status?pbx=default").await?;
    assert_eq!(
        (&status["agent"], &status["degraded"]),
        (&json!("reachable"), &json!(false))
    );
    assert_eq!(status["open"], json!([]));
    let ready = lab.client.get("/health/ready").await?.expect(200)?.json()?;
    assert_eq!(ready["status"], "ready");
    let ok: Vec<&Value> = [0, 1].map(|n| &ready["pbxes"][n]["agent"]["ok"]).into();
    assert_eq!(ok, [&json!(false), &json!(true)], "{ready}");
    let warned = ready["warnings"].as_array().context("no warnings")?;
    let silent = warned.iter().filter(|w| w["code"] == "pbx_unavailable");
    let silent: Vec<&str> = silent.filter_map(|w| w["message"].as_str()).collect();
    assert!(
        silent.len() == 1 && silent[0].starts_with("PBX branch: "),
        "{ready}"
    );

    branch.agent.signal(Signal::SIGCONT)?;
    let reply = both.await??.expect(200)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "applied"), ("default", "applied")])
    );
    assert_exactly(&branch.asterisk, [1000]).await
}

#[tokio::test]
async fn an_agent_that_is_down_fails_alone_and_both_are_told() -> anyhow::Result<()> {
    let (lab, mut branch) = two().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    lab.apply().await?.expect(200)?;
    move_tenant(&lab.database, "branch").await?;
    branch.agent.kill();

    let reply = lab.apply().await?;
    assert_eq!(reply.problem(503)?, "agent_unreachable");
    let expected = [("branch", "agent_unreachable"), ("default", "applied")];
    assert_eq!(told(&reply)?, pairs(expected));
    let body = reply.json()?;
    assert_eq!(body["apply"]["pbx"], "branch", "{body}");
    assert!(
        body["applies"][0]["failure"]["message"].is_string(),
        "{body}"
    );
    assert_exactly(&lab.asterisk, []).await?;

    // That it went away is an event of that PBX alone.
    let gone = async || {
        let events = list(&lab.client, "/events?kind=agent_unreachable").await;
        events.is_ok_and(|events| !events.is_empty())
    };
    wait_until("the event", DEADLINE, gone).await?;
    assert_eq!(
        one(&lab.client, "/events?kind=agent_unreachable&pbx=branch").await?["pbx"],
        "branch"
    );
    assert_eq!(
        list(&lab.client, "/events?kind=agent_unreachable&pbx=default").await?,
        [] as [Value; 0]
    );
    let ready = lab.client.get("/health/ready").await?.expect(200)?.json()?;
    assert_eq!(
        (&ready["agent"]["ok"], &ready["asterisk"]["ok"]),
        (&json!(true), &json!(true))
    );

    // None at all is not ready.
    let mut lab = lab;
    lab.agent.kill();
    let ready = lab.client.get("/health/ready").await?.expect(503)?.json()?;
    assert_eq!(
        (&ready["agent"]["ok"], &ready["database"]["ok"]),
        (&json!(false), &json!(true))
    );
    lab.agent.resume().await?;
    branch.agent.resume().await?;
    let reply = lab.apply().await?.expect(200)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "applied"), ("default", "no_changes")])
    );
    assert_exactly(&branch.asterisk, [1000]).await
}

#[tokio::test]
async fn an_agent_of_another_identity_is_refused_for_its_pbx_alone() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let host = lab.another_host("office").await?;
    let body = json!({ "name": "branch", "agent_address": host.agent.address().to_string() });
    lab.client.post("/pbxes", &body).await?.expect(201)?;
    let reply = lab.apply().await?;
    let expected = [("branch", "agent_unreachable"), ("default", "applied")];
    assert_eq!(told(&reply)?, pairs(expected));
    let failure = &reply.json()?["applies"][0]["failure"];
    assert_eq!(failure["code"], "agent_certificate_refused", "{failure}");
    let identity = json!({ "agent_identity": "spiffe://pbx.internal/agent/office" });
    patch(&lab.client, "branch", identity).await?.expect(200)?;
    let reply = lab.apply().await?.expect(200)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "applied"), ("default", "no_changes")])
    );
    Ok(())
}
