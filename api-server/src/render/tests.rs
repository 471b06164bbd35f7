use proptest::prelude::*;
use shared::{conf, model};

use super::*;
use crate::domain::device::{Codecs, DigestAlgorithm, Nat};
use crate::domain::{DeviceId, DisplayName, ExtensionNumber, SipPassword, TenantId, UserId};

fn user(number: u32, name: &str) -> SnapshotUser {
    SnapshotUser {
        user_id: UserId(uuid::Uuid::from_u128(number.into())),
        extension: number.try_into().unwrap(),
        name: name.parse().unwrap(),
        email: format!("u{number}@example.org").parse().unwrap(),
        devices: vec![device(1)],
    }
}

fn device(slot: u32) -> SnapshotDevice {
    let password = secrecy::SecretString::from("abcdefABCDEF123456789012");
    SnapshotDevice {
        device_id: DeviceId(uuid::Uuid::from_u128(slot.into())),
        slot: slot.try_into().unwrap(),
        sip_password: SipPassword::try_from(password).unwrap(),
        previous_password: None,
        algorithm: DigestAlgorithm::Md5,
        transport: None,
        nat: Nat::default(),
        codecs: Codecs::default(),
    }
}

fn tenant(number: u32, users: Vec<SnapshotUser>) -> SnapshotTenant {
    SnapshotTenant {
        id: TenantId(uuid::Uuid::from_u128(number.into())),
        number: number.try_into().unwrap(),
        users,
    }
}

fn snapshot(users: Vec<SnapshotUser>) -> Snapshot {
    Snapshot {
        realm: "synergycall".parse().unwrap(),
        reserved_numbers: vec![1000..=1999],
        tenants: vec![tenant(1, users)],
    }
}

fn text(bundle: &Bundle, slot: Slot) -> String {
    String::from_utf8(bundle.files[&slot].clone()).unwrap()
}

#[test]
fn equal_snapshots_give_equal_bytes_whatever_the_order_of_their_users() {
    let one = render(&snapshot(vec![user(1000, "A"), user(1001, "B")])).unwrap();
    let other = render(&snapshot(vec![user(1001, "B"), user(1000, "A")])).unwrap();
    assert_eq!(one, other);
    let third = render(&snapshot(vec![user(1000, "A"), user(1001, "C")])).unwrap();
    assert_ne!(one.manifest().digest(), third.manifest().digest());
}

/// Each file is marked by itself: a new password leaves the dialplan as it was, and whoever is
/// not asked to read a file again is told by its mark that nothing has changed in it.
#[test]
fn a_file_that_says_the_same_keeps_its_bytes() {
    let one = render(&snapshot(vec![user(1000, "A")])).unwrap();
    let renamed = render(&snapshot(vec![user(1000, "B")])).unwrap();
    let same = |slot| one.files[&slot] == renamed.files[&slot];
    assert!(!same(Slot::PjsipEndpoints) && same(Slot::DialplanRouting));
    let (one, renamed) = (model::read(&one), model::read(&renamed));
    let (one, renamed) = (one.ok().unwrap(), renamed.ok().unwrap());
    let same = |slot| one.generation(slot) == renamed.generation(slot);
    assert!(!same(Slot::PjsipEndpoints) && same(Slot::DialplanRouting));
}

#[test]
fn extensions_fall_because_rising_ones_cost_asterisk_quadratic_time() {
    let bundle = render(&snapshot((1000..1100).map(|n| user(n, "N")).collect())).unwrap();
    let sections = conf::read(&bundle.files[&Slot::DialplanRouting]).unwrap();
    let values: Vec<&str> = sections[0].entries.iter().map(|e| &*e.value).collect();
    let expected: Vec<String> = (1000..1100)
        .rev()
        .map(|n| format!("{n},1,Dial(PJSIP/{n},25)"))
        .collect();
    assert_eq!(values, expected);
}

#[test]
fn no_password_reaches_the_files() {
    let bundle = render(&snapshot(vec![user(1000, "A")])).unwrap();
    let endpoints = text(&bundle, Slot::PjsipEndpoints);
    assert!(!endpoints.contains("abcdefABCDEF"), "clear password");
    // printf '1000:synergycall:abcdefABCDEF123456789012' | md5sum
    assert!(endpoints.contains("password_digest = MD5:16a3f5c45f3565f82e6f06b9f57099dc"));
    assert!(
        !format!("{bundle:?}").contains("MD5:"),
        "Debug shows the files"
    );
}

#[test]
fn what_the_database_must_never_hold_is_refused() {
    let twice = snapshot(vec![user(1000, "A"), user(1000, "B")]);
    assert!(matches!(
        render(&twice),
        Err(RenderError::DuplicateExtension { .. })
    ));
    let outside = snapshot(vec![user(2000, "A")]);
    assert!(matches!(
        render(&outside),
        Err(RenderError::OutsideRange(_))
    ));
    let mut same_place = snapshot(vec![user(1000, "A")]);
    same_place.tenants[0].users[0].devices.push(device(1));
    let error = render(&same_place).unwrap_err();
    assert!(matches!(
        error,
        RenderError::DuplicateSlot { slot: 'a', .. }
    ));
    let mut same_tenant = snapshot(vec![user(1000, "A")]);
    same_tenant.tenants.push(tenant(1, vec![user(1001, "B")]));
    let error = render(&same_tenant).unwrap_err();
    assert!(matches!(error, RenderError::DuplicateTenant(_)));
}

