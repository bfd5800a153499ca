//! nginx as the proxy, on this host or in a container.

mod control;
mod dump;
mod process;
mod render;
mod rewrite;
mod settings;
mod syntax;

pub use settings::{HostNginx, Mode, Place, PublicUrl, Site};
