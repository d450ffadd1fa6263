//! The supervisor's loop: spawn, readiness, watch, decide, back off, stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::event::{Outcome, RunError, StampedEvent, Status, SupervisorEvent, SupervisorState};
use super::notifications::Notifications;
use super::orphans::Adopter;
use super::probing::{Failed, Probing};
use super::readiness::Readiness;
use super::request::{Command, Link, Request};
use super::run::{Run, RunOver};
use super::settings::SupervisorBuilder;
use crate::clock::Sleep;
use crate::status::ExitStatus;
use crate::supervisor::policy::{Decision, EndCause, RunEnd};
use crate::supervisor::process::WatchResult;
use agent_stub::Signal;

/// What the supervisor does next.
enum Next {
    /// Start a run. These requests are answered after the start attempt.
    Start(Vec<Command>),
    /// Do what the tracker decides about this end.
    Decide(RunEnd),
    /// Start a run after the delay for this attempt.
    BackOff(u32),
    /// Start a run when it is the child's turn in the group.
    Wait(Option<Command>),
    /// Do nothing until a request comes.
    Rest(Outcome, Option<Command>),
    /// End, because the handle was dropped.
    End,
}

pub(super) struct Life {
    parts: SupervisorBuilder,
    requests: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<StampedEvent>,
    status: watch::Sender<Status>,
    link: Option<Link>,
    run: u64,
    /// Requests that `start_anew` took from the channel and left for later. They come before those
    /// in the channel.
    waiting: VecDeque<Command>,
}

