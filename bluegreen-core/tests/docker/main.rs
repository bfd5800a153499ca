//! The Docker adapter on a real Engine. Nothing is pulled: the image is a static busybox that is imported.
#![cfg(feature = "docker")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests too")]

mod bed;
#[cfg(feature = "testing")]
mod contract;
mod failure;
mod image;
mod lifecycle;
mod likeness;
mod log;
mod network;
