//! The verbs. Each turns settings into one call of the core and its answer into a [`Verdict`].

mod cancel;
mod doctor;
mod history;
mod init;
mod limits;
mod local;
mod nginx;
mod overview;
mod retire;
mod run;
mod show;
#[cfg(test)]
mod tests;
mod unknown;

use std::path::Path;
use std::sync::Arc;

use bluegreen_core::model::DeploymentId;
use bluegreen_core::orchestrator::{Cause, Failure, Orchestrator};
use bluegreen_core::port::{Ports, Registry as _, RuntimeError};
use tokio_util::sync::CancellationToken;

use self::limits::RunLimits;
pub(crate) use self::limits::{Deadline, SetBy};
use crate::args::{Cli, Command, Global, TimeArgs};
use crate::env::{self, Environment};
use crate::exit::Exit;
use crate::hook::Hook;
use crate::output::{Explained, Next, Out, Verdict};
use crate::settings::{FirstRun, Target};
use crate::{explain, ports, signal};

/// What every verb is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) out: Out,
    pub(crate) global: Global,
    pub(crate) env: Environment,
    /// Whether the verb changes something: then it listens to signals.
    pub(crate) changes: bool,
}

/// Does what was asked.
pub(crate) fn execute(cli: Cli, env: Environment) -> Exit {
    let Cli { global, command } = cli;
    let out = Out::new(&global);
    let changes = command.changes();
    let cx = Context { out, global, env, changes };
    let verdict = match command {
        Command::Init(args) => init::init(&cx, &args),
        Command::Deploy(args) => run::deploy(&cx, &args),
        Command::Rollback(args) => run::rollback(&cx, &args),
        Command::History(args) => history::history(&cx, &args),
        Command::Cancel(args) => cancel::cancel(&cx, &args),
        Command::Recover(args) => run::recover(&cx, &args),
        Command::Retire(args) => retire::retire(&cx, &args),
        Command::Plan(args) => show::plan(&cx, &args),
        Command::Doctor(args) => doctor::doctor(&cx, &args),
        Command::Status(args) => show::status(&cx, &args),
        Command::Nginx(command) => nginx::nginx(&cx, &command),
        Command::Config(command) => local::config(&cx, &command),
        Command::Unknown(words) => {
            let out = unknown::out(&cx, &words);
            return unknown::unknown(&cx, &words).deliver(&out, None);
        }
        // These two are no answers of ours to anything: their output is a file for another program.
        Command::Completions { shell } => return local::completions(&cx.out, shell),
        Command::Man => return local::man(&cx.out),
    };
    verdict.deliver(&cx.out, cx.global.report.as_deref())
}

impl Context {
    /// How long a run of this application may wait and take.
    fn limits(&self, args: &TimeArgs, target: &Target) -> RunLimits {
        let event = self.env.lifecycle_event.as_deref();
        let hook = event.and_then(|event| Hook::find(event, self.env.deployment_id.as_deref()));
        RunLimits::new(args, hook, &target.app.spec)
    }

    /// Connects to the real world and runs `verb` on it, under signals and a deadline.
    fn with_orchestrator(
        &self,
        command: &'static str,
        target: &Target,
        limits: &RunLimits,
        verb: impl AsyncFnOnce(&Orchestrator) -> Result<Verdict, Failure>,
    ) -> Verdict {
        for note in &target.notes {
            self.out.warn(note);
        }
        for warning in &target.warnings {
            self.out.warn(&warning.to_string());
        }
        if let Some(left) = ports::left_behind(target, &self.env) {
            return Self::left_behind(command, target, &left);
        }
        Self::block_on(command, async {
            match ports::connect(target, &self.env) {
                Ok(ports) => self.orchestrate(command, ports, target, limits, verb).await,
                Err(error) => Self::not_connected(command, target, &error),
            }
            .about(target)
        })
    }

