//! nginx as the proxy, on this host or in a container.

mod settings;

pub use settings::{HostNginx, Mode, Place, PublicUrl, Site};
