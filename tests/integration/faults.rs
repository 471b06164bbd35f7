//! The fault table: a module for each of its rows, named after it (`row_05_killed`: row 5). What a
//! row promises is tested there and nowhere else, except that the stories and edge cases of the
//! specification keep tests of their own names (rows 2, 7, 8, 11, 17 and 20).
//!
//! Tests that take minutes, or that need root or a file system of their own, are `ignored`;
//! `./test --faults` runs them. What a machine cannot do is said as `SKIPPED`, never left out in
//! silence.

mod busy_pbx;
mod file_system;
mod hundred_tenants;
mod refusals;
mod row_01_enospc;
mod row_02_permissions;
mod row_03_read_only;
mod row_04_io_error;
mod row_05_killed;
mod row_06_power_cut;
mod row_07_asterisk_stopped;
mod row_08_asterisk_hung;
mod row_09_silence;
mod row_10_lying_reload;
mod row_11_half_a_reload;
mod row_12_certificates;
mod row_13_identities;
mod row_14_chunks;
mod row_15_paths;
mod row_16_symlinks;
mod row_17_two_portals;
mod row_18_stale_portal;
mod row_19_lost_reply;
mod row_20_database_gone;
mod row_21_portal_killed;
mod row_22_agent_restarted;
mod row_23_clock;
mod row_24_slow_network;
mod row_25_hand_edits;
mod row_26_state_lost;
