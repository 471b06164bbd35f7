//! Directories that vanish with the process, however it ends.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use crate::process;

/// A Unix socket's path may have 107 bytes; what the harness puts below the temporary directory
/// needs some 50 of them.
const TEMPORARY_DIRECTORY_BYTES_MAX: usize = 55;

/// Waits for the end of its input, which comes when the process ends, and removes the directory:
/// until it succeeds, because the last child may still be writing.
const JANITOR: &str = r#"trap '' INT TERM HUP
cat
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit; sleep 0.1; done"#;

/// The directory of this process, and the pipe that its janitor waits on.
struct Root {
    path: PathBuf,
    _janitor: ChildStdin,
}

/// A directory of one's own, removed when this value is dropped or the process ends.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A fresh directory whose name begins with `name`. Everyone may pass through it (mode 0711),
    /// so that children of other accounts reach what is theirs.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root()?.join(format!("{name}{number}"));
        directory(&path, 0o711)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the process ends.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Where something keeps its files.
pub enum Place {
    /// In a directory that stays.
    Kept(PathBuf),
    /// In one that goes.
    Temporary(Scratch),
}

impl Place {
    /// A fresh directory that goes with this value.
    pub fn temporary(name: &str) -> anyhow::Result<Self> {
        Ok(Self::Temporary(Scratch::new(name)?))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(scratch) => scratch.path(),
        }
    }
}

/// Creates a directory of exactly this mode, with its parents.
pub fn directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("create the directory {}", path.display()))
}

/// Replaces a file of the harness's own: written beside it, then renamed.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness's own files need to survive no power cut"
)]
pub fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    std::fs::remove_file(&beside).ok();
    let mut options = File::options();
    options.create_new(true).write(true).mode(mode);
    let written = options
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::set_permissions(&beside, Permissions::from_mode(mode)))
        .and_then(|()| std::fs::rename(&beside, path));
    written.with_context(|| format!("write {}", path.display()))
}

fn root() -> anyhow::Result<&'static Path> {
    static ROOT: OnceLock<Result<Root, String>> = OnceLock::new();
    match ROOT.get_or_init(|| create_root().map_err(|error| format!("{error:#}"))) {
        Ok(root) => Ok(&root.path),
        Err(error) => anyhow::bail!("{error}"),
    }
}

fn create_root() -> anyhow::Result<Root> {
    let mut parent = std::env::temp_dir();
    if parent.as_os_str().len() > TEMPORARY_DIRECTORY_BYTES_MAX {
        parent = PathBuf::from("/tmp");
    }
    let mode = Permissions::from_mode(0o711);
    let path = tempfile::Builder::new()
        .prefix("pbx-")
        .rand_bytes(6)
        .permissions(mode)
        .tempdir_in(&parent)
        .with_context(|| format!("create a directory in {}", parent.display()))?
        .keep();
    Ok(Root {
        _janitor: janitor(&path)?,
        path,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one child that must outlive the process, by some milliseconds"
)]
fn janitor(path: &Path) -> anyhow::Result<ChildStdin> {
    // In a session of its own, so that Ctrl-C at the terminal does not reach it.
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", JANITOR, "janitor"]).arg(path);
    command.current_dir("/").stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = process::spawn(command).context("start setsid")?;
    child.stdin.take().context("the janitor has no input")
}
