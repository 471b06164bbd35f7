//! A damaged state directory, and files that somebody has made unreadable.

use super::killed::killed;
use super::*;

/// Killed with `phase` in the journal, and one bit of `name` flipped.
async fn damaged(name: &str) -> (Host, Request, Vec<u8>) {
    let mut host = Host::new().await;
    host.apply(&[1000]).await;
    let request = killed(&host, IntentPhase::Prepared, Direction::Forward, 1).await;
    let state = Dir::open(&host.config.state_dir).unwrap();
    let mut bytes = state.read(name, 1_000_000).unwrap().unwrap();
    bytes[100] ^= 1;
    state.replace(name, &bytes).unwrap();
    host.agent = start(&host.config, &host.pbx).await;
    (host, request, bytes)
}

#[tokio::test]
async fn with_a_damaged_journal_nothing_is_touched() {
    for name in ["intent", "active"] {
        let (host, request, _) = damaged(name).await;
        let live = host.live();
        let refused = host.agent.apply(request).err().unwrap().to_string();
        assert!(
            refused.contains("SAFE_MODE") && refused.contains(name),
            "{refused}"
        );
        let standing = host.agent.standing();
        assert!(standing.safe_mode.is_some() && host.live() == live);
        // The fence holds as far as it is known, also for those who force.
        assert_eq!(standing.highest, request.revision);
        let older = Request {
            revision: Revision(1),
            ..request
        };
        let stale = forced(&host, &older, &bundle(&[1000])).await;
        assert!(matches!(stale, Err(Refusal::Stale { .. })));
        // Of the interrupted apply, what is known; of others, nothing that might not be true.
        let record = host.agent.record(request.apply_id);
        match name {
            "active" => assert_eq!(record.unwrap().unwrap().outcome, None),
            _ => assert!(matches!(record, Err(Refusal::SafeMode(_)))),
        }
    }
}

async fn forced(host: &Host, request: &Request, bundle: &Bundle) -> Result<(), Refusal> {
    let header = Header {
        force: true,
        apply_id: request.apply_id,
        revision: request.revision,
        digest: bundle.manifest().digest(),
        manifest: bundle.manifest(),
    };
    host.agent.stage(header, bundle.clone()).await
}

#[tokio::test]
async fn a_forced_apply_sets_aside_what_is_damaged_and_goes_on() {
    for name in ["intent", "active"] {
        let (mut host, interrupted, bytes) = damaged(name).await;
        host.pbx.contacts.lock().unwrap().insert("1000".to_owned());
        let bundle = bundle(&[1001]);
        let request = Request {
            apply_id: ApplyId(Uuid::now_v7()),
            revision: Revision(interrupted.revision.0 + 1),
            digest: bundle.manifest().digest(),
            ..interrupted
        };
        forced(&host, &request, &bundle).await.unwrap();
        *host.next.lock().unwrap() = request.revision.0;
        let record = ended(host.agent.apply(request).unwrap()).await;
        assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
        assert!(host.holds(&[1001]) && host.agent.standing().safe_mode.is_none());
        // What the damaged files owed nobody knows: every phone has to register anew.
        assert!(host.pbx.contacts.lock().unwrap().is_empty());
        let record = host.agent.record(interrupted.apply_id).unwrap().unwrap();
        assert_eq!(outcome(&record), Outcome::Interrupted);
        let state = Dir::open(&host.config.state_dir).unwrap();
        let aside = state.existing_subdir("damaged").unwrap();
        let times = aside.names().unwrap();
        assert_eq!(times.len(), 1, "{times:?}");
        let aside = aside.existing_subdir(&times[0]).unwrap();
        assert_eq!(aside.read(name, 1_000_000).unwrap(), Some(bytes));
        host.restart().await;
        assert!(host.agent.standing().safe_mode.is_none());
        assert_eq!(outcome(&host.apply(&[1002]).await), Outcome::Applied);
    }
}

#[tokio::test]
async fn force_changes_nothing_where_nothing_is_damaged() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    let request = Request {
        apply_id: ApplyId(Uuid::now_v7()),
        revision: Revision(50),
        digest: bundle(&[1001]).manifest().digest(),
        on_reload_failure: OnReloadFailure::RollBack,
    };
    forced(&host, &request, &bundle(&[1001])).await.unwrap();
    let record = ended(host.agent.apply(request).unwrap()).await;
    assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
    assert!(!host.config.state_dir.join("damaged").exists());
}

/// What was written there is known, so that it need not be read to be replaced.
#[tokio::test]
async fn a_file_that_cannot_be_read_does_not_keep_the_roll_back_away() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    let request = host.stage(&bundle(&[1001])).await;
    host.fault(Fault::BlocksFile);
    let running = host.agent.apply(request).unwrap();
    let record = ended(running).await;
    // The stand-in blocks the file again at the reload of the roll-back.
    assert_eq!(outcome(&record), Outcome::RollbackFailed, "{record:?}");
    let noted = |text: &str| record.notes.iter().any(|note| note.contains(text));
    assert!(noted("replaced without a copy"), "{record:?}");
    let renamed = record
        .steps
        .iter()
        .filter(|step| step.phase == Phase::RollingBack && step.action.starts_with("rename"));
    assert!(renamed.clone().count() == 1 && renamed.clone().all(|step| step.ok));
}
