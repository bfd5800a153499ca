//! core
pub mod adapter;
pub mod model;
pub mod port;
pub mod state;
