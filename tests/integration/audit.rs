//! What an apply answered, and what the audit trail keeps of it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::portal::{Client, Reply};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The attempt that a reply to `POST /apply` tells of: the body of a 200, or the member `apply` of
/// a problem. Fails unless the audit trail tells the very same.
pub(crate) async fn audited(client: &Client, reply: &Reply) -> anyhow::Result<Value> {
    let body = reply.json()?;
    let mut told = if reply.status == 200 {
        body.clone()
    } else {
        body["apply"].clone()
    };
    // Beside the attempt, `POST /apply` tells of each PBX, and so of this one.
    let told_of_each = told.as_object_mut().and_then(|told| told.remove("applies"));
    let each = told_of_each.as_ref().unwrap_or(&body["applies"]).as_array();
    let id = told["id"]
        .as_str()
        .with_context(|| format!("no attempt in {reply}"))?;
    let of_this = |of: &Value| of["apply_id"] == id && of["outcome"] == told["outcome"];
    ensure!(each.is_none_or(|each| each.iter().any(of_this)), "{reply}");
    let mut kept = client
        .get(&format!("/applies/{id}"))
        .await?
        .expect(200)?
        .json()?;
    // Which the reply only counts.
    let carried = kept.as_object_mut().and_then(|kept| kept.remove("carried"));
    let carried = carried.context("not told what it carried")?;
    ensure!(carried.is_array(), "{carried}");
    ensure!(
        kept == told,
        "the audit trail keeps {kept}\nthe reply told {told}"
    );
    ensure!(kept["ended_at"].is_string(), "not ended: {kept}");
    Ok(kept)
}

/// The same for an apply that must have ended well.
pub(crate) async fn applied(client: &Client, reply: Reply) -> anyhow::Result<Value> {
    let reply = reply.expect(200)?;
    let attempt = audited(client, &reply).await?;
    ensure!(attempt["outcome"] == "applied", "{attempt}");
    ensure!(attempt["failure"].is_null(), "{attempt}");
    let ok = steps(&attempt).iter().all(|step| step["ok"] == true);
    ensure!(ok, "applied in spite of a failed step: {attempt}");
    Ok(attempt)
}

/// The whole audit trail, the newest first.
pub(crate) async fn trail(client: &Client) -> anyhow::Result<Vec<Value>> {
    let trail = client
        .get("/applies?limit=200")
        .await?
        .expect(200)?
        .json()?;
    trail
        .as_array()
        .cloned()
        .context("GET /applies is no array")
}

/// The steps of an attempt.
pub(crate) fn steps(attempt: &Value) -> &[Value] {
    attempt["steps"].as_array().map_or(&[], Vec::as_slice)
}

/// The step whose action holds `words`.
pub(crate) fn step<'a>(attempt: &'a Value, words: &str) -> anyhow::Result<&'a Value> {
    let told = |step: &&Value| {
        step["action"]
            .as_str()
            .is_some_and(|text| text.contains(words))
    };
    let found = steps(attempt).iter().find(told);
    found.with_context(|| format!("no step `{words}` in {attempt}"))
}

/// The extensions that an attempt included, sorted.
pub(crate) fn included(attempt: &Value) -> Vec<u64> {
    let users = attempt["users"].as_array().map_or(&[][..], Vec::as_slice);
    let mut numbers: Vec<u64> = users
        .iter()
        .filter_map(|user| user["extension"].as_u64())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Fails unless these attempts, by their revisions, ran one after another on the PBX: nothing of
/// one began before everything of the one before had ended, by the agent's clock.
pub(crate) fn assert_one_after_another(attempts: &[Value]) -> anyhow::Result<()> {
    let mut spans = attempts
        .iter()
        .map(Span::read)
        .collect::<anyhow::Result<Vec<_>>>()?;
    spans.sort_by_key(|span| span.revision);
    for pair in spans.windows(2) {
        let [earlier, later] = pair else { continue };
        ensure!(
            earlier.revision < later.revision,
            "revision {} twice",
            later.revision
        );
        ensure!(
            earlier.ended_ms <= later.began_ms,
            "revision {} ended at {}, revision {} began at {}",
            earlier.revision,
            earlier.ended_ms,
            later.revision,
            later.began_ms,
        );
    }
    Ok(())
}

/// When the agent worked on a revision, in whole milliseconds since 1970. Starts come rounded down
/// to milliseconds, so that a sum of start and duration is at most the true end.
struct Span {
    revision: u64,
    began_ms: i128,
    ended_ms: i128,
}

impl Span {
    fn read(attempt: &Value) -> anyhow::Result<Self> {
        let mut span = Self {
            revision: attempt["revision"].as_u64().context("no revision")?,
            began_ms: i128::MAX,
            ended_ms: i128::MIN,
        };
        for step in steps(attempt) {
            let started = step["started_at"]
                .as_str()
                .context("a step without a time")?;
            let started = OffsetDateTime::parse(started, &Rfc3339)?;
            let lasted = step["duration_ms"]
                .as_f64()
                .context("a step without a duration")?;
            let lasted = Duration::try_from_secs_f64(lasted / 1e3)?;
            let ended = started + lasted;
            span.began_ms = span
                .began_ms
                .min(started.unix_timestamp_nanos() / 1_000_000);
            span.ended_ms = span.ended_ms.max(ended.unix_timestamp_nanos() / 1_000_000);
        }
        ensure!(span.began_ms <= span.ended_ms, "no steps: {attempt}");
        Ok(span)
    }
}
