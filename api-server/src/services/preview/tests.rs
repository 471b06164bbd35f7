use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::device::{Codecs, DigestAlgorithm, Nat};
use crate::domain::snapshot::{Snapshot, SnapshotDevice, SnapshotTenant, SnapshotUser};
use crate::domain::tenant::DEFAULT_TENANT;
use crate::domain::{DeviceId, DeviceSlot, SipPassword, TenantNumber};
use crate::services::compare::render;

fn user() -> impl Strategy<Value = SnapshotUser> {
    let parts = (1000..1006_u32, 0..8_u128, "[A-Z]{1,3}", "[A-Za-z0-9]{24}");
    parts.prop_map(|(number, id, name, password)| SnapshotUser {
        user_id: UserId(Uuid::from_u128(id)),
        extension: number.try_into().unwrap(),
        name: name.parse().unwrap(),
        email: "a@example.org".parse().unwrap(),
        devices: vec![SnapshotDevice {
            device_id: DeviceId(Uuid::from_u128(id)),
            slot: DeviceSlot::FIRST,
            sip_password: SipPassword::try_from(secrecy::SecretString::from(password)).unwrap(),
            previous_password: None,
            algorithm: DigestAlgorithm::Md5,
            transport: None,
            nat: Nat::default(),
            codecs: Codecs::default(),
        }],
    })
}

fn content() -> impl Strategy<Value = Content> {
    prop::collection::vec(user(), 0..6).prop_map(|mut users| {
        users.sort_by_key(|user| user.extension);
        users.dedup_by_key(|user| user.extension);
        let snapshot = Snapshot {
            realm: "synergycall".parse().unwrap(),
            reserved_numbers: vec![1000..=1999],
            tenants: vec![SnapshotTenant {
                id: DEFAULT_TENANT,
                number: TenantNumber::DEFAULT,
                users,
            }],
        };
        render(&snapshot).unwrap()
    })
}

/// Every password digest in the files, the marker's too.
fn secrets(content: &Content) -> Vec<String> {
    let texts = content.bundle.files.values();
    let texts = texts.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    texts
        .flat_map(|text| {
            let lines = text.lines();
            let secrets = lines.filter_map(|line| line.strip_prefix("password_digest = MD5:"));
            secrets.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

proptest! {
    /// Of two bundles, no secret of either reaches anything that a preview or the audit trail
    /// is made of; and yet each changed secret is a change.
    #[test]
    fn no_secret_is_told_and_none_changes_in_silence(old in content(), new in content()) {
        let difference = difference(Some(&old), &new).unwrap();
        let summary = difference.changes.summary(None);
        let told = format!("{difference:?} {summary:?}");
        let (before, after) = (secrets(&old), secrets(&new));
        for secret in before.iter().chain(&after) {
            prop_assert!(!told.contains(secret.as_str()));
        }
        let gone = before.iter().filter(|secret| !after.contains(secret)).count();
        let diff = &difference.files[0].diff.text;
        prop_assert_eq!(diff.matches("\n-password_digest = <secret>\n").count(), gone);
    }
}
