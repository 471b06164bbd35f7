//! SIP phones: `SIPp` with scenarios of our own (`tests/sipp`).

mod crowd;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::asterisk::{Asterisk, Folder};
use crate::loopback::Loopback;
use crate::process::{Process, Program, wait_until};
use crate::scratch::{self, Scratch};

pub use crowd::{Calling, Crowd, OnlineCrowd};

/// Where a phone registers from and takes calls. It is one port, because Asterisk takes the source
/// of the registration for the phone's address (`rewrite_contact`).
const PHONE_PORT: u16 = 5060;

/// Where it calls from: `SIPp` needs a port of its own for each thing that it does.
const CALL_PORT: u16 = 5062;

/// Where it registers from when it leaves at once: it may be online at the same time.
const VISIT_PORT: u16 = 5064;

/// How long a phone stays online unless it is dropped: longer than any test and any demonstration.
const ONLINE_TIME: Duration = Duration::from_hours(500);

const START_DEADLINE: Duration = Duration::from_secs(10);

/// Longer than Asterisk lets a phone ring (25 s) and than SIP repeats a request (32 s).
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(45);

/// How a registration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The phone is registered for ten minutes.
    Registered {
        /// From the first request to the final reply, the challenge included.
        took: Duration,
    },
    /// The credentials were refused.
    Refused {
        /// The SIP status, such as 401.
        status: u16,
    },
}

impl Registration {
    /// How long it took, if it was accepted.
    pub fn accepted(self) -> anyhow::Result<Duration> {
        match self {
            Self::Registered { took } => Ok(took),
            Self::Refused { status } => bail!("the registration was refused with {status}"),
        }
    }

    /// Whether it was refused.
    pub const fn is_refused(self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// How a call ended. Times count from the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// It was answered, held and hung up.
    Completed {
        /// When the other phone rang; `None` when it answered without ringing.
        ringing_after: Option<Duration>,
        /// When it was answered.
        answered_after: Duration,
        /// When the end of it was confirmed.
        ended_after: Duration,
        /// What was agreed on: the `m=audio` line of the answer.
        media: String,
    },
    /// It was not.
    Failed {
        /// The SIP status, such as 404.
        status: u16,
    },
}

impl Call {
    /// Whether it was answered, held and hung up.
    pub const fn is_completed(&self) -> bool {
        matches!(self, Self::Completed { .. })
    }
}

/// Where phones are plugged in: an address of their own, and the Asterisk that they talk to.
struct Line {
    folder: Folder,
    registrar: String,
    address: Arc<Loopback>,
    scratch: Arc<Scratch>,
}

impl Line {
    fn new(asterisk: &Asterisk) -> anyhow::Result<Self> {
        Ok(Self {
            folder: asterisk.folder().clone(),
            registrar: asterisk.sip().to_string(),
            address: Arc::new(Loopback::take()?),
            scratch: Arc::new(Scratch::new("phone")?),
        })
    }
}

/// A phone with an address of its own.
pub struct Phone {
    line: Line,
    number: String,
    password: String,
}

impl Phone {
    /// A phone for `asterisk` with the credentials that `POST /users` returned.
    pub fn new(asterisk: &Asterisk, username: &str, password: &str) -> anyhow::Result<Self> {
        Ok(Self {
            line: Line::new(asterisk)?,
            number: username.to_owned(),
            password: password.to_owned(),
        })
    }

    /// The username, which is the extension.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// Where it takes calls.
    pub fn contact(&self) -> String {
        self.line.address.port(PHONE_PORT).to_string()
    }

    /// Registers with its credentials and leaves: calls then find nobody. For a phone that is to be
    /// called: [`Phone::online`].
    pub async fn register(&self) -> anyhow::Result<Registration> {
        let run = self.registering(VISIT_PORT)?.once();
        let events = run.complete(EXCHANGE_DEADLINE).await?;
        events.registration()
    }

    /// Registers with its credentials, then answers every call until the value is dropped. Fails
    /// when the registration is refused.
    pub async fn online(&self) -> anyhow::Result<Online> {
        self.staying(Scenario::Answer).await
    }

    /// As [`Phone::online`], but it lets every call ring until somebody gives it up.
    pub async fn online_unattended(&self) -> anyhow::Result<Online> {
        self.staying(Scenario::Ring).await
    }

    async fn staying(&self, called: Scenario) -> anyhow::Result<Online> {
        let run = self.registering(PHONE_PORT)?.once().staying(called)?;
        let mut process = run.program.clone().start(&run.output)?;
        let ended = async || run.events().registration().is_ok();
        process
            .wait_until("the phone is registered", EXCHANGE_DEADLINE, ended)
            .await?;
        let registered_in = run.events().registration()?.accepted()?;
        Ok(Online {
            registered_in,
            process,
            run,
        })
    }

