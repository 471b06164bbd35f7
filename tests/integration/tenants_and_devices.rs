//! Several tenants on one PBX and several devices of one user, with real phones: what the portal
//! renders for them does in Asterisk what it says.

use std::time::Duration;

use anyhow::ensure;
use api_server::domain::device::{Codecs, DigestAlgorithm};
use api_server::domain::snapshot::{SnapshotDevice, SnapshotUser};
use shared::bundle::Bundle;
use shared::record::{ApplyRecord, Outcome};
use shared::status::FindingSource;
use tests::asterisk::Settings;
use tests::phones::{Call, Phone, wait_contact};
use tests::snapshots::{self, device, user};

use crate::check_and_verify::{check, verify};
use crate::pbx::{Pbx, bundle_of};

const NOT_FOUND: Call = Call::Failed { status: 404 };

/// The password of a device.
fn password(name: &str) -> String {
    format!("password{}", name.replace('-', ""))
}

/// A phone with that password.
fn phone(pbx: &Pbx, name: &str) -> anyhow::Result<Phone> {
    Phone::new(&pbx.asterisk, name, &password(name))
}

/// A user of whom each device has the password of its name.
fn person(extension: u32, devices: &[(u32, &str)]) -> anyhow::Result<SnapshotUser> {
    let devices = devices
        .iter()
        .map(|&(slot, name)| device(slot, &password(name)));
    user(
        extension,
        &format!("User {extension}"),
        devices.collect::<anyhow::Result<_>>()?,
    )
}

async fn applied(pbx: &Pbx, bundle: &Bundle) -> anyhow::Result<ApplyRecord> {
    let record = pbx.apply(bundle).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let report = verify(pbx).await?;
    ensure!(report.in_force, "{report:#?}");
    Ok(record)
}

/// Both tenants have 1000 and 1001; 1002 is the first one's alone.
#[tokio::test]
async fn tenants_with_the_same_numbers_reach_their_own_people_and_nobody_else() -> anyhow::Result<()>
{
    let pbx = Pbx::start().await?;
    let bundle = bundle_of(vec![
        (
            1,
            vec![
                person(1000, &[(1, "1000")])?,
                person(1001, &[(1, "1001")])?,
                person(1002, &[(1, "1002")])?,
            ],
        ),
        (
            2,
            vec![
                person(1000, &[(1, "t2-1000-a")])?,
                person(1001, &[(1, "t2-1001-a")])?,
            ],
        ),
    ]);
    applied(&pbx, &bundle).await?;
    let (mut first, mut second) = (
        phone(&pbx, "1001")?.online().await?,
        phone(&pbx, "t2-1001-a")?.online().await?,
    );
    let only_first = phone(&pbx, "1002")?.online().await?;
    for (caller, rings) in [("1000", [1, 0]), ("t2-1000-a", [1, 1])] {
        let call = phone(&pbx, caller)?.call("1001", Duration::ZERO).await?;
        ensure!(call.is_completed(), "{caller}: {call:?}");
        ensure!(
            [first.calls(), second.calls()] == rings,
            "{caller} rang the other one"
        );
    }
    first.wait_ended(1).await?;
    second.wait_ended(1).await?;
    ensure!(
        second.callers()[0].contains("\"User 1000\" <sip:1000@"),
        "{:?}",
        second.callers()
    );

    let stranger = phone(&pbx, "t2-1000-a")?;
    for foreign in [
        "1002",
        "t1-1002-a",
        "t1-1001-b",
        "synergy-internal",
        "generation",
        "t2-1001-a",
    ] {
        let call = stranger.call(foreign, Duration::ZERO).await?;
        ensure!(call == NOT_FOUND, "{foreign}: {call:?}");
    }
    ensure!(
        phone(&pbx, "1000")?
            .call("t2-1001-a", Duration::ZERO)
            .await?
            == NOT_FOUND
    );
    // The number of the one with the password of the other.
    let mixed = Phone::new(&pbx.asterisk, "t2-1001-a", &password("1001"))?;
    ensure!(mixed.register().await?.is_refused());
    ensure!([first.calls(), second.calls(), only_first.calls()] == [1, 1, 0]);
    Ok(())
}

