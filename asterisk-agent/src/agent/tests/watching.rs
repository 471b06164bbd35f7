//! The live files are looked at without anybody asking.

use std::time::Instant;

use shared::status::EventKind;

use super::*;
use crate::status;

const PATIENCE: Duration = Duration::from_secs(20);

fn kinds(host: &Host) -> Vec<EventKind> {
    // Its certificates lie nowhere.
    let kinds = host.agent.events.recent().into_iter();
    let kinds = kinds.map(|event| event.kind);
    kinds
        .filter(|kind| *kind != EventKind::CertificateExpiring)
        .collect()
}

fn edit(host: &Host, text: &[u8]) {
    let path = host
        .config
        .asterisk_config_dir
        .join(Slot::DialplanRouting.relative_path());
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    dir.replace("generated_routing.conf", text).unwrap();
}

#[tokio::test]
async fn drift_is_found_by_the_periodic_look_and_its_end_as_well() {
    let mut host = Host::new().await;
    host.apply(&[1000]).await;
    host.config.drift_period = Duration::from_millis(20);
    host.restart().await;
    let wait_for = |expected: &[EventKind]| {
        let began = Instant::now();
        while kinds(&host) != expected {
            assert!(began.elapsed() < PATIENCE, "{:?}", kinds(&host));
            thread::sleep(Duration::from_millis(5));
        }
    };
    edit(&host, b"; by hand\n");
    wait_for(&[EventKind::DriftFound]);
    edit(&host, &bundle(&[1000]).files[&Slot::DialplanRouting]);
    wait_for(&[EventKind::DriftFound, EventKind::DriftEnded]);
}

#[tokio::test]
async fn the_status_tells_of_each_file_and_does_not_judge_a_running_apply() {
    let host = Host::new().await;
    let first = host.apply(&[1000]).await;
    let status = status::read(&host.agent);
    for file in &status.files {
        assert_eq!(file.applied_revision, Some(first.revision));
        assert_eq!(file.on_disk, file.applied);
        assert_eq!(file.loaded_revision, Some(first.revision), "{file:?}");
    }
    // A type that kept its old marker is told.
    let held = host.pbx.held.lock().unwrap().clone();
    host.apply(&[1000, 1001]).await;
    host.pbx.held.lock().unwrap().auths = held.auths;
    let status = status::read(&host.agent);
    let warnings = status.warnings.join("\n");
    assert!(warnings.contains("different generations"), "{warnings}");
    assert!(kinds(&host).is_empty(), "{:?}", kinds(&host));

    let request = host.stage(&bundle(&[1002])).await;
    let gate = host.pbx.gate.lock().unwrap();
    let running = host.agent.apply(request).unwrap();
    edit(&host, b"; in the middle\n");
    let view = host.agent.watch.look(&host.agent, true);
    assert!(view.drift.since.is_none() && kinds(&host).is_empty());
    drop(gate);
    ended(running).await;
}
