//! The integration tests, one binary: every test brings its own database, certificates, agent and
//! Asterisk.

mod audit;
mod capacity;
mod crowd;
mod edge_cases;
mod golden;
mod harness;
mod held;
mod hostile_names;
mod http;
mod layering;
mod matrix;
mod mtls;
mod offline_queries;
mod pbx;
mod phones;
mod probe;
mod reloads;
mod restored_backup;
mod serial;
mod stand_in;
mod story_1_create_user;
mod story_2_apply;
mod story_3_list_users;
mod story_4_delete_user;
mod surroundings;
