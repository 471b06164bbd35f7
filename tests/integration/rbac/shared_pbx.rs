//! shared_pbx
