//! `POST /applies/{id}/restore`: an earlier revision, byte for byte, and the truth about it.

use std::time::Duration;

use anyhow::Context as _;
use api_server::vault::{Place, Vault};
use reqwest::Method;
use serde_json::{Value, json};
use shared::bundle::{ApplyId, Bundle, Slot};
use tests::lab::{Lab, NewUser};
use tests::portal::Reply;
use uuid::Uuid;

use crate::audit::{applied, assert_one_after_another, audited, trail};
use crate::crowd::at_once;
use crate::held::{assert_exactly, live_files, managed_files};
use crate::phones::{delete, two_users};
use crate::preview::{preview, users};
use crate::respond_async::{accepted, ended, look_up};
use crate::stand_in::{self, Reload};
use crate::status::status;

const END_DEADLINE: Duration = Duration::from_secs(30);

/// The key of every portal of the harness.
const SECRET_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn restore(lab: &Lab, apply: &Value) -> anyhow::Result<Reply> {
    let id = apply["id"].as_str().context("an id")?;
    lab.client
        .post_nothing(&format!("/applies/{id}/restore"))
        .await
}

/// What readiness warns of, and the status as well; but that nobody signs in is no matter of a PBX.
async fn warnings(lab: &Lab) -> anyhow::Result<String> {
    let mut body = lab.client.get("/health/ready").await?.expect(200)?.json()?;
    let all = body["warnings"].as_array_mut().context("no warnings")?;
    all.retain(|warning| warning["code"] != "trusted_network");
    let state = status(&lab.client).await?;
    assert_eq!(state["warnings"], body["warnings"]);
    Ok(body["warnings"].to_string())
}

/// Ann and Bob in force; then Bob's number is Carl's. Returns both attempts, and the users.
async fn two_revisions(lab: &Lab) -> anyhow::Result<([Value; 2], [NewUser; 3])> {
    let (ann, bob) = two_users(lab).await?;
    let first = trail(&lab.client).await?[0].clone();
    delete(lab, &bob).await?;
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    let second = applied(&lab.client, lab.apply().await?).await?;
    Ok(([first, second], [ann, bob, carl]))
}

#[tokio::test]
async fn an_earlier_revision_comes_back_byte_for_byte_and_its_phones_work() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let (ann, bob) = two_users(&lab).await?;
    let first = trail(&lab.client).await?[0].clone();
    let files = live_files(&lab.asterisk)?;
    delete(&lab, &bob).await?;
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    let later = live_files(&lab.asterisk)?;
    assert_ne!(files, later);
    let bob_phone = lab.phone(&bob)?;
    assert!(bob_phone.register().await?.is_refused());

    let restored = applied(&lab.client, restore(&lab, &first).await?).await?;
    assert_eq!(live_files(&lab.asterisk)?, files);
    assert_eq!(
        (&restored["revision"], &restored["digest"]),
        (&json!(3), &first["digest"])
    );
    let from = json!({ "apply_id": first["id"], "revision": 1 });
    assert_eq!(restored["restored_from"], from);
    assert_eq!(
        users(&restored["changes"]["user_names"]),
        ["added Bob", "removed Carl"]
    );
    let notes = restored["notes"].to_string();
    for told in [
        "add 1, change 0 and remove 1 of the users",
        "Deleted users whose accounts work again: Bob (1001).",
        "Users whose accounts do not work now: Carl (1001).",
    ] {
        assert!(notes.contains(told), "{told}: {notes}");
    }
    assert_eq!(
        restored["users"],
        lab.client.get(&path(&first)).await?.json()?["users"]
    );

    let online = bob_phone.online().await?;
    assert!(lab.phone(&carl)?.register().await?.is_refused());
    let ringing = lab.phone(&ann)?.call("1001", Duration::ZERO).await?;
    assert!(ringing.is_completed(), "{ringing:?}");
    assert_eq!(online.calls(), 1);

    // Said until the next apply, and how they differ.
    let warned = warnings(&lab).await?;
    assert!(
        warned.contains("Database and PBX differ since revision 1 was restored")
            && warned.contains("database_differs")
            && warned.contains("Bob (1001)"),
        "{warned}"
    );
    let shown = preview(&lab.client).await?;
    assert_eq!(shown["compared_with"]["restored_from"], from);
    assert_eq!(
        users(&shown["changes"]["users"]),
        ["added Carl", "removed Bob"]
    );
    applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(live_files(&lab.asterisk)?, later);
    assert_eq!(warnings(&lab).await?, "[]");
    assert_eq!(
        preview(&lab.client).await?["compared_with"]["restored_from"],
        Value::Null
    );
    assert!(bob_phone.register().await?.is_refused());
    Ok(())
}

