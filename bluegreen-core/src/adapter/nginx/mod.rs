//! nginx as the proxy, on this host or in a container.

mod control;
mod process;
mod rewrite;
mod settings;
mod syntax;

pub use settings::{HostNginx, Mode, Place, PublicUrl, Site};
