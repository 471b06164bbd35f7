use shared::bundle::Slot;
use uuid::Uuid;

use super::*;
use crate::domain::UserId;

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

/// Two tenants have the number 1000; what changes at one of them is no change at the other.
#[test]
fn the_same_number_of_another_tenant_is_somebody_else() {
    let pjsip = "[1000]\ntype = endpoint\nauth = 1000\n[t2-1000-a]\ntype = endpoint\n\
        auth = t2-1000-a\n[t2-1000-b]\ntype = endpoint\nauth = t2-1000-b\n";
    let dialplan = "[synergy-internal]\nexten => 1000,1,Dial(PJSIP/1000,25)\n\
        [t2-internal]\nexten => 1000,1,Dial(PJSIP/t2-1000-a&PJSIP/t2-1000-b,25)\n";
    let of = |tenant: u32| IncludedUser {
        id: UserId(Uuid::from_u128(tenant.into())),
        tenant,
        ..user(1000, "A")
    };
    let users = [of(1), of(2)];
    let changed = |from: &str, to: &str| {
        let (old, new) = (bundle(pjsip, dialplan), {
            let (pjsip, dialplan) = (pjsip.replace(from, to), dialplan.replace(from, to));
            bundle(&pjsip, &dialplan)
        });
        let side = |bundle| Side {
            bundle: Some(bundle),
            users: &users,
        };
        let changes = Changes::between(side(&old), side(&new)).unwrap();
        let tenants: Vec<u32> = changes.users.iter().map(|c| c.user.tenant).collect();
        (tenants, changes.touched_aors())
    };
    let old = "[t2-1000-b]\ntype = endpoint\nauth = t2-1000-b,t2-1000-b-old\n\
        [t2-1000-b-old]\ntype = auth\n";
    let begins = changed("[t2-1000-b]\ntype = endpoint\nauth = t2-1000-b\n", old);
    assert_eq!(begins, (vec![2], vec!["t2-1000-b".to_owned()]));
    assert_eq!(
        changed("auth = 1000", "auth = 1001"),
        (vec![1], vec!["1000".to_owned()])
    );
    assert_eq!(changed("&PJSIP/t2-1000-b", "").0, [2]);
    assert_eq!(changed("Dial(PJSIP/1000,", "Dial(PJSIP/1001,").0, [1]);
}

/// The end of an overlap removes an auth; the phones that notice are those of its device.
#[test]
fn the_auth_of_a_former_password_belongs_to_its_device() {
    let old = bundle(&format!("[1000-old]\ntype = auth\n{PJSIP}"), DIALPLAN);
    let changes = between(&old, &bundle(PJSIP, DIALPLAN));
    assert_eq!(changes.touched_aors(), ["1000"]);
    assert_eq!(changes.users.len(), 1);
}

/// What may be shown was decided option by option; whatever else there is stays hidden.
#[test]
fn options_are_secret_unless_somebody_decided_otherwise() {
    for shown in ["auth", "transport", "supported_algorithms_uas", "allow"] {
        assert!(!is_secret(shown), "{shown}");
    }
    for hidden in [
        "password_digest",
        "password",
        "md5_cred",
        "oauth_secret",
        "later",
    ] {
        assert!(is_secret(hidden), "{hidden}");
    }
}
