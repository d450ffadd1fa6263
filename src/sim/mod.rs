//! Virtual time over real processes.

mod body;
mod builder;
mod children;
mod ending;
mod failure;
mod foreign;
mod gate;
mod kernel;
mod mark;
mod orphans;
mod panics;
mod patience;
mod pool;
mod ready;
mod sight;
mod signals;
mod socket;
mod starved;
mod surroundings;
mod tellers;
mod threads;
mod watchdog;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::LocalSet;
use tokio::time::Instant as TokioInstant;

use crate::Timestamp;
use crate::agent::{Agent, Script, Server, Shared};
use crate::timeline::{Timeline, TimelineClock, Who};

use body::{Body, BodyWaker};
pub use builder::{SimBuilder, SimError};
pub(crate) use children::SimThread;
use ending::Spare;
pub(crate) use failure::panic_text;
pub use failure::{BodyResult, SimFailure};
use failure::{FailureKind, is_nested};
use gate::Gate;
use panics::Panics;
pub(crate) use pool::Pool;
use ready::Ready;
use sight::Sight;
use surroundings::Surroundings;
use watchdog::Watched;

/// A run of unmodified tokio code and real processes, under one virtual clock.
///
/// [`run`](Sim::run) makes a runtime of one thread whose time is tokio's paused clock, and lets it
/// pass only when everything provably waits for it: every task, and every agent. An hour of backoff
/// takes as long as the processes at its ends. Agents wait by the same clock. Everything that happens
/// is recorded, and one run gives the same [`Timeline`] as the next, byte for byte.
///
/// # One thing at a time
///
/// An agent acts only when everything else rests: it writes, closes, says that it is ready, or ends, and the
/// code under test has come to rest with that before the next agent acts. At one instant the order is: what the
/// test tells an agent, in its order; then signals; then scripts, by agent, by run, and by who started whom.
///
/// # What is not the same each time
///
/// - **The sizes of single reads of a flood, where this user has more than a thousand pipes.** The kernel then makes
///   smaller ones. Else each read finds what the pipe holds: who writes does not go on before that is read.
/// - **The branch that `select!` takes** where it is not `biased` and several are ready, in which order a `watch`
///   channel or a `Barrier` wakes several that wait, and whatever else tokio draws. Nobody outside can seed tokio's
///   generator.
/// - **When what an agent writes to a pseudoterminal can be read.** The kernel hands it over a moment later, at a time
///   of its own, and says to nobody that it is about to.
/// - **`std::time`, blocking sleeps, and randomness that is not seeded.** They do not go by the sim's clock or
///   seed.
/// - **Whether a process is noticed that is killed in the turn in which it was started**, and in which order the
///   outputs of several such end. It never gets to act or to say whose it is, and the timeline does not have it. Where
///   it is noticed, the failure or standard error says so.
/// - **What is seen of a process in the turn in which it was signalled**, such as by `start_kill` and then `try_wait`
///   without an `.await` between, or by a task that reads its output and was woken at the same instant. The process
///   dies while the code runs.
/// - **In which order a task of `tokio::spawn` finds two ends that it caused at once**, where it yields before it
///   waits (`yield_now`, or tokio's own budget). Tokio then looks for events without coming to rest, and asks nobody. The
///   body, and what it spawns with `spawn_local`, finds them in the order of the agents all the same.
/// - **What threads of the code under test do at once**, such as which of two starts its process first. The sim waits
///   for each of them, and orders nothing between them.
/// - **Which of two a program or a thread finds first that waits for any child**, as wait(2) does, and has killed both. The
///   kernel ends them beside each other. Tokio finds them in the order of the agents.
/// - **How much one has written that a thread or a shell kills while it writes more than 4096 bytes at once.** They read
///   what is there while it writes the rest.
/// - **When init reaps an orphan**, and so when `kill(pid, 0)` no longer finds it. A pidfd tells of its end at once.
/// - **What a pool of threads does that several sims share while they run beside each other, or that was there before
///   any sim.** Threads are known by the sim that started them. One whose sim is over is waited for by all that come
///   after, for up to 20 ms on a processor. Sims with such a pool are exact one after the other, as with `--test-threads=1` or `cargo nextest`.
/// - **Whether a run that is stopped or killed before [`Agent::started`](crate::Agent::started) has returned had said
///   hello by then.** It is a process like any other until it says whose it is.
/// - **What is no agent.** A child that runs in real time holds virtual time. A shell that only waits for agents,
///   or on pipes, open FIFOs and connected unix sockets whose ends are all the sim's, is at rest. One that waits on
///   another socket or for a connection, for a file lock, or to open a FIFO, is not.
/// - **How a process ended that is no child of the test's process, before Linux 6.15.** Its parent says it where
///   that is an agent; else the timeline says `status=?`, each time.
///
/// Several sims may run at once, each on a thread of its own.
///
/// # What is ended
///
/// At the end, whatever it is, these are ended, reaped where they are children of this process, and
/// named where the body should have ended them:
///
/// - agents and their descendants, whoever started them and wherever they were re-parented: all bear
///   the sim's own address in their arguments;
/// - the children of the sim's thread since the sim began, of its `spawn_blocking` tasks, and of the threads that
///   these start, agents or not, with all below them. Threads and processes inherit a mark from the sim's thread, in
///   bits of the I/O priority that no scheduler reads (since Linux 6.5). What sets its own, as ionice(1) does, and has
///   lost its parents, too, is not found.
///
/// Never what another sim or another test of the process may have started. So these are left alone:
///
/// - children that are no agents of threads that were there before the sim, such as those of a global pool;
/// - what a thread that does not end with the sim starts after it.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::{Script, Sim};
///
/// let timeline = Sim::new().run(async |sim| {
///     let worker = sim.agent("worker", Script::new().run_for(Duration::from_secs(3600)).exit(3));
///     // The code under test: plain tokio.
///     let mut child = tokio::process::Command::from(worker.command()).spawn().unwrap();
///     let status = child.wait().await.unwrap();
///     assert_eq!(status.code(), Some(3));
/// });
/// assert_eq!(
///     timeline.to_string(),
///     "timeline v2  clock=virtual
/// +0.000  worker#1  start
/// +3600.000 worker#1  exit     code=3
/// +0.000  worker#1  reap"
/// );
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Sim {
    seed: u64,
    watchdog: Duration,
    is_real: bool,
    gate: bool,
    allows_leaks: bool,
    /// As tokio has it, where there is none.
    keep_alive: Option<Duration>,
    may_be_lost: bool,
}

