//! Migrations are compiled in: a new file must rebuild the crate.
//!
//! Queries are checked against `.sqlx` beside this file, so that a build needs no database and a
//! `DATABASE_URL` that is meant for the portal is not used by the compiler. To refresh that folder
//! after a query or a migration changed, against a database that holds the current schema:
//!
//! ```sh
//! rm -f api-server/.sqlx/query-*.json; touch api-server/src/lib.rs
//! SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$PWD/api-server/.sqlx DATABASE_URL=... cargo check -p api-server
//! ```

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
    println!("cargo:rerun-if-env-changed=SQLX_OFFLINE");
    if std::env::var_os("SQLX_OFFLINE").is_none() {
        println!("cargo:rustc-env=SQLX_OFFLINE=true");
    }
}
