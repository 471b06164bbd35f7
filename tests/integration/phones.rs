//! What users hear of it: SIP phones on the real Asterisk.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::asterisk::Asterisk;
use tests::lab::{Lab, NewUser};
use tests::phones::{Call, Phone, Registration, wait_contact};
use tests::process::wait_until;

use crate::audit::applied;

/// How long a phone may take until Asterisk has handed it a call.
const RING_DEADLINE: Duration = Duration::from_secs(20);

/// Longer than an apply takes on a busy machine. The call is watched, not timed.
const LONG_CALL: Duration = Duration::from_secs(8);

/// Every registered contact as Asterisk keeps it: AOR and URI.
pub(crate) async fn contacts(asterisk: &Asterisk) -> anyhow::Result<BTreeMap<String, String>> {
    let said = asterisk.rx("database show registrar").await?;
    let mut contacts = BTreeMap::new();
    for line in said.lines() {
        let Some((aor, rest)) = line
            .strip_prefix("/registrar/contact/")
            .and_then(|rest| rest.split_once(";@"))
        else {
            continue;
        };
        ensure!(
            contacts.insert(aor.to_owned(), rest.to_owned()).is_none(),
            "two of {aor}: {said}"
        );
    }
    Ok(contacts)
}

/// Deletes a user.
pub(crate) async fn delete(lab: &Lab, user: &NewUser) -> anyhow::Result<()> {
    lab.client
        .delete(&format!("/users/{}", user.id))
        .await?
        .expect(204)?;
    Ok(())
}

/// Two users in force: 1000 and 1001.
pub(crate) async fn two_users(lab: &Lab) -> anyhow::Result<(NewUser, NewUser)> {
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let bob = lab.create_user("Bob", "bob@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    Ok((ann, bob))
}

/// The port and the codecs of an `m=audio` line.
fn agreed(media: &str) -> anyhow::Result<(u16, Vec<String>)> {
    let mut words = media.split_whitespace();
    ensure!(words.next() == Some("m=audio"), "{media}");
    let port = words.next().context("no port")?.parse()?;
    ensure!(words.next() == Some("RTP/AVP"), "{media}");
    Ok((port, words.map(str::to_owned).collect()))
}

#[tokio::test]
async fn two_users_register_and_call_each_other_with_media_and_hang_up() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let bob = lab.create_user("Bob", "bob@example.org").await?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    // Not before the apply.
    assert!(ann_phone.register().await?.is_refused());
    applied(&lab.client, lab.apply().await?).await?;

    let (mut ann_online, mut bob_online) =
        tokio::try_join!(ann_phone.online(), bob_phone.online())?;
    let registered = contacts(&lab.asterisk).await?;
    assert_eq!(registered.keys().collect::<Vec<_>>(), ["1000", "1001"]);
    for phone in [&ann_phone, &bob_phone] {
        let contact = &registered[phone.number()];
        assert!(contact.contains(&phone.contact()), "{contact}");
    }

    for (caller, called, online) in [
        (&ann_phone, &bob_phone, &mut bob_online),
        (&bob_phone, &ann_phone, &mut ann_online),
    ] {
        let call = caller
            .call(called.number(), Duration::from_millis(200))
            .await?;
        let Call::Completed { media, .. } = call else {
            panic!("{call:?}")
        };
        let (port, codecs) = agreed(&media)?;
        // Of rtp.conf; even, as RTP wants it.
        assert!(
            (10_000..=20_000).contains(&port) && port % 2 == 0,
            "{media}"
        );
        // PCMU, the first that is allowed.
        assert_eq!(codecs.first().map(String::as_str), Some("0"), "{media}");
        // The called phone got its BYE as well.
        online.wait_ended(1).await?;
        assert_eq!(online.calls(), 1);
    }
    let from = bob_online.callers();
    assert!(from[0].contains("\"Ann\" <sip:1000@"), "{from:?}");
    let call = ann_phone.call("1002", Duration::ZERO).await?;
    assert_eq!(call, Call::Failed { status: 404 });
    Ok(())
}

