//! What the portal and the PBX agent must agree on, and nothing else: no HTTP, no SQL.
//!
//! | module | holds |
//! |---|---|
//! | [`bundle`] | the rendered files of one snapshot, their slots, digest and limits |
//! | [`record`] | what an apply did: phases, steps, outcome |
//! | [`status`] | what the agent tells of itself, its files and what it found |
//! | [`wire`] | the generated protobuf types and their conversions; the only place that names them |
//! | [`names`] | what the portal's objects are called in Asterisk |
//! | [`conf`] | a strict reader of Asterisk's configuration format |
//! | [`tls`] | mutual TLS with pinned identities |
//! | [`model`] | what a bundle says, as objects; reading it is the check |
//! | [`config`] | environment variables, all read before any error is reported |
//! | [`clock`] | the time, as a seam |
//! | [`telemetry`] | logging set-up |

pub mod bundle;
pub mod clock;
pub mod conf;
pub mod config;
pub mod model;
pub mod names;
pub mod record;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod wire;
