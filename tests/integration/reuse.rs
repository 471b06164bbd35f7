//! An extension that is deleted and given to somebody else must not ring the old phone, whatever
//! lies between: Asterisk itself keeps the old registration, and hands it the new owner's calls.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::lab::{Lab, NewUser};
use tests::phones::{Online, Phone};

use crate::audit::applied;
use crate::held::assert_exactly;
use crate::phones::{contacts, delete, two_users};
use crate::stand_in::{Reload, StandIn};

/// The number of `old` belongs to `new` now, who has another phone: it alone rings.
async fn assert_the_new_owner_alone_rings(
    lab: &Lab,
    caller: &Phone,
    old: &Online,
    old_phone: &Phone,
    new: &NewUser,
) -> anyhow::Result<()> {
    let number = new.sip_username.as_str();
    assert_eq!(old_phone.number(), number);
    // Nobody has registered yet: the old phone would be the only one to ring.
    assert!(!contacts(&lab.asterisk).await?.contains_key(number));
    let call = caller.call(number, Duration::ZERO).await?;
    assert!(!call.is_completed(), "somebody answered: {call:?}");
    assert_eq!(old.calls(), 0, "the old phone rang");
    assert!(old_phone.register().await?.is_refused());

    let mut online = lab.phone(new)?.online().await?;
    let call = caller.call(number, Duration::from_millis(50)).await?;
    assert!(call.is_completed(), "{call:?}");
    online.wait_ended(1).await?;
    assert_eq!((online.calls(), old.calls()), (1, 0));
    Ok(())
}

#[tokio::test]
async fn an_extension_given_to_somebody_else_does_not_ring_the_old_phone() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let (ann, bob) = two_users(&lab).await?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let old = bob_phone.online().await?;
    // Proof that the old phone would ring if it were asked.
    assert!(ann_phone.call("1001", Duration::ZERO).await?.is_completed());
    assert_eq!(old.calls(), 1);
    drop(old);
    let old = bob_phone.online().await?;

    // Deleted and given away between two applies: no revision in force is without 1001.
    delete(&lab, &bob).await?;
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_the_new_owner_alone_rings(&lab, &ann_phone, &old, &bob_phone, &carl).await
}

#[tokio::test]
async fn nor_when_an_apply_without_the_extension_lies_between() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let (ann, bob) = two_users(&lab).await?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let old = bob_phone.online().await?;
    delete(&lab, &bob).await?;
    applied(&lab.client, lab.apply().await?).await?;
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_the_new_owner_alone_rings(&lab, &ann_phone, &old, &bob_phone, &carl).await
}

const NOT_PERMITTED: &str = "echo \"You don't have permissions to run this command\"; exit 0\n";

/// How the apply that takes the extension away fails.
#[derive(Clone, Copy, PartialEq)]
enum Fails {
    /// Asterisk is down and starts with the new files.
    AsteriskStopped,
    /// Asterisk refuses to reload its SIP part; the files stay.
    Refused,
    /// It refuses to reload its dialplan, after the SIP part was reloaded.
    RefusedHalfWay,
    /// The reload gives no answer, and is done nevertheless.
    Unanswered,
}

/// The apply that takes 1001 away fails; the one after it, by which Carl gets it, succeeds.
async fn given_away_across(fails: Fails, policy: &str) -> anyhow::Result<()> {
    let stand_in = StandIn::new()?;
    let mut lab = Lab::builder()
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .portal_env("ON_RELOAD_FAILURE", policy)
        .start()
        .await?;
    let (ann, bob) = two_users(&lab).await?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let old = bob_phone.online().await?;
    delete(&lab, &bob).await?;
    match fails {
        Fails::AsteriskStopped => lab.asterisk.stop().await?,
        Fails::Refused => stand_in.once(Reload::Pjsip, NOT_PERMITTED)?,
        Fails::RefusedHalfWay => stand_in.once(Reload::Dialplan, NOT_PERMITTED)?,
        Fails::Unanswered => stand_in.once(
            Reload::Pjsip,
            &format!(
                "{} \"$@\" >/dev/null; exit 0\n",
                lab.asterisk.binary().display()
            ),
        )?,
    }
    let reply = lab.apply().await?;
    ensure!(matches!(reply.status, 502 | 504), "{reply}");
    if fails == Fails::AsteriskStopped {
        lab.asterisk.resume().await?;
    }
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    assert_the_new_owner_alone_rings(&lab, &ann_phone, &old, &bob_phone, &carl).await
}

#[tokio::test]
async fn nor_across_an_apply_while_asterisk_is_stopped() -> anyhow::Result<()> {
    given_away_across(Fails::AsteriskStopped, "roll_back").await
}

#[tokio::test]
async fn nor_across_a_refused_reload_with_new_files_kept() -> anyhow::Result<()> {
    given_away_across(Fails::Refused, "keep_new_files").await
}

#[tokio::test]
async fn nor_across_half_a_reload_that_is_rolled_back() -> anyhow::Result<()> {
    given_away_across(Fails::RefusedHalfWay, "roll_back").await
}

#[tokio::test]
async fn nor_across_a_reload_without_an_answer() -> anyhow::Result<()> {
    given_away_across(Fails::Unanswered, "roll_back").await
}

/// Neither the revision that is live nor the proven one knows the number any more: what is owed is
/// remembered over any number of failures, and over a restart of the agent.
#[tokio::test]
async fn nor_across_two_failures_between_which_the_old_phone_registered() -> anyhow::Result<()> {
    let stand_in = StandIn::new()?;
    let mut lab = Lab::builder()
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .portal_env("ON_RELOAD_FAILURE", "keep_new_files")
        .start()
        .await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    let bob = lab.create_user("Bob", "bob@example.org").await?;
    stand_in.once(Reload::Dialplan, NOT_PERMITTED)?;
    lab.apply().await?.expect(502)?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let old = bob_phone.online().await?;

    delete(&lab, &bob).await?;
    lab.asterisk.stop().await?;
    lab.apply().await?.expect(502)?;
    lab.asterisk.resume().await?;
    lab.agent.stop().await?;
    lab.agent.resume().await?;
    // Its contact has outlived it all.
    assert!(contacts(&lab.asterisk).await?.contains_key("1001"));
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_the_new_owner_alone_rings(&lab, &ann_phone, &old, &bob_phone, &carl).await
}

/// It trusts no contact when its state is lost.
#[tokio::test]
async fn nor_when_the_agent_has_lost_its_memory() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    let (ann, bob) = two_users(&lab).await?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let old = bob_phone.online().await?;
    delete(&lab, &bob).await?;
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    lab.agent.stop().await?;
    for entry in std::fs::read_dir(lab.agent.state_dir())? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    lab.agent.resume().await?;
    // Live files of a portal and no memory of them: it waits for one forced apply.
    assert_eq!(lab.apply().await?.problem(502)?, "agent_refused");
    let forced = lab.client.post("/apply", &json!({ "force": true })).await?;
    applied(&lab.client, forced).await?;
    assert_the_new_owner_alone_rings(&lab, &ann_phone, &old, &bob_phone, &carl).await
}
