//! A PBX whose agent is killed over and over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::Order;
use shared::bundle::Bundle;
use shared::record::{ApplyRecord, OnReloadFailure, Outcome};
use tests::process::wait_until;

use super::judge;
use crate::pbx::{Pbx, bundle};
use crate::strace::{Attach, Strace, engine_thread};

const DEADLINE: Duration = Duration::from_mins(1);

/// Two bundles that are applied in turn.
pub(in crate::faults) struct Victim {
    pub(in crate::faults) pbx: Pbx,
    bundles: [Bundle; 2],
    /// Which of them is in force.
    in_force: usize,
}

/// How one apply ended that was to be killed.
pub(in crate::faults) struct Killed {
    /// Whether it came to the call at all.
    pub(in crate::faults) struck: bool,
    /// What the caller was told.
    pub(in crate::faults) told: anyhow::Result<ApplyRecord>,
    /// What the record says afterwards.
    pub(in crate::faults) outcome: Option<Outcome>,
}

impl Killed {
    /// For the count of ends.
    pub(in crate::faults) fn end(&self) -> String {
        let outcome = self.outcome.map_or("never started".to_owned(), |outcome| {
            format!("{outcome:?}").to_lowercase()
        });
        let told = if self.told.is_ok() {
            ", told before"
        } else {
            ""
        };
        format!("{outcome}{told}")
    }
}

impl Victim {
    /// With the first of the two bundles in force.
    pub(in crate::faults) async fn start() -> anyhow::Result<Self> {
        Self::of(Pbx::start().await?).await
    }

    /// On a PBX of somebody else's.
    pub(in crate::faults) async fn of(pbx: Pbx) -> anyhow::Result<Self> {
        let bundles = [bundle(&[1000], "one"), bundle(&[1000, 1001], "two")];
        let record = pbx.apply(&bundles[0]).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        Ok(Self {
            pbx,
            bundles,
            in_force: 0,
        })
    }

    /// The bundle that is not in force.
    pub(in crate::faults) fn next(&self) -> &Bundle {
        &self.bundles[1 - self.in_force]
    }

    /// An order for it.
    pub(in crate::faults) fn order(&self) -> Order {
        self.pbx.order(self.next(), OnReloadFailure::RollBack)
    }

    /// How often the engine's thread makes each system call, from the upload to the idle agent.
    pub(super) async fn recorded_calls(&mut self) -> anyhow::Result<BTreeMap<String, usize>> {
        let engine = engine_thread(self.pbx.agent.pid()?)?;
        let strace = Attach::thread(engine).trace("all").now().await?;
        let record = self.pbx.apply(self.next()).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        self.in_force = 1 - self.in_force;
        wait_until("the engine is idle", DEADLINE, async || is_idle(&strace)).await?;
        let mut calls = BTreeMap::new();
        for line in strace.log().lines() {
            let name = line.split('(').next().unwrap_or_default();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if line.contains('(') && !name.is_empty() && name.chars().all(is_name) {
                *calls.entry(name.to_owned()).or_default() += 1;
            }
        }
        Ok(calls)
    }

    /// Applies the other bundle and kills the agent at the call that `fault` names. Then starts it
    /// again and judges.
    pub(super) async fn apply_killed_at(&mut self, fault: &str) -> anyhow::Result<Killed> {
        let order = self.order();
        let (struck, told) = self.strike(&order, fault).await?;
        if struck {
            self.pbx.agent.kill();
            self.pbx.agent.resume().await?;
        }
        self.judged(&order, struck, told).await
    }

