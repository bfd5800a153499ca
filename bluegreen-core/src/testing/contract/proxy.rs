use std::time::Duration;

use tokio::time::sleep;

use super::{Broken, Rules};
use crate::model::{AppName, Color, Slots};
use crate::port::{Asking, Connection, InFlight, Proxy, ProxyError};

const RULES: Rules = Rules("Proxy");

/// How often a proof and a look for what is in flight are tried again, and the pause in between: what is live changes
/// a moment after a switch with some proxies, and the orchestrator waits for it too.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// The rules of a [`Proxy`]. Both colours must answer at their endpoints, and nobody else may change what is served.
/// At the end green is.
///
/// # Errors
///
/// The first rule that is not kept.
pub async fn proxy(proxy: &dyn Proxy, app: &AppName, slots: &Slots) -> Result<(), Broken> {
    let kit = Kit { proxy, app, slots };
    RULES.answered("a sound proxy passes the check", proxy.check(app).await)?;
    for color in [Color::Green, Color::Blue, Color::Green] {
        kit.turns(color).await?;
    }
    kit.client().await
}

struct Kit<'a> {
    proxy: &'a dyn Proxy,
    app: &'a AppName,
    slots: &'a Slots,
}

impl Kit<'_> {
    async fn active(&self) -> Result<Option<Color>, Broken> {
        let active = RULES.answered("it can be asked what is served", self.proxy.active(self.app).await)?;
        Ok(active.color)
    }

    async fn turns(&self, to: Color) -> Result<(), Broken> {
        let (proxy, app) = (self.proxy, self.app);
        let [new, old] = [to, to.other()].map(|color| self.slots.of(color).backend());
        let before = self.active().await?;
        RULES.answered("a switch can be shown before it is made", proxy.preview(app, &new).await)?;
        RULES.hold("showing a switch changes nothing", &self.active().await?, |active| *active == before)?;
        for rule in ["after a switch that is what is served", "switching to what is served is no error"] {
            RULES.answered(rule, proxy.switch(app, Some(new.clone())).await)?;
            RULES.hold(rule, &self.active().await?, |active| *active == Some(to))?;
        }
        let mut proven = proxy.verify(app, &new).await;
        for _ in 1..TRIES {
            if proven.is_ok() {
                break;
            }
            sleep(PAUSE).await;
            proven = proxy.verify(app, &new).await;
        }
        RULES.answered("a switch can be proven", proven)?;
        RULES.hold("what is not served cannot be proven", &proxy.verify(app, &old).await, |proof| {
            matches!(proof, Err(ProxyError::NotProven { .. }))
        })?;
        let mut open =
            RULES.answered("it can be asked what is in flight", proxy.in_flight(app, &old).await)?;
        for _ in 1..TRIES {
            if open.is_none() {
                break;
            }
            sleep(PAUSE).await;
            open = RULES.answered("it can be asked what is in flight", proxy.in_flight(app, &old).await)?;
        }
        RULES.hold("without requests nothing is in flight", &open, InFlight::is_none)
    }

    async fn client(&self) -> Result<(), Broken> {
        let client = match self.proxy.client(self.app, &Asking::within(Duration::from_secs(5))).await {
            Err(ProxyError::NoWayIn { .. }) => return Ok(()),
            client => RULES.answered("a client can be had, or it is said that there is no way in", client)?,
        };
        for over in [Connection::Fresh, Connection::Kept, Connection::Kept] {
            let answer = client.ask(over).await;
            RULES.hold("a client's request is answered", &answer, |answer| {
                answer.as_ref().is_ok_and(|status| *status < 500)
            })?;
        }
        Ok(())
    }
}
