//! The run of a sim, from the making of its runtime to the end of its processes.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::Instant as TokioInstant;

use super::body::Body;
use super::children::SimThread;
use super::ending::{self, Spare};
use super::failure::{BodyResult, FailureKind, SimFailure, is_nested, panic_text};
use super::gate::Gate;
use super::handle::SimHandle;
use super::panics::Panics;
use super::pool::Pool;
use super::race::first;
use super::ready::{self, Ready};
use super::sight::Sight;
use super::simulation::Sim;
use super::surroundings::Surroundings;
use super::tasks::{listen, register, timer};
use super::waker::BodyWaker;
use super::watchdog::Watched;
use crate::sim::agent::{Server, Shared};
use crate::timeline::{Timeline, TimelineClock};
use crate::timestamp::Timestamp;

impl Sim {
    /// Runs the body to its end, ends every process of the sim, and returns the timeline of what happened.
    ///
    /// # Panics
    ///
    /// In each of these cases, after every process of the sim was ended:
    ///
    /// - The body panics. The panic is the body's own. Before it, the end of the timeline is printed to standard error.
    /// - The body returns an error. The text has that error.
    /// - Nothing moves. The text says what everything is blocked on.
    /// - Processes are left behind. The text names them.
    /// - The sim cannot begin or cannot go on. The text says why.
    ///
    /// If the panic is not the body's own, its text also has the end of the timeline.
    ///
    /// A panic in a task does not end the run, because tokio keeps that panic for whoever joins the task. The timeline
    /// has it as a [finding](Timeline::findings) at the time at which it happened, even if somebody joins the task.
    ///
    /// If the code under test holds the thread for ever, this function does not return, and the process ends: see
    /// [`SimBuilder::watchdog`](super::SimBuilder::watchdog).
    #[track_caller]
    pub fn run<T: BodyResult>(self, body: impl AsyncFnOnce(SimHandle) -> T) -> Timeline {
        match self.try_run(body) {
            Ok(timeline) => timeline,
            Err(failure) => failure.raise(),
        }
    }

