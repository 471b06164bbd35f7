//! The harness of the integration tests and of the demonstration: real parts only.
//!
//! | module | holds |
//! |---|---|
//! | [`lab`] | everything below in one builder: where a test begins |
//! | [`postgres`] | a private PostgreSQL cluster, a database per test |
//! | [`asterisk`] | a real Asterisk 22 with directories and a loopback address of its own |
//! | [`pki`] | a private CA and the certificates of portal and agent |
//! | [`agent`] | the `asterisk-agent` binary |
//! | [`populated`] | tenants and users by the thousand |
//! | [`portal`] | the `api-server` binary and a client that checks each reply against its document |
//! | [`contract`] | that check: is this reply in the OpenAPI document? |
//! | [`events`] | server-sent events of a portal, as they come in |
//! | [`schema`] | the part of it that looks at bodies |
//! | [`phones`] | SIP phones (SIPp) that register, ring, answer and call |
//! | [`process`] | children that never outlive the process that started them |
//! | [`mount`] | file systems of one's own: small, read-only, or cut off from power |
//! | [`proxy`] | a way to the agent that is slow, dead or cut |
//! | [`wire`] | the link without the portal's code: any message, any bytes |
//! | [`loopback`] | addresses in 127/8 that no other test uses |
//! | [`snapshots`] | what a portal would render, without a database |
//! | [`scratch`] | directories that vanish with the process, however it ends |
//!
//! Everything fallible returns [`anyhow::Result`], with the tail of the log of whatever failed, so
//! that tests and the demonstration use the same code. Nothing here sleeps for a fixed time:
//! [`process::wait_until`] polls a condition.

pub mod agent;
pub mod asterisk;
pub mod contract;
pub mod events;
pub mod lab;
pub mod loopback;
pub mod mount;
pub mod phones;
pub mod pki;
pub mod populated;
pub mod portal;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod schema;
pub mod scratch;
pub mod snapshots;
pub mod wire;
