//! The wait until a candidate is healthy. The policy, the pacing and the deadline are here; a probe makes one
//! attempt.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{CannotPass, Cause, Orchestrator};
use crate::event::Event;
use crate::model::{Check, Slot};
use crate::port::{Health, Instance, InstanceState, ProbeError};

/// How often the candidate is looked at while its checks go on: a crash is noticed within that.
const WATCH: Duration = Duration::from_millis(50);
/// The pace of attempts that fail: dense while an application may just be coming up (a refused connect costs
/// microseconds), then slower.
const DENSE_FOR: Duration = Duration::from_secs(1);
const DENSE: Duration = Duration::from_millis(5);
const SLOWEST: Duration = Duration::from_millis(250);
/// How a process ends that was killed.
const KILLED: i64 = 137;
/// An attempt that the deadline cut short is reported only if it had lasted this long.
const TELLING: Duration = Duration::from_secs(1);

/// Why a candidate was not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateFailure {
    /// The candidate's name.
    pub candidate: String,
    /// What it was doing at the end.
    pub state: InstanceState,
    /// Whether it died or restarted; otherwise its time was over.
    pub died: bool,
    /// How long it had been given.
    pub deadline: Duration,
    /// For each check what came last, and whether it had passed.
    pub checks: Vec<(Check, Result<(), String>)>,
    /// The answer that ended a healthy time before it was long enough.
    pub relapse: Option<String>,
    /// Where it listens inside its container, when that is known and all of it is where nobody outside reaches it.
    pub unreachable: Vec<SocketAddr>,
}

/// The addresses, when there are some and none of them is reached from outside the container.
fn unreachable(listens_on: Vec<SocketAddr>) -> Vec<SocketAddr> {
    // The Engine's own name server listens there in each container of a network of the user's.
    const ENGINES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
    let own: Vec<_> = listens_on.into_iter().filter(|at| at.ip() != ENGINES).collect();
    if own.iter().all(|at| at.ip().is_loopback()) { own } else { Vec::new() }
}