impl Life {
    pub(super) fn new(
        parts: SupervisorBuilder,
        requests: mpsc::UnboundedReceiver<Command>,
        events: mpsc::UnboundedSender<StampedEvent>,
        status: watch::Sender<Status>,
        link: Option<Link>,
    ) -> Life {
        Life {
            parts,
            requests,
            events,
            status,
            link,
            run: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(super) async fn live(mut self) {
        let mut next = self.start_in_turn();
        loop {
            next = match next {
                Next::Start(asked) => self.run(asked).await,
                Next::Decide(end) => self.decide(&end),
                Next::BackOff(attempt) => self.back_off(attempt).await,
                Next::Wait(asked) => self.wait(asked).await,
                Next::Rest(outcome, asked) => self.rest(outcome, asked).await,
                Next::End => return,
            };
        }
    }

    /// Sends the event to the listener. If nobody listens any more, the supervisor goes on all the
    /// same.
    fn tell(&self, event: SupervisorEvent) {
        tracing::debug!(target: "supervise_harness", agent = self.parts.agent_id, %event, "supervisor");
        let _ = self.events.send(StampedEvent {
            at: self.parts.clock.now(),
            instant: Instant::now(),
            event,
        });
    }

    fn set(&self, state: SupervisorState, pid: Option<u32>) {
        if let Some(link) = &self.link {
            link.tell(Some(state.clone()));
        }
        self.status.send_replace(Status {
            state,
            runs: self.run,
            pid,
        });
    }

    /// Carries out one whole run.
    async fn run(&mut self, asked: Vec<Command>) -> Next {
        self.run = self.run.saturating_add(1);
        self.set(SupervisorState::Starting, None);
        let run = self.run;
        let adopter = self.parts.orphans.as_deref();
        let spawned = Adopter::start(adopter, || self.parts.spawner.spawn(&self.parts.agent_id));
        if let Ok(handle) = &spawned {
            self.set(SupervisorState::Starting, Some(handle.pid()));
            if let Some(lock) = &self.parts.lock {
                lock.note(handle.pid());
            }
            self.tell(SupervisorEvent::Started {
                run,
                pid: handle.pid(),
            });
        }
        for command in asked {
            command.done(None);
        }
        let mut handle = match spawned {
            Ok(handle) => handle,
            Err(error) => {
                self.tell(SupervisorEvent::StartFailed {
                    run,
                    error: Arc::new(error),
                });
                return Next::Decide(RunEnd::new(EndCause::StartFailed));
            }
        };
        let reads = self.parts.readiness == Readiness::Notified || self.parts.watchdog.is_some();
        let socket = if reads { handle.take_socket() } else { None };
        let notifications = socket.and_then(|socket| Notifications::new(socket).ok());
        let mut run = Run {
            handle,
            notifications,
            up: None,
        };
        match self.watch(&mut run).await {
            RunOver::Ended(result) => self.ended(&run, result).await,
            RunOver::TimedOut => {
                self.tell(SupervisorEvent::StartTimedOut { run: self.run });
                self.failed(run, RunEnd::new(EndCause::StartTimeout)).await
            }
            RunOver::Silent => self.silent(run).await,
            RunOver::Unhealthy => self.unhealthy(run).await,
            RunOver::Asked(command) => self.stopped(run, command).await,
            RunOver::Dropped => Next::End,
            RunOver::Lost(error) => Next::Rest(Outcome::Failed(Arc::new(error)), None),
        }
    }

    /// Watches a run until something ends it.
    async fn watch(&mut self, run: &mut Run) -> RunOver {
        let watcher = run.handle.watcher();
        let ended = watcher.wait();
        tokio::pin!(ended);
        let clock = Arc::clone(&self.parts.clock);
        let sleep = |time: Option<Duration>| time.map(|time| clock.sleep(time));
        let mut timeout = sleep(self.parts.start_timeout);
        let mut uptime = sleep(match self.parts.readiness {
            Readiness::MinUptime(time) => Some(time),
            Readiness::Exec | Readiness::Notified => None,
        });
        if self.parts.readiness == Readiness::Exec {
            self.is_up(run);
        }
        let mut watchdog = None;
        let mut probing = None;
        loop {
            let up = run.up.is_some();
            if up && watchdog.is_none() {
                watchdog = sleep(self.parts.watchdog);
            }
            if up && probing.is_none() {
                probing = Probing::of(&self.parts);
            }
            let silent = run.notifications.is_none();
            tokio::select! {
                // An end that has already happened comes first: it decides what everything else
                // means.
                biased;
                end = &mut ended => return match end {
                    Ok(result) => RunOver::Ended(result),
                    Err(error) => RunOver::Lost(error.into()),
                },
                command = self.command() => match command {
                    None => return RunOver::Dropped,
                    Some(command) => match command.request {
                        Request::Stop | Request::Restart | Request::Retire => {
                            return RunOver::Asked(command);
                        }
                        Request::Start | Request::Go => command.done(None),
                        Request::Reset => self.reset(command),
                    },
                },
                () = notified(&mut run.notifications), if !silent => {
                    watchdog = None;
                    if run.up.is_none() && self.parts.readiness == Readiness::Notified {
                        self.is_up(run);
                    }
                }
                () = slept(&mut watchdog), if up => return RunOver::Silent,
                Failed { count, failure, is_last } = probed(&mut probing) => {
                    let run = self.run;
                    self.tell(SupervisorEvent::ProbeFailed { run, failed: count, failure });
                    if is_last {
                        return RunOver::Unhealthy;
                    }
                }
                () = slept(&mut uptime), if !up => self.is_up(run),
                () = slept(&mut timeout), if !up => return RunOver::TimedOut,
            }
        }
    }

    fn is_up(&self, run: &mut Run) {
        run.up = Some(self.parts.clock.now());
        self.tell(SupervisorEvent::Ready { run: self.run });
        self.set(SupervisorState::Up, Some(run.handle.pid()));
    }

    /// Goes on after the agent ended by itself and was reaped.
    async fn ended(&mut self, run: &Run, result: WatchResult) -> Next {
        let end = match run.up {
            Some(up) => {
                let up_for = self.parts.clock.now().saturating_since(up);
                RunEnd::new(EndCause::Exited(result.status)).after(up_for)
            }
            // The agent never was up: the start failed, even with exit code 0.
            None => RunEnd::new(EndCause::StartFailed),
        };
        self.tell(SupervisorEvent::Ended {
            run: self.run,
            status: result.status,
            end,
        });
        // Kills what the agent left in its group, so that it does not meet the next run.
        match run.handle.close().await {
            Ok(_) => Next::Decide(end),
            Err(error) => Next::Rest(Outcome::Failed(Arc::new(error.into())), None),
        }
    }

    /// Kills an agent that missed a heartbeat. It gets no stop signal before, because it may be
    /// unable to act on one.
    async fn silent(&mut self, run: Run) -> Next {
        self.tell(SupervisorEvent::MissedHeartbeat { run: self.run });
        let up_for = run.up.map_or(Duration::ZERO, |up| {
            self.parts.clock.now().saturating_since(up)
        });
        // If this fails, `close` fails as well and returns the error.
        let _ = run.handle.signal(Signal::KILL);
        self.set(SupervisorState::Stopping, Some(run.handle.pid()));
        match run.handle.close().await {
            Ok(result) => {
                let end = RunEnd::new(EndCause::WatchdogTimeout).after(up_for);
                self.tell(SupervisorEvent::Ended {
                    run: self.run,
                    status: result.status,
                    end,
                });
                Next::Decide(end)
            }
            Err(error) => Next::Rest(Outcome::Failed(Arc::new(error.into())), None),
        }
    }

    /// Stops an agent that failed its probes.
    async fn unhealthy(&mut self, run: Run) -> Next {
        let up_for = run.up.map_or(Duration::ZERO, |up| {
            self.parts.clock.now().saturating_since(up)
        });
        let end = RunEnd::new(EndCause::Unhealthy).after(up_for);
        self.failed(run, end).await
    }

    /// Stops the agent. The run ends with `end`, whatever the exit code.
    async fn failed(&mut self, run: Run, end: RunEnd) -> Next {
        match self.close(run).await {
            Ok(status) => {
                self.tell(SupervisorEvent::Ended {
                    run: self.run,
                    status,
                    end,
                });
                Next::Decide(end)
            }
            Err(error) => Next::Rest(Outcome::Failed(Arc::new(error)), None),
        }
    }

    /// Stops the agent because of a request, and goes on as the request says.
    async fn stopped(&mut self, run: Run, command: Command) -> Next {
        let up_for = run.up.map_or(Duration::ZERO, |up| {
            self.parts.clock.now().saturating_since(up)
        });
        let status = match self.close(run).await {
            Ok(status) => status,
            Err(error) => return Next::Rest(Outcome::Failed(Arc::new(error)), Some(command)),
        };
        let end = RunEnd::new(EndCause::Exited(status))
            .after(up_for)
            .on_request();
        self.tell(SupervisorEvent::Ended {
            run: self.run,
            status,
            end,
        });
        match command.request {
            Request::Restart => self.start_anew(command),
            Request::Retire => Next::Wait(Some(command)),
            _ => Next::Rest(Outcome::Stopped(Some(status)), Some(command)),
        }
    }

    async fn close(&mut self, run: Run) -> Result<ExitStatus, RunError> {
        let Run {
            handle,
            mut notifications,
            ..
        } = run;
        let signal = self.parts.spawner.stop_signal();
        self.set(SupervisorState::Stopping, Some(handle.pid()));
        self.tell(SupervisorEvent::Stopping {
            run: self.run,
            signal,
        });
        // If the supervisor took the socket from the handle, it must shut the socket here. It goes
        // on reading, so that the agent does not block on a write.
        if let Some(notifications) = &notifications {
            notifications.shut();
        }
        let drain = async {
            match &mut notifications {
                Some(notifications) => notifications.drain().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            closed = handle.close() => Ok(closed?.status),
            () = drain => std::future::pending().await,
        }
    }

    fn decide(&mut self, end: &RunEnd) -> Next {
        match self.parts.tracker.decide(end, self.parts.clock.now()) {
            Decision::Restart { attempt } => Next::BackOff(attempt),
            Decision::Finished { success } => {
                Next::Rest(Outcome::Finished { success, end: *end }, None)
            }
            Decision::GiveUp(gave_up) => Next::Rest(Outcome::GaveUp(gave_up), None),
        }
    }

    async fn back_off(&mut self, attempt: u32) -> Next {
        if attempt == 0 {
            self.parts.backoff.reset();
        }
        let delay = self.parts.backoff.next_delay(attempt);
        self.set(SupervisorState::BackingOff, None);
        self.tell(SupervisorEvent::BackingOff { attempt, delay });
        let mut sleep = self.parts.clock.sleep(delay);
        loop {
            tokio::select! {
                // A stop that has already arrived comes before the start.
                biased;
                command = self.command() => match command {
                    None => return Next::End,
                    Some(command) => match command.request {
                        Request::Stop => return Next::Rest(Outcome::Stopped(None), Some(command)),
                        Request::Restart | Request::Start => return self.start_anew(command),
                        Request::Reset => self.reset(command),
                        Request::Retire => return Next::Wait(Some(command)),
                        Request::Go => command.done(None),
                    },
                },
                () = &mut sleep => return self.start_in_turn(),
            }
        }
    }

    /// Starts a run at once, or in a group when it is the child's turn.
    fn start_in_turn(&self) -> Next {
        match self.link {
            None => Next::Start(Vec::new()),
            Some(_) => Next::Wait(None),
        }
    }

    /// Waits for the child's turn in the group.
    async fn wait(&mut self, asked: Option<Command>) -> Next {
        self.set(SupervisorState::Waiting, None);
        if let Some(command) = asked {
            command.done(None);
        }
        loop {
            let Some(command) = self.command().await else {
                return Next::End;
            };
            match command.request {
                Request::Stop => return Next::Rest(Outcome::Stopped(None), Some(command)),
                Request::Go => return Next::Start(vec![command]),
                Request::Restart | Request::Start => return self.start_anew(command),
                Request::Reset => self.reset(command),
                Request::Retire => command.done(None),
            }
        }
    }

    async fn rest(&mut self, outcome: Outcome, asked: Option<Command>) -> Next {
        self.set(SupervisorState::Resting(outcome.clone()), None);
        self.tell(SupervisorEvent::Resting(outcome.clone()));
        if let Some(command) = asked {
            command.done(Some(&outcome));
        }
        loop {
            let Some(command) = self.command().await else {
                return Next::End;
            };
            match command.request {
                Request::Stop => command.done(Some(&outcome)),
                Request::Restart | Request::Start => return self.start_anew(command),
                Request::Reset => self.reset(command),
                // There is no run to end, and no turn to wait for.
                Request::Retire | Request::Go => command.done(None),
            }
        }
    }

    /// Starts a run because of a request. All start and restart requests that are next in the queue
    /// are answered by this one start.
    fn start_anew(&mut self, command: Command) -> Next {
        self.parts.tracker.reset();
        self.parts.backoff.reset();
        let mut asked = vec![command];
        while let Some(command) = self
            .waiting
            .pop_front()
            .or_else(|| self.requests.try_recv().ok())
        {
            if !matches!(command.request, Request::Restart | Request::Start) {
                self.waiting.push_front(command);
                break;
            }
            asked.push(command);
        }
        Next::Start(asked)
    }

    /// Returns the next request, or `None` once the handle was dropped. Cancel-safe.
    async fn command(&mut self) -> Option<Command> {
        match self.waiting.pop_front() {
            Some(command) => Some(command),
            None => self.requests.recv().await,
        }
    }

    fn reset(&mut self, command: Command) {
        self.parts.tracker.reset();
        self.parts.backoff.reset();
        command.done(None);
    }
}

async fn slept(sleep: &mut Option<Sleep>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

async fn notified(notifications: &mut Option<Notifications>) {
    match notifications {
        Some(notifications) => notifications.ready().await,
        None => std::future::pending().await,
    }
}

async fn probed(probing: &mut Option<Probing>) -> Failed {
    match probing {
        Some(probing) => probing.failed().await,
        None => std::future::pending().await,
    }
}
