//! Virtual time over real processes.

pub(crate) mod agent;
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

use crate::script::Script;
use crate::sim::agent::{Agent, Server, Shared};
use crate::timeline::{Timeline, TimelineClock, Who};
use crate::timestamp::Timestamp;

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

/// Runs unmodified tokio code and real processes under one virtual clock.
///
/// [`run`](Sim::run) makes a single-threaded runtime on tokio's paused clock. Virtual time passes only when every task
/// and every agent provably waits for it. An hour of backoff therefore takes no more real time than the processes
/// before and after it. Agents wait by the same clock. The sim records everything that happens, and a repetition of the
/// test gives the same [`Timeline`], byte for byte.
///
/// # One thing at a time
///
/// An agent acts only when everything else is at rest. To act is to write, to close something, to say that it is ready,
/// or to end. The code under test takes in what the agent did and comes to rest before the next agent acts. At one
/// instant the order is:
///
/// - first what the test tells agents to do, in the order in which the test says it;
/// - then signals, by agent, by run, and by who started whom;
/// - then scripts, in that same order.
///
/// # What is not the same each time
///
/// - **The sizes of single reads of a flood, if this user has more than a thousand pipes.** The kernel then makes
///   smaller pipes. Otherwise each read finds everything that the pipe holds, because the writer does not go on until
///   that is read.
/// - **The branch that `select!` takes**, if it is not `biased` and several branches are ready; the order in which a
///   `watch` channel or a `Barrier` wakes several waiting tasks; and whatever else tokio draws at random. Nobody
///   outside tokio can seed its generator.
/// - **When the code under test can read what an agent writes to a pseudoterminal.** The kernel hands the bytes over a
///   moment later, at a time of its own, and gives no sign that bytes are on their way.
/// - **`std::time`, blocking sleeps, and randomness that is not seeded.** They follow neither the sim's clock nor its
///   seed.
/// - **Whether the sim notices a process that is killed in the turn in which it was started**, and in which order the
///   outputs of several such processes end. Such a process never acts and never says which run it is, so the timeline
///   does not have it. If the sim notices it, the failure or standard error says so.
/// - **What the code sees of a process in the turn in which the process was signalled.** Examples are `start_kill` and
///   then `try_wait` without an `.await` between them, or a task that reads the process's output and was woken at the
///   same instant. The process dies while the code runs.
/// - **In which order a task of `tokio::spawn` finds two ends of processes that it caused at once**, if the task yields
///   before it waits (by `yield_now`, or because tokio's own budget is used up). Tokio then looks for events without
///   coming to rest, and does not ask the sim for an order. The body, and the tasks that it spawns with `spawn_local`,
///   always find the ends in the order of the agents.
/// - **What threads of the code under test do at once**, such as which of two threads starts its process first. The sim
///   waits for each of these threads, but gives them no order.
/// - **Which of two children a program or a thread finds first, if it waits for any child, as wait(2) does, and has
///   killed both.** The kernel ends both in parallel. Tokio finds them in the order of the agents.
/// - **How much an agent has written, if a thread or a shell kills it while it writes more than 4096 bytes at once.**
///   The thread or the shell reads the first bytes while the agent still writes the rest.
/// - **When init reaps an orphan**, and so from when on `kill(pid, 0)` no longer finds it. A pidfd tells of its end at
///   once.
/// - **What a thread pool does, if several sims share it while they run in parallel, or if it was there before any
///   sim.** The harness knows a thread by the sim that started it. If that sim is over, all later sims wait for the
///   thread while it runs, for up to 20 ms on a processor. Sims that share a pool are exact if they run one after the
///   other, as with `--test-threads=1` or `cargo nextest`.
/// - **Whether a run had said hello, if it is stopped or killed before [`Agent::started`](crate::Agent::started) has
///   returned.** Until a process has told the sim whose run it is, it is a process like any other.
/// - **What processes do that are not agents.** A child that runs in real time holds up virtual time. A shell is at
///   rest if it only waits for agents, or on pipes, open FIFOs and connected unix sockets whose ends all belong to the
///   sim. A process is not at rest if it waits on another socket, for a connection, for a file lock, or to open a FIFO.
/// - **How a process ended that is not a child of the test's process, before Linux 6.15.** If its parent is an agent,
///   that agent reports the status. Otherwise the timeline says `status=?`, each time.
///
/// Several sims may run at once, each on a thread of its own.
///
/// # What is ended
///
/// At the end, whatever the outcome, the sim ends the processes below. It reaps those that are children of this
/// process, and it names those that the body should have ended:
///
/// - agents and their descendants, whoever started them and whoever their parent is by then: all of them have the sim's
///   own address in their arguments;
/// - the children that were started since the sim began by the sim's thread, by its `spawn_blocking` tasks, and by the
///   threads that these start, whether agents or not, with all processes below them. Threads and processes inherit a
///   mark from the sim's thread, in bits of the I/O priority that no scheduler reads (since Linux 6.5). The sim does
///   not find a process that sets its own I/O priority, as ionice(1) does, and has also lost its parents.
///
/// The sim never ends what another sim or another test of this process may have started. It therefore leaves alone:
///
/// - children that are not agents, if threads that were there before the sim started them, such as those of a global
///   pool;
/// - whatever a thread that outlives the sim starts after the sim's end.
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
    /// How long an idle thread of the blocking pool waits for more work. `None` leaves tokio's default.
    keep_alive: Option<Duration>,
    may_be_lost: bool,
}

