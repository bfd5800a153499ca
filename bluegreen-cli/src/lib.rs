//! The `bluegreen` command.
#![allow(dead_code, reason = "wip")]
mod args;
mod config;
mod duration;
mod exit;
mod inputs;
mod nearest;
mod size;
