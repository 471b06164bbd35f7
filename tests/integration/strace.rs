//! Faults of the operating system at an exact system call of a running process, by `strace`'s
//! injection.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
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
    said(&format!("SKIPPED: {why}"));
}

/// Says something past the test runner, such as how much was tried.
pub(crate) fn said(what: &str) {
    writeln!(std::io::stderr(), "{what}").ok();
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

/// What to attach to, and what to do there.
pub(crate) struct Attach {
    target: u32,
    /// Every thread of the process, or the one thread alone.
    threads: bool,
    trace: Vec<String>,
    inject: Vec<String>,
    paths: Vec<PathBuf>,
    descriptors: bool,
}

impl Attach {
    /// To every thread of a process and to whatever it starts.
    pub(crate) fn process(pid: u32) -> Self {
        Self {
            target: pid,
            threads: true,
            trace: Vec::new(),
            inject: Vec::new(),
            paths: Vec::new(),
            descriptors: false,
        }
    }

    /// To one thread alone: nothing that it starts counts.
    pub(crate) fn thread(tid: u32) -> Self {
        Self {
            threads: false,
            ..Self::process(tid)
        }
    }

    /// Notes these calls as well: a list with commas, or `all`.
    pub(crate) fn trace(mut self, calls: &str) -> Self {
        self.trace.push(calls.to_owned());
        self
    }

    /// An expression such as `renameat:error=EROFS:when=2`, counted from now on in each thread.
    pub(crate) fn inject(mut self, inject: &str) -> Self {
        self.trace
            .extend(inject.split(':').next().map(str::to_owned));
        self.inject.push(inject.to_owned());
        self
    }

    /// Only calls that touch one of these count; without any, all.
    pub(crate) fn paths(mut self, paths: &[PathBuf]) -> Self {
        self.paths.extend_from_slice(paths);
        self
    }

    /// Shows what file each descriptor is.
    pub(crate) fn descriptors(mut self) -> Self {
        self.descriptors = true;
        self
    }

    /// Everything but the target.
    fn options(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["-e".into()];
        args.push(format!("trace={}", self.trace.join(",")).into());
        for inject in &self.inject {
            args.extend(["-e".into(), format!("inject={inject}").into()]);
        }
        for path in &self.paths {
            args.extend(["-P".into(), path.into()]);
        }
        if self.threads {
            args.push("-f".into());
        }
        if self.descriptors {
            args.push("-y".into());
        }
        args
    }

    /// The arguments of `strace` to run a program from its start, traced by a process beside it.
    pub(crate) fn traced_from_start(&self, log: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["-D".into(), "-o".into(), log.into()];
        args.extend(self.options());
        args
    }

    /// Attaches.
    pub(crate) async fn now(self) -> anyhow::Result<Strace> {
        let scratch = Scratch::new("strace")?;
        let output = scratch.path().join("output");
        let mut process = Program::new("strace")
            .args(self.options())
            .args(["-p", &self.target.to_string()])
            .start(&output)?;
        let log = output.clone();
        // Said once, when every thread is traced.
        let attached = async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains(" attached")
        };
        process
            .wait_until("strace has attached", ATTACH_DEADLINE, attached)
            .await?;
        Ok(Strace {
            _process: process,
            output,
            _scratch: scratch,
        })
    }
}

impl Strace {
    /// Attaches to every thread of `pid`; `inject` as in [`Attach::inject`]. With `paths`, only
    /// calls that touch one of them count.
    pub(crate) async fn attach(pid: u32, inject: &str, paths: &[PathBuf]) -> anyhow::Result<Self> {
        let attach = Attach::process(pid).inject(inject).paths(paths);
        attach.now().await
    }

    /// Whether it has injected anything.
    pub(crate) fn has_struck(&self) -> bool {
        let text = self.log();
        text.contains("(INJECTED)") || text.contains("killed by SIGKILL")
    }

    /// What it has seen so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }
}

/// The thread of a running agent that does all file work of an apply, and nothing else.
pub(crate) fn engine_thread(agent: u32) -> anyhow::Result<u32> {
    for task in std::fs::read_dir(format!("/proc/{agent}/task"))? {
        let task = task?;
        if std::fs::read_to_string(task.path().join("comm"))?.trim() == "engine" {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("the agent {agent} has no thread `engine`")
}
