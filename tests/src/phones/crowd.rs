//! Many phones at one address: what a busy company does to its PBX.

use std::time::Duration;

use anyhow::ensure;

use super::{CALL_PORT, EXCHANGE_DEADLINE, Line, PHONE_PORT, Run, Scenario, VISIT_PORT};
use crate::asterisk::Asterisk;
use crate::process::Process;

/// Phones that register, answer and call, all from one address.
pub struct Crowd {
    line: Line,
    /// Username and password of each.
    phones: Vec<(String, String)>,
}

impl Crowd {
    /// Phones with these usernames and passwords.
    pub fn new(asterisk: &Asterisk, phones: Vec<(String, String)>) -> anyhow::Result<Self> {
        let line = Line::new(asterisk)?;
        Ok(Self { line, phones })
    }

    /// Registers every phone, so many in a second, and lets them answer every call until the value
    /// is dropped. Fails when one is refused.
    pub async fn online(&self, per_second: usize) -> anyhow::Result<OnlineCrowd> {
        let count = self.phones.len();
        let run = self.registering(PHONE_PORT)?;
        let run = run.many(count, per_second).staying(Scenario::Answer)?;
        let mut process = run.program.clone().start(&run.output)?;
        let done = async || {
            let events = run.events();
            events.count("registered") + events.count("refused") >= count
        };
        let within = EXCHANGE_DEADLINE + seconds(count, per_second);
        process
            .wait_until("the phones are registered", within, done)
            .await?;
        let registered = run.events().count("registered");
        ensure!(registered == count, "{registered} of {count} registered");
        Ok(OnlineCrowd {
            _process: process,
            run,
        })
    }

    /// Begins `count` registrations, taking turns, of phones that leave at once.
    pub fn renew(&self, count: usize, per_second: usize) -> anyhow::Result<Calling> {
        let mut run = self.registering(VISIT_PORT)?.many(count, per_second);
        run.program = run.program.args(["-d", "1", "-aa"]);
        Calling::start(run, count)
    }

    fn registering(&self, port: u16) -> anyhow::Result<Run> {
        let line = |(number, password): &(String, String)| format!("{number};{password}");
        let lines: Vec<_> = self.phones.iter().map(line).collect();
        Run::new(&self.line, Scenario::Register, port, &lines)
    }

    /// Begins `count` calls from these phones to those of `to`, taking turns on both sides, so many
    /// of them begun in a second, each held for `hold`.
    pub fn call(
        &self,
        to: &Self,
        count: usize,
        per_second: usize,
        hold: Duration,
    ) -> anyhow::Result<Calling> {
        let pairs = self.phones.iter().zip(to.phones.iter().cycle());
        let line = |((number, password), (to, _)): (&(String, String), &(String, String))| {
            format!("{number};{password};{to}")
        };
        let lines: Vec<_> = pairs.map(line).collect();
        let run = Run::new(&self.line, Scenario::Call, CALL_PORT, &lines)?;
        let mut run = run.many(count, per_second);
        run.program = run.program.arg("-d").arg(hold.as_millis().to_string());
        Calling::start(run, count)
    }
}

fn seconds(count: usize, per_second: usize) -> Duration {
    Duration::from_secs((count / per_second.max(1)) as u64)
}

/// Registered phones that answer every call; they stop when this value is dropped.
pub struct OnlineCrowd {
    // Ends before its directory goes.
    _process: Process,
    run: Run,
}

impl OnlineCrowd {
    /// How many calls have been answered.
    pub fn answered(&self) -> usize {
        self.run.events().count("answered")
    }
}

/// Calls or registrations that are under way.
pub struct Calling {
    process: Process,
    run: Run,
    count: usize,
}

impl Calling {
    fn start(run: Run, count: usize) -> anyhow::Result<Self> {
        let process = run.program.clone().start(&run.output)?;
        Ok(Self {
            process,
            run,
            count,
        })
    }

    /// How many calls have been answered so far.
    pub fn answered(&self) -> usize {
        self.run.events().count("answered")
    }

    /// How many have come to a regular end so far.
    pub fn ended(&self) -> usize {
        self.run.events().count("ended")
    }

    /// Whether more are to begin or to end.
    pub fn is_under_way(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits until `count` calls have been answered.
    pub async fn wait_answered(&mut self, count: usize) -> anyhow::Result<()> {
        let run = &self.run;
        let answered = async || run.events().count("answered") >= count;
        let what = format!("{count} calls are answered");
        self.process
            .wait_until(&what, EXCHANGE_DEADLINE, answered)
            .await
    }

    /// Waits until all have ended, and fails unless each went well: a call was answered, held and
    /// hung up, a registration accepted.
    pub async fn all_went_well(mut self, within: Duration) -> anyhow::Result<()> {
        self.process.exited(within).await?;
        let events = self.run.events();
        let well = events.count("ended") + events.count("registered");
        let failed: Vec<_> = ["failed", "refused"]
            .iter()
            .flat_map(|name| events.0.iter().filter(move |event| event.name == *name))
            .collect();
        let errors = std::fs::read_to_string(self.run.dir.join("errors")).unwrap_or_default();
        ensure!(
            well == self.count && failed.is_empty(),
            "{well} of {} went well; failed: {failed:?}; {}",
            self.count,
            errors.lines().take(20).collect::<Vec<_>>().join("\n")
        );
        Ok(())
    }
}
