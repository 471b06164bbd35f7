//! `portalctl`: the portal's REST API for administrators at a terminal and for scripts.

mod account;
mod api;
mod apply;
mod ask;
mod audit;
mod auth;
mod bulk;
mod cli;
mod device;
mod events;
mod failure;
mod fields;
mod history;
mod operations;
mod output;
mod password;
mod pbx;
mod preview;
mod resource;
mod session;
mod status;
mod tenant;
mod token;
mod user;
mod words;

use std::process::ExitCode;

use clap::Parser as _;

use self::api::Api;
use self::ask::Ask;
use self::cli::{Cli, Command};
use self::failure::Failure;
use self::output::Output;

/// What every command works with.
struct Context {
    out: Output,
    ask: Ask,
    api: Api,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::new(cli.global.color, cli.global.json);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli, out.clone())),
        Err(error) => Err(Failure::other(format!("cannot start: {error}"))),
    };
    let result = result.and_then(|()| out.finish());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell(&out);
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(cli: Cli, out: Output) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let ask = Ask { yes: global.yes };
    let command = match command {
        Command::Completion { shell } => {
            cli::complete(shell, &out);
            return Ok(());
        }
        Command::Login(login) => return auth::login(&global, &login, &out).await,
        other => other,
    };
    let api = Api::new(&global)?;
    let context = Context { out, ask, api };
    match command {
        Command::Completion { .. } | Command::Login(_) => Ok(()),
        Command::Logout => auth::logout(&context).await,
        Command::Whoami => auth::whoami(&context).await,
        Command::Password(wanted) => password::change(&context, &wanted).await,
        Command::Tenant(command) => tenant::run(&context, command).await,
        Command::User(command) => user::run(&context, command).await,
        Command::Device(command) => device::run(&context, command).await,
        Command::Token(command) => token::run(&context, command).await,
        Command::Account(command) => account::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Pbx(command) => pbx::run(&context, command).await,
        Command::Plan(plan) => bulk::declaration::plan(&context, plan).await,
        Command::Export(export) => bulk::declaration::export_tenant(&context, export).await,
        Command::Apply(apply) => apply::run(&context, apply).await,
        Command::Preview(preview) => preview::run(&context, preview).await,
        Command::History(history) => history::run(&context, history).await,
        Command::Restore(restore) => apply::restore(&context, restore).await,
        Command::Status(status) => status::run(&context, status).await,
    }
}
