//! File systems of one's own: small ones, read-only ones, and ones whose power can be cut. They
//! need root, and vanish with the process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;

use crate::process::{Process, Program};
use crate::scratch::Scratch;

const MOUNT_DEADLINE: Duration = Duration::from_secs(30);

/// Mounts, says so, and unmounts when it is told to end, which the end of this process does as well.
const KEEPER: &str = r#"dir=$1; shift
trap 'kill $!; umount -l "$dir"; exit' TERM
mount "$@" "$dir" || exit 1
echo mounted
sleep infinity &
wait"#;

/// Something that is mounted until this value is dropped.
pub struct Mount {
    dir: PathBuf,
    keeper: Process,
    _scratch: Scratch,
}

impl Mount {
    /// `mount ARGS DIR`.
    ///
    /// # Errors
    /// When the machine does not permit it.
    pub async fn new(dir: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let scratch = Scratch::new("mount")?;
        let output = scratch.path().join("output");
        let mut keeper = Program::new("sh")
            .args(["-c", KEEPER, "mount"])
            .arg(dir)
            .args(args)
            .last_signal(Signal::SIGTERM)
            .start(&output)?;
        let log = output.clone();
        let mounted = async || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            said.contains("mounted\n")
        };
        let what = format!("{} is mounted", dir.display());
        keeper.wait_until(&what, MOUNT_DEADLINE, mounted).await?;
        Ok(Self {
            dir: dir.to_owned(),
            keeper,
            _scratch: scratch,
        })
    }

    /// A file system in memory of that many bytes.
    pub async fn memory(dir: &Path, bytes: u64) -> anyhow::Result<Self> {
        let size = format!("size={bytes}");
        Self::new(dir, &["-t", "tmpfs", "-o", &size, "tmpfs"]).await
    }

    /// A directory over itself, so that it can be made read-only by [`Mount::remount`].
    pub async fn over_itself(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.to_str().context("a path in UTF-8")?;
        Self::new(dir, &["--bind", path]).await
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Changes its options, such as `bind,ro`.
    pub async fn remount(&self, options: &str) -> anyhow::Result<()> {
        let options = format!("remount,{options}");
        command("mount", &["-o", &options], &self.dir).await
    }

    /// Unmounts it. Fails when it is in use.
    pub async fn end(mut self) -> anyhow::Result<()> {
        command("umount", &[], &self.dir).await?;
        self.keeper.end();
        Ok(())
    }
}

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// ext4 whose times are whole seconds.
    WholeSeconds,
}

impl FileSystem {
    /// The program that makes it, with its arguments.
    const fn make(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            Self::WholeSeconds => ("mkfs.ext4", &["-q", "-F", "-I", "128"]),
        }
    }

    /// `mkfs.xfs` makes none smaller than 300 MiB. The file has holes.
    const SIZE: u64 = 320 << 20;
}

/// A disk in a file, whose power can be cut.
pub struct Disk {
    mount: Option<Mount>,
    dir: PathBuf,
    image: PathBuf,
    options: &'static str,
    _scratch: Scratch,
}

impl Disk {
    /// A fresh one, mounted.
    ///
    /// # Errors
    /// When the machine does not permit it.
    pub async fn new(what: FileSystem) -> anyhow::Result<Self> {
        let scratch = Scratch::new("disk")?;
        let image = scratch.path().join("image");
        let file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .open(&image)?;
        file.set_len(FileSystem::SIZE)?;
        let (program, args) = what.make();
        command(program, args, &image).await?;
        let dir = scratch.path().join("dir");
        crate::scratch::directory(&dir, 0o711)?;
        let mut disk = Self {
            mount: None,
            dir,
            image,
            // What is not synced reaches the disk as late as the file system allows.
            options: if matches!(what, FileSystem::Xfs) {
                "loop"
            } else {
                "loop,commit=300"
            },
            _scratch: scratch,
        };
        disk.mount().await?;
        crate::scratch::directory(&disk.dir, 0o711)?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes down everything that is not on the disk yet.
    pub async fn sync(&self) -> anyhow::Result<()> {
        command("sync", &["-f"], &self.dir).await
    }

    /// What is not on the disk by now never gets there; then it is mounted again. Nobody may have
    /// a file open on it.
    pub async fn cut_power(&mut self) -> anyhow::Result<()> {
        // Without a flush of the log, by the request XFS_IOC_GOINGDOWN, which ext4 has as well.
        command("xfs_io", &["-x", "-c", "shutdown"], &self.dir).await?;
        let mount = self.mount.take().context("it is mounted")?;
        mount.end().await?;
        self.mount().await
    }

    async fn mount(&mut self) -> anyhow::Result<()> {
        let image = self.image.to_str().context("a path in UTF-8")?;
        self.mount = Some(Mount::new(&self.dir, &["-o", self.options, image]).await?);
        Ok(())
    }
}

async fn command(program: &str, args: &[&str], path: &Path) -> anyhow::Result<()> {
    let run = Program::new(program).args(args).arg(path);
    let output = run.run(MOUNT_DEADLINE).await?;
    ensure!(
        output.status.success(),
        "{program} {args:?} {}: {}{}",
        path.display(),
        output.stdout,
        output.stderr
    );
    Ok(())
}