    fn registering(&self, port: u16) -> anyhow::Result<Run> {
        let fields = format!("{};{}", self.number, self.password);
        Run::new(&self.line, Scenario::Register, port, &[fields])
    }

    /// Calls `number`, holds the call for `hold` once it is answered, and hangs up.
    pub async fn call(&self, number: &str, hold: Duration) -> anyhow::Result<Call> {
        let fields = format!("{};{};{number}", self.number, self.password);
        let mut run = Run::new(&self.line, Scenario::Call, CALL_PORT, &[fields])?.once();
        run.program = run.program.arg("-d").arg(hold.as_millis().to_string());
        let events = run.complete(EXCHANGE_DEADLINE + hold).await?;
        let sent = events.time("sent")?;
        if let Some(failed) = events.find("failed") {
            let status = failed.detail.parse()?;
            return Ok(Call::Failed { status });
        }
        let after = |name| Ok::<_, anyhow::Error>(events.time(name)?.saturating_sub(sent));
        Ok(Call::Completed {
            ringing_after: after("ringing").ok(),
            answered_after: after("answered")?,
            ended_after: after("ended")?,
            media: events.detail("media")?.to_owned(),
        })
    }
}

/// A registered phone that answers every call; it stops when this value is dropped.
pub struct Online {
    /// How long the registration took.
    pub registered_in: Duration,
    // Ends before its directory goes.
    process: Process,
    run: Run,
}

impl Online {
    /// How many calls have reached it.
    pub fn calls(&self) -> usize {
        self.count("ringing")
    }

    /// How many calls have come to a regular end.
    pub fn ended(&self) -> usize {
        self.count("ended")
    }

    /// How many calls were given up before it answered.
    pub fn cancelled(&self) -> usize {
        self.count("cancelled")
    }

    /// The `From` header of each call.
    pub fn callers(&self) -> Vec<String> {
        let events = self.run.events();
        let from = events.0.into_iter().filter(|event| event.name == "from");
        from.map(|event| event.detail).collect()
    }

    /// Waits until `count` calls have come to a regular end.
    pub async fn wait_ended(&mut self, count: usize) -> anyhow::Result<()> {
        self.wait("ended", count).await
    }

    /// Waits until `count` calls were given up before it answered.
    pub async fn wait_cancelled(&mut self, count: usize) -> anyhow::Result<()> {
        self.wait("cancelled", count).await
    }

    async fn wait(&mut self, event: &str, count: usize) -> anyhow::Result<()> {
        let run = &self.run;
        let ended = async || run.events().count(event) >= count;
        let what = format!("{count} calls have {event}");
        self.process
            .wait_until(&what, EXCHANGE_DEADLINE, ended)
            .await
    }

    fn count(&self, name: &str) -> usize {
        self.run.events().count(name)
    }
}

/// What `SIPp` is told to do.
#[derive(Clone, Copy)]
enum Scenario {
    Register,
    Answer,
    Ring,
    Call,
}

impl Scenario {
    const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Answer => "answer",
            Self::Ring => "ring",
            Self::Call => "call",
        }
    }

    /// Writes it into `dir`.
    fn file(self, dir: &Path) -> anyhow::Result<PathBuf> {
        let text = match self {
            Self::Register => include_str!("../sipp/register.xml"),
            Self::Answer => include_str!("../sipp/answer.xml"),
            Self::Ring => include_str!("../sipp/ring.xml"),
            Self::Call => include_str!("../sipp/call.xml"),
        };
        let path = dir.join(self.name()).with_extension("xml");
        scratch::write(&path, 0o644, text)?;
        Ok(path)
    }
}

/// One run of `SIPp`.
struct Run {
    program: Program,
    dir: PathBuf,
    output: PathBuf,
    log: PathBuf,
    /// A phone that is online outlives the value that it was made from.
    _place: (Arc<Loopback>, Arc<Scratch>),
}

