//! Faults of the operating system at an exact system call of a running process, by `strace`'s
//! injection.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tests::process::{Process, Program};
use tests::scratch::Scratch;

const ATTACH_DEADLINE: Duration = Duration::from_secs(20);

/// Attached to a process until it is dropped.
pub(crate) struct Strace {
    // Detaches before its directory goes.
    _process: Process,
    output: PathBuf,
    _scratch: Scratch,
}

/// Says that something was not tested, past the test runner, which shows no output of tests that
/// pass: what is skipped in silence counts as tested.
pub(crate) fn skipped(why: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {why}").ok();
}

/// Whether a running process can be traced here; said when not. Without root, the machine may forbid
/// it for all but children of the tracer.
pub(crate) async fn available() -> anyhow::Result<bool> {
    let scratch = Scratch::new("traced")?;
    let traced = Program::new("sleep")
        .arg("60")
        .start(&scratch.path().join("output"))?;
    let attached = Strace::attach(traced.pid(), "getuid:error=EPERM", &[]).await;
    if let Err(error) = &attached {
        skipped(&format!("no faults can be injected: {error:#}"));
    }
    Ok(attached.is_ok())
}

impl Strace {
    /// Attaches to every thread of `pid`; `inject` is an expression such as
    /// `renameat:error=EROFS:when=2`, counted from now on in each thread. With `paths`, only calls
    /// that touch one of them count.
    pub(crate) async fn attach(pid: u32, inject: &str, paths: &[PathBuf]) -> anyhow::Result<Self> {
        let scratch = Scratch::new("strace")?;
        let output = scratch.path().join("output");
        let calls = inject.split(':').next().unwrap_or_default();
        let mut strace = Program::new("strace").args([
            "-f",
            "-e",
            &format!("trace={calls}"),
            "-e",
            &format!("inject={inject}"),
        ]);
        for path in paths {
            strace = strace.arg("-P").arg(path);
        }
        let mut process = strace.args(["-p", &pid.to_string()]).start(&output)?;
        let log = output.clone();
        // Said once, when every thread is traced.
        let attached = async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains(" attached")
        };
        process
            .wait_until("strace has attached", ATTACH_DEADLINE, attached)
            .await?;
        Ok(Self {
            _process: process,
            output,
            _scratch: scratch,
        })
    }

    /// Whether it has injected anything.
    pub(crate) fn has_struck(&self) -> bool {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        text.contains("(INJECTED)") || text.contains("killed by SIGKILL")
    }
}
