//! Golden cases are folders: `golden/<case>/snapshot.json` and the files that it must render to.
//! A new case is a new folder with a snapshot; run with `UPDATE_GOLDEN=1` to write its files, and
//! read them before they are committed.

use std::path::{Path, PathBuf};

use api_server::domain::snapshot::{Snapshot, SnapshotUser};
use api_server::domain::{SipPassword, UserId};
use secrecy::SecretString;
use serde_json::Value;
use shared::bundle::Slot;
use shared::model;
use uuid::Uuid;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

fn snapshot(case: &Path) -> Snapshot {
    let text = std::fs::read_to_string(case.join("snapshot.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let user = |user: &Value| {
        let number = u32::try_from(user["extension"].as_u64().unwrap()).unwrap();
        let password = SecretString::from(user["sip_password"].as_str().unwrap());
        SnapshotUser {
            user_id: UserId(Uuid::from_u128(number.into())),
            extension: number.try_into().unwrap(),
            name: user["name"].as_str().unwrap().parse().unwrap(),
            email: format!("user{number}@example.org").parse().unwrap(),
            sip_password: SipPassword::try_from(password).unwrap(),
        }
    };
    Snapshot {
        realm: json["realm"].as_str().unwrap().parse().unwrap(),
        reserved_numbers: vec![1000..=1999],
        users: json["users"].as_array().unwrap().iter().map(user).collect(),
    }
}

#[test]
fn every_case_renders_to_its_files_and_reads_back() {
    let cases = cases();
    assert!(cases.len() >= 4, "the golden cases are gone");
    for case in cases {
        let bundle = api_server::render::render(&snapshot(&case)).unwrap();
        for slot in Slot::ALL {
            let path = case.join(Path::new(slot.relative_path()).file_name().unwrap());
            let rendered = String::from_utf8(bundle.files[&slot].clone()).unwrap();
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                #[expect(clippy::disallowed_methods, reason = "a golden file is no live file")]
                std::fs::write(&path, &rendered).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap();
            assert_eq!(rendered, expected, "{}", path.display());
        }
        let findings = model::read(&bundle).err();
        assert_eq!(findings, None, "{}", case.display());
    }
}
