//! What is let in, and what is refused or attached to what runs.

use super::*;

#[tokio::test]
async fn a_question_waits_for_nobody_and_refuses_while_an_apply_runs() {
    let host = Host::new().await;
    assert!(
        host.agent
            .ask(crate::inspect::verify)
            .await
            .unwrap()
            .is_none()
    );
    host.apply(&[1000]).await;
    let report = host
        .agent
        .ask(crate::inspect::verify)
        .await
        .unwrap()
        .unwrap();
    assert!(report.in_force, "{report:?}");
    let request = host.stage(&bundle(&[1001])).await;
    let closed = host.pbx.gate.lock().unwrap();
    let attached = host.agent.apply(request).unwrap();
    let refusal = host.agent.would_ask().unwrap_err();
    assert!(matches!(refusal, Refusal::Busy(id) if id == request.apply_id));
    drop(closed);
    assert_eq!(outcome(&ended(attached).await), Outcome::Applied);
}

#[tokio::test]
async fn asking_again_gives_the_same_record() {
    let mut host = Host::new().await;
    let request = host.stage(&bundle(&[1000])).await;
    let first = ended(host.agent.apply(request).unwrap()).await;
    let again = ended(host.agent.apply(request).unwrap()).await;
    assert_eq!(first, again);
    assert_eq!(
        host.agent.record(request.apply_id).unwrap(),
        Some(first.clone())
    );
    host.apply(&[1001]).await;
    host.restart().await;
    assert_eq!(host.agent.record(request.apply_id).unwrap(), Some(first));
    assert_eq!(host.agent.record(ApplyId(Uuid::now_v7())).unwrap(), None);
    let other = Request {
        revision: Revision(99),
        ..request
    };
    assert!(matches!(host.agent.apply(other), Err(Refusal::Conflict(_))));
}

#[tokio::test]
async fn a_second_apply_is_refused_while_one_runs_and_the_same_one_attaches() {
    let host = Host::new().await;
    let (first, second) = (
        host.stage(&bundle(&[1000])).await,
        host.stage(&bundle(&[1001])).await,
    );
    let gate = host.pbx.gate.lock().unwrap();
    let running = host.agent.apply(second).unwrap();
    let busy = host.agent.apply(first);
    assert!(matches!(busy, Err(Refusal::Busy(id)) if id == second.apply_id));
    let attached = host.agent.apply(second).unwrap();
    assert_eq!(
        host.agent.record(second.apply_id).unwrap().unwrap().outcome,
        None
    );
    drop(gate);
    assert_eq!(ended(running).await, ended(attached).await);
    assert_eq!(host.pbx.reloads(), 1);
}

#[tokio::test]
async fn what_is_older_or_other_than_what_was_seen_is_refused() {
    let mut host = Host::new().await;
    let old = host.stage(&bundle(&[1000])).await;
    let new = host.stage(&bundle(&[1001])).await;
    host.restart().await;
    let refused = host.agent.apply(old);
    assert!(matches!(refused, Err(Refusal::Stale { highest, .. }) if highest == new.revision));
    let other = Request {
        digest: old.digest,
        ..new
    };
    assert!(matches!(host.agent.apply(other), Err(Refusal::Conflict(_))));
    let other = Request {
        apply_id: old.apply_id,
        ..new
    };
    assert!(matches!(host.agent.apply(other), Err(Refusal::Conflict(_))));
    let missing = Request {
        revision: Revision(99),
        ..new
    };
    assert!(matches!(
        host.agent.apply(missing),
        Err(Refusal::NotStaged(_))
    ));
    let header = |request: &Request, bundle: &Bundle| Header {
        force: false,
        apply_id: request.apply_id,
        revision: request.revision,
        digest: request.digest,
        manifest: bundle.manifest(),
    };
    let stale = host
        .agent
        .stage(header(&old, &bundle(&[1000])), bundle(&[1000]))
        .await;
    assert!(matches!(stale, Err(Refusal::Stale { .. })));
    host.agent
        .stage(header(&new, &bundle(&[1001])), bundle(&[1001]))
        .await
        .unwrap();
    let other = Request {
        digest: old.digest,
        ..new
    };
    let conflict = host
        .agent
        .stage(header(&other, &bundle(&[1000])), bundle(&[1000]))
        .await;
    assert!(matches!(conflict, Err(Refusal::Conflict(_))));
}
