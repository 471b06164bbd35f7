//! Golden cases are folders: `golden/<case>/snapshot.json` and the files that it must render to.
//! A new case is a new folder with a snapshot; run with `UPDATE_GOLDEN=1` to write its files, and
//! read them before they are committed.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use api_server::domain::snapshot::{Snapshot, SnapshotUser};
use api_server::domain::{SipPassword, UserId};
use secrecy::SecretString;
use serde_json::Value;
use shared::bundle::Slot;
use shared::model;
use uuid::Uuid;

fn cases() -> anyhow::Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let paths = std::fs::read_dir(root)?.map(|entry| Ok(entry?.path()));
    let mut cases: Vec<PathBuf> = paths.collect::<anyhow::Result<_>>()?;
    cases.sort();
    Ok(cases)
}

fn user(json: &Value) -> anyhow::Result<SnapshotUser> {
    let text = |key: &str| json[key].as_str().context("a user lacks a text");
    let number = u32::try_from(json["extension"].as_u64().context("no extension")?)?;
    Ok(SnapshotUser {
        user_id: UserId(Uuid::from_u128(number.into())),
        extension: number.try_into()?,
        name: text("name")?.parse()?,
        email: format!("user{number}@example.org").parse()?,
        sip_password: SipPassword::try_from(SecretString::from(text("sip_password")?))?,
    })
}

fn snapshot(case: &Path) -> anyhow::Result<Snapshot> {
    let json: Value = serde_json::from_str(&std::fs::read_to_string(case.join("snapshot.json"))?)?;
    let users = json["users"].as_array().context("no users")?;
    Ok(Snapshot {
        realm: json["realm"].as_str().context("no realm")?.parse()?,
        reserved_numbers: vec![1000..=1999],
        users: users.iter().map(user).collect::<anyhow::Result<_>>()?,
    })
}

#[test]
fn every_case_renders_to_its_files_and_reads_back() -> anyhow::Result<()> {
    let cases = cases()?;
    assert!(cases.len() >= 4, "the golden cases are gone");
    for case in cases {
        let bundle = api_server::render::render(&snapshot(&case)?)?;
        for slot in Slot::ALL {
            let name = Path::new(slot.relative_path()).file_name();
            let path = case.join(name.context("a slot without a file")?);
            let rendered = String::from_utf8(bundle.files[&slot].clone())?;
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                #[expect(clippy::disallowed_methods, reason = "a golden file is no live file")]
                std::fs::write(&path, &rendered)?;
            }
            let expected = std::fs::read_to_string(&path)?;
            assert_eq!(rendered, expected, "{}", path.display());
        }
        let findings = model::read(&bundle).err();
        assert_eq!(findings, None, "{}", case.display());
    }
    Ok(())
}
