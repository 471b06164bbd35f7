//! What `./run` starts: the whole product on real parts, its main job before the reader's eyes, and
//! then the running system to try things on, until Ctrl-C.
#![expect(
    clippy::print_stdout,
    reason = "a demonstration is for whoever sits at the terminal"
)]

mod show;
mod state;
mod system;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::state::State;
use crate::system::System;

/// Starts PostgreSQL, Asterisk, the agent and the portal, creates two users, applies, and lets one
/// phone call the other.
#[derive(Parser)]
#[command(name = "run")]
struct Arguments {
    /// End after the demonstration; exit status 0 only if all of it succeeded.
    #[arg(long)]
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.once).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(once: bool) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let asked_to_end = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked_to_end);

    let state = State::open()?;
    let mut system = tokio::select! {
        started = System::start(&state) => started?,
        () = &mut asked_to_end => anyhow::bail!("interrupted while starting"),
    };
    let shown = tokio::select! {
        shown = show::main_job(&state, &system) => shown,
        () = &mut asked_to_end => Err(anyhow::anyhow!("interrupted")),
    };
    let result = match shown {
        Ok(phones) if !once => {
            show::next_commands(&state, &system, &phones);
            tokio::select! {
                fault = system.watch() => Err(fault),
                () = &mut asked_to_end => Ok(()),
            }
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    println!();
    system.end().await.and(result)
}
