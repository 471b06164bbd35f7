//! What people hear of it: through REST, with phones on the real Asterisk.

use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::{Lab, NewUser};
use tests::phones::{Call, Phone, wait_contact};

use super::{credentials, device, patch, rotate, tenant, text, user};
use crate::audit::applied;
use crate::crowd::at_once;
use crate::phones::contacts;

const NOT_FOUND: Call = Call::Failed { status: 404 };

async fn apply(lab: &Lab) -> anyhow::Result<Value> {
    applied(&lab.client, lab.apply().await?).await
}

fn phone_of(lab: &Lab, (username, password): (&str, &str)) -> anyhow::Result<Phone> {
    Phone::new(&lab.asterisk, username, password)
}

/// Whether `called` is rung by this number, and nobody else is.
async fn reaches(caller: &Phone, number: &str) -> anyhow::Result<Call> {
    caller.call(number, Duration::ZERO).await
}

#[tokio::test]
async fn tenants_call_their_own_people_and_a_suspended_one_nobody() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    tenant(&lab.client, "acme").await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let bob = user(&lab.client, "", "Bob").await?;
    let only = user(&lab.client, "", "Only").await?;
    let cid = user(&lab.client, "/tenants/acme", "Cid").await?;
    let dan = user(&lab.client, "/tenants/acme", "Dan").await?;
    apply(&lab).await?;
    let phone = |user: &NewUser| lab.phone(user);
    let mut bob_online = phone(&bob)?.online().await?;
    let mut dan_online = phone(&dan)?.online().await?;
    let only_online = phone(&only)?.online().await?;
    assert!(reaches(&phone(&ann)?, "1001").await?.is_completed());
    bob_online.wait_ended(1).await?;
    assert!(reaches(&phone(&cid)?, "1001").await?.is_completed());
    dan_online.wait_ended(1).await?;
    assert_eq!((bob_online.calls(), dan_online.calls()), (1, 1));
    // 1002 is the first tenant's alone; no name of an endpoint is a number.
    for number in ["1002", "t1-1002-a", "t2-1000-a"] {
        assert_eq!(reaches(&phone(&cid)?, number).await?, NOT_FOUND, "{number}");
    }
    assert_eq!(reaches(&phone(&ann)?, "t2-1001-a").await?, NOT_FOUND);
    assert_eq!(only_online.calls(), 0);

    patch(
        &lab.client,
        "/tenants/acme",
        &json!({ "status": "suspended" }),
    )
    .await?
    .expect(200)?;
    phone(&cid)?.register().await?.accepted()?;
    apply(&lab).await?;
    assert!(phone(&cid)?.register().await?.is_refused());
    wait_contact(&lab.asterisk, &dan.sip_username, false).await?;
    assert!(
        reaches(&phone(&ann)?, "1001").await?.is_completed(),
        "the others go on"
    );

    patch(&lab.client, "/tenants/acme", &json!({ "status": "active" }))
        .await?
        .expect(200)?;
    apply(&lab).await?;
    phone(&cid)?.register().await?.accepted()?;
    Ok(())
}

#[tokio::test]
async fn two_devices_ring_and_one_answers_until_it_is_disabled() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let bob = user(&lab.client, "", "Bob").await?;
    let second = device(&lab.client, "", &ann.id, "Mobile").await?;
    apply(&lab).await?;
    let caller = lab.phone(&bob)?;
    let first = lab.phone(&ann)?;
    let mobile = phone_of(&lab, credentials(&second))?;
    // One that rings and does not answer, one that does.
    let mut ringing = first.online_unattended().await?;
    let mut answering = mobile.online().await?;
    assert!(reaches(&caller, "1000").await?.is_completed());
    answering.wait_ended(1).await?;
    ringing.wait_cancelled(1).await?;

    let path = format!("/devices/{}", text(&second["id"]));
    patch(&lab.client, &path, &json!({ "enabled": false }))
        .await?
        .expect(200)?;
    apply(&lab).await?;
    assert!(mobile.register().await?.is_refused());
    assert_eq!(contacts(&lab.asterisk).await?.len(), 1);

    // A suspended user keeps the number and is out of service.
    patch(
        &lab.client,
        &format!("/users/{}", ann.id),
        &json!({ "status": "suspended" }),
    )
    .await?
    .expect(200)?;
    apply(&lab).await?;
    assert!(first.register().await?.is_refused());
    assert_eq!(reaches(&caller, "1000").await?, NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn an_old_password_ends_with_the_apply_or_with_its_overlap() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let path = format!("/devices/{}", text(&ann.body["device_id"]));
    apply(&lab).await?;
    let old = lab.phone(&ann)?;
    let _registered = old.online().await?;

    let rotated = rotate(&lab.client, &path, &json!({})).await?;
    let new = phone_of(&lab, credentials(&rotated))?;
    old.register().await?.accepted()?;
    assert!(new.register().await?.is_refused(), "not before the apply");
    apply(&lab).await?;
    assert!(old.register().await?.is_refused());
    wait_contact(&lab.asterisk, "1000", false).await?;
    new.register().await?.accepted()?;

    let overlapping = rotate(&lab.client, &path, &json!({ "overlap_seconds": 86400 })).await?;
    let newest = phone_of(&lab, credentials(&overlapping))?;
    apply(&lab).await?;
    wait_contact(&lab.asterisk, "1000", true).await?;
    for phone in [&new, &newest] {
        phone.register().await?.accepted()?;
    }
    patch(&lab.client, &path, &json!({ "overlap_until": null }))
        .await?
        .expect(200)?;
    apply(&lab).await?;
    assert!(new.register().await?.is_refused());
    wait_contact(&lab.asterisk, "1000", false).await?;
    newest.register().await?.accepted()?;
    Ok(())
}