impl Run {
    /// `lines` are the fields of one exchange each, separated by `;`.
    fn new(line: &Line, scenario: Scenario, port: u16, lines: &[String]) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = line
            .scratch
            .path()
            .join(format!("{}{number}", scenario.name()));
        scratch::directory(&dir, 0o700)?;
        // A file and not the command line, which every user of the machine can read.
        let input = dir.join("fields.csv");
        let text = format!("SEQUENTIAL\n{}\n", lines.join("\n"));
        scratch::write(&input, 0o600, &text)?;
        let address = line.address.ip().to_string();
        let log = dir.join("events");
        let program = Program::new(line.folder.sipp())
            .dir(&dir)
            .arg(&line.registrar)
            .arg("-sf")
            .arg(scenario.file(&dir)?)
            .arg("-inf")
            .arg(input)
            .args(["-max_socket", "100"])
            .args(["-i", &address, "-bind_local", "-mi", &address])
            .args(["-p", &port.to_string(), "-mp", &(port + 1000).to_string()])
            .args(["-nostdin", "-trace_err", "-error_file"])
            .arg(dir.join("errors"))
            .args(["-trace_logs", "-log_file"])
            .arg(&log);
        Ok(Self {
            program,
            output: dir.join("output"),
            dir,
            log,
            _place: (Arc::clone(&line.address), Arc::clone(&line.scratch)),
        })
    }

    /// One exchange.
    fn once(mut self) -> Self {
        self.program = self.program.args(["-m", "1"]);
        self
    }

    /// Stays after a registration, and does `called` with every call.
    fn staying(mut self, called: Scenario) -> anyhow::Result<Self> {
        let time = ONLINE_TIME.as_millis().to_string();
        let called = called.file(&self.dir)?;
        // Asterisk asks with OPTIONS whether the phone is there; -aa answers.
        self.program = self
            .program
            .arg("-oocsf")
            .arg(called)
            .args(["-d", &time, "-aa"]);
        Ok(self)
    }

    /// `count` exchanges, so many of them begun in a second.
    fn many(mut self, count: usize, per_second: usize) -> Self {
        let (count, rate) = (count.to_string(), per_second.to_string());
        // SIPp takes the second answer to a repeated request for one to the next request.
        self.program = self
            .program
            .args(["-m", &count, "-l", &count, "-r", &rate])
            .args(["-default_behaviors", "all,-abortunexp"]);
        self
    }

    /// Runs one exchange to its end.
    async fn complete(self, within: Duration) -> anyhow::Result<Events> {
        let output = self.program.run(within).await?;
        if !output.status.success() {
            let errors = std::fs::read_to_string(self.dir.join("errors")).unwrap_or_default();
            let said = format!("{errors}{}", output.stderr);
            bail!("SIPp ({}): {}", output.status, said.trim());
        }
        Ok(self.events())
    }

    fn events(&self) -> Events {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Events(text.lines().filter_map(Event::parse).collect())
    }
}

/// A line that a scenario has logged: `name detail… timestamp`.
#[derive(Debug)]
struct Event {
    name: String,
    detail: String,
    /// Since 1970.
    at: Duration,
}

impl Event {
    /// The timestamp is a date, a time and seconds since 1970, separated by tabs; `from` and
    /// `media` have none.
    fn parse(line: &str) -> Option<Self> {
        let (text, at) = match line.rsplit_once('\t') {
            Some((text, seconds)) => (text.split('\t').next()?, seconds.trim().parse().ok()?),
            None => (line, 0.0),
        };
        let mut words = text.splitn(2, ' ');
        let name = words.next()?.to_owned();
        let mut detail = words.next().unwrap_or_default().trim();
        if at > 0.0 {
            // The date belongs to the timestamp.
            detail = detail.rsplit_once(' ').map_or("", |(detail, _)| detail);
        }
        Some(Self {
            name,
            detail: detail.to_owned(),
            at: Duration::from_secs_f64(at),
        })
    }
}

#[derive(Debug)]
struct Events(Vec<Event>);

impl Events {
    fn registration(&self) -> anyhow::Result<Registration> {
        if let Some(refused) = self.find("refused") {
            let status = refused.detail.parse()?;
            return Ok(Registration::Refused { status });
        }
        let took = self.time("registered")?.saturating_sub(self.time("sent")?);
        Ok(Registration::Registered { took })
    }

    fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|event| event.name == name).count()
    }

    fn find(&self, name: &str) -> Option<&Event> {
        self.0.iter().find(|event| event.name == name)
    }

    fn time(&self, name: &str) -> anyhow::Result<Duration> {
        let event = self.find(name);
        Ok(event
            .with_context(|| format!("SIPp logged no `{name}`: {self:?}"))?
            .at)
    }

    fn detail(&self, name: &str) -> anyhow::Result<&str> {
        let event = self.find(name);
        Ok(&event
            .with_context(|| format!("SIPp logged no `{name}`: {self:?}"))?
            .detail)
    }
}

/// Waits until Asterisk says that `number` has a registered contact, or has none any more.
pub async fn wait_contact(asterisk: &Asterisk, number: &str, there: bool) -> anyhow::Result<()> {
    let what = format!("{number} has {} contact", if there { "a" } else { "no" });
    let contact = format!("Contact:  {number}/");
    wait_until(&what, START_DEADLINE, async || {
        let said = asterisk.rx("pjsip show contacts").await;
        said.is_ok_and(|said| said.contains(&contact) == there)
    })
    .await
}
