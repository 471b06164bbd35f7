//! What a running Asterisk holds and what lies in its managed directories, read by the tests
//! themselves: nothing here asks the portal or the agent, or shares code with them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anyhow::{Context as _, ensure};
use shared::bundle::Slot;
use tests::asterisk::Asterisk;

/// The section that every bundle ends with, in each object type and in the dialplan.
pub(crate) const MARKER: &str = "synergy-generation";

/// What `asterisk -rx` shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Names of the PJSIP endpoints.
    pub(crate) endpoints: BTreeSet<String>,
    /// Names of the PJSIP auths.
    pub(crate) auths: BTreeSet<String>,
    /// Names of the PJSIP AORs.
    pub(crate) aors: BTreeSet<String>,
    /// `[synergy-internal]`: each extension with its one step.
    pub(crate) internal: BTreeMap<String, String>,
}

impl Held {
    /// Asks Asterisk.
    pub(crate) async fn read(asterisk: &Asterisk) -> anyhow::Result<Self> {
        Ok(Self {
            endpoints: objects(asterisk, "Endpoint").await?,
            auths: objects(asterisk, "Auth").await?,
            aors: objects(asterisk, "Aor").await?,
            internal: extensions(&asterisk.rx("dialplan show synergy-internal").await?)?,
        })
    }

    /// What Asterisk must hold when exactly these extensions are in force.
    pub(crate) fn exactly(numbers: impl IntoIterator<Item = u64>) -> Self {
        let numbers: Vec<u64> = numbers.into_iter().collect();
        let mut names: BTreeSet<String> = numbers.iter().map(u64::to_string).collect();
        names.insert(MARKER.to_owned());
        let step = |number: &u64| (number.to_string(), format!("Dial(PJSIP/{number},25)"));
        Self {
            endpoints: names.clone(),
            auths: names.clone(),
            aors: names,
            internal: numbers.iter().map(step).collect(),
        }
    }
}

/// Fails unless Asterisk holds endpoint, auth, AOR and dialplan entry of each of `numbers`, and of
/// nobody else (SC-006).
pub(crate) async fn assert_exactly(
    asterisk: &Asterisk,
    numbers: impl IntoIterator<Item = u64>,
) -> anyhow::Result<()> {
    let held = Held::read(asterisk).await?;
    let wanted = Held::exactly(numbers);
    ensure!(held == wanted, "Asterisk holds {held:?}\nwanted {wanted:?}");
    Ok(())
}

/// `pjsip list endpoints|auths|aors`. The count at the end must be that of the names.
async fn objects(asterisk: &Asterisk, title: &str) -> anyhow::Result<BTreeSet<String>> {
    let command = format!("pjsip list {}s", title.to_lowercase());
    let said = asterisk.rx(&command).await?;
    let mut names = BTreeSet::new();
    for line in said.lines() {
        let row = line
            .trim_start()
            .strip_prefix(title)
            .and_then(|rest| rest.strip_prefix(':'));
        let name = row.and_then(|row| row.split(['/', ' ']).find(|word| !word.is_empty()));
        // The heading is `<Endpoint/CID…>`.
        names.extend(
            name.filter(|name| !name.starts_with('<'))
                .map(str::to_owned),
        );
    }
    let counted = said
        .lines()
        .find_map(|line| line.strip_prefix("Objects found: "));
    let counted: usize = if let Some(count) = counted {
        count.trim().parse()?
    } else {
        ensure!(said.contains("No objects found"), "{command}: {said}");
        0
    };
    ensure!(
        counted == names.len(),
        "{command} counts {counted}, but lists {names:?}"
    );
    Ok(names)
}

/// `dialplan show CONTEXT`, whose extensions have one step each.
fn extensions(said: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for line in said.lines() {
        let Some((name, rest)) = line
            .trim()
            .strip_prefix('\'')
            .and_then(|l| l.split_once('\''))
        else {
            continue;
        };
        let step = rest.split_once("1. ").map(|(_, step)| step);
        let step = step.with_context(|| format!("no first step: {line}"))?;
        let step = step.split_once(" [").map_or(step, |(step, _)| step);
        found.insert(name.to_owned(), step.trim().to_owned());
    }
    // A step beyond the first would make these two numbers differ.
    let summary = format!("({} priorit", found.len());
    let absent = said.contains("There is no existence of");
    ensure!(
        found.is_empty() && absent || said.contains(&summary),
        "{said}"
    );
    Ok(found)
}

/// One file of a managed directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its bytes.
    pub(crate) text: String,
    /// Permissions with the special bits.
    pub(crate) mode: u32,
    /// Changes when it is replaced, also by the same bytes.
    pub(crate) inode: u64,
    /// When its bytes were last written.
    pub(crate) modified: (i64, i64),
}

/// Everything in both managed directories, hidden files too, by `<directory>/<name>`.
pub(crate) fn managed_files(asterisk: &Asterisk) -> anyhow::Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    for slot in Slot::ALL {
        let path = asterisk.slot(slot);
        let dir = path.parent().context("a slot lies in a directory")?;
        let top = slot.relative_path().split('/').next().unwrap_or_default();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let file = File {
                text: std::fs::read_to_string(entry.path())?,
                mode: metadata.permissions().mode() & 0o7777,
                inode: metadata.ino(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            };
            files.insert(
                format!("{top}/{}", entry.file_name().to_string_lossy()),
                file,
            );
        }
    }
    Ok(files)
}

/// The name of the PJSIP file in [`managed_files`].
pub(crate) const ENDPOINTS_FILE: &str = "pjsip.d/generated_endpoints.conf";

/// The name of the dialplan file in [`managed_files`].
pub(crate) const ROUTING_FILE: &str = "extensions.d/generated_routing.conf";

/// The live files, PJSIP first.
pub(crate) fn live_files(asterisk: &Asterisk) -> anyhow::Result<[String; 2]> {
    let [endpoints, routing] = Slot::ALL.map(|slot| std::fs::read_to_string(asterisk.slot(slot)));
    Ok([endpoints?, routing?])
}

/// How many sections of that PJSIP type a file has, the marker's included, and which.
pub(crate) fn sections(text: &str, kind: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = "";
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name;
        } else if line.split_once('=').map(|(k, v)| (k.trim(), v.trim())) == Some(("type", kind)) {
            found.push(section.to_owned());
        }
    }
    found.sort();
    found
}