/// A tenant that goes takes its context, its devices and its registrations with it.
#[tokio::test]
async fn a_suspended_tenant_is_gone_after_the_apply() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let first = || Ok::<_, anyhow::Error>((1, vec![person(1000, &[(1, "1000")])?]));
    let second = || Ok::<_, anyhow::Error>((2, vec![person(1000, &[(1, "t2-1000-a")])?]));
    applied(&pbx, &bundle_of(vec![first()?, second()?])).await?;
    let phone = phone(&pbx, "t2-1000-a")?;
    let online = phone.online().await?;
    applied(&pbx, &bundle_of(vec![first()?])).await?;
    wait_contact(&pbx.asterisk, "t2-1000-a", false).await?;
    ensure!(phone.register().await?.is_refused());
    let shown = pbx.asterisk.rx("dialplan show t2-internal").await?;
    ensure!(shown.contains("no existence of"), "{shown}");
    drop(online);

    // Back again, and nobody is registered who was before.
    applied(&pbx, &bundle_of(vec![first()?, second()?])).await?;
    wait_contact(&pbx.asterisk, "t2-1000-a", false).await?;
    phone.register().await?.accepted()?;
    Ok(())
}

#[tokio::test]
async fn all_devices_of_a_user_ring_and_one_answers() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let many = person(1001, &[(1, "1001"), (2, "t1-1001-b"), (3, "t1-1001-c")])?;
    let users = vec![person(1000, &[(1, "1000")])?, many];
    applied(&pbx, &bundle_of(vec![(1, users)])).await?;
    let caller = phone(&pbx, "1000")?;

    // The second is registered alone, then one that nobody answers beside it; the third never is.
    let mut answering = phone(&pbx, "t1-1001-b")?.online().await?;
    let call = caller.call("1001", Duration::from_millis(50)).await?;
    ensure!(call.is_completed(), "{call:?}");
    answering.wait_ended(1).await?;
    let mut unattended = phone(&pbx, "1001")?.online_unattended().await?;
    let call = caller.call("1001", Duration::from_millis(50)).await?;
    ensure!(call.is_completed(), "{call:?}");
    answering.wait_ended(2).await?;
    unattended.wait_cancelled(1).await?;
    ensure!([answering.calls(), unattended.calls()] == [2, 1]);
    let callers = unattended.callers();
    ensure!(callers[0].contains("<sip:1000@"), "{callers:?}");

    // Each calls as the user, whichever it is.
    let mut caller = caller.online().await?;
    let call = phone(&pbx, "t1-1001-c")?
        .call("1000", Duration::ZERO)
        .await?;
    ensure!(call.is_completed(), "{call:?}");
    caller.wait_ended(1).await?;
    let callers = caller.callers();
    ensure!(
        callers[0].contains("\"User 1001\" <sip:1001@"),
        "{callers:?}"
    );
    Ok(())
}

/// A device of 1000 in the place 2 with these passwords.
fn changing(new: &str, old: Option<&str>, algorithm: DigestAlgorithm) -> anyhow::Result<Bundle> {
    let device = SnapshotDevice {
        previous_password: old.map(snapshots::password).transpose()?,
        algorithm,
        ..device(2, new)?
    };
    let users = vec![
        user(1000, "A", vec![device])?,
        person(1001, &[(1, "1001")])?,
    ];
    Ok(bundle_of(vec![(1, users)]))
}

const NAME: &str = "t1-1000-b";
const OLD: &str = "oldpassword1";
const NEW: &str = "newpassword2";

