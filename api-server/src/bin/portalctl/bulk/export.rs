//! `portalctl user export` and `portalctl device export`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use tempfile::NamedTempFile;

use crate::Context;
use crate::api::broken;
use crate::ask::Ask;
use crate::failure::Failure;
use crate::operations::Operation;

/// Where to, and as what.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// As what
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// With a byte order mark, by which Excel knows that it is UTF-8
    #[arg(long)]
    bom: bool,
    /// The file to write, which is there once all of it is; standard output when absent. Asks before
    /// it replaces one
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Csv,
    Json,
}

pub(crate) async fn run(
    context: &Context,
    operation: &'static Operation,
    export: Export,
) -> Result<(), Failure> {
    let format = match (export.format, context.out.json()) {
        (Format::Json, _) | (_, true) => "json",
        (Format::Csv, false) => "csv",
    };
    let call = context.api.call(operation).query("format", format);
    let call = call.query_if("bom", export.bom.then_some("true"));
    let target = export.output.as_deref();
    let target = target.map(|path| Target::open(path, &context.ask));
    let target = target.transpose()?;
    let mut response = call.open().await?;
    let Some(mut target) = target else {
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if context.out.closed() {
                break;
            }
            context.out.raw(&chunk);
        }
        return Ok(());
    };
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        target.write(&chunk)?;
    }
    target.keep()
}

/// What becomes the file of some path.
pub(super) struct Target {
    path: PathBuf,
    written: Written,
}

enum Written {
    /// Not in place yet; it goes when it does not come to that.
    Beside { file: NamedTempFile, place: PathBuf },
    /// Into what is there: a device or a pipe is written to, and no file can take its place.
    Straight(File),
}

impl Target {
    /// Asks before a file is replaced.
    ///
    /// # Errors
    /// It cannot be written, or shall not be replaced.
    pub(super) fn open(path: &Path, ask: &Ask) -> Result<Self, Failure> {
        let is_file = fs::metadata(path).map(|there| there.is_file());
        if matches!(is_file, Ok(true)) {
            ask.confirm(&format!("Replace {}?", path.display()))?;
        }
        let straight = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
        };
        let written = match is_file {
            // A link stays one: what it leads to is replaced.
            Ok(true) => fs::canonicalize(path).and_then(Written::beside),
            Ok(false) => straight().map(Written::Straight),
            // A link that leads nowhere yet.
            Err(_) if path.is_symlink() => straight().map(Written::Straight),
            Err(_) => Written::beside(path.to_owned()),
        };
        let path = path.to_owned();
        match written {
            Ok(written) => Ok(Self { path, written }),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.written {
            Written::Beside { file, .. } => file.write_all(bytes),
            Written::Straight(file) => file.write_all(bytes),
        };
        written.map_err(|error| failed(&self.path, &error))
    }

    /// Puts it in place.
    pub(super) fn keep(self) -> Result<(), Failure> {
        let kept = match self.written {
            Written::Beside { file, place } => file
                .as_file()
                .sync_all()
                .and_then(|()| file.persist(place).map(drop).map_err(|error| error.error)),
            Written::Straight(_) => Ok(()),
        };
        kept.map_err(|error| failed(&self.path, &error))
    }
}

impl Written {
    fn beside(place: PathBuf) -> io::Result<Self> {
        let dir = place.parent().filter(|dir| !dir.as_os_str().is_empty());
        let file = tempfile::Builder::new().tempfile_in(dir.unwrap_or(Path::new(".")))?;
        Ok(Self::Beside { file, place })
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(path: &Path, text: &str) {
        let mut file = NamedTempFile::new_in(path.parent().unwrap()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.persist(path).unwrap();
    }

    fn write(path: &Path, yes: bool) -> Result<(), Failure> {
        let mut target = Target::open(path, &Ask { yes })?;
        target.write(b"new")?;
        target.keep()
    }

    #[test]
    fn links_and_devices_stay_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let link = dir.path().join("link");
        let nowhere = dir.path().join("nowhere");
        let device = dir.path().join("device");
        put(&file, "old");
        symlink(&file, &link).unwrap();
        symlink(dir.path().join("later"), &nowhere).unwrap();
        symlink("/dev/null", &device).unwrap();
        for path in [&link, &nowhere, &device] {
            write(path, true).unwrap();
            assert!(path.is_symlink(), "{}", path.display());
        }
        write(Path::new("/dev/null"), false).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_to_string(&nowhere).unwrap(), "new");
        assert_eq!(fs::read_to_string("/dev/null").unwrap(), "");
        assert_eq!(write(dir.path(), true).unwrap_err().exit_code(), 1);
    }

    #[test]
    fn what_is_not_kept_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write(&file, false).unwrap();
        put(&file, "old");
        let mut target = Target::open(&file, &Ask { yes: true }).unwrap();
        target.write(b"new").unwrap();
        drop(target);
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
