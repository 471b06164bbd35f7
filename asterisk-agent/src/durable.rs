//! The only place that creates, renames and syncs files.
//!
//! Every path is a name inside a directory that was opened once, without following a link (fault
//! 16: a link that somebody puts in the way leads nowhere). What a function here reports as done
//! survives a power cut, unless its name says otherwise.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{AccessFlags, Gid, UnlinkatFlags, faccessat, fchown, fsync, linkat, unlinkat};
use serde::Serialize;
use shared::bundle::Digest;

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub(crate) struct FileError {
    action: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl FileError {
    fn is(&self, errno: Errno) -> bool {
        self.source.raw_os_error() == Some(errno as i32)
    }

    /// Whether the disk, or this user's share of it, is full.
    pub(crate) fn is_full(&self) -> bool {
        self.is(Errno::ENOSPC) || self.is(Errno::EDQUOT)
    }
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// How a new file is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Create {
    /// Permission bits, whatever the umask.
    pub(crate) mode: u32,
    /// Its group shall be that of the directory, so that Asterisk can read it.
    pub(crate) group_of_directory: bool,
}

/// For files that nobody else has to read.
pub(crate) const PRIVATE: Create = Create {
    mode: 0o600,
    group_of_directory: false,
};

impl Dir {
    /// Opens an existing directory; a symbolic link in its place is an error.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let fd = open(path, directory_flags(), Mode::empty());
        Ok(Self {
            fd: fd.map_err(at("open", path.to_owned()))?,
            path: path.to_owned(),
        })
    }

    /// Opens a directory inside this one; makes it, durably, when it is not there.
    pub(crate) fn subdir(&self, name: &str) -> Result<Self, FileError> {
        match mkdirat(&self.fd, name, Mode::S_IRWXU) {
            Ok(()) => self.sync()?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(at("create", self.join(name))(errno)),
        }
        self.existing_subdir(name)
    }

    /// Opens a directory inside this one, which must be there.
    pub(crate) fn existing_subdir(&self, name: &str) -> Result<Self, FileError> {
        let path = self.join(name);
        match openat(&self.fd, name, directory_flags(), Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(errno) => Err(at("open", path)(errno)),
        }
    }

    /// Makes a directory that must not be there yet; not durable before [`Dir::sync`].
    pub(crate) fn make_dir(&self, name: &str) -> Result<Self, FileError> {
        mkdirat(&self.fd, name, Mode::S_IRWXU).map_err(at("create", self.join(name)))?;
        self.existing_subdir(name)
    }

    /// Writes a file that must not be there yet, and syncs its content; its name is durable after
    /// [`Dir::sync`]. On failure the file is gone again.
    pub(crate) fn write_new(&self, name: &str, how: Create, bytes: &[u8]) -> Result<(), FileError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let fd = openat(&self.fd, name, flags | OFlag::O_CLOEXEC, mode);
        let file = File::from(fd.map_err(at("create", self.join(name)))?);
        let filled = self.fill(file, name, how, bytes);
        if filled.is_err() {
            unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir).ok();
        }
        filled
    }

    fn fill(&self, mut file: File, name: &str, how: Create, bytes: &[u8]) -> Result<(), FileError> {
        let path = self.join(name);
        if how.group_of_directory {
            self.hand_to_group(&file)
                .map_err(at("hand to the group", path.clone()))?;
        }
        fchmod(&file, Mode::from_bits_truncate(how.mode)).map_err(at("chmod", path.clone()))?;
        file.write_all(bytes).map_err(io("write", path.clone()))?;
        fsync(&file).map_err(at("sync", path))
    }

    /// Writes a file that must not be there yet, for a program that is thrown away: nothing of it
    /// has to survive a power cut.
    pub(crate) fn write_scratch(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let fd = openat(&self.fd, name, flags | OFlag::O_CLOEXEC, mode);
        let mut file = File::from(fd.map_err(at("create", self.join(name)))?);
        file.write_all(bytes).map_err(io("write", self.join(name)))
    }

    /// Not being allowed to is no error: the directory's set-group-ID bit is the usual way, and
    /// whether Asterisk can read the file shows in the verification.
    fn hand_to_group(&self, file: &File) -> nix::Result<()> {
        let group = Gid::from_raw(fstat(&self.fd)?.st_gid);
        if fstat(file)?.st_gid == group.as_raw() {
            return Ok(());
        }
        match fchown(file, None, Some(group)) {
            Err(Errno::EPERM) => Ok(()),
            other => other,
        }
    }

    /// Puts `bytes` in the place of a file, durably: the old or the new content, nothing between.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let temporary = format!(".{name}.tmp");
        self.remove(&temporary)?;
        self.write_new(&temporary, PRIVATE, bytes)?;
        self.rename(&temporary, name)?;
        self.sync()
    }

    /// Opens a file for appending, made if absent.
    pub(crate) fn append(&self, name: &str) -> Result<File, FileError> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOFOLLOW;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let fd = openat(&self.fd, name, flags | OFlag::O_CLOEXEC, mode);
        Ok(File::from(fd.map_err(at("open", self.join(name)))?))
    }

    /// The content of a regular file of at most `max` bytes; `None` when there is none. A symbolic
    /// link in its place is an error.
    pub(crate) fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.join(name);
        let Some((file, stat)) = self.regular(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0));
        let read = file.take(max + 1).read_to_end(&mut bytes);
        match read.map_err(io("read", path.clone()))? {
            length if length as u64 > max => Err(at("read so large a file", path)(Errno::EFBIG)),
            _ => Ok(Some(bytes)),
        }
    }

    /// Digest and size of a regular file, and what was known about it before it was read; `None`
    /// when there is none. A symbolic link in its place is an error.
    pub(crate) fn digest(&self, name: &str) -> Result<Option<(Digest, u64, FileStat)>, FileError> {
        let Some((file, stat)) = self.regular(name)? else {
            return Ok(None);
        };
        let hashed = Digest::of_reader(file).map_err(io("read", self.join(name)))?;
        Ok(Some((hashed.0, hashed.1, stat)))
    }

    fn regular(&self, name: &str) -> Result<Option<(File, FileStat)>, FileError> {
        let path = self.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(at("open", path)(errno)),
        };
        let stat = fstat(&fd).map_err(at("read", path.clone()))?;
        if stat.st_mode & nix::libc::S_IFMT != nix::libc::S_IFREG {
            return Err(at("read a special file", path)(Errno::EINVAL));
        }
        Ok(Some((File::from(fd), stat)))
    }

    /// What is known about a name, without following it; `None` when it is not there.
    pub(crate) fn stat(&self, name: &str) -> Result<Option<FileStat>, FileError> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(at("look at", self.join(name))(errno)),
        }
    }

    /// Whether a symbolic link lies there.
    pub(crate) fn is_link(&self, name: &str) -> Result<bool, FileError> {
        let link = |stat: FileStat| stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFLNK;
        Ok(self.stat(name)?.is_some_and(link))
    }

    /// Sets the time of the last change of a file, in seconds and nanoseconds since 1970.
    pub(crate) fn set_mtime(&self, name: &str, mtime: (i64, i64)) -> Result<(), FileError> {
        use nix::sys::stat::{UtimensatFlags, utimensat};
        use nix::sys::time::TimeSpec;
        let time = TimeSpec::new(mtime.0, mtime.1);
        utimensat(
            &self.fd,
            name,
            &time,
            &time,
            UtimensatFlags::NoFollowSymlink,
        )
        .map_err(at("set the time of", self.join(name)))
    }

    /// Renames inside this directory, over whatever is there; durable after [`Dir::sync`].
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        renameat(&self.fd, from, &self.fd, to).map_err(at("rename to", self.join(to)))
    }

    /// Moves something into another directory, over whatever is there; durable after
    /// [`Dir::sync`] of both.
    pub(crate) fn move_to(&self, name: &str, other: &Self) -> Result<(), FileError> {
        renameat(&self.fd, name, &other.fd, name).map_err(at("move to", other.join(name)))
    }

    /// Gives a file a second name; without the file, nothing happens. Where links are not allowed
    /// (a file of another owner, a file system without them) there is none, which is no error: it
    /// only saves work.
    pub(crate) fn link(&self, name: &str, second: &str) -> Result<(), FileError> {
        match linkat(&self.fd, name, &self.fd, second, AtFlags::empty()) {
            Ok(()) | Err(Errno::ENOENT | Errno::EPERM | Errno::EOPNOTSUPP | Errno::EMLINK) => {
                Ok(())
            }
            Err(errno) => Err(at("link", self.join(second))(errno)),
        }
    }

    /// Removes a file; one that is not there is no error. Durable after [`Dir::sync`].
    pub(crate) fn remove(&self, name: &str) -> Result<(), FileError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(at("remove", self.join(name))(errno)),
        }
    }

    /// Removes a directory with the files in it; one that is not there is no error.
    pub(crate) fn remove_dir(&self, name: &str) -> Result<(), FileError> {
        if self.stat(name)?.is_none() {
            return Ok(());
        }
        let inner = self.existing_subdir(name)?;
        for file in inner.names()? {
            inner.remove(&file)?;
        }
        unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir).map_err(at("remove", self.join(name)))
    }

    /// The names in it, sorted; names that are not UTF-8 cannot be ours and are left out.
    pub(crate) fn names(&self) -> Result<Vec<String>, FileError> {
        let fault = at("list", self.path.clone());
        let mut opened =
            dir::Dir::openat(&self.fd, ".", directory_flags(), Mode::empty()).map_err(&fault)?;
        let mut names = Vec::new();
        for entry in opened.iter() {
            let entry = entry.map_err(&fault)?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Makes every name in it durable.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        fsync(&self.fd).map_err(at("sync", self.path.clone()))
    }

    /// Fails when nothing could be created in it now: no permission, or a read-only file system.
    pub(crate) fn writable(&self) -> Result<(), FileError> {
        let access = AccessFlags::W_OK | AccessFlags::X_OK;
        faccessat(&self.fd, ".", access, AtFlags::AT_EACCESS)
            .map_err(at("write in", self.path.clone()))
    }

    /// The error for a file that is missing or does not hold what was once written to it.
    pub(crate) fn damaged(&self, name: &str) -> FileError {
        at("use the missing or altered", self.join(name))(Errno::EIO)
    }

    /// `value` as JSON, on its way into the file `name`.
    pub(crate) fn json(&self, name: &str, value: &impl Serialize) -> Result<Vec<u8>, FileError> {
        let json = serde_json::to_vec_pretty(value).map_err(std::io::Error::from);
        json.map_err(io("put into words", self.join(name)))
    }

    /// The path of a name in it, for messages.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn at(action: &'static str, path: PathBuf) -> impl Fn(Errno) -> FileError {
    move |errno| FileError {
        action,
        path: path.clone(),
        source: errno.into(),
    }
}

