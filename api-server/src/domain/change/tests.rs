use uuid::Uuid;

use super::*;

fn bundle(pjsip: &str, dialplan: &str) -> Bundle {
    let files = BTreeMap::from([
        (Slot::PjsipEndpoints, pjsip.as_bytes().to_vec()),
        (Slot::DialplanRouting, dialplan.as_bytes().to_vec()),
    ]);
    Bundle {
        files,
        reserved_numbers: Vec::new(),
    }
}

fn user(number: u32, name: &str) -> IncludedUser {
    IncludedUser {
        id: UserId(Uuid::from_u128(number.into())),
        name: name.to_owned(),
        tenant: 1,
        extension: number,
    }
}

fn between(old: &Bundle, new: &Bundle) -> Changes {
    let users = [user(1000, "A")];
    let side = |bundle| Side {
        bundle: Some(bundle),
        users: &users,
    };
    Changes::between(side(old), side(new)).unwrap()
}

const PJSIP: &str = "[1000]\ntype = endpoint\ncallerid = \"A\" <1000>\n\
    [1000]\ntype = auth\npassword_digest = MD5:aa\n\
    [synergy-generation]\ntype = aor\nvoicemail_extension = g-1\n";
const DIALPLAN: &str = "[synergy-internal]\nexten => 1000,1,Dial(PJSIP/1000,25)\n\
    [synergy-generation]\nexten => generation,1,NoOp(g-1)\n";

#[test]
fn a_changed_field_shows_both_values_and_a_changed_secret_neither() {
    let old = bundle(PJSIP, DIALPLAN);
    let altered = PJSIP
        .replace("\"A\"", "\"B\"")
        .replace("MD5:aa", "MD5:bb")
        .replace("g-1", "g-2");
    let changes = between(&old, &bundle(&altered, DIALPLAN));
    let told: Vec<_> = changes
        .objects
        .iter()
        .map(|change| {
            let field = &change.fields[0];
            let kind = change.object.kind.as_str();
            (kind, field.field.as_str(), &field.old, &field.new)
        })
        .collect();
    let value = |text: &str| Shown::Value(text.to_owned());
    let expected = [
        ("auth", "password_digest", &Shown::Secret, &Shown::Secret),
        (
            "endpoint",
            "callerid",
            &value("\"A\" <1000>"),
            &value("\"B\" <1000>"),
        ),
    ];
    assert_eq!(told, expected, "the marker is no change of its own");
    assert_eq!(changes.users.len(), 1);
    assert_eq!(changes.touched_aors(), ["1000"]);
    assert!(!format!("{changes:?}").contains("MD5"));
}

#[test]
fn objects_come_and_go_with_their_users() {
    let empty = Side {
        bundle: None,
        users: &[],
    };
    let full = bundle(PJSIP, DIALPLAN);
    let users = [user(1000, "A")];
    let full = Side {
        bundle: Some(&full),
        users: &users,
    };
    let names = |changes: &Changes| -> Vec<String> {
        let name = |change: &ObjectChange| {
            let (action, object) = (change.action.name(), &change.object);
            format!("{action} {} {}", object.kind, object.name)
        };
        changes.objects.iter().map(name).collect()
    };
    let come = Changes::between(empty, full).unwrap();
    let expected = [
        "added auth 1000",
        "added endpoint 1000",
        "added extension 1000@synergy-internal",
    ];
    assert_eq!(names(&come), expected);
    assert_eq!(come.user_counts().added, 1);
    assert_eq!(come.touched_aors(), [""; 0]);
    let go = Changes::between(full, empty).unwrap();
    assert_eq!(go.object_counts().removed, 3);
    assert_eq!(go.users[0].action, Action::Removed);
    assert!(Changes::between(full, full).unwrap().objects.is_empty());
}

#[test]
fn a_number_given_to_somebody_else_is_one_user_gone_and_one_come() {
    let old = bundle(PJSIP, DIALPLAN);
    let new = bundle(&PJSIP.replace("MD5:aa", "MD5:bb"), DIALPLAN);
    let (before, mut after) = (user(1000, "A"), user(1000, "A"));
    after.id = UserId(Uuid::from_u128(7));
    let old = Side {
        bundle: Some(&old),
        users: std::slice::from_ref(&before),
    };
    let new = Side {
        bundle: Some(&new),
        users: std::slice::from_ref(&after),
    };
    let changes = Changes::between(old, new).unwrap();
    let actions: Vec<_> = changes.users.iter().map(|change| change.action).collect();
    assert_eq!(actions, [Action::Added, Action::Removed]);
}
