//! What the next start makes of an agent that was killed.

use super::*;

/// What the journal and the files look like when the agent is killed in the middle of a switch.
pub(super) async fn killed(
    host: &Host,
    phase: IntentPhase,
    direction: Direction,
    renamed: usize,
) -> Request {
    let request = host.stage(&bundle(&[1001])).await;
    let ledger = host.agent.standing().ledger.unwrap();
    let live = ledger.live.unwrap();
    let new = match direction {
        Direction::Forward => {
            let Request {
                revision,
                digest,
                apply_id,
                ..
            } = request;
            Generation {
                revision,
                digest,
                apply_id,
            }
        }
        Direction::RollBack => live,
    };
    let digest = |slot: Slot| Digest::of(&bundle(&[1000]).files[&slot]);
    let old = Slot::ALL
        .map(|slot| (slot, Old::Generation(live.revision, digest(slot))))
        .into();
    let owed = Owed {
        everything: false,
        aors: BTreeSet::from(["1000".to_owned()]),
    };
    let record = request.record();
    let intent = Intent {
        phase,
        direction,
        new,
        old,
        owed,
        record,
    };
    host.agent.stop();
    let state = Dir::open(&host.config.state_dir).unwrap();
    Journal::open(state).unwrap().write(&intent).unwrap();
    let places = crate::live::Live::open(&host.config.asterisk_config_dir).unwrap();
    for (slot, place) in places.places().take(renamed) {
        let bytes = &bundle(&[1001]).files[&slot];
        place.dir.replace(place.name, bytes).unwrap();
        let temporary = place.temporary(request.revision);
        place
            .dir
            .write_new(&temporary, crate::durable::PRIVATE, b"half")
            .unwrap();
    }
    request
}

#[tokio::test]
async fn killed_before_the_switch_was_done_the_old_files_come_back() {
    for renamed in 0..=2 {
        let mut host = Host::new().await;
        host.apply(&[1000]).await;
        let request = killed(&host, IntentPhase::Prepared, Direction::Forward, renamed).await;
        host.agent = start(&host.config, &host.pbx).await;
        assert!(host.holds(&[1000]), "{renamed} files were renamed");
        let record = host.agent.record(request.apply_id).unwrap().unwrap();
        assert_eq!(outcome(&record), Outcome::Interrupted);
        assert!(
            record
                .steps
                .iter()
                .any(|step| step.phase == Phase::Recovered)
        );
        let leftovers =
            std::fs::read_dir(host.config.asterisk_config_dir.join("pjsip.d/synergycall"));
        assert_eq!(leftovers.unwrap().count(), 1);
        assert_eq!(outcome(&host.apply(&[1002]).await), Outcome::Applied);
    }
}

#[tokio::test]
async fn killed_after_the_switch_the_new_files_are_completed_and_proven() {
    for renamed in 0..=2 {
        let mut host = Host::new().await;
        host.apply(&[1000]).await;
        host.pbx.contacts.lock().unwrap().insert("1000".to_owned());
        let request = killed(&host, IntentPhase::Switched, Direction::Forward, renamed).await;
        host.agent = start(&host.config, &host.pbx).await;
        let record = ended(host.agent.apply(request).unwrap()).await;
        assert_eq!(outcome(&record), Outcome::Applied, "{record:?}");
        assert!(
            record
                .steps
                .iter()
                .any(|step| step.phase == Phase::Recovered)
        );
        assert!(host.holds(&[1001]));
        assert!(host.pbx.contacts.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn killed_while_rolling_back_the_proven_files_are_completed() {
    for phase in [IntentPhase::Prepared, IntentPhase::Switched] {
        let mut host = Host::new().await;
        host.apply(&[1000]).await;
        let request = killed(&host, phase, Direction::RollBack, 1).await;
        host.agent = start(&host.config, &host.pbx).await;
        let record = ended(host.agent.apply(request).unwrap()).await;
        assert_eq!(outcome(&record), Outcome::RolledBack, "{record:?}");
        assert!(host.holds(&[1000]));
    }
}

#[tokio::test]
async fn an_intent_whose_apply_has_ended_is_over() {
    let mut host = Host::new().await;
    host.apply(&[1000]).await;
    let request = killed(&host, IntentPhase::Prepared, Direction::Forward, 0).await;
    let state = || Dir::open(&host.config.state_dir).unwrap();
    let journal = Journal::open(state()).unwrap();
    let mut ledger = journal.ledger().unwrap();
    let mut record = request.record();
    record.outcome = Some(Outcome::Applied);
    ledger.last = Some(record.clone());
    journal.write_ledger(&ledger).unwrap();
    host.agent = start(&host.config, &host.pbx).await;
    // The record is found although its own file was never written.
    assert_eq!(host.agent.record(request.apply_id).unwrap(), Some(record));
    assert!(state().read("intent", 100).unwrap().unwrap().is_empty());
}