#[tokio::test]
async fn whoever_has_not_the_password_neither_registers_nor_calls() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let (ann, bob) = two_users(&lab).await?;
    let online = lab.phone(&bob)?.online().await?;
    for password in [
        "guess",
        "",
        &bob.sip_password,
        &ann.sip_password.to_lowercase(),
    ] {
        let intruder = Phone::new(&lab.asterisk, &ann.sip_username, password)?;
        let registration = intruder.register().await?;
        assert_eq!(
            registration,
            Registration::Refused { status: 401 },
            "{password:?}"
        );
        let call = intruder.call("1001", Duration::ZERO).await?;
        assert_eq!(call, Call::Failed { status: 401 }, "{password:?}");
    }
    // The marker's objects are no door either.
    for name in ["synergy-generation", "1002", "anonymous"] {
        let intruder = Phone::new(&lab.asterisk, name, &ann.sip_password)?;
        assert!(intruder.register().await?.is_refused(), "{name}");
        assert!(
            !intruder.call("1001", Duration::ZERO).await?.is_completed(),
            "{name}"
        );
    }
    assert_eq!(
        contacts(&lab.asterisk)
            .await?
            .into_keys()
            .collect::<Vec<_>>(),
        ["1001"]
    );
    assert_eq!(online.calls(), 0);
    // The right password still works.
    lab.phone(&ann)?.register().await?.accepted()?;
    Ok(())
}

#[tokio::test]
async fn a_deleted_users_phone_is_out_after_the_apply() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let (ann, bob) = two_users(&lab).await?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let online = bob_phone.online().await?;
    delete(&lab, &bob).await?;
    applied(&lab.client, lab.apply().await?).await?;

    assert!(bob_phone.register().await?.is_refused());
    assert_eq!(contacts(&lab.asterisk).await?, BTreeMap::new());
    let call = ann_phone.call("1001", Duration::ZERO).await?;
    assert_eq!(call, Call::Failed { status: 404 });
    let call = bob_phone.call("1000", Duration::ZERO).await?;
    assert!(!call.is_completed(), "{call:?}");
    assert_eq!(online.calls(), 0);
    Ok(())
}

#[tokio::test]
async fn registrations_of_others_survive_applies() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let (ann, bob) = two_users(&lab).await?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let mut online = ann_phone.online().await?;
    let before = contacts(&lab.asterisk).await?;
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    delete(&lab, &carl).await?;
    let dora = lab.create_user("Dora", "dora@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;

    // The very same entry, hash and expiry included: the phone did nothing.
    assert_eq!(contacts(&lab.asterisk).await?, before);
    for caller in [bob_phone, lab.phone(&dora)?] {
        assert!(caller.call("1000", Duration::ZERO).await?.is_completed());
    }
    online.wait_ended(2).await?;
    Ok(())
}

#[tokio::test]
async fn calls_in_progress_survive_applies() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let (ann, bob) = two_users(&lab).await?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let mut online = bob_phone.online().await?;
    let talk = async || {
        let active = lab.asterisk.rx("core show channels count").await?;
        Ok::<_, anyhow::Error>(active.contains("1 active call"))
    };
    let apply_meanwhile = async {
        let talking = async || online.calls() == 1 && talk().await.unwrap_or(false);
        wait_until("they talk", RING_DEADLINE, talking).await?;
        // One apply that does not concern them, one that takes the called one away.
        lab.create_user("Carl", "carl@example.org").await?;
        applied(&lab.client, lab.apply().await?).await?;
        assert!(talk().await?, "an apply ended the call");
        delete(&lab, &bob).await?;
        applied(&lab.client, lab.apply().await?).await?;
        assert!(
            talk().await?,
            "the apply that deleted the called user ended the call"
        );
        anyhow::Ok(())
    };
    let (call, applies) = tokio::join!(ann_phone.call("1001", LONG_CALL), apply_meanwhile);
    applies?;
    assert!(call?.is_completed());
    online.wait_ended(1).await?;
    // But there will be no second one.
    wait_contact(&lab.asterisk, "1001", false).await?;
    let call = ann_phone.call("1001", Duration::ZERO).await?;
    assert_eq!(call, Call::Failed { status: 404 });
    Ok(())
}