/// Only plain numbers need a range of their own: tenants may have any.
#[test]
fn the_same_number_at_another_tenant_is_nothing_special() {
    let mut snapshot = snapshot(vec![user(1000, "A")]);
    let others = vec![user(1000, "B"), user(99_999_999, "C")];
    snapshot
        .tenants
        .push(tenant(i32::MAX.unsigned_abs(), others));
    let model = model::read(&render(&snapshot).unwrap()).ok().unwrap();
    assert_eq!(model.endpoints.len(), 4);
    assert_eq!(model.contexts["t2147483647-internal"].len(), 2);
}

#[test]
fn tenants_and_places_are_in_an_order_of_their_own() {
    let several = |slots: &[u32]| {
        let mut user = user(1000, "A");
        user.devices = slots.iter().copied().map(device).collect();
        user
    };
    let of = |tenants| Snapshot {
        tenants,
        ..snapshot(Vec::new())
    };
    let one = of(vec![
        tenant(10, vec![several(&[2, 1])]),
        tenant(1, vec![several(&[1, 3])]),
        tenant(2, vec![several(&[1])]),
    ]);
    let other = of(vec![
        tenant(2, vec![several(&[1])]),
        tenant(1, vec![several(&[3, 1])]),
        tenant(10, vec![several(&[1, 2])]),
    ]);
    let one = render(&one).unwrap();
    assert_eq!(one, render(&other).unwrap());
    let routing = text(&one, Slot::DialplanRouting);
    let contexts: Vec<&str> = routing.lines().filter(|l| l.starts_with('[')).collect();
    assert_eq!(
        contexts,
        [
            "[synergy-internal]",
            "[t2-internal]",
            "[t10-internal]",
            "[synergy-generation]"
        ]
    );
    assert!(routing.contains("1000,1,Dial(PJSIP/1000&PJSIP/t1-1000-c,25)"));
    assert!(routing.contains("1000,1,Dial(PJSIP/t10-1000-a&PJSIP/t10-1000-b,25)"));
}

/// The administrator's dialplan includes it: it is there when nobody is in it.
#[test]
fn the_context_of_the_default_tenant_is_always_there() {
    let mut phoneless = user(1000, "A");
    phoneless.devices.clear();
    for tenants in [
        Vec::new(),
        vec![tenant(1, vec![phoneless])],
        vec![tenant(3, Vec::new())],
    ] {
        let snapshot = Snapshot {
            tenants,
            ..snapshot(Vec::new())
        };
        let model = model::read(&render(&snapshot).unwrap()).ok().unwrap();
        let contexts: Vec<&String> = model.contexts.keys().collect();
        assert_eq!(contexts, ["synergy-generation", "synergy-internal"]);
        assert!(model.contexts["synergy-internal"].is_empty());
    }
}

/// Of a tenant's number, an extension and a place: what a device is called.
fn called(tenant: u32, extension: u32, slot: u32) -> String {
    let (tenant, slot) = (tenant.try_into().unwrap(), slot.try_into().unwrap());
    crate::domain::device::endpoint_name(tenant, extension.try_into().unwrap(), slot).to_string()
}

proptest! {
    /// Whatever a name holds, the bundle has exactly the objects of its users, and the caller
    /// id is the name. Two tenants with the same numbers, two devices each, one of them with
    /// two passwords.
    #[test]
    fn no_name_changes_what_is_read(
        names in prop::collection::vec(r#"([;\[\]#=>\\"<&,|${}()-]|\PC){1,60}"#, 1..8)
    ) {
        let names: Vec<DisplayName> = names.iter().filter_map(|n| n.parse().ok()).collect();
        let users = || (1000..).zip(&names).map(|(number, name)| {
            let mut user = user(number, name.as_str());
            user.devices.push(device(2));
            user.devices[1].previous_password = Some(device(1).sip_password);
            user
        });
        let mut snapshot = snapshot(users().collect());
        snapshot.tenants.push(tenant(2, users().collect()));
        let read = model::read(&render(&snapshot).unwrap());
        let model = read.map_err(|findings| TestCaseError::fail(format!("{findings:?}")))?;
        prop_assert_eq!(model.endpoints.len(), 4 * names.len() + 1);
        prop_assert_eq!(model.auths.len(), 6 * names.len() + 1);
        for (tenant, context) in [(1, "synergy-internal"), (2, "t2-internal")] {
            // A name may be refused by the domain, so that there is no user at all.
            let extensions = model.contexts.get(context).map_or(0, BTreeMap::len);
            prop_assert_eq!(extensions, names.len());
            for ((number, name), slot) in
                (1000_u32..).zip(&names).flat_map(|user| [(user, 1), (user, 2)])
            {
                let shown = model.endpoints[&called(tenant, number, slot)].get("callerid");
                let number = ExtensionNumber::try_from(number).unwrap();
                let expected = text::caller_id(name.as_str(), number);
                prop_assert_eq!(shown, Some(expected.as_str()));
            }
        }
    }
}