impl Default for Sim {
    fn default() -> Sim {
        Sim::new()
    }
}

impl Sim {
    /// In virtual time, ended by the watchdog when nothing has moved for 10 s of real time, failing
    /// where a process is left behind.
    ///
    /// # Panics
    ///
    /// With the [`SimError`] of a bad `SUPERVISE_SEED` or `SUPERVISE_WATCHDOG`.
    #[track_caller]
    pub fn new() -> Sim {
        let sim = Sim::builder().build();
        sim.unwrap_or_else(|error| panic!("{error}"))
    }

    /// A sim with another seed, watchdog or clock.
    pub fn builder() -> SimBuilder {
        SimBuilder::default()
    }

    /// Runs the body to its end, ends every process of the sim, and says what happened.
    ///
    /// # Panics
    ///
    /// With the body's own panic where it panics, with its error where it returns one, with what
    /// everything is blocked on where nothing moves, and where processes are left behind. In each
    /// case after every process of the sim was ended. The text has the end of the timeline, which is
    /// printed to standard error before a panic of the body's own.
    ///
    /// A panic in a task is a [finding](Timeline::findings) at the time at which it happened, whoever
    /// joins the task: tokio keeps it to itself.
    ///
    /// Where the code under test holds the thread for ever, this does not return, and the process ends:
    /// see [`SimBuilder::watchdog`].
    #[track_caller]
    pub fn run<T: BodyResult>(self, body: impl AsyncFnOnce(SimHandle) -> T) -> Timeline {
        match self.try_run(body) {
            Ok(timeline) => timeline,
            Err(failure) => failure.raise(),
        }
    }

