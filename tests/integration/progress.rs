//! An apply is followed step by step while it runs.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::AgentError;
use shared::bundle::ApplyId;
use shared::record::{OnReloadFailure, Outcome, Step};
use tests::asterisk::Settings;
use tokio_stream::{Stream, StreamExt as _};
use uuid::Uuid;

use crate::pbx::{Pbx, bundle, request_id};
use crate::stand_in::{Reload, StandIn};

const LIMIT: Duration = Duration::from_mins(1);

type Progress = Result<(u32, Step), AgentError>;

async fn next(steps: &mut (impl Stream<Item = Progress> + Unpin)) -> anyhow::Result<Option<Step>> {
    let next = tokio::time::timeout(LIMIT, steps.next()).await?;
    Ok(next.transpose()?.map(|(_, step)| step))
}

#[tokio::test]
async fn the_steps_come_as_they_end() -> anyhow::Result<()> {
    let stand_in = StandIn::new()?;
    let program = stand_in.program();
    let pbx = Pbx::start_with(Settings::default(), &[("ASTERISK_BINARY", &program)]).await?;
    let bundle = bundle(&[1000], "one");
    let order = pbx.order(&bundle, OnReloadFailure::RollBack);
    let unknown = pbx.link.follow(ApplyId(Uuid::now_v7()), 0).await;
    ensure!(matches!(unknown.err(), Some(AgentError::NotFound)));
    pbx.link.stage(&order, bundle, &request_id()).await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = request_id();
    let follow = async {
        hold.reached().await?;
        let mut steps = Box::pin(pbx.link.follow(order.id, 1).await?);
        // Everything before the reload, while the reload hangs.
        let mut seen = Vec::new();
        while seen.last() != Some(&"note that the files are switched".to_owned()) {
            seen.push(
                next(&mut steps)
                    .await?
                    .context("it ended too early")?
                    .action,
            );
        }
        // Somebody who reads nothing holds up nobody.
        let slow = pbx.link.follow(order.id, 0).await?;
        drop(hold);
        while let Some(step) = next(&mut steps).await? {
            seen.push(step.action);
        }
        drop(slow);
        anyhow::Ok(seen)
    };
    let (record, seen) = tokio::join!(pbx.link.apply(&order, LIMIT, &id), follow);
    let record = record?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let actions: Vec<_> = record
        .steps
        .iter()
        .map(|step| step.action.clone())
        .collect();
    ensure!(seen? == actions[1..]);

    // It has ended: the rest at once.
    let known = u32::try_from(actions.len())? - 2;
    let mut steps = Box::pin(pbx.link.follow(order.id, known).await?);
    let mut rest = Vec::new();
    while let Some(step) = next(&mut steps).await? {
        rest.push(step.action);
    }
    ensure!(rest == actions[actions.len() - 2..]);
    Ok(())
}
