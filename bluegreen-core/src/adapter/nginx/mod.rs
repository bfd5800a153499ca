//! nginx as the proxy, on this host or in a container.

mod rewrite;
mod settings;
mod syntax;

pub use settings::{HostNginx, Mode, Place, PublicUrl, Site};
