//! The `bluegreen` command.
#![allow(dead_code, reason = "wip")]
mod args;
mod config;
mod duration;
mod env;
mod exit;
mod inputs;
mod nearest;
mod output;
mod settings;
mod signal;
mod size;
