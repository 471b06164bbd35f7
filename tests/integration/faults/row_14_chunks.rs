//! Row 14: an upload that is too large, too short, has too much or other bytes than announced.
//! Refused in bounded memory, and nothing is staged.

use anyhow::{Context as _, ensure};
use proptest::prelude::Strategy;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use shared::bundle::{BUNDLE_BYTES_MAX, Bundle, CHUNK_BYTES_MAX, Digest, Slot};
use shared::record::Outcome;
use shared::wire::pb::agent_client::AgentClient;
use shared::wire::pb::stage_request::Part;
use shared::wire::{self, pb};
use tonic::Code;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::held::managed_files;
use crate::pbx::{Pbx, bundle};
use crate::strace::said;

/// How many damaged uploads are tried.
const CASES: usize = 150;

/// How much more memory the agent may have taken than the largest bundle.
const MEMORY_SLACK: u64 = 96 << 20;

/// What is done to a sound upload.
#[derive(Clone, Debug)]
enum Damage {
    Drop(usize),
    Repeat(usize),
    Swap,
    Flip(usize, usize),
    Cut(usize, usize),
    Grow(usize, usize),
    Empty(usize),
    OtherSlot(usize),
    UnknownSlot(usize, i32),
    SecondHeader,
    NoHeader,
    NoPart,
    AnnouncedSize(usize, u64),
    AnnouncedHash(usize),
    AnnouncedTwice(usize),
    AnnouncedLess(usize),
    WrongDigest,
    ShortDigest(usize),
    NoRevision,
    NoId,
}

fn damages() -> impl Strategy<Value = Damage> {
    use proptest::prelude::{Just, any, prop_oneof};
    let at = any::<usize>;
    prop_oneof![
        at().prop_map(Damage::Drop),
        at().prop_map(Damage::Repeat),
        Just(Damage::Swap),
        (at(), at()).prop_map(|(a, b)| Damage::Flip(a, b)),
        (at(), at()).prop_map(|(a, b)| Damage::Cut(a, b)),
        (at(), 1..600_000_usize).prop_map(|(a, b)| Damage::Grow(a, b)),
        at().prop_map(Damage::Empty),
        at().prop_map(Damage::OtherSlot),
        (at(), any::<i32>()).prop_map(|(a, b)| Damage::UnknownSlot(a, b)),
        Just(Damage::SecondHeader),
        Just(Damage::NoHeader),
        Just(Damage::NoPart),
        (at(), any::<u64>()).prop_map(|(a, b)| Damage::AnnouncedSize(a, b)),
        at().prop_map(Damage::AnnouncedHash),
        at().prop_map(Damage::AnnouncedTwice),
        at().prop_map(Damage::AnnouncedLess),
        Just(Damage::WrongDigest),
        (0..80_usize).prop_map(Damage::ShortDigest),
        Just(Damage::NoRevision),
        Just(Damage::NoId),
    ]
}

/// The messages of a sound upload, in small chunks.
fn upload(bundle: &Bundle, revision: u64) -> (pb::StageHeader, Vec<pb::StageChunk>) {
    let manifest = bundle.manifest();
    let header = pb::StageHeader {
        apply_id: Uuid::now_v7().to_string(),
        revision,
        digest: manifest.digest().0.to_vec(),
        files: Vec::from(&manifest),
        reserved_numbers: wire::ranges(&manifest),
        ..pb::StageHeader::default()
    };
    let mut chunks = Vec::new();
    for slot in Slot::ALL {
        for data in bundle.files[&slot].chunks(200) {
            chunks.push(pb::StageChunk {
                slot: pb::Slot::from(slot).into(),
                data: data.to_vec(),
            });
        }
    }
    (header, chunks)
}

fn request(part: Part) -> pb::StageRequest {
    pb::StageRequest { part: Some(part) }
}

/// The messages of the upload with that damage.
fn damaged(damage: &Damage, bundle: &Bundle, revision: u64) -> Vec<pb::StageRequest> {
    let (mut header, mut chunks) = upload(bundle, revision);
    let (many, files) = (chunks.len(), header.files.len());
    match *damage {
        Damage::Drop(at) => drop(chunks.remove(at % many)),
        Damage::Repeat(at) => chunks.insert(at % many, chunks[at % many].clone()),
        // Two pieces of the same file in the wrong order.
        Damage::Swap => chunks.swap(0, 1),
        Damage::Flip(at, byte) => {
            let data = &mut chunks[at % many].data;
            let byte = byte % data.len();
            data[byte] ^= 1;
        }
        Damage::Cut(at, to) => {
            let data = &mut chunks[at % many].data;
            data.truncate(to % data.len());
        }
        Damage::Grow(at, by) => {
            let data = &mut chunks[at % many].data;
            data.resize(data.len() + by, b'x');
        }
        Damage::Empty(at) => chunks[at % many].data.clear(),
        Damage::OtherSlot(at) => {
            let slot = &mut chunks[at % many].slot;
            *slot = 3 - *slot;
        }
        Damage::UnknownSlot(at, slot) => {
            chunks[at % many].slot = if (1..=2).contains(&slot) { 3 } else { slot };
        }
        Damage::AnnouncedSize(at, size) => header.files[at % files].size ^= size | 1,
        Damage::AnnouncedHash(at) => header.files[at % files].sha256 = vec![7; 32],
        Damage::AnnouncedTwice(at) => {
            let file = header.files[at % files].clone();
            header.files.push(file);
        }
        Damage::AnnouncedLess(at) => drop(header.files.remove(at % files)),
        Damage::WrongDigest => header.digest = Digest::of(b"x").0.to_vec(),
        Damage::ShortDigest(length) => header.digest = vec![7; length],
        Damage::NoRevision => header.revision = 0,
        Damage::NoId => header.apply_id.clear(),
        Damage::SecondHeader | Damage::NoHeader | Damage::NoPart => {}
    }
    let again = matches!(damage, Damage::SecondHeader).then(|| header.clone());
    let first = (!matches!(damage, Damage::NoHeader)).then_some(header);
    let headers = first.into_iter().chain(again).map(Part::Header);
    let parts = headers.chain(chunks.into_iter().map(Part::Chunk));
    let mut messages: Vec<_> = parts.map(request).collect();
    if matches!(damage, Damage::NoPart) {
        messages.insert(1, pb::StageRequest { part: None });
    }
    messages
}

