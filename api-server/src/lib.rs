//! The portal: REST API, PostgreSQL, rendering, and the client of the PBX agents.
//!
//! # Layers
//! Each may name what stands below it, never what stands above or beside it; a test reads the
//! imports (`tests/integration/layering.rs`).
//!
//! | layer | holds |
//! |---|---|
//! | [`http`] | the table of URLs, request and reply bodies, errors as problem documents |
//! | [`services`] | what the portal can do, free of HTTP; [`services::apply::run`] is the main story |
//! | [`db`], [`render`], [`agent`] | SQL; snapshot to Asterisk's files, purely; the gRPC client |
//! | [`domain`] | newtypes whose one constructor checks, and plain values |
//! | [`shared`] | what portal and agent must agree on |
//!
//! Beside the layers: [`vault`] (encryption at rest), [`clock`] (time and randomness), [`causes`]
//! (errors for the log), [`pki`] (certificates), [`https`] (the one that clients see), [`config`],
//! [`app`] (wiring, start and end).
//!
//! # To add an entity
//! One entity has one file name in every layer. For a `device`:
//! 1. `migrations/`: a new file; name every constraint. A constraint decides each race; nothing is
//!    looked up before it is inserted.
//! 2. `domain/device.rs`: its id (`typed_id!`), a newtype for every value with rules, the plain
//!    struct.
//! 3. `db/devices.rs`: a private row struct, `TryFrom<Row>`, bare functions that take a connection.
//!    Then refresh `.sqlx` as `build.rs` says.
//! 4. `services/devices.rs`: one function for each thing that can be done, on a [`services::work::Work`]
//!    where it changes something; new failures become
//!    variants of [`services::Error`], constraints by name.
//! 5. `http/devices.rs`: bodies, handlers with `#[utoipa::path]`; one line each in `http/mod.rs`;
//!    `http/error.rs` does not compile until each new failure has its status, code and advice.
//! 6. If Asterisk must know it: `domain/snapshot.rs`, `db/snapshot.rs`, a file in `render/`, a
//!    golden case.
//! 7. `tests/integration/`: its behaviour, through the router and the real database.

pub mod agent;
pub mod app;
pub mod causes;
pub mod clock;
pub mod config;
pub mod db;
pub mod domain;
pub mod http;
pub mod https;
mod listen;
pub mod pki;
pub mod render;
pub mod services;
pub mod vault;