/// An overlap is over when its time has passed, with the first apply after that.
#[tokio::test]
async fn an_overlap_that_has_passed_is_left_out_of_the_next_apply() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let path = format!("/devices/{}", text(&ann.body["device_id"]));
    let rotated = rotate(&lab.client, &path, &json!({ "overlap_seconds": 3600 })).await?;
    apply(&lab).await?;
    lab.phone(&ann)?.register().await?.accepted()?;
    let pool = lab.database.pool().await?;
    sqlx::query("update device set overlap_until = now() - interval '1 second'")
        .execute(&pool)
        .await?;
    apply(&lab).await?;
    assert!(lab.phone(&ann)?.register().await?.is_refused());
    phone_of(&lab, credentials(&rotated))?
        .register()
        .await?
        .accepted()?;
    Ok(())
}

#[tokio::test]
async fn the_former_owner_of_a_device_hears_nothing_of_the_new_one() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let bob = user(&lab.client, "", "Bob").await?;
    let cid = user(&lab.client, "", "Cid").await?;
    let path = format!("/devices/{}", text(&ann.body["device_id"]));
    apply(&lab).await?;
    let former = lab.phone(&ann)?.online().await?;
    patch(&lab.client, &path, &json!({ "user_id": bob.id }))
        .await?
        .expect(200)?;
    let shown = lab
        .client
        .post_nothing(&format!("{path}/reveal"))
        .await?
        .expect(200)?
        .json()?;
    apply(&lab).await?;
    wait_contact(&lab.asterisk, "1000", false).await?;
    let (name, _) = credentials(&shown);
    assert!(
        phone_of(&lab, (name, &ann.sip_password))?
            .register()
            .await?
            .is_refused()
    );
    let mut moved = phone_of(&lab, credentials(&shown))?.online().await?;
    assert!(reaches(&lab.phone(&cid)?, "1001").await?.is_completed());
    moved.wait_ended(1).await?;
    assert_eq!(former.calls(), 0);
    assert_eq!(reaches(&lab.phone(&cid)?, "1000").await?, NOT_FOUND);
    Ok(())
}

/// Passwords are rotated while applies run: each apply is of one state, the last one of the last.
#[tokio::test]
async fn rotations_during_applies_leave_the_last_password_in_force() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let path = format!("/devices/{}", text(&ann.body["device_id"]));
    apply(&lab).await?;
    let client = lab.client.clone();
    let passwords = at_once(4, 12, move |number| {
        let (client, path) = (client.clone(), path.clone());
        async move {
            if number % 2 == 0 {
                let reply = client.post_nothing("/apply").await?;
                anyhow::ensure!(reply.status == 200, "{reply}");
                return Ok(None);
            }
            let rotated = rotate(&client, &path, &json!({})).await?;
            let at = text(&rotated["password_set_at"]).to_owned();
            Ok(Some((at, credentials(&rotated).1.to_owned())))
        }
    });
    let mut passwords: Vec<_> = passwords.await?.into_iter().flatten().collect();
    apply(&lab).await?;
    passwords.sort();
    let device = super::read(
        &lab.client,
        &format!("/devices/{}", text(&ann.body["device_id"])),
    )
    .await?;
    let mut works = 0;
    for (_, password) in &passwords {
        let phone = phone_of(&lab, ("1000", password))?;
        works += usize::from(!phone.register().await?.is_refused());
    }
    assert_eq!(works, 1, "one of {} works: {device}", passwords.len());
    Ok(())
}