fn path(attempt: &Value) -> String {
    format!("/applies/{}", attempt["id"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn what_the_database_says_anyway_differs_in_nothing() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    two_users(&lab).await?;
    let first = trail(&lab.client).await?[0].clone();
    let body = json!({ "expected_digest": first["digest"] });
    let reply = lab
        .client
        .post(&format!("{}/restore", path(&first)), &body)
        .await?;
    let restored = audited(&lab.client, &reply.expect(200)?).await?;
    assert_eq!(restored["outcome"], "unchanged");
    assert_eq!(warnings(&lab).await?, "[]");
    assert_eq!(preview(&lab.client).await?["changes_nothing"], true);
    Ok(())
}

#[tokio::test]
async fn whatever_cannot_be_restored_is_refused_and_nothing_happens() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    let ([first, _], _) = two_revisions(&lab).await?;
    let unknown = json!({ "id": Uuid::from_u128(7).to_string() });
    assert_eq!(
        restore(&lab, &unknown).await?.problem(404)?,
        "apply_not_found"
    );
    let malformed = lab.client.post_nothing("/applies/7/restore").await?;
    assert_eq!(malformed.problem(400)?, "malformed_id");

    let body = json!({ "expected_digest": "00".repeat(32) });
    let before = managed_files(&lab.asterisk)?;
    let outdated = lab
        .client
        .post(&format!("{}/restore", path(&first)), &body)
        .await?;
    assert_eq!(outdated.problem(412)?, "preview_outdated");
    let detail = outdated.text();
    assert!(
        detail.contains("GET /revisions") && !detail.contains("preview again"),
        "{detail}"
    );
    let outdated = audited(&lab.client, &outdated).await?;
    assert_eq!(outdated["restored_from"]["revision"], 1);
    // It never had a bundle.
    assert_eq!(
        restore(&lab, &outdated).await?.problem(409)?,
        "nothing_to_restore"
    );

    // It had one that was never proven.
    lab.agent.stop().await?;
    let unreachable = lab.apply().await?.expect(503)?.json()?["apply"].clone();
    let refused = restore(&lab, &unreachable).await?;
    assert_eq!(refused.problem(409)?, "revision_never_proven");
    // Likewise a restore that does not reach the agent: in the trail, and nothing else.
    let lost = restore(&lab, &first).await?;
    assert_eq!(lost.problem(503)?, "agent_unreachable");
    let lost = audited(&lab.client, &lost).await?;
    assert_eq!(lost["restored_from"]["apply_id"], first["id"]);
    assert_eq!(lost["notes"], json!([]), "nothing of it holds");
    assert_eq!(managed_files(&lab.asterisk)?, before);
    lab.agent.resume().await?;
    applied(&lab.client, restore(&lab, &first).await?).await?;
    Ok(())
}

/// Asks for a restore without waiting for it.
async fn restore_later(lab: &Lab, id: &str) -> anyhow::Result<Reply> {
    let path = format!("/applies/{id}/restore");
    let request = lab.client.request(Method::POST, &path);
    request.header("Prefer", "respond-async").send().await
}

/// What waits or runs can be looked up, so it is not unknown; but it proved nothing yet.
#[tokio::test]
async fn a_restore_stands_in_line_and_what_has_not_ended_is_not_restored() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let first = trail(&lab.client).await?[0].clone();
    let first_id = first["id"].as_str().context("an id")?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let running = accepted(&lab.client).await?;
    hold.reached().await?;
    let from = json!({ "apply_id": first["id"], "revision": 1 });
    let reply = restore_later(&lab, first_id).await?.expect(202)?;
    let waiting = reply.json()?;
    let waiting_id = waiting["id"].as_str().context("an id")?.to_owned();
    assert_eq!(reply.header("location"), format!("/applies/{waiting_id}"));
    assert_eq!(reply.header("preference-applied"), "respond-async");
    for told in [waiting, look_up(&lab.client, &waiting_id).await?] {
        assert_eq!(told["outcome"], "queued", "{told}");
        assert_eq!(told["restored_from"], from, "{told}");
    }
    for id in [&running, &waiting_id] {
        let attempt = json!({ "id": id });
        assert_eq!(
            restore(&lab, &attempt).await?.problem(409)?,
            "apply_not_ended"
        );
        assert_eq!(
            restore_later(&lab, id).await?.problem(409)?,
            "apply_not_ended"
        );
    }
    assert_eq!(
        trail(&lab.client).await?.len(),
        3,
        "a refusal is no attempt"
    );
    drop(hold);
    let running = ended(&lab.client, &running, END_DEADLINE).await?;
    assert_eq!(running["outcome"], "applied", "{running}");
    let restored = ended(&lab.client, &waiting_id, END_DEADLINE).await?;
    assert_eq!(restored["outcome"], "applied", "{restored}");
    assert_eq!(restored["restored_from"], from);
    assert_eq!(restored["digest"], first["digest"]);
    assert_exactly(&lab.asterisk, [1000]).await
}