    /// Does the same as [`run`](Sim::run), but returns the failure as a value.
    ///
    /// # Errors
    ///
    /// [`SimFailure`] in each case in which [`run`](Sim::run) panics.
    pub fn try_run<T: BodyResult>(
        self,
        body: impl AsyncFnOnce(SimHandle) -> T,
    ) -> Result<Timeline, SimFailure> {
        let setup = |error: io::Error| SimFailure::setup(error.to_string());
        let _surroundings = Surroundings::enter().map_err(setup)?;
        let control =
            |error| SimFailure::setup(format!("the control server cannot be made: {error}"));
        let program = agent_stub::path().map_err(|error| SimFailure::setup(error.to_string()))?;
        let clock = if self.is_real {
            TimelineClock::Real
        } else {
            TimelineClock::Virtual
        };
        let sight = Arc::new(Sight::default());
        let thread = SimThread::enter(Some(Arc::clone(&sight)));
        let before = ending::children_before().map_err(setup)?;
        let shared = Shared::new(Server::new(clock).map_err(control)?, !self.is_real);
        let news = shared.lock().descriptor().try_clone_to_owned();
        let news = news.map_err(control)?;
        let looked_at = news.try_clone().map_err(control)?;
        let spare = Spare::of(shared.lock().descriptor());
        let asked_seed = Arc::new(AtomicBool::new(false));

        let gate: Arc<Mutex<Option<Gate>>> = Arc::default();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().thread_name("sim-blocking");
        builder.start_paused(!self.is_real);
        // Tokio looks for events after this many tasks, without coming to rest. With a lower number it would find what
        // processes do meanwhile early in one run, and not in another.
        builder.event_interval(1 << 16);
        let asked = Arc::clone(&gate);
        let parked = Arc::clone(&sight);
        builder.on_thread_park(move || {
            parked.runs_code.store(false, Ordering::Release);
            parked.parks.fetch_add(1, Ordering::Relaxed);
            parked.is_parked.store(true, Ordering::Relaxed);
            if let Some(gate) = &mut *asked.lock().unwrap_or_else(PoisonError::into_inner) {
                gate.park();
            }
            parked.looks.fetch_add(1, Ordering::Release);
        });
        let unparked = Arc::clone(&sight);
        let going_on = Arc::clone(&gate);
        builder.on_thread_unpark(move || {
            unparked.looks.fetch_add(1, Ordering::Release);
            unparked.unpark();
            if let Some(gate) = &mut *going_on.lock().unwrap_or_else(PoisonError::into_inner) {
                gate.unpark();
            }
            unparked.runs_code.store(true, Ordering::Release);
        });
        let pool = Arc::new(Pool::default());
        let (begun, over) = (Arc::clone(&pool), Arc::clone(&pool));
        let panics = Arc::<Panics>::default();
        let of_pool = Arc::clone(&panics);
        builder.on_thread_start(move || {
            begun.enter();
            of_pool.listen(false);
        });
        builder.on_thread_stop(move || over.leave());
        if let Some(keep_alive) = self.keep_alive {
            builder.thread_keep_alive(keep_alive);
        }
        let guess = ready::next_descriptor(looked_at.as_fd());
        let runtime = build(builder).map_err(SimFailure::setup)?;
        let watched = Watched::new(
            Arc::clone(&shared),
            Arc::clone(&sight),
            before.clone(),
            Arc::clone(&pool),
            (self.watchdog, self.may_be_lost),
        );
        let waker = BodyWaker::new(Arc::clone(&shared), Arc::clone(&sight));
        panics.listen(true);
        let mut begun = None;
        let local = LocalSet::new();
        let mut result = catch_unwind(AssertUnwindSafe(|| {
            let body = local.run_until(async {
                let origin = TokioInstant::now();
                begun = Some(origin);
                let known = news.as_raw_fd();
                // Registered before anything else: the gate recognises tokio's epoll instance by this descriptor.
                let readable = register(&shared, news);
                if !self.is_real {
                    if self.gate {
                        shared.lock().is_gated = true;
                        let new = Gate::new(
                            Arc::clone(&waker),
                            Arc::clone(&pool),
                            before.clone(),
                            thread.mark(),
                            Ready::of(known, guess),
                            looked_at,
                        );
                        *gate.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
                        waker.set_gated(true);
                    }
                    // Not spawned on the local set: a wake of the local set makes tokio turn once more.
                    tokio::spawn(timer(Arc::clone(&shared), origin, self.gate));
                }
                if let Some(readable) = readable {
                    let gated = !self.is_real && self.gate;
                    tokio::spawn(listen(Arc::clone(&shared), readable, origin, gated));
                }
                let handle = SimHandle {
                    shared: Arc::clone(&shared),
                    program: program.to_owned(),
                    origin,
                    seed: self.seed,
                    asked_seed: Arc::clone(&asked_seed),
                    #[cfg(feature = "conformance")]
                    pool: Arc::clone(&pool),
                };
                let cut_off = async {
                    first(watched.abort.notified(), sight.faulted.notified()).await;
                    None
                };
                let ended = first(cut_off, async { Some(body(handle).await.into_result()) }).await;
                // Waits until the processes show what the body did last.
                if ended.is_some() && !self.is_real && self.gate {
                    shared.lock().is_ending = true;
                    // The gate notifies `settled` when tokio comes to rest next, whichever way the body came here.
                    shared.settled.notified().await;
                } else {
                    let mut server = shared.lock();
                    server.now = Timestamp::ORIGIN + (TokioInstant::now() - origin);
                    server.pump(Duration::ZERO);
                }
                ended
            });
            sight.runs_code.store(true, Ordering::Release);
            runtime.block_on(Body::new(body, Arc::clone(&gate), Arc::clone(&waker)))
        }));
        // What the tasks say while they are dropped is still said by the code under test.
        let alive = ending::children_alive(&shared.lock(), &before, result.is_err());
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(local))) {
            result = result.and(Err(payload));
        }
        // From here on the harness acts, and no longer the code under test.
        sight.runs_code.store(false, Ordering::Release);
        let mut remarks = watched.remarks();
        let (mut timeline, lost) = {
            let mut server = shared.lock();
            let ended = watched.verdict().map(|verdict| verdict.given);
            panics.tell(&mut server, begun, ended, &mut remarks);
            remarks.extend(server.lack());
            (server.timeline(), server.lost())
        };
        // The gate goes first: tokio must not ask it while the runtime drops the tasks.
        waker.set_gated(false);
        *gate.lock().unwrap_or_else(PoisonError::into_inner) = None;
        runtime.shutdown_timeout(Duration::ZERO);
        ending::reap_killed(&alive);
        let verdict = watched.ends();
        // Without a gate nobody has looked for such processes, so there may be some.
        let saw_foreign = self.is_real || !self.gate || {
            let server = shared.lock();
            let seen = sight.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().any(|pid| !server.knows(*pid))
        };
        let mut leaks = ending::end_all(
            &shared,
            &before,
            &pool,
            thread.mark().as_deref(),
            saw_foreign,
            spare,
        );
        if verdict.is_some() {
            // The watchdog cut off the code under test, which had no chance to end anything.
            leaks.clear();
        }
        let fault = sight.why_faulted();
        let kind = match (result, verdict, fault) {
            // The verdict's timeline shows the sim as it was before the watchdog killed its agents.
            (result, Some(verdict), _) => {
                timeline = verdict.timeline;
                FailureKind::Stuck(match result {
                    // The panic came after the watchdog had killed the agents, so it is not the cause.
                    Err(payload) => format!(
                        "{}\n  when its agents were killed, it panicked: {}",
                        verdict.text,
                        panic_text(&*payload)
                    ),
                    Ok(_) => verdict.text,
                })
            }
            (Err(payload), None, _) if begun.is_none() && is_nested(&panic_text(&*payload)) => {
                FailureKind::Setup(INSIDE_A_RUNTIME.to_owned())
            }
            (Err(payload), None, _) => FailureKind::panic(payload),
            (Ok(_), None, Some(fault)) => FailureKind::Fault(fault),
            (Ok(None), None, None) => FailureKind::Stuck(String::new()),
            (Ok(Some(Err(error))), None, None) => FailureKind::Error(error),
            (Ok(Some(Ok(()))), None, None) if !leaks.is_empty() && !self.allows_leaks => {
                FailureKind::Leaks
            }
            (Ok(Some(Ok(()))), None, None) => {
                // The timeline lacks that run, and the test may look for it there.
                if let Some(lost) = lost.filter(|_| !self.may_be_lost) {
                    crate::said::say(&format!("supervise-harness: {lost}"));
                }
                return Ok(timeline);
            }
        };
        remarks.extend(lost);
        Err(SimFailure {
            kind,
            leaks: if self.allows_leaks { Vec::new() } else { leaks },
            remarks,
            timeline: Some(Box::new(timeline)),
            seed: asked_seed.load(Ordering::Relaxed).then_some(self.seed),
        })
    }
}

/// The text of the failure if a sim is run inside a tokio runtime.
const INSIDE_A_RUNTIME: &str = "it is run inside a tokio runtime, as that of `#[tokio::test]`, and a sim makes a \
     runtime of its own, whose time is virtual: write `#[test]` and a function that is not async";

/// Builds the runtime. Tokio panics if it cannot make what all runtimes of a process share; that panic becomes an
/// error.
fn build(mut builder: tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, String> {
    match catch_unwind(AssertUnwindSafe(|| builder.build())) {
        Ok(Ok(runtime)) => Ok(runtime),
        Ok(Err(error)) => Err(format!("the runtime cannot be made: {error}")),
        Err(payload) => Err(format!(
            "the runtime cannot be made: tokio panicked: {}",
            panic_text(&*payload)
        )),
    }
}