impl fmt::Display for GateFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { candidate, state, died, deadline, checks, relapse, unreachable } = self;
        if *died {
            write!(f, "the candidate {candidate} is {}", described(state))?;
        } else {
            write!(f, "the candidate {candidate} was not healthy within {} s", deadline.as_secs_f64())?;
        }
        for (check, last) in checks {
            if let Err(reason) = last {
                write!(f, "; {check}: {reason}")?;
            }
        }
        if let Some(relapse) = relapse {
            write!(f, "; it did not stay healthy: {relapse}")?;
        }
        if !unreachable.is_empty() {
            let all: Vec<_> = unreachable.iter().map(ToString::to_string).collect();
            write!(
                f,
                "; it listens on {} inside its container, where nobody outside reaches it",
                all.join(", ")
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for GateFailure {}

/// What stands for a check before its first answer.
const NO_ANSWER: &str = "not answered yet";

/// What each check said last.
struct Board {
    answers: Mutex<Vec<Result<(), String>>>,
    relapse: Mutex<Option<String>>,
}

impl Board {
    fn new(checks: usize) -> Self {
        let answers = vec![Err(NO_ANSWER.to_owned()); checks];
        Self { answers: Mutex::new(answers), relapse: Mutex::default() }
    }

    /// Notes an answer; whether it is another one than before.
    fn note(&self, index: usize, answer: Result<(), String>) -> bool {
        let mut board = self.answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = board[index] != answer;
        board[index] = answer;
        changed
    }

    /// Notes an attempt that the gate's end cut short. It says less than the answer before it, and hides none.
    fn note_cut_short(&self, index: usize, lasted: Duration, reason: String) {
        let mut board = self.answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut board[index] {
            Err(before) if before == NO_ANSWER => *before = reason,
            Err(before) if lasted >= TELLING => *before = format!("{before}; then {reason}"),
            _ => {}
        }
    }

    fn relapsed(&self, reason: String) {
        *self.relapse.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(reason);
    }

    fn relapse(&self) -> Option<String> {
        self.relapse.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn read(&self) -> Vec<Result<(), String>> {
        self.answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// A state for a person. Whether a kill was for lack of memory a runtime does not always learn.
fn described(state: &InstanceState) -> String {
    let killed = matches!(
        state,
        InstanceState::Exited { exit_code: KILLED, oom_killed: false, .. }
            | InstanceState::Restarting { exit_code: KILLED, oom_killed: false }
    );
    if killed { format!("{state} (killed, possibly for lack of memory)") } else { state.to_string() }
}

/// What to say of an instance that runs again.
pub(super) fn restarted(now: &Instance) -> InstanceState {
    let times = match now.restarts {
        1 => "once".to_owned(),
        restarts => format!("{restarts} times"),
    };
    let why = now.last_exit.as_ref().map(|exit| format!(" ({})", described(exit))).unwrap_or_default();
    InstanceState::Other(format!("restarted {times} by the runtime{why}"))
}

impl Orchestrator {
    /// Waits until the candidate is healthy.
    ///
    /// # Errors
    ///
    /// When it dies or restarts, when its time is over, or when somebody asks to stop.
    pub(super) async fn gate(&self, slot: &Slot, candidate: &Instance) -> Result<(), Cause> {
        let policy = &self.spec.gate;
        let board = Board::new(policy.checks.len());
        let began = Instant::now();
        let deadline = policy
            .time_for(candidate.healthcheck.as_ref())
            .map_err(|error| Cause::CannotPass(CannotPass::TooLate(error)))?;
        let until = began + deadline;
        let failure = |state: InstanceState, died, unreachable| {
            let checks = policy.checks.iter().cloned().zip(board.read()).collect();
            let candidate = slot.name.to_string();
            Cause::from(Box::new(GateFailure {
                candidate,
                state,
                died,
                deadline,
                checks,
                relapse: board.relapse(),
                unreachable,
            }))
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Cause::Cancelled),
            state = self.until_lost(slot, candidate) => Err(failure(state, true, Vec::new())),
            outcome = self.until_healthy(candidate, until, &board) => {
                outcome?;
                // A candidate that answered and died in the same moment is not healthy.
                match self.lost(slot, candidate).await? {
                    Some(state) => Err(failure(state, true, Vec::new())),
                    None => Ok(()),
                }
            }
            () = sleep_until(until) => {
                // On the host's network it is not the container's own, and loopback is where nginx comes from.
                let own_network = !candidate.ip.is_some_and(|ip| ip.is_loopback());
                let listens_on = if own_network { self.listens_on(candidate).await } else { Vec::new() };
                Err(failure(InstanceState::Running, false, unreachable(listens_on)))
            }
        }
    }

    /// All checks, again and again, until they have all held for long enough.
    async fn until_healthy(&self, candidate: &Instance, until: Instant, board: &Board) -> Result<(), Cause> {
        let policy = &self.spec.gate;
        loop {
            let passes = policy.checks.iter().enumerate().map(|(index, check)| async move {
                let wanted = if matches!(check, Check::Log(_)) { 1 } else { policy.successes.max(1) };
                self.until_passed(index, check, wanted, candidate, until, board).await
            });
            futures_util::future::try_join_all(passes).await?;
            if self.stays_healthy(candidate, board).await? {
                return Ok(());
            }
        }
    }

    /// One check, until it has passed `wanted` times in a row.
    async fn until_passed(
        &self,
        index: usize,
        check: &Check,
        wanted: u32,
        candidate: &Instance,
        until: Instant,
        board: &Board,
    ) -> Result<(), Cause> {
        let began = Instant::now();
        let mut pause = DENSE;
        let mut in_a_row = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let within =
                if matches!(check, Check::Log(_)) { left } else { self.spec.gate.attempt_timeout.min(left) };
            let asked = Instant::now();
            match self.ask(check, candidate, within).await? {
                Ok(()) => in_a_row += 1,
                Err(reason) if Instant::now() >= until => {
                    in_a_row = 0;
                    board.note_cut_short(index, asked.elapsed(), reason);
                }
                Err(reason) => {
                    in_a_row = 0;
                    if board.note(index, Err(reason.clone())) {
                        self.tell(&Event::NotHealthyYet { check: check.to_string(), reason });
                    }
                }
            }
            if in_a_row >= wanted {
                board.note(index, Ok(()));
                return Ok(());
            }
            if began.elapsed() > DENSE_FOR {
                pause = (pause * 3 / 2).min(SLOWEST);
            }
            sleep(self.spec.gate.interval.unwrap_or(pause)).await;
        }
    }

    /// Whether the candidate stays healthy for the minimal time. Log lines are not asked again.
    async fn stays_healthy(&self, candidate: &Instance, board: &Board) -> Result<bool, Cause> {
        let policy = &self.spec.gate;
        let until = Instant::now() + policy.min_healthy;
        while Instant::now() < until {
            for check in &policy.checks {
                if matches!(check, Check::Log(_)) {
                    continue;
                }
                if let Err(reason) = self.ask(check, candidate, policy.attempt_timeout).await? {
                    board.relapsed(format!("{check}: {reason}"));
                    self.tell(&Event::NotHealthyYet { check: check.to_string(), reason });
                    return Ok(false);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            sleep(policy.interval.unwrap_or(SLOWEST).min(left)).await;
        }
        Ok(true)
    }

    /// One attempt. The outer error ends the gate; the inner one is the candidate's answer.
    async fn ask(
        &self,
        check: &Check,
        candidate: &Instance,
        within: Duration,
    ) -> Result<Result<(), String>, Cause> {
        match self.probe(check, candidate, within).await {
            Ok(Health::Healthy) => Ok(Ok(())),
            Ok(Health::Unhealthy { reason }) => Ok(Err(reason)),
            Err(cause @ Cause::Probe(ProbeError::Impossible { .. })) => Err(cause),
            Err(cause) => Ok(Err(super::failure::chain(&cause))),
        }
    }

    /// Comes back when the candidate is no longer what was started: with what it is instead.
    pub(super) async fn until_lost(&self, slot: &Slot, candidate: &Instance) -> InstanceState {
        loop {
            sleep(WATCH).await;
            // A runtime that cannot be asked for a moment is no reason to give up: the gate's deadline holds.
            if let Ok(Some(state)) = self.lost(slot, candidate).await {
                return state;
            }
        }
    }

    /// What the candidate is instead of running since its start; `None` while it runs.
    pub(super) async fn lost(
        &self,
        slot: &Slot,
        candidate: &Instance,
    ) -> Result<Option<InstanceState>, Cause> {
        Ok(match self.find(slot).await? {
            None => Some(InstanceState::Other("removed".to_owned())),
            Some(now) if now.id != candidate.id => {
                Some(InstanceState::Other("replaced by another".to_owned()))
            }
            Some(now) if !now.is_running() => Some(now.state),
            Some(now) if now.restarts > candidate.restarts => Some(restarted(&now)),
            Some(_) => None,
        })
    }
}
