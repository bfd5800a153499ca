//! What can be known of a container before it is made.

use super::{Docker, observe};
use crate::model::{PinnedImage, RunOptions};
use crate::port::{Foreseen, RuntimeError};

impl Docker {
    pub(super) async fn foreseen(
        &self,
        image: &PinnedImage,
        options: &RunOptions,
    ) -> Result<Option<Foreseen>, RuntimeError> {
        let Some(found) = self.inspect_image(&image.run_reference()).await? else { return Ok(None) };
        let config = found.config.and_then(|config| config.healthcheck);
        let healthcheck = config.as_ref().and_then(observe::healthcheck);
        let default = if options.log_driver.is_none() {
            let info = self.engine().await?.info().await;
            info.map_err(|error| self.other("asking for its logging driver", error))?.logging_driver
        } else {
            None
        };
        let unreadable = options.unreadable_log(default.as_deref()).map(str::to_owned);
        Ok(Some(Foreseen::new(healthcheck, unreadable)))
    }
}