async fn client(pbx: &Pbx) -> anyhow::Result<AgentClient<Channel>> {
    let tls = pbx.portal_tls()?;
    let channel = tests::wire::connect(pbx.agent.address(), &tls).await?;
    Ok(AgentClient::new(channel))
}

/// The names under `gen/`.
fn staged(pbx: &Pbx) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(pbx.agent.state_dir().join("gen"))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        anyhow::Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// The most memory that the agent has ever had, in bytes.
fn peak(pbx: &Pbx) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pbx.agent.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
    Ok(kilobytes.trim().parse::<u64>()? << 10)
}

#[tokio::test]
async fn a_damaged_upload_is_refused_and_nothing_is_staged() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let (before, files) = (staged(&pbx)?, managed_files(&pbx.asterisk)?);
    let next = bundle(&[1000, 1001], "two");
    let mut client = client(&pbx).await?;
    let mut runner = TestRunner::deterministic();
    let strategy = damages();
    for _ in 0..CASES {
        let damage = strategy
            .new_tree(&mut runner)
            .map_err(anyhow::Error::msg)?
            .current();
        let messages = damaged(&damage, &next, 2);
        let answer = client.stage(tokio_stream::iter(messages)).await;
        let status = answer
            .err()
            .with_context(|| format!("accepted: {damage:?}"))?;
        let codes = [
            Code::InvalidArgument,
            Code::ResourceExhausted,
            Code::OutOfRange,
        ];
        ensure!(codes.contains(&status.code()), "{damage:?}: {status:?}");
        ensure!(staged(&pbx)? == before, "{damage:?}: {:?}", staged(&pbx)?);
    }
    said(&format!(
        "row 14: {CASES} damaged uploads, all refused, nothing staged"
    ));
    ensure!(managed_files(&pbx.asterisk)? == files);
    // The control: the same upload without damage.
    let (header, chunks) = upload(&next, 2);
    let parts = std::iter::once(Part::Header(header)).chain(chunks.into_iter().map(Part::Chunk));
    let messages: Vec<_> = parts.map(request).collect();
    client.stage(tokio_stream::iter(messages)).await?;
    ensure!(staged(&pbx)?.len() == before.len() + 1);
    Ok(())
}

/// Whoever sends without end is stopped; the agent's memory stays near that of the largest bundle.
#[tokio::test]
async fn an_upload_without_end_is_refused_in_bounded_memory() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let before = peak(&pbx)?;
    let mut client = client(&pbx).await?;
    let (header, _) = upload(&bundle(&[1000], "one"), 1);
    let slot: i32 = pb::Slot::PjsipEndpoints.into();
    let chunk = pb::StageChunk {
        slot,
        data: vec![b'x'; CHUNK_BYTES_MAX],
    };
    // Announced too large; announced as large as may be, and more is sent; announced small.
    for (announced, sent) in [
        (BUNDLE_BYTES_MAX + 1, 600),
        (BUNDLE_BYTES_MAX / 2, 600),
        (1, 600),
    ] {
        let mut header = header.clone();
        header.files[0].size = announced;
        let manifest = announced_manifest(&header)?;
        header.digest = manifest.0.to_vec();
        let first = std::iter::once(request(Part::Header(header)));
        let rest = std::iter::repeat_n(request(Part::Chunk(chunk.clone())), sent);
        let messages: Vec<_> = first.chain(rest).collect();
        let answer = client.stage(tokio_stream::iter(messages)).await;
        let status = answer
            .err()
            .with_context(|| format!("accepted: {announced}"))?;
        ensure!(status.code() != Code::Ok, "{status:?}");
        ensure!(staged(&pbx)?.is_empty());
    }
    // A single message over the limit.
    let large = pb::StageChunk {
        slot,
        data: vec![b'x'; 16 << 20],
    };
    let messages = vec![request(Part::Header(header)), request(Part::Chunk(large))];
    ensure!(client.stage(tokio_stream::iter(messages)).await.is_err());
    let taken = peak(&pbx)? - before;
    said(&format!(
        "row 14: uploads without end took {} MiB at most",
        taken >> 20
    ));
    ensure!(
        taken < BUNDLE_BYTES_MAX + MEMORY_SLACK,
        "{} MiB",
        taken >> 20
    );
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    Ok(())
}

/// The digest that belongs to what a header announces.
fn announced_manifest(header: &pb::StageHeader) -> anyhow::Result<Digest> {
    let manifest = shared::bundle::Manifest::try_from(header)?;
    Ok(manifest.digest())
}
