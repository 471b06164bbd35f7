//! Who may do what: by role, by tenant, by what a request names, and by what an answer tells.

mod guessing;
mod people;
mod places;
mod self_service;
mod shared_pbx;
mod unchanged;
mod walk;
