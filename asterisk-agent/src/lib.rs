//! The agent on the PBX host: it takes complete bundles of Asterisk configuration from the portal,
//! switches the live files, reloads Asterisk, and reads back what Asterisk then really holds.
//!
//! The whole story of one apply is `apply::run`; everything it calls is a leaf:
//!
//! | module | does |
//! |---|---|
//! | [`config`] | reads the environment |
//! | `serve`, `listener`, `door`, `grpc` | accept mutually authenticated connections, measure their peers again for every RPC, and answer it; only `grpc` names `Status` |
//! | `agent` | the face of the engine: admission, attaching to a running apply, status |
//! | `engine` | owns the state on its one thread: no file of an apply is touched from another |
//! | `apply`, `finish` | stage → validate → prepare → switch, then reload → verify → contacts → (restore) |
//! | `status`, `loaded` | what is in force, what Asterisk has loaded, and what an administrator should look at |
//! | `watch`, `events` | look at the live files every so often; tell what happened apart from applies |
//! | `stage`, `generations`, `records` | receive a bundle, keep it durably; keep the records |
//! | `validate`, `foreign` | refuse what Asterisk would answer with silence |
//! | `live`, `switch`, `drift` | the managed files: read, prepare, rename, restore; what others wrote there |
//! | `reload`, `verify`, `contacts` | what is asked of Asterisk |
//! | [`asterisk`] | the closed list of commands and the two ways in which they travel |
//! | `answers` | reads what Asterisk answers |
//! | `inspect` | what the engine is asked beside applies: check a bundle, verify what is live |
//! | `preflight` | lets a throw-away Asterisk read a bundle first |
//! | `journal`, `recover`, `safe_mode` | what makes a kill at any instant harmless; what to do when even that is damaged |
//! | `durable` | the only place that creates, renames and syncs files |
//! | [`clock`] | the time |

mod agent;
mod answers;
mod apply;
pub mod asterisk;
pub mod config;
mod contacts;
mod door;
mod drift;
mod durable;
mod engine;
mod events;
mod finish;
mod foreign;
mod generations;
mod grpc;
mod inspect;
mod journal;
mod listener;
mod live;
mod loaded;
mod preflight;
mod records;
mod recover;
mod reload;
mod safe_mode;
mod serve;
mod stage;
mod status;
mod steps;
mod switch;
mod validate;
mod verify;
mod watch;

pub use shared::clock;

pub use agent::StartError;
pub use serve::{ServeError, serve};