    /// As [`run`](Sim::run), with the failure as a value.
    ///
    /// # Errors
    ///
    /// [`SimFailure`].
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
        // Between so many tasks tokio looks for events without coming to rest: what the processes do
        // meanwhile would be found early, or not.
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
                // First: by it the gate tells tokio's epoll instance.
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
                    // Not on the local set: waking that makes tokio turn once more.
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
                    #[cfg(feature = "properties")]
                    pool: Arc::clone(&pool),
                };
                let ended = tokio::select! {
                    biased;
                    () = watched.abort.notified() => None,
                    () = sight.faulted.notified() => None,
                    result = body(handle) => Some(result.into_result()),
                };
                // What the body did last shows in the processes.
                if ended.is_some() && !self.is_real && self.gate {
                    shared.lock().is_ending = true;
                    // The gate tells it when tokio is next at rest, however it got here.
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
        // What its tasks say as they are dropped is still theirs.
        let alive = ending::children_alive(&shared.lock(), &before, result.is_err());
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(local))) {
            result = result.and(Err(payload));
        }
        // What happens from here on is the sim's doing.
        sight.runs_code.store(false, Ordering::Release);
        let mut remarks = watched.remarks();
        let (mut timeline, lost) = {
            let mut server = shared.lock();
            let ended = watched.verdict().map(|verdict| verdict.given);
            panics.tell(&mut server, begun, ended, &mut remarks);
            remarks.extend(server.lack());
            (server.timeline(), server.lost())
        };
        // The gate first: it must not be asked while the tasks are dropped.
        waker.set_gated(false);
        *gate.lock().unwrap_or_else(PoisonError::into_inner) = None;
        runtime.shutdown_timeout(Duration::ZERO);
        ending::reap_killed(&alive);
        let verdict = watched.ends();
        // Without the gate nobody has looked.
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
            // The code under test was cut off: it has had no chance to end anything.
            leaks.clear();
        }
        let kind = match (result, verdict) {
            // It is as it was before its agents were killed under it.
            (result, Some(verdict)) => {
                timeline = verdict.timeline;
                FailureKind::Stuck(match result {
                    // What it makes of that is not the cause.
                    Err(payload) => format!(
                        "{}\n  when its agents were killed, it panicked: {}",
                        verdict.text,
                        panic_text(&*payload)
                    ),
                    Ok(_) => verdict.text,
                })
            }
            (Err(payload), None) if begun.is_none() && is_nested(&panic_text(&*payload)) => {
                FailureKind::Setup(INSIDE_A_RUNTIME.to_owned())
            }
            (Err(payload), None) => FailureKind::panic(payload),
            (Ok(_), None) if let Some(fault) = sight.why_faulted() => FailureKind::Fault(fault),
            (Ok(None), None) => FailureKind::Stuck(String::new()),
            (Ok(Some(Err(error))), None) => FailureKind::Error(error),
            (Ok(Some(Ok(()))), None) if !leaks.is_empty() && !self.allows_leaks => {
                FailureKind::Leaks
            }
            (Ok(Some(Ok(()))), None) => {
                // What the test expects of the timeline may miss that run.
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

/// Why a sim cannot begin inside a runtime.
const INSIDE_A_RUNTIME: &str = "it is run inside a tokio runtime, as that of `#[tokio::test]`, and a sim makes a \
     runtime of its own, whose time is virtual: write `#[test]` and a function that is not async";

/// Makes the runtime. Tokio panics where it cannot make what all runtimes of a process share.
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

/// Ends the agents' waits: sleeps to the next deadline, wakes, and leaves the rest to the gate.
async fn timer(shared: Arc<Shared>, origin: TokioInstant, gated: bool) {
    loop {
        let next = {
            let mut server = shared.lock();
            server.now = Timestamp::ORIGIN + (TokioInstant::now() - origin);
            server.has_new_deadline = false;
            if !gated {
                while server.grant_next_turn().is_some() {}
            }
            server.next_deadline()
        };
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(origin + at.since_origin()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.timer.notified() => {}
            () = sleep => {}
        }
    }
}

/// Registers with tokio what is readable when agents say something. None where it cannot: what is stuck then says so.
fn register(shared: &Shared, descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and stays the same descriptor until the AsyncFd drops it.
    let registered =
        unsafe { AsyncFd::register_with_interest(descriptor, tokio::io::Interest::READABLE) };
    let what = "the control connections cannot be listened to";
    let trouble = |error| shared.lock().trouble(what, &io::Error::from(error));
    registered.map_err(trouble).ok()
}

/// Takes in what agents say while the runtime waits for something else, or has the gate do it.
async fn listen(
    shared: Arc<Shared>,
    readable: AsyncFd<OwnedFd>,
    origin: TokioInstant,
    gated: bool,
) {
    while let Ok(mut ready) = readable.readable().await {
        ready.clear_ready();
        // It is asked again before the runtime rests.
        if gated {
            continue;
        }
        let mut server = shared.lock();
        server.now = Timestamp::ORIGIN + (TokioInstant::now() - origin);
        if server.pump(Duration::ZERO) {
            shared.changed.notify_waiters();
            shared.timer.notify_one();
        }
    }
}

/// What the body of a sim has in its hands.
#[derive(Clone)]
pub struct SimHandle {
    shared: Arc<Shared>,
    program: PathBuf,
    origin: TokioInstant,
    seed: u64,
    asked_seed: Arc<AtomicBool>,
    #[cfg(feature = "properties")]
    pool: Arc<Pool>,
}

impl fmt::Debug for SimHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimHandle").finish_non_exhaustive()
    }
}

