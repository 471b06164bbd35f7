use std::collections::BTreeMap;

use shared::bundle::{ApplyId, Digest, Revision};
use shared::record::{MismatchKind, OnReloadFailure, Outcome, Phase};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::domain::UserId;
use crate::domain::apply::{AttemptOutcome, UserCounts};
use crate::domain::change::{Action, Counts, ObjectName, Summary, TenantCounts, UserChange};
use crate::domain::pbx::DEFAULT_PBX;

/// What must not be told: it stands in every text that may be another tenant's.
const FOREIGN: &str = "foreign";

const OWN: TenantId = TenantId(Uuid::from_u128(2));
const OTHER: TenantId = TenantId(Uuid::from_u128(3));

fn to() -> Confined {
    Confined {
        tenant: OWN,
        number: TenantNumber::try_from(2).unwrap(),
        pbx: DEFAULT_PBX,
    }
}

fn user(tenant: u32) -> IncludedUser {
    IncludedUser {
        id: UserId(Uuid::from_u128(tenant.into())),
        name: (if tenant == 2 { "own" } else { FOREIGN }).to_owned(),
        tenant,
        extension: 1000,
    }
}

fn mismatch(object: ObjectKind, name: &str) -> Mismatch {
    let own = to().has_object(name) || name.ends_with("t2-internal");
    Mismatch {
        object,
        name: name.to_owned(),
        kind: MismatchKind::Missing,
        detail: (if own { "own" } else { FOREIGN }).to_owned(),
    }
}

fn mismatches() -> Vec<Mismatch> {
    [
        (ObjectKind::Endpoint, "t2-1000-a"),
        (ObjectKind::Endpoint, "t3-1000-a"),
        (ObjectKind::Auth, "t2-1000-b-old"),
        (ObjectKind::Aor, "1000"),
        (ObjectKind::Contact, "t22-1000-a"),
        (ObjectKind::Endpoint, "trunk"),
        (ObjectKind::Extension, "1000@t2-internal"),
        (ObjectKind::Extension, "1000@t3-internal"),
        (ObjectKind::Extension, "1000@synergy-internal"),
        (ObjectKind::Extension, "1000"),
        (ObjectKind::Marker, "generation@synergy-generation"),
        (ObjectKind::File, "extensions.d/x.conf"),
    ]
    .map(|(object, name)| mismatch(object, name))
    .into()
}

fn record() -> ApplyRecord {
    ApplyRecord {
        apply_id: ApplyId(Uuid::nil()),
        revision: Revision(7),
        digest: Digest([7; 32]),
        on_reload_failure: OnReloadFailure::RollBack,
        outcome: Some(Outcome::Rejected),
        steps: vec![Step {
            phase: Phase::Preflight,
            action: "ask".to_owned(),
            started_at: OffsetDateTime::UNIX_EPOCH,
            duration_us: 1,
            ok: false,
            said: FOREIGN.to_owned(),
        }],
        files: Vec::new(),
        failure: FOREIGN.to_owned(),
        mismatches: mismatches(),
        live_revision: None,
        notes: vec![FOREIGN.to_owned(); 2],
    }
}

fn attempt(by: Option<TenantId>) -> Attempt {
    let asked = if by == Some(OWN) { "own" } else { FOREIGN };
    let users = vec![user(1), user(2), user(3), user(3)];
    Attempt {
        id: ApplyId(Uuid::nil()),
        pbx_id: DEFAULT_PBX,
        pbx_name: "default".parse().unwrap(),
        revision: Some(Revision(7)),
        digest: None,
        on_reload_failure: OnReloadFailure::RollBack,
        outcome: AttemptOutcome::OnPbx(Outcome::Rejected),
        requested_by: asked.to_owned(),
        request_id: asked.to_owned(),
        source_address: asked.to_owned(),
        requested_tenant: by,
        started_at: OffsetDateTime::UNIX_EPOCH,
        ended_at: None,
        failure: Some(Failure::new("rejected", FOREIGN)),
        record: Some(record()),
        user_counts: UserCounts::of(&users),
        users,
        changes: None,
        restored_from: None,
        notes: vec![FOREIGN.to_owned()],
        bundle_kept: false,
        change_count: Some(4711),
    }
}

