//! A large PBX in the middle of its day: 10,000 endpoints are applied anew while 50 calls are held,
//! 10 more begin every second, and phones renew their registrations. Nobody notices.

use std::time::Duration;

use anyhow::ensure;
use shared::record::Outcome;
use tests::asterisk::Asterisk;
use tests::phones::Crowd;
use tests::process::wait_until;
use tokio::sync::watch;

use crate::pbx::{Pbx, mixed_bundle, password};

const FIRST: u32 = 10_000;
const ENDPOINTS: u32 = 10_000;

/// Calls that are held all the time.
const HELD: usize = 50;
const CALLS_PER_SECOND: usize = 10;
const REGISTRATIONS_PER_SECOND: usize = 2;

/// So many calls and registrations begin before it is asked whether the applies are over.
const ROUND_SECONDS: usize = 5;
const CALL: Duration = Duration::from_secs(2);
const ROUND_LIMIT: Duration = Duration::from_mins(2);

/// Longer than the applies take; they are ended before that.
const HELD_FOR: Duration = Duration::from_hours(1);

/// The phones of the numbers from `first` on.
fn crowd(asterisk: &Asterisk, first: u32, count: u32) -> anyhow::Result<Crowd> {
    let phone = |number: u32| (number.to_string(), password(number, "one"));
    Crowd::new(asterisk, (first..first + count).map(phone).collect())
}

/// Everybody from `changed` on has the second edition: another name, another password.
fn users(count: u32, changed: u32) -> Vec<(u32, &'static str)> {
    let edition = |number| if number < changed { "one" } else { "two" };
    (FIRST..FIRST + count)
        .map(|number| (number, edition(number)))
        .collect()
}

/// The numbers with a contact, as Asterisk keeps them.
async fn registered(asterisk: &Asterisk) -> anyhow::Result<Vec<String>> {
    let said = asterisk.rx("database show registrar").await?;
    let number = |line: &str| {
        let rest = line.trim_start().strip_prefix("/registrar/contact/")?;
        Some(rest.split(';').next()?.to_owned())
    };
    Ok(said.lines().filter_map(number).collect())
}

#[tokio::test]
#[ignore = "some minutes of a whole machine: ./test --faults"]
async fn applying_ten_thousand_endpoints_loses_no_call_and_no_registration() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let nobody_changed = FIRST + ENDPOINTS;
    let all = mixed_bundle(&users(ENDPOINTS, nobody_changed));
    ensure!(pbx.apply(&all).await?.outcome == Some(Outcome::Applied));

    let called = crowd(&pbx.asterisk, FIRST, 100)?;
    let answering = called.online(50).await?;
    let talking = crowd(&pbx.asterisk, FIRST + 100, 50)?;
    let mut held = talking.call(&called, HELD, HELD, HELD_FOR)?;
    held.wait_answered(HELD).await?;
    let before = registered(&pbx.asterisk).await?;

    let (done, is_done) = watch::channel(false);
    let applies = async {
        // One more user; everybody but those who talk; and back again.
        for (count, changed) in [
            (ENDPOINTS + 1, nobody_changed),
            (ENDPOINTS, FIRST + 400),
            (ENDPOINTS, nobody_changed),
        ] {
            let record = pbx.apply(&mixed_bundle(&users(count, changed))).await?;
            ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        }
        done.send_replace(true);
        anyhow::Ok(())
    };
    let calling = crowd(&pbx.asterisk, FIRST + 200, 100)?;
    let renewing = crowd(&pbx.asterisk, FIRST + 300, 100)?;
    let life = async {
        let mut calls = 0;
        while !*is_done.borrow() {
            let (calls_in_round, renewals) = (
                ROUND_SECONDS * CALLS_PER_SECOND,
                ROUND_SECONDS * REGISTRATIONS_PER_SECOND,
            );
            let round = calling.call(&called, calls_in_round, CALLS_PER_SECOND, CALL)?;
            let renewed = renewing.renew(renewals, REGISTRATIONS_PER_SECOND)?;
            tokio::try_join!(
                round.all_went_well(ROUND_LIMIT),
                renewed.all_went_well(ROUND_LIMIT)
            )?;
            calls += calls_in_round;
        }
        anyhow::Ok(calls)
    };
    let ((), calls) = tokio::try_join!(applies, life)?;

    let answered = answering.answered();
    // A request that a busy Asterisk gets twice may ring twice.
    ensure!(
        answered >= HELD + calls,
        "{answered} of {HELD} + {calls} calls"
    );
    ensure!(
        held.is_under_way() && held.ended() == 0,
        "a held call has ended"
    );
    // One that rang twice may still be on its way out.
    let only_held = async || {
        let channels = pbx.asterisk.rx("core show channels count").await;
        channels.is_ok_and(|channels| channels.contains("50 active calls"))
    };
    wait_until("only the held calls are left", ROUND_LIMIT, only_held).await?;
    ensure!(
        held.is_under_way() && held.ended() == 0,
        "a held call has ended"
    );
    let after = registered(&pbx.asterisk).await?;
    let lost: Vec<_> = before
        .iter()
        .filter(|number| !after.contains(number))
        .collect();
    ensure!(lost.is_empty(), "no longer registered: {lost:?}");
    Ok(())
}
