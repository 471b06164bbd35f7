use serde_json::{Value, json};
use tests::lab::{PortalLab, create_user};

use super::{import, lines, outcomes};

#[tokio::test]
async fn devices_are_known_by_owner_and_label_or_by_id() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = create_user(&lab.client, "Ann", "ann@example.org").await?;
    create_user(&lab.client, "Bob", "bob@example.org").await?;
    let table = "user_email,label,codecs,direct_media,enabled\n\
        ann@example.org,Phone,\"opus, g722\",yes,\n\
        ann@example.org,Mobile,,,\n\
        BOB@example.org,Desk,ulaw,,no\n";
    let told = import(&lab.client, "/imports/devices", table)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(outcomes(&told), ["changed", "created", "created"]);
    let again = import(&lab.client, "/imports/devices", table)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(outcomes(&again), ["unchanged"; 3]);
    let devices = lab
        .client
        .get(&format!("/devices?user_id={}", ann.id))
        .await?
        .json()?;
    assert_eq!(devices[0]["codecs"], json!(["opus", "g722"]));
    assert_eq!(devices[0]["nat"]["direct_media"], true);
    assert_eq!(
        devices[1]["sip_username"],
        told["lines"][1]["sip"]["username"]
    );
    // Moved to another owner, it has another name and a password of its own that is shown later.
    let id = devices[1]["id"].as_str().unwrap_or_default();
    let table = format!("id,user_email\n{id},bob@example.org\n");
    let told = import(&lab.client, "/imports/devices", &table)
        .await?
        .expect(200)?
        .json()?;
    let fields: Vec<&Value> = told["lines"][0]["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| &change["field"])
        .collect();
    assert!(fields.contains(&&json!("sip_username")), "{told}");
    lab.client
        .post(&format!("/devices/{id}/reveal"), &Value::Null)
        .await?
        .expect(200)?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_line() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    create_user(&lab.client, "Ann", "ann@example.org").await?;
    let table = "id,user_email,label,sip_username,transport,codecs\n\
        ,nobody@example.org,Phone,,,\n\
        ,ann@example.org,,,,\n\
        ,ann@example.org,Phone,1999,,\n\
        ,ann@example.org,New,,carrier-pigeon,smoke\n\
        ,ann@example.org,Phone,,,\n\
        ,ann@example.org,Phone,1000,,\n\
        00000000-0000-7000-8000-000000000001,,X,,,\n\
        ,ann@example.org,New,2000,,\n";
    let told = import(&lab.client, "/imports/devices?mode=per_line", table)
        .await?
        .expect(200)?
        .json()?;
    let errors: Vec<_> = lines(&told)
        .into_iter()
        .map(|(_, _, errors)| errors.join(", "))
        .collect();
    assert_eq!(
        errors,
        [
            "user_email user_not_found",
            "label missing",
            "sip_username read_only",
            "transport unknown_value, codecs unknown_value",
            "label repeated",
            "label repeated",
            "id device_not_found",
            "sip_username read_only",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn one_user_has_at_most_as_many_devices_as_there_are_letters() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    create_user(&lab.client, "Ann", "ann@example.org").await?;
    let devices = (0..27).map(|n| format!("ann@example.org,Device {n}\n"));
    let devices = devices.collect::<Vec<_>>().concat();
    let table = format!("user_email,label\n{devices}");
    let told = import(&lab.client, "/imports/devices?mode=per_line", &table)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(
        told["counts"],
        json!({"created": 25, "changed": 0, "unchanged": 0, "refused": 2})
    );
    assert_eq!(told["lines"][26]["errors"][0]["code"], "too_many_devices");
    Ok(())
}