    /// Runs what needs a runtime. Made only now: it costs more than `--version` may take. The run itself has this thread,
    /// and its availability probe has another: while a file is synced here, the probe must not be late by our own doing.
    fn block_on(command: &'static str, work: impl Future<Output = Verdict>) -> Verdict {
        match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => {
                let verdict = runtime.block_on(work);
                // Whatever still hangs on the outside world must not hold up the end.
                runtime.shutdown_background();
                verdict
            }
            Err(error) => {
                explain::other(command, Exit::Unexpected, "the asynchronous runtime did not start", &error)
            }
        }
    }

    /// The same for a verb that has to make something healthy in that time. Whether there is enough of it is said first.
    fn with_run(
        &self,
        command: &'static str,
        target: &Target,
        limits: &RunLimits,
        verb: impl AsyncFnOnce(&Orchestrator) -> Result<Verdict, Failure>,
    ) -> Verdict {
        let Some(found) = limits.too_short(&target.app.spec) else {
            return self.with_orchestrator(command, target, limits, verb);
        };
        let message = format!("{command} of {} was refused", target.app.spec.name);
        let explained = Explained { message, causes: vec![found.to_string()], ..Explained::default() };
        Verdict::failure(command, Exit::Refused, explained, Some(found.next())).about(target)
    }

    /// The journal is one for the host by now; this user's own must not be forgotten.
    fn left_behind(command: &'static str, target: &Target, left: &Path) -> Verdict {
        let (state, app) = (target.state_dir(), &target.app.spec.name);
        let explained = Explained {
            message: format!("{command} of {app} was refused"),
            causes: vec![format!("it is on record in {}, and not in {}", left.display(), state.display())],
            ..Explained::default()
        };
        let [from, to] = [left.display().to_string(), format!("{}/", state.display())];
        let next = Next::run(["sudo", "cp", "-a", &from, &to]);
        Verdict::failure(command, Exit::Refused, explained, Some(next))
    }

    fn not_connected(command: &'static str, target: &Target, error: &RuntimeError) -> Verdict {
        let message = format!("{command} of {} was refused", target.app.spec.name);
        let mut verdict = explain::other(command, Exit::Refused, message, error);
        verdict.next = Some(explain::runtime(error));
        verdict
    }

    /// The same on a given world.
    async fn orchestrate(
        &self,
        command: &'static str,
        ports: Ports,
        target: &Target,
        limits: &RunLimits,
        verb: impl AsyncFnOnce(&Orchestrator) -> Result<Verdict, Failure>,
    ) -> Verdict {
        let cancel = CancellationToken::new();
        if self.changes
            && let Err(error) = signal::listen(&cancel, &self.out)
        {
            self.out.warn(&format!("signals cannot be listened to: {error}"));
        }
        let over = CancellationToken::new();
        if let Some(deadline) = limits.deadline.clone() {
            let (cancel, over, out) = (cancel.clone(), over.clone(), self.out.clone());
            drop(tokio::spawn(async move {
                tokio::time::sleep(deadline.within).await;
                // Who was first counts: after somebody's own wish to stop, the deadline has no part in it.
                if !cancel.is_cancelled() {
                    out.say(&deadline.to_string());
                    over.cancel();
                    cancel.cancel();
                }
            }));
        }
        let orchestrator = Orchestrator::new(ports, target.app.spec.clone())
            .observed_by(Arc::new(FirstRun::of(target, self.out.observer())))
            .cancelled_by(cancel)
            .on_host(env::host_name())
            .waiting(limits.wait.unwrap_or_default());
        match verb(&orchestrator).await {
            Ok(verdict) => verdict,
            Err(failure) => {
                let mut verdict = explain::failure(command, &failure, target);
                let deadline = limits.deadline.as_ref().filter(|_| over.is_cancelled());
                if let (Cause::Cancelled, Some(deadline)) = (&failure.cause, deadline) {
                    verdict.next = Some(explain::too_short(command, deadline, target));
                } else if let Some(next) = explain::is_here(command, &failure, target)
                    && self.has_image(target).await
                {
                    verdict.next = Some(next);
                }
                verdict
            }
        }
    }

    /// Whether the image that was asked for is on this host.
    async fn has_image(&self, target: &Target) -> bool {
        match (&target.image, ports::local(target, &self.env)) {
            (Some(image), Ok(local)) => local.resolve(image).await.is_ok(),
            _ => false,
        }
    }

    /// What a run is known by: what was given, else what CodeDeploy says, else something new.
    fn deployment_id(
        &self,
        given: Option<&DeploymentId>,
        from_hook: bool,
    ) -> Result<DeploymentId, bluegreen_core::model::ParseError> {
        if let Some(id) = given {
            return Ok(id.clone());
        }
        match &self.env.deployment_id {
            Some(id) if from_hook => DeploymentId::new(id.as_str()),
            _ => DeploymentId::new(new_id()),
        }
    }

    /// The refusal of an id that came from the environment.
    fn bad_id(command: &'static str, error: &bluegreen_core::model::ParseError) -> Verdict {
        let explained = Explained {
            message: "DEPLOYMENT_ID in the environment cannot be used".to_owned(),
            causes: vec![error.to_string()],
            ..Explained::default()
        };
        Verdict::failure(
            command,
            Exit::Usage,
            explained,
            Some(Next::todo("give another one with --deployment-id")),
        )
    }
}

/// A new id: when, and by which process.
fn new_id() -> String {
    let now = jiff::Timestamp::now();
    format!("{}-{}", now.strftime("%Y%m%dT%H%M%S%3fZ"), std::process::id())
}
