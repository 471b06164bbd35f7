//! One tree of spans, from the REST call to the last step on the PBX host.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::lab::Lab;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn lines(log: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).ok();
    log.lines().filter_map(parse).collect()
}

/// The innermost span of that name around a line.
fn span<'a>(line: &'a Value, name: &str) -> Option<&'a Value> {
    let spans = line["spans"].as_array()?;
    spans.iter().rev().find(|span| span["name"] == name)
}

fn names(line: &Value) -> Vec<&str> {
    let spans = line["spans"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    spans
        .iter()
        .filter_map(|span| span["name"].as_str())
        .collect()
}

#[tokio::test]
async fn one_tree_from_the_call_to_the_last_step() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let request = lab.client.request(reqwest::Method::POST, "/apply");
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let reply = request
        .header("traceparent", &traceparent)
        .header("x-request-id", "request-7")
        .json(&json!({}))
        .send()
        .await?
        .expect(200)?;
    let apply = reply.json()?;

    // The root, as the portal logs it.
    let portal = lines(&lab.portal.log());
    let started = portal
        .iter()
        .find(|line| line["message"] == "apply started");
    let started = started.context("the portal says nothing of it")?;
    ensure!(names(started) == ["request", "apply"], "{started}");
    let root = span(started, "request").context("no request")?;
    ensure!(
        root["trace_id"] == TRACE && root["parent_id"] == CALLER,
        "{root}"
    );
    ensure!(root["request_id"] == "request-7", "{root}");
    let own = span(started, "apply").context("no apply")?;
    ensure!(
        own["apply_id"] == apply["id"] && own["revision"] == apply["revision"],
        "{own}"
    );

    steps_are_below(&lab, &apply, root)?;

    // Whoever names no trace gets one, and what is none is not taken over.
    let request = lab.client.request(reqwest::Method::POST, "/apply");
    let request = request.header("traceparent", "00-xyz-00f067aa0ba902b7-01");
    request.json(&json!({})).send().await?.expect(200)?;
    let portal = lines(&lab.portal.log());
    let last = portal
        .iter()
        .rev()
        .find(|line| line["message"] == "apply ended");
    let root = last
        .and_then(|line| span(line, "request"))
        .context("no root")?;
    let trace = root["trace_id"].as_str().context("no trace")?;
    ensure!(
        trace.len() == 32 && trace != TRACE && root["parent_id"].is_null(),
        "{root}"
    );
    Ok(())
}

/// Below the root, the agent: its RPC, its apply, and each step.
fn steps_are_below(lab: &Lab, apply: &Value, root: &Value) -> anyhow::Result<()> {
    let agent = lines(&lab.agent.log());
    let steps: Vec<_> = agent
        .iter()
        .filter(|line| line["message"] == "step done")
        .collect();
    let told = apply["steps"].as_array().context("no steps")?;
    let actions: Vec<_> = told.iter().map(|step| &step["action"]).collect();
    let mut logged = Vec::new();
    for line in steps {
        ensure!(names(line) == ["rpc", "apply", "step"], "{line}");
        let rpc = span(line, "rpc").context("no rpc")?;
        ensure!(
            rpc["trace_id"] == TRACE && rpc["parent_id"] == root["span_id"],
            "{rpc}"
        );
        ensure!(
            rpc["request_id"] == "request-7" && rpc["method"] == "Apply",
            "{rpc}"
        );
        let outer = span(line, "apply").context("no apply")?;
        ensure!(outer["apply_id"] == apply["id"], "{outer}");
        ensure!(outer["revision"].to_string().trim_matches('"') == apply["revision"].to_string());
        let step = span(line, "step").context("no step")?;
        ensure!(step["ok"] == true && step["duration_us"].is_u64(), "{step}");
        ensure!(step["phase"].is_string(), "{step}");
        logged.push(&step["action"]);
    }
    ensure!(logged == actions, "{logged:?}\n{actions:?}");
    Ok(())
}
