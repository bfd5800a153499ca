//! Scenarios on the in-memory World.