/// Replaces the stored bundle of an apply.
async fn replace(lab: &Lab, apply: &Value, bundle: &Bundle) -> anyhow::Result<()> {
    let vault: Vault = SECRET_KEY.parse()?;
    let id: Uuid = apply["id"].as_str().unwrap_or_default().parse()?;
    let text = |slot| String::from_utf8_lossy(&bundle.files[slot]).into_owned();
    let files: serde_json::Map<String, Value> = bundle
        .files
        .keys()
        .map(|slot| (slot.name().to_owned(), json!(text(slot))))
        .collect();
    let stored = json!({ "files": files, "reserved_numbers": [[1000, 1999]] }).to_string();
    let place = Place::Bundle(ApplyId(id));
    let mut transaction = lab.database.pool().await?.begin().await?;
    let seal = vault.sealer(&mut transaction).await?;
    let sealed = seal.seal(place, stored.as_bytes(), &mut api_server::clock::os_rng())?;
    sqlx::query("update apply set bundle_encrypted = $2, digest = $3 where apply_id = $1")
        .bind(id)
        .bind(sealed)
        .bind(bundle.manifest().digest().0.to_vec())
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

#[tokio::test]
async fn a_bundle_that_cannot_be_used_any_more_is_not_sent() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let ([first, _], _) = two_revisions(&lab).await?;
    let before = managed_files(&lab.asterisk)?;
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    // As from a version of the portal that knew another option.
    let other = endpoints.replace("direct_media = no", "direct_media = no\nlater_option = yes");
    let files = [
        (Slot::PjsipEndpoints, other),
        (Slot::DialplanRouting, routing),
    ];
    let bundle = Bundle {
        files: files.map(|(slot, text)| (slot, text.into_bytes())).into(),
        reserved_numbers: vec![1000..=1999],
    };
    replace(&lab, &first, &bundle).await?;
    let refused = restore(&lab, &first).await?;
    assert_eq!(refused.problem(409)?, "restore_failed");
    assert!(
        refused.text().contains("unknown option later_option"),
        "{refused}"
    );
    assert_eq!(
        audited(&lab.client, &refused).await?["outcome"],
        "restore_failed"
    );

    // Sealed with a key that this portal does not have: its id begins at byte 1.
    sqlx::query("update apply set bundle_encrypted = set_byte(bundle_encrypted, 2, 255 - get_byte(bundle_encrypted, 2)) where revision = 1")
        .execute(&lab.database.pool().await?)
        .await?;
    let refused = restore(&lab, &first).await?;
    assert_eq!(refused.problem(409)?, "restore_failed");
    assert!(refused.text().contains("another SECRET_KEY"), "{refused}");
    assert_eq!(managed_files(&lab.asterisk)?, before);
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

#[tokio::test]
async fn restores_and_applies_at_once_run_one_after_another() -> anyhow::Result<()> {
    let lab = Lab::builder()
        .portal_env("APPLY_LOCK_WAIT_MS", "240000")
        .start()
        .await?;
    let (attempts, _) = two_revisions(&lab).await?;
    let client = lab.client.clone();
    let paths = attempts
        .each_ref()
        .map(|attempt| format!("{}/restore", path(attempt)));
    let act = move |number: usize| {
        let (client, paths) = (client.clone(), paths.clone());
        async move {
            let path = paths.get(number % 3).map_or("/apply", String::as_str);
            let reply = client.post_nothing(path).await?.expect(200)?;
            audited(&client, &reply).await
        }
    };
    let mut all = at_once(12, 12, act).await?;
    assert_one_after_another(&all)?;
    all.sort_by_key(|attempt| attempt["revision"].as_u64());
    for attempt in &all {
        let digest = match attempt["restored_from"]["revision"].as_u64() {
            Some(1) => &attempts[0]["digest"],
            _ => &attempts[1]["digest"],
        };
        assert_eq!(&attempt["digest"], digest, "{attempt}");
    }
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    let files = [
        (Slot::PjsipEndpoints, endpoints),
        (Slot::DialplanRouting, routing),
    ];
    let live = Bundle {
        files: files.map(|(slot, text)| (slot, text.into_bytes())).into(),
        reserved_numbers: Vec::new(),
    };
    let last = all.last().context("twelve attempts")?;
    assert_eq!(last["digest"], live.manifest().digest().to_string());
    Ok(())
}