async fn overlap(algorithm: DigestAlgorithm) -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let (old, new) = (
        Phone::new(&pbx.asterisk, NAME, OLD)?,
        Phone::new(&pbx.asterisk, NAME, NEW)?,
    );
    applied(&pbx, &changing(OLD, None, algorithm)?).await?;
    let mut online = old.online().await?;

    // Both are valid; whoever is registered stays.
    applied(&pbx, &changing(NEW, Some(OLD), algorithm)?).await?;
    wait_contact(&pbx.asterisk, NAME, true).await?;
    let caller = phone(&pbx, "1001")?;
    ensure!(caller.call("1000", Duration::ZERO).await?.is_completed());
    online.wait_ended(1).await?;
    let guess = Phone::new(&pbx.asterisk, NAME, "guessedpassword")?;
    ensure!(guess.register().await?.is_refused());
    let mut answering = caller.online().await?;
    for (calls, phone) in [(1, &new), (2, &old)] {
        phone.register().await?.accepted()?;
        ensure!(phone.call("1001", Duration::ZERO).await?.is_completed());
        answering.wait_ended(calls).await?;
    }
    ensure!(guess.call("1001", Duration::ZERO).await? == Call::Failed { status: 401 });

    // The old one ends: whoever is registered registers again, with the new one.
    applied(&pbx, &changing(NEW, None, algorithm)?).await?;
    wait_contact(&pbx.asterisk, NAME, false).await?;
    ensure!(old.register().await?.is_refused());
    ensure!(old.call("1001", Duration::ZERO).await? == Call::Failed { status: 401 });
    new.register().await?.accepted()?;

    // Without an overlap, the registration by the former password ends at once.
    applied(&pbx, &changing(OLD, None, algorithm)?).await?;
    wait_contact(&pbx.asterisk, NAME, false).await?;
    ensure!(new.register().await?.is_refused());
    old.register().await?.accepted()?;
    Ok(())
}

#[tokio::test]
async fn two_passwords_are_valid_for_a_while() -> anyhow::Result<()> {
    overlap(DigestAlgorithm::Md5).await
}

#[tokio::test]
async fn two_passwords_are_valid_for_a_while_with_sha_256() -> anyhow::Result<()> {
    overlap(DigestAlgorithm::Sha256).await
}

/// Every kind of device is read back as Asterisk shows it, by the live one and by a throw-away one.
#[tokio::test]
async fn every_option_of_a_device_is_taken_and_read_back() -> anyhow::Result<()> {
    let env = [("PREFLIGHT", "required")];
    let pbx = Pbx::start_with(Settings::default(), &env).await?;
    let algorithms = [
        DigestAlgorithm::Md5,
        DigestAlgorithm::Sha256,
        DigestAlgorithm::Sha512_256,
    ];
    let mut devices = Vec::new();
    for (slot, algorithm) in (1..).zip(algorithms) {
        let mut device = device(slot, &password("1000"))?;
        device.algorithm = algorithm;
        device.codecs = Codecs::from_names(["opus", "g722", "alaw", "ulaw"])?;
        device.transport = Some("transport-udp".parse()?);
        device.nat.direct_media = true;
        device.nat.rtp_symmetric = false;
        device.nat.force_rport = false;
        device.nat.rewrite_contact = false;
        device.previous_password = Some(snapshots::password(OLD)?);
        devices.push(device);
    }
    let users = vec![user(1000, "A", devices)?];
    let bundle = bundle_of(vec![(1, users)]);
    applied(&pbx, &bundle).await?;
    for name in ["1000", "t1-1000-b", "t1-1000-c"] {
        let phone = Phone::new(&pbx.asterisk, name, &password("1000"))?;
        phone.register().await?.accepted()?;
    }
    Ok(())
}

/// Asterisk loads an endpoint without its transport in silence; its phone registers, and nothing
/// ever reaches it.
#[tokio::test]
async fn a_transport_that_asterisk_lacks_is_found_before_anything_is_touched() -> anyhow::Result<()>
{
    let pbx = Pbx::start().await?;
    let before = bundle_of(vec![(1, vec![person(1000, &[(1, "1000")])?])]);
    applied(&pbx, &before).await?;
    let mut device = device(1, &password("1000"))?;
    device.transport = Some("nowhere".parse()?);
    let bundle = bundle_of(vec![(1, vec![user(1000, "A", vec![device])?])]);
    let expected = "no transport [nowhere], which 1 endpoints use, [1000] first";

    let report = check(&pbx, &bundle).await?;
    let finding = &report.findings[0];
    ensure!(finding.source == FindingSource::Surroundings, "{report:#?}");
    ensure!(finding.message.contains(expected), "{report:#?}");
    let record = pbx.apply(&bundle).await?;
    ensure!(record.outcome == Some(Outcome::Rejected), "{record:#?}");
    ensure!(record.failure.contains(expected), "{record:#?}");
    let report = verify(&pbx).await?;
    ensure!(report.in_force, "{report:#?}");
    Ok(())
}
