//! Two at once: the database decides, and nothing is lost.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::{listed, patch, read, text, user};
use crate::crowd::{at_once, stored_numbers};

#[tokio::test]
async fn of_many_creations_for_the_last_number_one_wins() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let body = json!({ "slug": "a", "name": "A", "ext_min": 30, "ext_max": 32 });
    lab.client.post("/tenants", &body).await?.expect(201)?;
    for chosen in [false, true] {
        let client = lab.client.clone();
        let statuses = at_once(8, 8, move |number| {
            let client = client.clone();
            async move {
                let email = format!("u{number}-{chosen}@example.org");
                let mut body = json!({ "name": "U", "email": email });
                if chosen {
                    body["extension"] = json!(31);
                }
                Ok(client.post("/tenants/a/users", &body).await?.status)
            }
        });
        let statuses = statuses.await?;
        let won = statuses.iter().filter(|status| **status == 201).count();
        let lost = statuses.iter().filter(|status| **status == 409).count();
        if chosen {
            assert_eq!((won, lost), (1, 7), "{statuses:?}");
        } else {
            assert_eq!((won, lost), (3, 5), "{statuses:?}");
            // The one in the middle is free again, for the second round.
            let users = read(&lab.client, "/tenants/a/users?extension=31").await?;
            let path = format!("/tenants/a/users/{}", text(&users[0]["id"]));
            lab.client.delete(&path).await?.expect(204)?;
        }
    }
    let pool = lab.database.pool().await?;
    assert_eq!(stored_numbers(&pool).await?, [30, 31, 32]);
    Ok(())
}

#[tokio::test]
async fn deletions_and_allocations_leave_neither_gaps_nor_twins() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let mut doomed = Vec::new();
    for number in 0..12 {
        doomed.push(user(&lab.client, "", &format!("Old{number}")).await?.id);
    }
    let client = lab.client.clone();
    let ids = doomed.clone();
    at_once(8, 24, move |number| {
        let (client, id) = (client.clone(), ids[number / 2].clone());
        async move {
            if number % 2 == 0 {
                client.delete(&format!("/users/{id}")).await?.expect(204)?;
            } else {
                user(&client, "", &format!("New{number}")).await?;
            }
            Ok(())
        }
    })
    .await?;
    let pool = lab.database.pool().await?;
    let numbers = stored_numbers(&pool).await?;
    assert_eq!(numbers.len(), 12);
    let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), 12, "{numbers:?}");
    // What is free now is given out from the lowest on (FR-002).
    let free = (1000..).find(|number| !distinct.contains(number));
    assert_eq!(Some(user(&lab.client, "", "Last").await?.extension), free);
    Ok(())
}

#[tokio::test]
async fn patches_at_once_all_count_and_of_those_with_a_condition_one() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let path = format!("/users/{}", ann.id);
    let fields = ["always", "busy", "no_answer", "unregistered"];
    let (client, target) = (lab.client.clone(), path.clone());
    at_once(8, 8, move |number| {
        let (client, target) = (client.clone(), target.clone());
        async move {
            let changes = match number {
                0..4 => json!({ "call_forward": { fields[number]: format!("10{number}") } }),
                4 => json!({ "dnd": true }),
                5 => json!({ "name": "Anna" }),
                _ => json!({ "metadata": { format!("k{number}"): number } }),
            };
            patch(&client, &target, &changes).await?.expect(200)?;
            Ok(())
        }
    })
    .await?;
    let now = read(&lab.client, &path).await?;
    for (number, field) in fields.iter().enumerate() {
        assert_eq!(now["call_forward"][field], format!("10{number}"));
    }
    assert_eq!((&now["dnd"], &now["name"]), (&json!(true), &json!("Anna")));
    assert_eq!(now["metadata"], json!({ "k6": 6, "k7": 7 }));

    let (client, target) = (lab.client.clone(), path.clone());
    let tag = lab.client.get(&path).await?.header("etag").to_owned();
    let statuses = at_once(8, 8, move |number| {
        let request = client
            .request(Method::PATCH, &target)
            .header("If-Match", &tag);
        let request = request.json(&json!({ "name": format!("Ann {number}") }));
        async move { Ok((number, request.send().await?.status)) }
    });
    let statuses = statuses.await?;
    let won: Vec<usize> = statuses
        .iter()
        .filter(|(_, s)| *s == 200)
        .map(|(n, _)| *n)
        .collect();
    assert_eq!(won.len(), 1, "{statuses:?}");
    assert!(
        statuses
            .iter()
            .all(|(_, status)| [200, 412].contains(status))
    );
    assert_eq!(
        read(&lab.client, &path).await?["name"],
        format!("Ann {}", won[0])
    );
    Ok(())
}

#[tokio::test]
async fn devices_and_reveals_at_once() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = user(&lab.client, "", "Ann").await?;
    let (client, id) = (lab.client.clone(), ann.id.clone());
    at_once(8, 16, move |number| {
        let (client, id) = (client.clone(), id.clone());
        async move {
            let body = json!({ "user_id": id, "label": format!("D{number}"), "reveal": false });
            client.post("/devices", &body).await?.expect(201)?;
            Ok(())
        }
    })
    .await?;
    let path = format!("/devices?user_id={}&limit=200", ann.id);
    let names: BTreeSet<String> = listed(&lab.client, &path, "sip_username")
        .await?
        .iter()
        .map(Value::to_string)
        .collect();
    assert_eq!(names.len(), 17, "each has a name of its own");
    let hidden = listed(&lab.client, &path, "id").await?;
    let reveal = format!("/devices/{}/reveal", text(&hidden[1]));
    let client = lab.client.clone();
    let statuses = at_once(8, 8, move |_| {
        let (client, reveal) = (client.clone(), reveal.clone());
        async move { Ok(client.post_nothing(&reveal).await?.status) }
    });
    let statuses = statuses.await?;
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        1,
        "{statuses:?}"
    );
    Ok(())
}

/// A user that is deleted while a device is given to it, or created for it: both or neither.
#[tokio::test]
async fn no_device_outlives_its_user() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for round in 0..6 {
        let doomed = user(&lab.client, "", &format!("Doomed{round}")).await?;
        let other = user(&lab.client, "", &format!("Other{round}")).await?;
        let device = format!("/devices/{}", text(&other.body["device_id"]));
        let (client, id) = (lab.client.clone(), doomed.id.clone());
        at_once(3, 3, move |number| {
            let (client, id, device) = (client.clone(), id.clone(), device.clone());
            async move {
                let status = match number {
                    0 => client.delete(&format!("/users/{id}")).await?.status,
                    1 => {
                        let body = json!({ "user_id": id, "label": "x" });
                        client.post("/devices", &body).await?.status
                    }
                    _ => {
                        patch(&client, &device, &json!({ "user_id": id }))
                            .await?
                            .status
                    }
                };
                anyhow::ensure!([200, 201, 204, 404].contains(&status), "{number}: {status}");
                Ok(())
            }
        })
        .await?;
    }
    let pool = lab.database.pool().await?;
    let orphans: i64 = sqlx::query_scalar(
        r#"select count(*) from device d join "user" u using (tenant_id, user_id)
           where u.deleted_at is not null"#,
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(orphans, 0);
    Ok(())
}
