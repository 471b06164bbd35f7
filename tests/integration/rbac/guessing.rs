//! Guessing.
