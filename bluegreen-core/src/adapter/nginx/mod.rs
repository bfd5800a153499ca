//! nginx as the proxy, on this host or in a container.
//!
//! Two ways to switch, see [`Mode`]:
//!
//! - **Live**: generated files with one upstream, and a flag that nginx looks at for each request. A switch is the flag:
//!   no reload, so no connection is cut. [`Nginx::install`] puts an `include` in the place of each `proxy_pass` that
//!   leads to the application; what clients and the application see stays the same.
//! - **Rewrite**: the colour's host name in the user's own file is replaced and nginx reloaded, for installations
//!   that stay as they are. A reload closes idle client connections, on which requests may be under way.
//!
//! # Guarantees
//!
//! - What is said to be served is what nginx serves, never what lies on disk: live mode asks nginx, rewrite mode
//!   compares its workers' start with the file's last change.
//! - A change that nginx's own test refuses, or that does not become live, is put back byte for byte.
//! - nginx is never restarted, and nothing is escaped: what cannot stand in its configuration is refused.
//!
//! # Assumptions
//!
//! - Linux with `/proc`, in the same process namespace as nginx or an outer one.
//! - The directory of the files is the host's: a container has it mounted as a directory.
//!
//! # Limits
//!
//! Rewrite mode cannot express "nothing": switching to none leaves the file as it is.

mod check;
mod client;
mod command;
mod control;
mod copy;
mod diag;
mod disk;
mod dump;
mod edit;
mod examine;
mod file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod install;
mod limit;
mod live;
mod missing;
mod pattern;
mod pick;
mod process;
mod public;
mod reload;
mod render;
mod rewrite;
mod settings;
mod spell;
mod survey;
mod syntax;
mod taken;
mod takeover;
mod userline;
mod ways;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::model::{AppName, Backend};
use crate::port::{
    Asking, Client, ContainerRuntime, FileChange, InFlight, Proof, Proxy, ProxyError, Serving,
};

pub use examine::{Examination, Finding, Fix, Severity};
pub use install::Installation;
pub use settings::{ChosenLine, HostNginx, Mode, NginxInstance, Protocol, PublicUrl, Site};
pub use survey::{SeenNginx, SeenPass};
pub use userline::{LineChange, UserLine};

use live::Live;
use process::Worker;
use reload::Rewrite;

/// nginx, for a set of applications.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use bluegreen_core::adapter::nginx::{Mode, Nginx, NginxInstance, Site};
/// use bluegreen_core::model::{AppName, Slots};
/// use bluegreen_core::port::ContainerRuntime;
///
/// fn proxy(runtime: Arc<dyn ContainerRuntime>, app: AppName, slots: Slots) -> Nginx {
///     let site = Site::new(NginxInstance::host(), Mode::live("/etc/nginx/conf.d"), slots);
///     Nginx::new(runtime, BTreeMap::from([(app, site)]))
/// }
/// ```
#[derive(Debug)]
pub struct Nginx {
    runtime: Arc<dyn ContainerRuntime>,
    sites: BTreeMap<AppName, Site>,
    memory: Memory,
}

/// What was seen and is needed again.
#[derive(Debug, Default)]
struct Memory {
    /// Rewrite mode: the workers before the last switch, which drain.
    earlier: Mutex<BTreeMap<AppName, Vec<Worker>>>,
    /// Where each application can be asked from outside, as nginx's configuration says.
    public: Mutex<BTreeMap<AppName, Public>>,
}

/// Where an application can be asked from outside, if anywhere.
#[derive(Debug, Clone)]
struct Public(Option<PublicUrl>);

impl Memory {
    fn earlier(&self, app: &AppName) -> Vec<Worker> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner).get(app).cloned().unwrap_or_default()
    }

    fn set_earlier(&self, app: &AppName, workers: Vec<Worker>) {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), workers);
    }

    fn public(&self, app: &AppName) -> Option<Public> {
        self.public.lock().unwrap_or_else(PoisonError::into_inner).get(app).cloned()
    }

    fn set_public(&self, app: &AppName, url: Option<PublicUrl>) {
        self.public.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), Public(url));
    }
}

