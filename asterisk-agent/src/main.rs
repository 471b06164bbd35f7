//! `asterisk-agent`: see the crate's documentation.

use anyhow::Context as _;
use asterisk_agent::config::Config;
use clap::Parser;
use shared::config::process_env;

/// Brings Asterisk configuration from the portal into force on this PBX host. It is configured by
/// environment variables; see the example environment file.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Arguments::parse();
    shared::telemetry::init();
    let config = Config::read(&process_env)?;
    asterisk_agent::serve(config)
        .await
        .context("asterisk-agent ends")
}
