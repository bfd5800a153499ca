//! Looks at this host. Nothing is touched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bluegreen_core::adapter::docker::{Docker, SeenContainer, SeenNetwork};
use bluegreen_core::adapter::nginx::SeenNginx;
use procfs::net::TcpState;

use super::draft::Left;
use super::source::{self, Described};
use crate::explain;

/// What was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) containers: Vec<SeenContainer>,
    pub(super) networks: Vec<SeenNetwork>,
    pub(super) proxies: Vec<FoundProxy>,
    /// The ports of this host that somebody has.
    pub(super) taken: BTreeSet<u16>,
    pub(super) described: Vec<Described>,
    /// What could not be looked at.
    pub(super) left: Vec<Left>,
}

/// An nginx, and the container that it runs in.
#[derive(Debug, Clone)]
pub(super) struct FoundProxy {
    pub(super) container: Option<SeenContainer>,
    pub(super) seen: SeenNginx,
}

/// All of it. `named`: files of other tools to read in place of those that lie in `dir`.
pub(super) async fn all(docker: Option<&str>, dir: &Path, named: &[PathBuf]) -> Facts {
    let (sources, left) = source::find(dir, named);
    let mut facts = Facts { left, taken: listening(), ..Facts::default() };
    facts.described = sources.iter().map(source::Source::describe).collect();
    let engine = async {
        let docker = Docker::connect(docker)?;
        Ok::<_, bluegreen_core::port::RuntimeError>((
            docker.seen_containers().await?,
            docker.seen_networks().await?,
        ))
    };
    match engine.await {
        Ok((containers, networks)) => (facts.containers, facts.networks) = (containers, networks),
        Err(error) => facts.left.push(Left::new(
            "Docker",
            "its containers",
            explain::chain(&error).join(": "),
            "run init again once it answers: what runs here is not in the file",
        )),
    }
    let published = facts.containers.iter().flat_map(|container| &container.ports);
    facts.taken.extend(published.map(|(_, _, port)| *port));
    let inside = facts.containers.iter().filter_map(|container| {
        Some(FoundProxy { container: Some(container.clone()), seen: SeenNginx::below(container.pid?)? })
    });
    let inside: Vec<FoundProxy> = inside.collect();
    let known = |seen: &SeenNginx| inside.iter().any(|proxy| proxy.seen.master == seen.master);
    let here = SeenNginx::on_this_host().into_iter().filter(|seen| !known(seen));
    facts.proxies = here.map(|seen| FoundProxy { container: None, seen }).collect();
    facts.proxies.extend(inside);
    facts
}

/// The ports on which anybody listens.
fn listening() -> BTreeSet<u16> {
    let four = procfs::net::tcp().into_iter().flatten();
    let six = procfs::net::tcp6().into_iter().flatten();
    let listens = four.chain(six).filter(|entry| entry.state == TcpState::Listen);
    listens.map(|entry| entry.local_address.port()).collect()
}