/// An application in the mode that its site has.
enum Switch<'a> {
    Live(Live<'a>),
    Rewrite(Rewrite<'a>),
}

impl Nginx {
    /// nginx for these applications. `runtime` finds nginx's container and the applications', where there are any.
    pub fn new(runtime: Arc<dyn ContainerRuntime>, sites: BTreeMap<AppName, Site>) -> Self {
        Self { runtime, sites, memory: Memory::default() }
    }

    fn site(&self, app: &AppName) -> Result<&Site, ProxyError> {
        self.sites.get(app).ok_or_else(|| {
            control::other("look up the application's nginx")(format!("{app} has none configured"))
        })
    }

    async fn open<'a>(&'a self, app: &'a AppName) -> Result<Switch<'a>, ProxyError> {
        let site = self.site(app)?;
        match &site.mode {
            Mode::Live { dir, control_port } => {
                Live::open(&self.runtime, app, site, dir, *control_port).await.map(Switch::Live)
            }
            Mode::Rewrite { file } => {
                Rewrite::open(&self.runtime, app, site, file, &self.memory).await.map(Switch::Rewrite)
            }
        }
    }

    /// Where a live application can be asked from outside.
    async fn public(&self, app: &AppName, live: &Live<'_>) -> Result<Option<PublicUrl>, ProxyError> {
        if let Some(url) = &live.site.public {
            return Ok(Some(url.clone()));
        }
        if let Some(Public(known)) = self.memory.public(app) {
            return Ok(known);
        }
        let found = live.discover().await?;
        self.memory.set_public(app, found.clone());
        Ok(found)
    }

    async fn open_live<'a>(&'a self, app: &'a AppName) -> Result<Live<'a>, ProxyError> {
        match self.open(app).await? {
            Switch::Live(live) => Ok(live),
            Switch::Rewrite(_) => {
                Err(control::other("install the live switch")(format!("{app} is set to switch by rewrite")))
            }
        }
    }

    /// Writes the files of live mode, and includes of them in place of the lines of the user's that go to this
    /// application: those that lead to a colour's place, and those of [`Site::lines`]. Has nginx test a private copy,
    /// then load it all in one reload, and sees that it did. Gives what was changed: nothing when all was in place, and
    /// then nothing is reloaded either.
    ///
    /// Until the first switch requests go where they went before, as they do whenever nothing of ours is to serve.
    ///
    /// # Errors
    ///
    /// As for [`Proxy::switch`]; whatever failed is put back byte for byte.
    pub async fn install(&self, app: &AppName) -> Result<Vec<FileChange>, ProxyError> {
        self.open_live(app).await?.install().await
    }

    /// Takes the application's files of live mode out again, and the shared ones with the last application. The
    /// user's lines become what they were, naming the colour that serves, if one does. Gives what was changed. It takes
    /// a reload, which closes idle client connections.
    ///
    /// # Errors
    ///
    /// As for [`Proxy::switch`]; whatever failed is put back byte for byte.
    pub async fn remove(&self, app: &AppName) -> Result<Vec<FileChange>, ProxyError> {
        self.open_live(app).await?.remove().await
    }

    /// What [`Nginx::remove`] would change. Read-only.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`].
    pub async fn preview_removal(&self, app: &AppName) -> Result<Vec<FileChange>, ProxyError> {
        self.open_live(app).await?.preview_removal().await
    }

    /// Whether this nginx can switch the application, why not, and what to change. Read-only.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`]: when nginx does not run, its configuration is broken, or it could not be looked at.
    pub async fn examine(&self, app: &AppName) -> Result<Examination, ProxyError> {
        match self.open(app).await {
            Ok(Switch::Live(live)) => live.examine().await,
            Ok(Switch::Rewrite(rewrite)) => rewrite.examine().await,
            Err(error) => Examination::refused(error),
        }
    }

    /// What a switch of this application would lose, and what to do about it; `None` when nothing. Cheaper than
    /// [`Nginx::examine`].
    ///
    /// # Errors
    ///
    /// See [`ProxyError`].
    pub async fn expected_loss(&self, app: &AppName) -> Result<Option<Finding>, ProxyError> {
        match self.open(app).await? {
            Switch::Live(_) => Ok(None),
            Switch::Rewrite(rewrite) => rewrite.loss().await,
        }
    }

    /// How live mode is installed. Read-only.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`].
    pub async fn installation(&self, app: &AppName) -> Result<Installation, ProxyError> {
        self.open_live(app).await?.installation().await
    }
}

#[async_trait]
impl Proxy for Nginx {
    async fn active(&self, app: &AppName) -> Result<Serving, ProxyError> {
        match self.open(app).await? {
            Switch::Live(live) => live.active().await,
            Switch::Rewrite(rewrite) => rewrite.active().await,
        }
    }

    async fn check(&self, app: &AppName) -> Result<(), ProxyError> {
        match self.open(app).await? {
            Switch::Live(live) => live.check().await.map(|url| self.memory.set_public(app, url)),
            Switch::Rewrite(rewrite) => rewrite.check().await,
        }
    }

    async fn preview(&self, app: &AppName, to: &Backend) -> Result<Vec<FileChange>, ProxyError> {
        match self.open(app).await? {
            Switch::Live(live) => live.preview(to),
            Switch::Rewrite(rewrite) => rewrite.preview(to),
        }
    }

    async fn switch(&self, app: &AppName, to: Option<Backend>) -> Result<(), ProxyError> {
        match (self.open(app).await?, to) {
            (Switch::Live(live), to) => live.switch(to.as_ref()).await,
            (Switch::Rewrite(rewrite), Some(to)) => rewrite.switch(to.color).await,
            // The user's file always names a colour.
            (Switch::Rewrite(_), None) => Ok(()),
        }
    }

    async fn verify(&self, app: &AppName, to: &Backend) -> Result<Proof, ProxyError> {
        match self.open(app).await? {
            Switch::Live(live) => {
                let public = self.public(app, &live).await?;
                live.verify(to, public).await
            }
            Switch::Rewrite(rewrite) => rewrite.verify(to).await,
        }
    }

    async fn in_flight(&self, app: &AppName, from: &Backend) -> Result<InFlight, ProxyError> {
        match self.open(app).await? {
            Switch::Live(live) => live.in_flight(from).await,
            Switch::Rewrite(rewrite) => rewrite.in_flight(from).await,
        }
    }

    async fn client(&self, app: &AppName, asking: &Asking) -> Result<Arc<dyn Client>, ProxyError> {
        // A limit that cannot be read is noticed by those that it turns away.
        let (url, remedy, limit) = match self.open(app).await? {
            // Nothing is reloaded: what is lost all the same is no matter of nginx.
            Switch::Live(live) => (self.public(app, &live).await?, None, live.per_minute().await),
            Switch::Rewrite(rewrite) => {
                let loss = rewrite.loss().await?.map(|loss| format!("{}; {}", loss.found, loss.change));
                (rewrite.public().await, loss, rewrite.per_minute().await)
            }
        };
        Ok(Arc::new(client::Visitor::new(url, asking, remedy, limit.ok().flatten())?))
    }
}

/// A unified diff.
fn unified(path: &str, old: &str, new: &str) -> String {
    similar::TextDiff::from_lines(old, new).unified_diff().header(path, path).to_string()
}
