//! `portalctl user export` and `portalctl device export`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use tempfile::NamedTempFile;

use crate::Context;
use crate::api::broken;
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
    /// The file to write, which is there once all of it is; standard output when absent
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
    let mut response = call.open().await?;
    let Some(path) = export.output else {
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if context.out.closed() {
                break;
            }
            context.out.raw(&chunk);
        }
        return Ok(());
    };
    let failed = |error: io::Error| Failure::other(format!("{}: {error}", path.display()));
    let mut file = beside(&path).map_err(failed)?;
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        file.write_all(&chunk).map_err(failed)?;
    }
    keep(file, &path).map_err(failed)
}

/// A file that is not in place yet; what is written to it goes when it does not come to that.
pub(super) fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    tempfile::Builder::new().tempfile_in(dir.unwrap_or(Path::new(".")))
}

/// Puts it in place.
pub(super) fn keep(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
