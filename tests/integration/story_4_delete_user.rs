//! Story 4 of the specification: delete a user.

use std::time::Duration;

use tests::lab::{Lab, PortalLab};
use tests::phones::Call;
use uuid::Uuid;

use crate::crowd::{create_users, stored_numbers};
use crate::held::assert_exactly;

#[tokio::test]
async fn scenario_4_1_a_deleted_user_frees_its_extension() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let users = create_users(&lab.client, 8).await?;
    let gone = users
        .iter()
        .find(|user| user.extension == 1005)
        .expect("someone has 1005");
    let path = format!("/users/{}", gone.id);
    let reply = lab.client.delete(&path).await?.expect(204)?;
    assert!(reply.body.is_empty());

    let listed = lab.client.get("/users").await?.json()?;
    let listed = listed.as_array().expect("an array");
    assert_eq!(listed.len(), 7);
    assert!(listed.iter().all(|user| user["id"] != gone.id.as_str()));
    assert_eq!(lab.client.get(&path).await?.problem(404)?, "user_not_found");
    let pool = lab.database.pool().await?;
    assert_eq!(
        stored_numbers(&pool).await?,
        [1000, 1001, 1002, 1003, 1004, 1006, 1007]
    );

    // The number and the address are free at once; the new user is somebody else.
    let email = gone.body["email"].as_str().unwrap_or_default();
    let next = lab.create_user("Next", email).await?;
    assert_eq!(next.extension, 1005);
    assert_ne!(
        (next.id, next.sip_password),
        (gone.id.clone(), gone.sip_password.clone())
    );
    Ok(())
}

#[tokio::test]
async fn scenario_4_2_whoever_does_not_exist_is_not_found() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let path = format!("/users/{}", ann.id);
    lab.client.delete(&path).await?.expect(204)?;
    assert_eq!(
        lab.client.delete(&path).await?.problem(404)?,
        "user_not_found"
    );
    let stranger = format!("/users/{}", Uuid::from_u128(7));
    assert_eq!(
        lab.client.delete(&stranger).await?.problem(404)?,
        "user_not_found"
    );
    for malformed in ["/users/1000", "/users/%00", "/users/' or 1=1", "/users/-"] {
        lab.client.delete(malformed).await?.problem(400)?;
    }
    Ok(())
}

#[tokio::test]
async fn scenario_4_3_asterisk_keeps_a_deleted_user_until_the_next_apply() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let bob = lab.create_user("Bob", "bob@example.org").await?;
    lab.apply().await?.expect(200)?;
    let (ann_phone, bob_phone) = (lab.phone(&ann)?, lab.phone(&bob)?);
    let online = bob_phone.online().await?;

    lab.client
        .delete(&format!("/users/{}", bob.id))
        .await?
        .expect(204)?;
    // Not only on paper: it still rings.
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    let call = ann_phone.call("1001", Duration::ZERO).await?;
    assert!(call.is_completed(), "{call:?}");
    assert_eq!(online.calls(), 1);

    lab.apply().await?.expect(200)?;
    assert_exactly(&lab.asterisk, [1000]).await?;
    assert_eq!(
        ann_phone.call("1001", Duration::ZERO).await?,
        Call::Failed { status: 404 }
    );
    assert!(bob_phone.register().await?.is_refused());
    assert_eq!(online.calls(), 1);
    Ok(())
}
