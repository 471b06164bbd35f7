//! Something that is made of files, and made again whenever one of them changes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::TlsError;

/// What was made of the files last. Files that cannot be used leave what there was in force.
#[derive(Debug)]
pub struct Reloading<T> {
    /// Whose files they are, for the log.
    what: &'static str,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// Of the files that were looked at last, whatever came of it.
    stamps: Option<Stamps>,
    made: Option<Made<T>>,
    fault: Option<String>,
}

#[derive(Debug)]
struct Made<T> {
    version: u64,
    value: Arc<T>,
}

/// Time of the last change, size and inode of each file.
type Stamps = Vec<Option<(i64, i64, u64, u64)>>;

impl<T> Reloading<T> {
    /// Nothing yet.
    pub const fn new(what: &'static str) -> Self {
        let state = State {
            stamps: None,
            made: None,
            fault: None,
        };
        Self {
            what,
            state: Mutex::new(state),
        }
    }

    /// What is in force now: what `make` makes of the files, told its version, when they changed
    /// since. Files that changed and cannot be used are logged once.
    ///
    /// # Errors
    /// The files cannot be used, and never could.
    pub fn current(
        &self,
        files: &[&Path],
        make: impl FnOnce(u64) -> Result<T, TlsError>,
    ) -> Result<Arc<T>, TlsError> {
        let mut state = self.state();
        let stamps = Some(files.iter().map(|path| stamp(path)).collect());
        if let Some(made) = &state.made
            && state.stamps == stamps
        {
            return Ok(Arc::clone(&made.value));
        }
        state.stamps = stamps;
        let version = state.made.as_ref().map_or(1, |made| made.version + 1);
        match (make(version), &state.made) {
            (Ok(value), before) => {
                if before.is_some() {
                    tracing::info!(of = self.what, "TLS files changed on disk: in force now");
                }
                let value = Arc::new(value);
                state.fault = None;
                state.made = Some(Made {
                    version,
                    value: Arc::clone(&value),
                });
                Ok(value)
            }
            (Err(error), Some(before)) => {
                let value = Arc::clone(&before.value);
                let fault = error.to_string();
                tracing::error!(
                    of = self.what,
                    error = fault,
                    "TLS files changed on disk and cannot be used: the old ones stay in force"
                );
                state.fault = Some(fault);
                Ok(value)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Why files that changed are not in force, as the last look at them found.
    pub fn fault(&self) -> Option<String> {
        let fault = self.state().fault.clone()?;
        Some(format!(
            "the TLS files changed and cannot be used, the old ones are in force: {fault}"
        ))
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.ctime(), data.ctime_nsec(), data.size(), data.ino()))
}