#[test]
fn of_an_apply_the_own_part_is_left() {
    for by in [None, Some(OTHER), Some(OWN)] {
        let whole = attempt(by);
        assert!(format!("{:?}", whole.clone().seen_by(Viewer::Everything)).contains(FOREIGN));
        let seen = whole.seen_by(Viewer::Confined(to()));
        let told = format!("{seen:?}");
        assert!(!told.contains(FOREIGN), "{told}");
        assert_eq!(seen.users, [user(2)]);
        assert_eq!(seen.user_counts.total(), 1);
        assert_eq!(seen.change_count, None);
        let record = seen.record.unwrap();
        let names: Vec<&str> = record.mismatches.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["t2-1000-a", "t2-1000-b-old", "1000@t2-internal"]);
        assert_eq!((record.notes.len(), seen.notes.len()), (1, 1));
        let asked = if by == Some(OWN) { "own" } else { WITHHELD };
        assert_eq!(
            [seen.requested_by, seen.request_id, seen.source_address],
            [asked; 3]
        );
        assert_eq!(seen.failure.unwrap().message, WITHHELD);
    }
}

#[test]
fn what_the_portal_itself_says_of_nobody_is_told() {
    let failure = Failure::new("never_started", "the agent never received this apply");
    assert_eq!(failure.clone().confined(to()), failure);
}

#[test]
fn what_is_empty_stays_empty() {
    let mut text = String::new();
    withhold(&mut text);
    let mut texts = Vec::new();
    withhold_all(&mut texts);
    assert_eq!((text.as_str(), texts.len()), ("", 0));
}

fn summary(tenants: BTreeMap<u32, TenantCounts>, added: usize) -> Summary {
    let object = |name: &str, kind: &str| {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        (Action::Added, ObjectName { name, kind })
    };
    let action = Action::Added;
    Summary {
        against: None,
        objects: Counts {
            added,
            ..Counts::default()
        },
        object_names: vec![
            object("t2-1000-a", "endpoint"),
            object("t3-1000-a", "endpoint"),
            object("1000@t2-internal", "extension"),
            object("t3-internal", "context"),
        ],
        users: Counts {
            added: 2,
            ..Counts::default()
        },
        user_names: [user(2), user(3)]
            .map(|user| UserChange { action, user })
            .into(),
        tenants,
    }
}

#[test]
fn of_a_summary_the_own_names_and_counts_are_left() {
    let names = |summary: &Summary| {
        let names = summary.object_names.iter();
        names
            .map(|(_, object)| object.name.clone())
            .collect::<Vec<_>>()
    };
    // All names were kept: they can be counted.
    let seen = summary(BTreeMap::new(), 4).of_tenant(to()).unwrap();
    assert_eq!(names(&seen), ["t2-1000-a", "1000@t2-internal"]);
    assert_eq!((seen.objects.added, seen.users.added), (2, 1));
    assert_eq!(seen.user_names.len(), 1);
    // Of more than that, only what was counted then is known.
    assert_eq!(summary(BTreeMap::new(), 900).of_tenant(to()), None);
    let objects = Counts {
        added: 300,
        ..Counts::default()
    };
    let users = Counts::default();
    let counted = BTreeMap::from([(2, TenantCounts { objects, users })]);
    let seen = summary(counted, 900).of_tenant(to()).unwrap();
    assert_eq!((seen.objects.added, seen.users.added), (300, 0));
    let others = BTreeMap::from([(3, TenantCounts { objects, users })]);
    let seen = summary(others, 900).of_tenant(to()).unwrap();
    assert_eq!(seen.objects.total(), 0);
}

#[test]
fn warnings_are_their_codes() {
    let warning = |code| Warning::new(code, FOREIGN);
    let warnings = vec![warning("drift"), warning("agent"), warning("drift")];
    let seen = withhold_warnings(warnings, to());
    let expected = ["agent", "drift"].map(|code| Warning::new(code, WITHHELD));
    assert_eq!(seen, expected);
}