    /// Kills an apply at `first`, and the recovery that follows at `second`; then judges.
    pub(super) async fn killed_twice(
        &mut self,
        first: &str,
        second: &str,
        paths: &[PathBuf],
    ) -> anyhow::Result<Killed> {
        let order = self.order();
        let (struck, told) = self.strike(&order, first).await?;
        ensure!(struck, "the apply has no such call");
        self.pbx.agent.kill();
        let dir = self.pbx.dir("traced");
        tests::scratch::directory(&dir, 0o777)?;
        let log = dir.join("log");
        std::fs::remove_file(&log).ok();
        let attach = Attach::process(0).inject(second).paths(paths);
        self.pbx
            .agent
            .start_through("strace", attach.traced_from_start(&log))?;
        let (agent, link) = (&mut self.pbx.agent, &self.pbx.link);
        let over = async || {
            if !agent.is_running() {
                return true;
            }
            let closed = link.find_apply(order.id).await;
            closed.is_ok_and(|record| record.is_none_or(|record| record.outcome.is_some()))
                && agent.pid().is_ok_and(waits_for_a_job)
        };
        wait_until("the agent is killed or idle", DEADLINE, over).await?;
        let struck = !self.pbx.agent.is_running();
        self.pbx.agent.kill();
        self.pbx.agent.resume().await?;
        self.judged(&order, struck, told).await
    }

    /// Gives the order, and waits until the agent has been killed or is idle again.
    pub(in crate::faults) async fn strike(
        &self,
        order: &Order,
        fault: &str,
    ) -> anyhow::Result<(bool, anyhow::Result<ApplyRecord>)> {
        let engine = engine_thread(self.pbx.agent.pid()?)?;
        let attach = Attach::thread(engine).trace("futex").inject(fault);
        let strace = attach.now().await?;
        let told = self.pbx.execute(order, self.next()).await;
        // What is left to do after the answer may be what kills it.
        let over = async || strace.has_struck() || (told.is_ok() && is_idle(&strace));
        let over = wait_until("the agent is killed or idle", DEADLINE, over).await;
        over.with_context(|| format!("{told:?}\n{}", strace.log()))?;
        Ok((strace.has_struck(), told))
    }

    /// Fails unless files, record and Asterisk agree.
    pub(in crate::faults) async fn judged(
        &mut self,
        order: &Order,
        struck: bool,
        told: anyhow::Result<ApplyRecord>,
    ) -> anyhow::Result<Killed> {
        let case = judge::Case {
            pbx: &self.pbx,
            bundles: &self.bundles,
            in_force: self.in_force,
            order,
            told: told.as_ref().ok(),
        };
        let (in_force, outcome) = judge::judge(&case)
            .await
            .with_context(|| match &told {
                Ok(record) => format!("told {:?}", record.outcome),
                Err(error) => format!("told nothing: {error:#}"),
            })
            .with_context(|| tail(&self.pbx.agent.log()))?;
        self.in_force = in_force;
        Ok(Killed {
            struck,
            told,
            outcome,
        })
    }

    /// Fails unless the other bundle can be applied.
    pub(in crate::faults) async fn next_apply_works(&mut self) -> anyhow::Result<()> {
        let record = self.pbx.apply(self.next()).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        self.in_force = 1 - self.in_force;
        Ok(())
    }
}

/// Whether the traced thread waits for its next job, as it did when it was attached to: at the same
/// address. It waits for locks as well, and wakes others by the same call.
fn is_idle(strace: &Strace) -> bool {
    let log = strace.log();
    let address = |line: &str| {
        let (address, call) = line.strip_prefix("futex(")?.split_once(',')?;
        call.contains("FUTEX_WAIT").then(|| address.to_owned())
    };
    let last = log.lines().next_back().unwrap_or_default();
    let first = log.lines().find_map(address);
    first.is_some() && address(last) == first && !last.contains(" = ")
}

/// Whether the engine of an agent, traced or not, waits.
fn waits_for_a_job(agent: u32) -> bool {
    const FUTEX: &str = "202 ";
    let engine = engine_thread(agent);
    let call = engine.and_then(|engine| {
        Ok(std::fs::read_to_string(format!(
            "/proc/{agent}/task/{engine}/syscall"
        ))?)
    });
    call.is_ok_and(|call| call.starts_with(FUTEX))
}

/// The end of a log.
fn tail(log: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
