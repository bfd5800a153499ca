//! core
pub mod adapter;
pub mod event;
pub mod model;
pub mod plan;
pub mod port;
pub mod state;
