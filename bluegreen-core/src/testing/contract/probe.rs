use std::time::Duration;

use tokio::time::Instant;

use super::{Broken, Rules};
use crate::model::Check;
use crate::port::{Health, HealthProbe, Instance};

const RULES: Rules = Rules("HealthProbe");

/// How long an attempt is given, and how long it may take at most when it is given next to nothing.
const WITHIN: Duration = Duration::from_secs(10);
const AT_MOST: Duration = Duration::from_secs(5);

/// The rules of a [`HealthProbe`]. The first check must hold for its instance, and the second must not.
///
/// # Errors
///
/// The first rule that is not kept.
pub async fn probe(
    probe: &dyn HealthProbe,
    (passes, well): (&Check, &Instance),
    (fails, ill): (&Check, &Instance),
) -> Result<(), Broken> {
    const ANSWERED: &str = "an attempt is answered";
    for _ in 0..2 {
        let health = RULES.answered(ANSWERED, probe.probe(passes, well, WITHIN).await)?;
        RULES.hold("an instance that is well is called so", &health, |health| *health == Health::Healthy)?;
        let health = RULES.answered(ANSWERED, probe.probe(fails, ill, WITHIN).await)?;
        RULES.hold(
            "one that is not is no error, and there is a reason",
            &health,
            |health| matches!(health, Health::Unhealthy { reason } if !reason.trim().is_empty()),
        )?;
    }
    let asked = Instant::now();
    // Whatever it says in so short a time.
    drop(probe.probe(fails, ill, Duration::from_millis(1)).await);
    RULES.hold("an attempt ends in the time that it is given", &asked.elapsed(), |took| *took < AT_MOST)
}
