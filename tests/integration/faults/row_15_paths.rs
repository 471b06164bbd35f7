//! Row 15: path traversal. There are no paths on the wire: files are slots of a closed enum, ids are
//! UUIDs, and whatever else comes changes no file anywhere.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use proptest::prelude::Strategy;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use shared::record::Outcome;
use shared::wire::pb;
use shared::wire::pb::stage_request::Part;
use tonic::Code;
use uuid::Uuid;

use crate::held::assert_exactly;
use crate::pbx::{Pbx, bundle};
use crate::strace::said;

const CASES: usize = 300;

/// Names that lead elsewhere if anybody takes them for a path.
const PATHS: [&str; 8] = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "",
    "active",
    "../active",
    "01900000-0000-7000-8000-00000000000a/../../active",
    "01900000-0000-7000-8000-00000000000a\0",
];

/// Every file below some directories, by what would change if anybody wrote to it.
fn tree(dirs: &[&Path]) -> anyhow::Result<BTreeMap<PathBuf, (u64, u64, i64, i64)>> {
    let mut found = BTreeMap::new();
    let mut left: Vec<PathBuf> = dirs.iter().map(|dir| dir.to_path_buf()).collect();
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let (path, metadata) = (entry.as_ref().map(std::fs::DirEntry::path), entry.as_ref());
            let (Ok(path), Ok(metadata)) = (path, metadata.map(std::fs::DirEntry::metadata)) else {
                continue;
            };
            let metadata = metadata?;
            if metadata.is_dir() {
                left.push(path);
            } else {
                let seen = (
                    metadata.ino(),
                    metadata.len(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                );
                found.insert(path, seen);
            }
        }
    }
    Ok(found)
}

/// Applies, and waits until the agent has written everything down.
async fn applied(pbx: &Pbx) -> anyhow::Result<()> {
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    pbx.idle().await
}

/// A sound message of each kind, to be altered.
fn sound(id: &str) -> Vec<(&'static str, Vec<u8>)> {
    let header = pb::StageHeader {
        apply_id: id.to_owned(),
        revision: 9,
        digest: vec![7; 32],
        ..pb::StageHeader::default()
    };
    let chunk = pb::StageChunk {
        slot: 1,
        data: b"../../../../tmp/x".to_vec(),
    };
    let stage = |part| pb::StageRequest { part: Some(part) }.encode_to_vec();
    let apply = pb::ApplyRequest {
        apply_id: id.to_owned(),
        revision: 9,
        digest: vec![7; 32],
        ..pb::ApplyRequest::default()
    };
    let find = pb::GetApplyRequest {
        apply_id: id.to_owned(),
    };
    vec![
        ("Stage", stage(Part::Header(header))),
        ("Stage", stage(Part::Chunk(chunk))),
        ("Apply", apply.encode_to_vec()),
        ("GetApply", find.encode_to_vec()),
    ]
}

#[tokio::test]
async fn an_id_that_is_a_path_is_no_id() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    applied(&pbx).await?;
    let (state, etc) = (pbx.agent.state_dir().to_owned(), pbx.asterisk.etc());
    let before = tree(&[&state, &etc])?;
    let channel = tests::wire::connect(pbx.agent.address(), &pbx.portal_tls()?).await?;
    for path in PATHS {
        for (method, message) in sound(path) {
            let call = tests::wire::call_with_bytes(channel.clone(), method, vec![message]);
            let status = call.await.err();
            let code = status.as_ref().map(tonic::Status::code);
            ensure!(
                code == Some(Code::InvalidArgument),
                "{path:?} {method}: {status:?}"
            );
        }
    }
    ensure!(tree(&[&state, &etc])? == before, "something was written");
    Ok(())
}

/// Bytes that are no message, or one with anything in it.
#[tokio::test]
async fn no_bytes_change_a_file() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    applied(&pbx).await?;
    let (state, etc) = (pbx.agent.state_dir().to_owned(), pbx.asterisk.etc());
    let before = tree(&[&state, &etc])?;
    let tls = pbx.portal_tls()?;
    let mut channel = tests::wire::connect(pbx.agent.address(), &tls).await?;
    let bytes = proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400);
    let flips = proptest::collection::vec((0..400_usize, 0..8_u8), 1..6);
    let mut runner = TestRunner::deterministic();
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for case in 0..CASES {
        let kinds = sound(&Uuid::now_v7().to_string());
        let (method, mut message) = kinds[case % kinds.len()].clone();
        if case % 3 == 0 {
            message = bytes
                .new_tree(&mut runner)
                .map_err(anyhow::Error::msg)?
                .current();
        } else {
            let flips = flips
                .new_tree(&mut runner)
                .map_err(anyhow::Error::msg)?
                .current();
            for (at, bit) in flips {
                let at = at % message.len();
                message[at] ^= 1 << bit;
            }
        }
        let call = tests::wire::call_with_bytes(channel.clone(), method, vec![message]);
        let code = call
            .await
            .map_or_else(|status| status.code(), |()| Code::Ok);
        ensure!(
            code != Code::Ok || method == "GetApply",
            "{method}: accepted"
        );
        *codes.entry(format!("{code:?}")).or_default() += 1;
        if code == Code::Unavailable || code == Code::Unknown {
            channel = tests::wire::connect(pbx.agent.address(), &tls).await?;
        }
        ensure!(
            tree(&[&state, &etc])? == before,
            "case {case} ({method}) wrote something"
        );
    }
    said(&format!(
        "row 15: {CASES} messages of any bytes, no file changed: {codes:?}"
    ));
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}
