//! A hundred tenants of a hundred users each on one PBX (SC-019), from REST to the phones.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::lab::{Lab, NewUser};
use tests::phones::Call;

use crate::audit::applied;
use crate::crowd::at_once;
use crate::life::{patch, user};

const TENANTS: usize = 100;
const USERS: usize = 100;

#[tokio::test]
#[ignore = "two minutes of a whole machine: ./test --faults"]
async fn a_hundred_tenants_of_a_hundred_users_work_and_stay_apart() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let client = lab.client.clone();
    at_once(4, TENANTS, move |number| {
        let client = client.clone();
        async move {
            let slug = format!("tenant-{number}");
            let body = json!({ "slug": slug, "name": slug, "ext_min": 100, "ext_max": 199 });
            client.post("/tenants", &body).await?.expect(201)?;
            Ok(())
        }
    })
    .await?;
    let client = lab.client.clone();
    // One after another within a tenant, so that the first two are 100 and 101.
    let mut people: Vec<(usize, [NewUser; 2])> = at_once(8, TENANTS, move |number| {
        let client = client.clone();
        async move {
            let base = format!("/tenants/tenant-{number}");
            let first = user(&client, &base, "First").await?;
            let second = user(&client, &base, "Second").await?;
            for other in 2..USERS {
                user(&client, &base, &format!("User{other}")).await?;
            }
            Ok((number, [first, second]))
        }
    })
    .await?;
    people.sort_by_key(|(number, _)| *number);

    let apply = applied(&lab.client, lab.apply().await?).await?;
    ensure!(
        apply["user_count"] == TENANTS * USERS,
        "{}",
        apply["user_count"]
    );
    let verified = lab
        .client
        .post_nothing("/apply/verify")
        .await?
        .expect(200)?
        .json()?;
    ensure!(verified["in_force"] == true, "{verified}");

    // 101 of three tenants at a time: each is reached by its own 100 alone.
    for chosen in [[0, 1, 99], [42, 57, 98]] {
        let mut online = Vec::new();
        for number in chosen {
            online.push(lab.phone(&people[number].1[1])?.online().await?);
        }
        for (at, number) in chosen.into_iter().enumerate() {
            let call = lab
                .phone(&people[number].1[0])?
                .call("101", Duration::ZERO)
                .await?;
            ensure!(call.is_completed(), "tenant {number}: {call:?}");
            online[at].wait_ended(1).await?;
        }
        let calls: Vec<usize> = online.iter().map(|phone| phone.calls()).collect();
        ensure!(calls == [1, 1, 1], "{calls:?}");
    }
    let stranger = lab.phone(&people[0].1[0])?;
    let call = stranger
        .call(&people[1].1[0].sip_username, Duration::ZERO)
        .await?;
    ensure!(call == Call::Failed { status: 404 }, "{call:?}");

    // One of them is suspended; the others do not notice.
    patch(
        &lab.client,
        "/tenants/tenant-42",
        &json!({ "status": "suspended" }),
    )
    .await?
    .expect(200)?;
    let apply = applied(&lab.client, lab.apply().await?).await?;
    ensure!(apply["user_count"] == (TENANTS - 1) * USERS);
    ensure!(lab.phone(&people[42].1[0])?.register().await?.is_refused());
    lab.phone(&people[43].1[0])?.register().await?.accepted()?;
    Ok(())
}
