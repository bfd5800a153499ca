//! What images and containers of the World are like inside.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::world::{Published, World};
use crate::model::{Digest, Healthcheck};

#[derive(Debug, Default)]
pub(super) struct Inside {
    /// The HEALTHCHECKs of images that have one.
    pub(super) healthchecks: BTreeMap<Digest, Healthcheck>,
    /// Where every container is seen to listen.
    pub(super) listens_on: Vec<SocketAddr>,
    /// What a container of somebody else was made with that nothing here has a word for.
    pub(super) uncarried: Vec<String>,
}

impl Published {
    /// The image is on this host already, with this HEALTHCHECK.
    pub fn is_here_with(self, healthcheck: Option<Healthcheck>) {
        let mut inner = self.world.lock();
        inner.images.insert(self.digest.clone());
        inner.inside.healthchecks.extend(healthcheck.map(|healthcheck| (self.digest.clone(), healthcheck)));
    }
}

impl World {
    /// What somebody else makes from now on is made with this, too.
    pub fn made_with(&self, options: &[&str]) {
        self.lock().inside.uncarried = options.iter().map(|option| (*option).to_owned()).collect();
    }

    /// From now on it is seen that the containers listen there, and nowhere else.
    pub fn listens_on(&self, addresses: &[SocketAddr]) {
        self.lock().inside.listens_on = addresses.to_vec();
    }
}
