//! Applies that end otherwise than they should.

use super::*;

#[tokio::test]
async fn a_refused_bundle_touches_nothing() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    let mut broken = bundle(&[1000, 1001]);
    let file = broken.files.get_mut(&Slot::PjsipEndpoints).unwrap();
    file.extend_from_slice(b"[1001]\ntype = aor\nmax_contacts = 1\n");
    let record = host.apply_with(&broken, OnReloadFailure::RollBack).await;
    assert_eq!(outcome(&record), Outcome::Rejected);
    assert!(
        record.failure.contains("stands twice"),
        "{}",
        record.failure
    );
    assert!(host.holds(&[1000]) && host.pbx.reloads() == 1);
}

/// MVP story 2.3.
#[tokio::test]
async fn files_that_cannot_be_written_leave_everything_as_it_was() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    let (live, path) = (
        host.live(),
        host.config.asterisk_config_dir.join("extensions.d"),
    );
    std::fs::create_dir(path.join("elsewhere")).unwrap();
    let dir = Dir::open(&path).unwrap();
    dir.rename("synergycall", "moved").unwrap();
    let record = host.apply(&[1000, 1001]).await;
    assert_eq!(outcome(&record), Outcome::WriteFailed);
    assert!(record.failure.contains("synergycall"), "{}", record.failure);
    dir.rename("moved", "synergycall").unwrap();
    assert!(host.live() == live && host.pbx.reloads() == 1);
}

#[tokio::test]
async fn a_configuration_that_asterisk_does_not_take_is_rolled_back() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    let request = host.stage(&bundle(&[1000, 1001])).await;
    host.fault(Fault::KeepsEndpoints);
    let record = ended(host.agent.apply(request).unwrap()).await;
    assert_eq!(outcome(&record), Outcome::RolledBack, "{record:?}");
    assert!(host.holds(&[1000]));
    assert!(
        record
            .mismatches
            .iter()
            .any(|m| m.name == "1001" && m.kind == MismatchKind::Missing)
    );
    assert_ne!(record.live_revision, Some(record.revision));
    let evidence = format!(
        "failed/{}-{}/pjsip_endpoints",
        request.revision, request.apply_id
    );
    let kept = std::fs::read(host.config.state_dir.join(evidence)).unwrap();
    assert_eq!(kept, bundle(&[1000, 1001]).files[&Slot::PjsipEndpoints]);
}

#[tokio::test]
async fn without_a_proven_revision_the_files_stay() {
    let host = Host::new().await;
    host.fault(Fault::KeepsEndpoints);
    let record = host.apply(&[1000]).await;
    assert_eq!(outcome(&record), Outcome::ReloadFailedFilesKept);
    assert!(
        record
            .notes
            .iter()
            .any(|note| note.contains("no proven revision"))
    );
    assert_eq!(record.live_revision, Some(record.revision));
}

/// MVP story 2.4, and the edge case of a partial failure.
#[tokio::test]
async fn files_are_kept_and_both_reloads_are_told() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    host.fault(Fault::DialplanRefused);
    let record = host
        .apply_with(&bundle(&[1001]), OnReloadFailure::KeepNewFiles)
        .await;
    assert_eq!(outcome(&record), Outcome::ReloadFailedFilesKept);
    assert!(host.live() == bundle(&[1001]).files);
    let failure = &record.failure;
    assert!(
        failure.contains("PJSIP: was reloaded") && failure.contains("permissions"),
        "{failure}"
    );
    let standing = host.agent.standing().ledger.unwrap();
    assert_ne!(
        standing.live,
        standing.proven.map(|proven| proven.generation)
    );
}

#[tokio::test]
async fn an_asterisk_that_is_not_running_gets_its_files_and_no_roll_back() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    host.fault(Fault::NotRunning);
    let record = host.apply(&[1001]).await;
    assert_eq!(outcome(&record), Outcome::ReloadFailedFilesKept);
    assert!(record.failure.contains("not running") && record.failure.contains("when it starts"));
    assert!(host.live() == bundle(&[1001]).files);
    host.fault(Fault::None);
    assert_eq!(outcome(&host.apply(&[1001]).await), Outcome::Applied);
}

#[tokio::test]
async fn without_an_answer_the_result_is_unknown_and_nothing_is_renamed_again() {
    let host = Host::new().await;
    host.apply(&[1000]).await;
    for fault in [Fault::Hung, Fault::ReloadHangs] {
        host.fault(fault);
        let record = host.apply(&[1001]).await;
        assert_eq!(outcome(&record), Outcome::ReloadUnknown, "{record:?}");
        assert!(host.live() == bundle(&[1001]).files);
    }
    assert!(host.agent.standing().ledger.unwrap().unsettled);
    host.fault(Fault::None);
    let record = host.apply(&[1002]).await;
    assert_eq!(outcome(&record), Outcome::Applied);
    assert!(
        record.notes.iter().any(|note| note.contains("given up")),
        "{:?}",
        record.notes
    );
    assert!(!host.agent.standing().ledger.unwrap().unsettled);
}
