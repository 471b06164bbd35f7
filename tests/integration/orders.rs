//! What the agent does with orders that come twice, at once or late.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::{AgentError, Order};
use shared::bundle::ApplyId;
use shared::record::{OnReloadFailure, Outcome, Phase};
use uuid::Uuid;

use crate::held::{assert_exactly, managed_files};
use crate::pbx::{Pbx, bundle, request_id};
use crate::stand_in::{self, Reload};

const APPLY_LIMIT: Duration = Duration::from_secs(20);

/// A lost reply is asked for again: one switch, one pair of reloads, one record.
#[tokio::test]
async fn the_same_order_again_attaches_to_the_same_apply() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &[]).await?;
    let next = bundle(&[1000, 1001], "one");
    let order = pbx.order(&next, OnReloadFailure::RollBack);
    pbx.link.stage(&order, next.clone(), &request_id()).await?;
    let before = stand_in.commands().len();
    let hold = stand_in.hold(Reload::Pjsip)?;
    let ids = [request_id(), request_id(), request_id()];
    let [first, second, third] = ids
        .each_ref()
        .map(|id| pbx.link.apply(&order, APPLY_LIMIT, id));
    let other = bundle(&[1000], "two");
    let meanwhile = async {
        hold.reached().await?;
        // Somebody else's is told which one runs.
        let busy = pbx.apply(&other).await.err().context("two at once")?;
        let busy = busy.downcast::<AgentError>()?;
        ensure!(
            matches!(busy, AgentError::Busy(Some(id)) if id == order.id),
            "{busy}"
        );
        // The record so far can be read.
        let so_far = pbx.link.find_apply(order.id).await?.context("unknown")?;
        ensure!(so_far.outcome.is_none(), "{so_far:#?}");
        ensure!(
            so_far
                .steps
                .iter()
                .any(|step| step.phase == Phase::Switched),
            "{so_far:#?}"
        );
        drop(hold);
        anyhow::Ok(())
    };
    let (first, second, meanwhile) = tokio::join!(first, second, meanwhile);
    meanwhile?;
    let first = first?;
    assert_eq!(first.outcome, Some(Outcome::Applied), "{first:#?}");
    assert_eq!(second?, first);
    // Long after its end as well.
    assert_eq!(third.await?, first);
    let commands = stand_in.commands().split_off(before);
    assert_eq!(commands, ["pjsip reload", "dialplan reload"]);

    // The same id or revision with another content or for another attempt is a mistake.
    let digest = other.manifest().digest();
    for wrong in [
        Order { digest, ..order },
        Order {
            id: ApplyId(Uuid::now_v7()),
            ..order
        },
    ] {
        let refused = pbx.link.apply(&wrong, APPLY_LIMIT, &request_id()).await;
        assert!(
            matches!(refused, Err(AgentError::Refused { .. })),
            "{wrong:?}: {refused:?}"
        );
    }
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}

/// A portal that lost its lock without knowing, and wakes: it never overwrites what is newer.
#[tokio::test]
async fn a_stale_revision_is_refused() -> anyhow::Result<()> {
    let mut pbx = Pbx::start().await?;
    let stale = bundle(&[1000, 1001], "stale");
    let staged = pbx.order(&stale, OnReloadFailure::RollBack);
    pbx.link
        .stage(&staged, stale.clone(), &request_id())
        .await?;
    let unstaged = pbx.order(&stale, OnReloadFailure::RollBack);
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    let files = managed_files(&pbx.asterisk)?;
    // It remembers across a restart.
    for restart in [false, true] {
        if restart {
            pbx.agent.kill();
            pbx.agent.resume().await?;
        }
        let applied = pbx.link.apply(&staged, APPLY_LIMIT, &request_id()).await;
        assert!(matches!(applied, Err(AgentError::Stale(_))), "{applied:?}");
        let upload = pbx
            .link
            .stage(&unstaged, stale.clone(), &request_id())
            .await;
        assert!(matches!(upload, Err(AgentError::Stale(_))), "{upload:?}");
    }
    assert_eq!(managed_files(&pbx.asterisk)?, files);
    assert_exactly(&pbx.asterisk, [1000]).await
}
