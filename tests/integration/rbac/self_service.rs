//! self_service
