//! Row 19: a reply is lost, or a request comes twice. The same record is answered: one switch, one
//! pair of reloads.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::{AgentError, Order};
use shared::bundle::ApplyId;
use shared::record::{OnReloadFailure, Outcome, Phase};
use tests::lab::Lab;
use tests::portal::Portal;
use tests::proxy::{Direction, Proxy, Rule};
use uuid::Uuid;

use crate::audit::{applied, audited, steps};
use crate::held::assert_exactly;
use crate::pbx::{bundle, request_id};
use crate::stand_in::{self, Reload, StandIn};
use crate::strace::said;

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

/// A portal whose way to the agent is a proxy; the other portal is gone.
async fn behind_a_proxy() -> anyhow::Result<(Lab, StandIn, Proxy, Portal)> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let proxy = Proxy::start(lab.agent.address()).await?;
    let portal = lab.another_portal_to(proxy.address()).await?;
    lab.portal.stop().await?;
    lab.client = portal.client()?;
    Ok((lab, stand_in, proxy, portal))
}

/// The connection breaks while Asterisk reloads: the portal asks again, and gets the same record.
#[tokio::test]
async fn a_reply_that_is_lost_is_asked_for_again() -> anyhow::Result<()> {
    for reload in [Reload::Pjsip, Reload::Dialplan] {
        let (lab, stand_in, proxy, _portal) = behind_a_proxy().await?;
        let before = stand_in.commands().len();
        let hold = stand_in.hold(reload)?;
        let cut = async {
            hold.reached().await?;
            proxy.cut();
            drop(hold);
            anyhow::Ok(())
        };
        let (reply, cut) = tokio::join!(lab.apply(), cut);
        cut?;
        let attempt = applied(&lab.client, reply?).await?;
        ensure!(attempt["revision"] == 2, "{attempt}");
        let commands = stand_in.commands().split_off(before);
        ensure!(
            commands == ["pjsip reload", "dialplan reload"],
            "{commands:?}"
        );
        let switches = steps(&attempt)
            .iter()
            .filter(|step| step["phase"] == "switched");
        ensure!(switches.count() == 2, "{attempt}");
        assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    }
    Ok(())
}

/// In how many places of either direction an apply is cut.
const CUTS: u64 = 16;

/// The connection breaks after any byte, from the handshake to the last one of the reply. Whatever
/// is answered is true, and nothing is done twice.
#[tokio::test]
async fn a_connection_cut_after_any_byte_brings_nothing_twice() -> anyhow::Result<()> {
    let (lab, stand_in, proxy, _portal) = behind_a_proxy().await?;
    applied(&lab.client, lab.apply().await?).await?;
    let mut numbers = vec![1000, 1001];
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for direction in [Direction::Up, Direction::Down] {
        // How much goes over it: on a fresh connection.
        proxy.cut();
        let before = proxy.passed(direction);
        numbers.push(another(&lab, numbers.len()).await?);
        applied(&lab.client, lab.apply().await?).await?;
        let all = proxy.passed(direction) - before;
        for cut in 0..CUTS {
            proxy.cut();
            proxy.set(direction, Rule::CutAfter(all * cut / CUTS));
            numbers.push(another(&lab, numbers.len()).await?);
            let before = stand_in.commands().len();
            let reply = lab.apply().await?;
            proxy.set(direction, Rule::Pass);
            let at = format!("{direction:?}, cut {cut} of {all} bytes: {reply}");
            let attempt = audited(&lab.client, &reply).await.context(at.clone())?;
            let outcome = attempt["outcome"].as_str().unwrap_or_default().to_owned();
            let commands = stand_in.commands().split_off(before);
            match outcome.as_str() {
                "applied" => ensure!(commands == ["pjsip reload", "dialplan reload"], "{at}"),
                "agent_unreachable" => {
                    ensure!(commands.is_empty(), "{at}");
                    applied(&lab.client, lab.apply().await?).await.context(at)?;
                }
                _ => anyhow::bail!("{at}"),
            }
            *ends.entry(outcome).or_default() += 1;
            assert_exactly(&lab.asterisk, numbers.iter().copied()).await?;
        }
    }
    said(&format!("row 19: cut at {} places: {ends:?}", CUTS * 2));
    assert!(ends["applied"] > 0, "{ends:?}");
    Ok(())
}

async fn another(lab: &Lab, number: usize) -> anyhow::Result<u64> {
    let user = lab
        .create_user("More", &format!("more{number}@example.org"))
        .await?;
    Ok(user.extension)
}

/// The order comes twice over different connections, as when a proxy repeats it.
#[tokio::test]
async fn an_order_that_comes_over_two_connections_is_carried_out_once() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &[]).await?;
    let other = pbx.another_link()?;
    let next = bundle(&[1000, 1001], "one");
    let order = pbx.order(&next, OnReloadFailure::RollBack);
    let before = stand_in.commands().len();
    // Uploads as well: the second finds the first one's.
    pbx.link.stage(&order, next.clone(), &request_id()).await?;
    other.stage(&order, next, &request_id()).await?;
    let ids = [request_id(), request_id()];
    let (one, two) = tokio::join!(
        pbx.link.apply(&order, APPLY_LIMIT, &ids[0]),
        other.apply(&order, APPLY_LIMIT, &ids[1])
    );
    let one = one?;
    assert_eq!(one.outcome, Some(Outcome::Applied), "{one:#?}");
    assert_eq!(two?, one);
    let commands = stand_in.commands().split_off(before);
    assert_eq!(commands, ["pjsip reload", "dialplan reload"]);
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}