impl SimHandle {
    /// An agent of that name. The same name again is the same agent, with the new script for the
    /// runs to come.
    #[must_use]
    pub fn agent(&self, name: &str, script: Script) -> Agent {
        Agent::new(
            &self.shared,
            name,
            script,
            self.program.clone(),
            self.origin,
        )
    }

    /// The time since the sim began.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + (TokioInstant::now() - self.origin)
    }

    /// The sim's seed, for whatever is drawn in the test: a backoff's jitter, a choice of scripts. A
    /// failure says the seed where the body has asked for it.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.asked_seed.store(true, Ordering::Relaxed);
        self.seed
    }

    /// Whether the watchdog has ended it, and the code under test still has its thread.
    #[cfg(feature = "properties")]
    pub(crate) fn is_held_up(&self) -> bool {
        self.shared.is_given_up.load(Ordering::Relaxed)
            && !self.shared.is_let_go.load(Ordering::Relaxed)
    }

    /// The threads of its blocking pool.
    #[cfg(feature = "properties")]
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Ends its processes although its thread, which is that one, does not come back.
    #[cfg(feature = "properties")]
    pub(crate) fn end_without(&self, thread: nix::unistd::Pid) {
        ending::end_without(&self.shared, thread);
    }

    /// What has happened so far.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let mut server = self.shared.lock();
        server.now = self.now();
        let before = server.progress;
        server.see_deaths();
        if server.progress != before {
            self.shared.changed.notify_waiters();
        }
        server.timeline()
    }

    /// Writes a line of the code under test into the timeline.
    pub fn note(&self, text: impl fmt::Display) {
        let text = text.to_string();
        self.shared.note(self.now(), |_| Who::Subject, text);
    }
}