fn io(action: &'static str, path: PathBuf) -> impl FnOnce(std::io::Error) -> FileError {
    move |source| FileError {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn replaces_and_reads_back() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        assert_eq!(dir.read("a", 10).unwrap(), None);
        dir.replace("a", b"one").unwrap();
        dir.replace("a", b"two").unwrap();
        assert_eq!(dir.read("a", 10).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(dir.names().unwrap(), ["a"]);
        assert!(dir.read("a", 2).is_err());
    }

    #[test]
    fn follows_no_link() {
        let temporary = tempfile::tempdir().unwrap();
        let victim = temporary.path().join("victim");
        let dir = Dir::open(temporary.path()).unwrap();
        dir.replace("victim", b"safe").unwrap();
        symlink(&victim, temporary.path().join("link")).unwrap();
        assert!(dir.read("link", 10).is_err());
        assert!(dir.write_new("link", PRIVATE, b"x").is_err());
        dir.write_new("new", PRIVATE, b"x").unwrap();
        dir.rename("new", "victim-link").unwrap();
        symlink(temporary.path(), temporary.path().join("dir")).unwrap();
        assert!(Dir::open(&temporary.path().join("dir")).is_err());
        assert_eq!(
            dir.read("victim", 10).unwrap().as_deref(),
            Some(&b"safe"[..])
        );
    }

    #[test]
    fn sets_the_mode_whatever_the_umask() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let how = Create {
            mode: 0o640,
            group_of_directory: true,
        };
        dir.write_new("f", how, b"x").unwrap();
        let metadata = temporary.path().join("f").metadata().unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o640);
    }
}
