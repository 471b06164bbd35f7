//! Golden cases are folders: `golden/<case>/snapshot.json` and the files that it must render to.
//! A new case is a new folder with a snapshot; run with `UPDATE_GOLDEN=1` to write its files, and
//! read them before they are committed.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use api_server::domain::device::{Codecs, DigestAlgorithm};
use api_server::domain::snapshot::{Snapshot, SnapshotDevice, SnapshotTenant, SnapshotUser};
use serde_json::Value;
use shared::bundle::Slot;
use shared::model;
use tests::snapshots;

fn cases() -> anyhow::Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let paths = std::fs::read_dir(root)?.map(|entry| Ok(entry?.path()));
    let mut cases: Vec<PathBuf> = paths.collect::<anyhow::Result<_>>()?;
    cases.sort();
    Ok(cases)
}

fn number(json: &Value, key: &str) -> anyhow::Result<u32> {
    let number = json[key].as_u64();
    Ok(u32::try_from(number.with_context(|| format!("no {key}"))?)?)
}

/// A device; what it does not name is as it is by default.
fn device(json: &Value) -> anyhow::Result<SnapshotDevice> {
    let text = |key: &str| json[key].as_str();
    let password = text("sip_password").context("a device without a password")?;
    let mut device = snapshots::device(number(json, "slot")?, password)?;
    if let Some(previous) = text("previous_password") {
        device.previous_password = Some(snapshots::password(previous)?);
    }
    if let Some(algorithm) = text("algorithm") {
        device.algorithm = DigestAlgorithm::from_name(algorithm)?;
    }
    if let Some(transport) = text("transport") {
        device.transport = Some(transport.parse()?);
    }
    if let Some(codecs) = json["codecs"].as_array() {
        device.codecs = Codecs::from_names(codecs.iter().filter_map(Value::as_str))?;
    }
    let nat = &mut device.nat;
    for (key, flag) in [
        ("rtp_symmetric", &mut nat.rtp_symmetric),
        ("force_rport", &mut nat.force_rport),
        ("rewrite_contact", &mut nat.rewrite_contact),
        ("direct_media", &mut nat.direct_media),
    ] {
        *flag = json[key].as_bool().unwrap_or(*flag);
    }
    Ok(device)
}

/// A user with `devices`, or with one that has nothing but a `sip_password`.
fn user(json: &Value) -> anyhow::Result<SnapshotUser> {
    let devices = if let Some(devices) = json["devices"].as_array() {
        devices.iter().map(device).collect::<anyhow::Result<_>>()?
    } else {
        let password = json["sip_password"].as_str().context("no password")?;
        vec![snapshots::device(1, password)?]
    };
    let name = json["name"].as_str().context("a user without a name")?;
    snapshots::user(number(json, "extension")?, name, devices)
}

fn tenant(number: u32, json: &Value) -> anyhow::Result<SnapshotTenant> {
    let users = json["users"].as_array().context("no users")?;
    snapshots::tenant(
        number,
        users.iter().map(user).collect::<anyhow::Result<_>>()?,
    )
}

/// A snapshot of `tenants`, or of `users` of the default one.
fn snapshot(case: &Path) -> anyhow::Result<Snapshot> {
    let json: Value = serde_json::from_str(&std::fs::read_to_string(case.join("snapshot.json"))?)?;
    let tenants = match json["tenants"].as_array() {
        Some(tenants) => {
            let tenants = tenants.iter();
            let tenants = tenants.map(|json| tenant(number(json, "number")?, json));
            tenants.collect::<anyhow::Result<_>>()?
        }
        None => vec![tenant(1, &json)?],
    };
    let mut snapshot = snapshots::snapshot(tenants)?;
    snapshot.realm = json["realm"].as_str().context("no realm")?.parse()?;
    Ok(snapshot)
}

#[test]
fn every_case_renders_to_its_files_and_reads_back() -> anyhow::Result<()> {
    let cases = cases()?;
    assert!(cases.len() >= 8, "the golden cases are gone");
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
