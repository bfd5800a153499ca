//! Signals ask a run to stop; the run decides how: back before its commit point, forward after it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::Out;

/// Listens from now on. The handlers stay until the process ends, so that no later signal kills a rollback.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub(crate) fn listen(cancel: &CancellationToken, out: &Out) -> std::io::Result<()> {
    // The agent's, Ctrl-C's, and a lost terminal's.
    for (kind, name) in [
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::interrupt(), "SIGINT"),
        (SignalKind::hangup(), "SIGHUP"),
    ] {
        let stream = signal(kind)?;
        drop(tokio::spawn(watch(stream, name, cancel.clone(), out.clone())));
    }
    Ok(())
}

async fn watch(mut stream: Signal, name: &'static str, cancel: CancellationToken, out: Out) {
    while stream.recv().await.is_some() {
        if cancel.is_cancelled() {
            out.say(&format!(
                "{name}: already stopping; killing this process now would leave the run unfinished"
            ));
        } else {
            out.say(&format!("{name}: stopping; a run that is not committed is rolled back"));
            cancel.cancel();
        }
    }
}