impl Default for Sim {
    fn default() -> Sim {
        Sim::new()
    }
}

impl Sim {
    /// Makes a sim in virtual time that fails if a process is left behind. The watchdog ends it when nothing has moved
    /// for 10 s of real time, or for the seconds of `SUPERVISE_WATCHDOG`.
    ///
    /// # Panics
    ///
    /// With the [`SimError`] of a bad `SUPERVISE_SEED` or `SUPERVISE_WATCHDOG`.
    #[track_caller]
    pub fn new() -> Sim {
        let sim = Sim::builder().build();
        sim.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns a builder, for a sim with another seed, watchdog or clock.
    pub fn builder() -> SimBuilder {
        SimBuilder::default()
    }

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
    /// [`SimBuilder::watchdog`].
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
                    #[cfg(feature = "properties")]
                    pool: Arc::clone(&pool),
                };
                let ended = tokio::select! {
                    biased;
                    () = watched.abort.notified() => None,
                    () = sight.faulted.notified() => None,
                    result = body(handle) => Some(result.into_result()),
                };
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
        let kind = match (result, verdict) {
            // The verdict's timeline shows the sim as it was before the watchdog killed its agents.
            (result, Some(verdict)) => {
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

/// Ends the agents' waits: sleeps until the next deadline and wakes there. The gate does the rest; without a gate this
/// task also grants the turns.
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

/// Registers with tokio the descriptor that is readable when agents say something. Returns `None` if that fails; a sim
/// that gets stuck then says so.
fn register(shared: &Shared, descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and stays the same descriptor until the AsyncFd drops it.
    let registered =
        unsafe { AsyncFd::register_with_interest(descriptor, tokio::io::Interest::READABLE) };
    let what = "the control connections cannot be listened to";
    let trouble = |error| shared.lock().trouble(what, &io::Error::from(error));
    registered.map_err(trouble).ok()
}

/// Takes in what agents say while the runtime waits for something else. With a gate it only wakes the runtime, and the
/// gate takes in what they say.
async fn listen(
    shared: Arc<Shared>,
    readable: AsyncFd<OwnedFd>,
    origin: TokioInstant,
    gated: bool,
) {
    while let Ok(mut ready) = readable.readable().await {
        ready.clear_ready();
        // The runtime asks the gate again before it rests.
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

/// The body's handle on its sim: makes agents, tells the time and the seed, and reads and writes the timeline.
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
    /// Returns the agent of that name, and makes it if it does not exist yet. A later call with the same name returns
    /// the same agent, whose next runs follow the new script.
    ///
    /// # Panics
    ///
    /// If the script asks for something that no agent can do.
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

    /// Returns the virtual time since the sim began; the real time, if the sim runs in real time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + (TokioInstant::now() - self.origin)
    }

    /// Returns the sim's seed, for whatever the test draws at random: a backoff's jitter, or a choice of scripts. If
    /// the body has called this, the text of a failure says the seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.asked_seed.store(true, Ordering::Relaxed);
        self.seed
    }

    /// Whether the watchdog has ended the sim while the code under test still holds the sim's thread.
    #[cfg(feature = "properties")]
    pub(crate) fn is_held_up(&self) -> bool {
        self.shared.is_given_up.load(Ordering::Relaxed)
            && !self.shared.is_let_go.load(Ordering::Relaxed)
    }

    /// The threads of the sim's blocking pool.
    #[cfg(feature = "properties")]
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Ends the sim's processes although `thread`, the thread of the sim, does not come back.
    #[cfg(feature = "properties")]
    pub(crate) fn end_without(&self, thread: nix::unistd::Pid) {
        ending::end_without(&self.shared, thread);
    }

    /// Returns the timeline of what has happened so far.
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

    /// Writes a line of text into the timeline, as a note of the code under test.
    pub fn note(&self, text: impl fmt::Display) {
        let text = text.to_string();
        self.shared.note(self.now(), |_| Who::Subject, text);
    }
}
