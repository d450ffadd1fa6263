//! Virtual time over real processes.

mod builder;
mod children;
mod ending;
mod foreign;
mod gate;
mod mark;
mod pool;
mod ready;
mod sight;
mod surroundings;
mod threads;
mod turn;
mod watchdog;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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

pub use builder::{SimBuilder, SimError};
pub(crate) use children::SimThread;
use gate::Gate;
pub(crate) use pool::Pool;
use sight::Sight;
use surroundings::Surroundings;
use turn::Settled;
use watchdog::Watched;

/// A run of unmodified tokio code and real processes, under one virtual clock.
///
/// [`run`](Sim::run) makes a runtime of one thread whose time is tokio's paused clock, and lets it
/// pass only when everything provably waits for it: every task, and every agent. An hour of backoff
/// takes as long as the processes at its ends. Agents wait by the same clock. Everything that happens
/// is recorded, and one run gives the same [`Timeline`] as the next, byte for byte.
///
/// What it cannot virtualise: `std::time`, blocking sleeps, randomness that is not seeded, the order
/// in which `select!` looks at its branches, and the end of a pipe whose other end is held by a process
/// that has nothing to do with the sim. Children of the sim's thread that are no agents run in real
/// time, and virtual time waits for them.
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
/// - the children that the sim's thread has forked since the sim began, and those that its
///   `spawn_blocking` tasks have forked, agents or not, with all below them.
///
/// Never what another sim or another test of the process may have started. So these are left alone:
///
/// - children that are no agents of other threads, as of `std::thread::spawn`: the kernel does not
///   say who started a thread, and another test's would look the same;
/// - what a `spawn_blocking` task that does not end with the sim starts after it;
/// - descendants of a child that is no agent, once that has ended: nothing says whose they were.
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
///     "timeline v1  clock=virtual
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
    /// case after every process of the sim was ended.
    #[track_caller]
    pub fn run<T: BodyResult>(self, body: impl AsyncFnOnce(SimHandle) -> T) -> Timeline {
        match self.try_run(body) {
            Ok(timeline) => timeline,
            Err(failure) => match failure.kind {
                FailureKind::Panic(payload) => {
                    if !failure.leaks.is_empty() {
                        eprintln!("{}", leaks_text(&failure.leaks));
                    }
                    if let Some(seed) = failure.seed {
                        eprintln!("{}", replay_text(seed));
                    }
                    resume_unwind(payload)
                }
                _ => panic!("{failure}"),
            },
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
        let asked_seed = Arc::new(AtomicBool::new(false));

        let gate: Arc<Mutex<Option<Gate>>> = Arc::default();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().thread_name("sim-blocking");
        builder.start_paused(!self.is_real);
        let asked = Arc::clone(&gate);
        let parked = Arc::clone(&sight);
        builder.on_thread_park(move || {
            parked.parks.fetch_add(1, Ordering::Relaxed);
            parked.is_parked.store(true, Ordering::Relaxed);
            if let Some(gate) = &mut *asked.lock().unwrap_or_else(PoisonError::into_inner) {
                gate.park();
            }
        });
        let unparked = Arc::clone(&sight);
        let going_on = Arc::clone(&gate);
        builder.on_thread_unpark(move || {
            unparked.unpark();
            if let Some(gate) = &mut *going_on.lock().unwrap_or_else(PoisonError::into_inner) {
                gate.unpark();
            }
        });
        let pool = Arc::new(Pool::default());
        let (begun, over) = (Arc::clone(&pool), Arc::clone(&pool));
        builder.on_thread_start(move || begun.enter());
        builder.on_thread_stop(move || over.leave());
        if let Some(keep_alive) = self.keep_alive {
            builder.thread_keep_alive(keep_alive);
        }
        let runtime = build(builder).map_err(SimFailure::setup)?;
        let watched = Watched::new(
            Arc::clone(&shared),
            Arc::clone(&sight),
            before.clone(),
            Arc::clone(&pool),
            self.watchdog,
        );
        let result = catch_unwind(AssertUnwindSafe(|| {
            let local = LocalSet::new();
            let body = local.run_until(async {
                let origin = TokioInstant::now();
                if !self.is_real {
                    if self.gate {
                        shared.lock().is_gated = true;
                        let new = Gate::new(
                            Arc::clone(&shared),
                            Arc::clone(&sight),
                            Arc::clone(&pool),
                            before.clone(),
                            thread.mark(),
                            news.as_raw_fd(),
                            looked_at,
                        );
                        *gate.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
                    }
                    // Not on the local set: waking that makes tokio turn once more.
                    tokio::spawn(timer(Arc::clone(&shared), origin, self.gate));
                }
                tokio::spawn(listen(
                    Arc::clone(&shared),
                    news,
                    origin,
                    !self.is_real && self.gate,
                ));
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
            runtime.block_on(Settled::new(body, Arc::clone(&gate)))
        }));
        // What happens from here on is the sim's doing.
        let timeline = shared.lock().recorder.timeline();
        // The gate first: it must not be asked while the tasks are dropped.
        *gate.lock().unwrap_or_else(PoisonError::into_inner) = None;
        runtime.shutdown_timeout(Duration::ZERO);
        // Without the gate nobody has looked.
        let saw_foreign = self.is_real || !self.gate || {
            let server = shared.lock();
            let seen = sight.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().any(|pid| !server.knows(*pid))
        };
        let mut leaks = ending::end_all(&shared, &before, &pool, saw_foreign);
        if watched.verdict().is_some() {
            // The code under test was cut off: it has had no chance to end anything.
            leaks.clear();
        }
        let kind = match result {
            // Its agents were killed under it: what it makes of that is not the cause.
            Err(payload) if let Some(verdict) = watched.verdict() => FailureKind::Stuck(format!(
                "{verdict}\n  when its agents were killed, it panicked: {}",
                panic_text(&*payload)
            )),
            Err(payload) => FailureKind::Panic(payload),
            _ if let Some(verdict) = watched.verdict() => FailureKind::Stuck(verdict),
            _ if let Some(fault) = sight.why_faulted() => FailureKind::Fault(fault),
            Ok(None) => FailureKind::Stuck(String::new()),
            Ok(Some(Err(error))) => FailureKind::Error(error),
            Ok(Some(Ok(()))) if !leaks.is_empty() && !self.allows_leaks => FailureKind::Leaks,
            Ok(Some(Ok(()))) => return Ok(timeline),
        };
        let leaks = if self.allows_leaks { Vec::new() } else { leaks };
        Err(SimFailure {
            kind,
            leaks,
            timeline: Some(timeline),
            seed: asked_seed.load(Ordering::Relaxed).then_some(self.seed),
        })
    }
}

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
                while server.grant_next_turn() {}
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

/// Takes in what agents say while the runtime waits for something else, or has the gate do it.
async fn listen(shared: Arc<Shared>, descriptor: OwnedFd, origin: TokioInstant, gated: bool) {
    // SAFETY: an OwnedFd is open, and stays the same descriptor until the AsyncFd drops it.
    let registered =
        unsafe { AsyncFd::register_with_interest(descriptor, tokio::io::Interest::READABLE) };
    let readable = match registered {
        Ok(readable) => readable,
        Err(error) => {
            let what = "the control connections cannot be listened to";
            return shared.lock().trouble(what, &io::Error::from(error));
        }
    };
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

/// What the body of a sim returns: nothing, a result whose error fails the run, or never.
pub trait BodyResult {
    /// The error's text, if it is one.
    ///
    /// # Errors
    ///
    /// The text.
    fn into_result(self) -> Result<(), String>;
}

/// A type that has no name of its own on stable Rust, by the function that returns it.
#[doc(hidden)]
pub trait Returns {
    type Value;
}

impl<T> Returns for fn() -> T {
    type Value = T;
}

/// A body that never returns, as one that ends in a `loop` without `break`.
impl BodyResult for <fn() -> ! as Returns>::Value {
    fn into_result(self) -> Result<(), String> {
        self
    }
}

impl BodyResult for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Debug> BodyResult for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// Why a sim failed.
#[derive(Debug)]
pub struct SimFailure {
    kind: FailureKind,
    leaks: Vec<String>,
    timeline: Option<Timeline>,
    /// Where the body asked for it.
    seed: Option<u64>,
}

enum FailureKind {
    Panic(Box<dyn std::any::Any + Send>),
    Error(String),
    Stuck(String),
    Leaks,
    /// It cannot go on.
    Fault(String),
    Setup(String),
}

impl fmt::Debug for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureKind::Panic(_) => f.write_str("Panic"),
            FailureKind::Error(error) => write!(f, "Error({error:?})"),
            FailureKind::Stuck(text) => write!(f, "Stuck({text:?})"),
            FailureKind::Leaks => f.write_str("Leaks"),
            FailureKind::Fault(text) => write!(f, "Fault({text:?})"),
            FailureKind::Setup(error) => write!(f, "Setup({error:?})"),
        }
    }
}

impl SimFailure {
    pub(crate) fn setup(error: String) -> SimFailure {
        SimFailure {
            kind: FailureKind::Setup(error),
            leaks: Vec::new(),
            timeline: None,
            seed: None,
        }
    }

    /// What happened until then, where the sim had begun.
    #[must_use]
    pub fn timeline(&self) -> Option<&Timeline> {
        self.timeline.as_ref()
    }

    /// Whether the body panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.kind, FailureKind::Panic(_))
    }

    /// Whether nothing moved.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(self.kind, FailureKind::Stuck(_))
    }

    /// The processes that were left behind, a line each. They have been ended. None are named where
    /// nothing moved: the code under test was cut off.
    #[must_use]
    pub fn leaks(&self) -> &[String] {
        &self.leaks
    }
}

/// For a table.
#[cfg(feature = "properties")]
impl SimFailure {
    /// What went wrong, and nothing beside it.
    pub(crate) fn cause(&self) -> String {
        match &self.kind {
            FailureKind::Panic(payload) => {
                format!("the subject panicked: {}", panic_text(&**payload))
            }
            FailureKind::Error(text) | FailureKind::Stuck(text) | FailureKind::Fault(text) => {
                text.clone()
            }
            FailureKind::Leaks => leaks_text(&self.leaks),
            FailureKind::Setup(text) => format!("the sim cannot begin: {text}"),
        }
    }
}

pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

fn leaks_text(leaks: &[String]) -> String {
    format!(
        "left behind by the code under test, and ended:\n  {}",
        leaks.join("\n  ")
    )
}

fn replay_text(seed: u64) -> String {
    format!("replay    SUPERVISE_SEED={seed}")
}

/// The failure of the body first, then what was left behind, then how to see it again.
impl fmt::Display for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FailureKind::Panic(payload) => {
                let text = panic_text(&**payload);
                write!(f, "the body of the sim panicked: {text}")?;
            }
            FailureKind::Error(error) => write!(f, "the body of the sim failed: {error}")?,
            FailureKind::Stuck(text) => write!(f, "the sim is stuck: {text}")?,
            FailureKind::Fault(text) => write!(f, "the sim cannot go on: {text}")?,
            FailureKind::Setup(error) => write!(f, "the sim cannot begin: {error}")?,
            FailureKind::Leaks => f.write_str(&leaks_text(&self.leaks))?,
        }
        if !self.leaks.is_empty() && !matches!(self.kind, FailureKind::Leaks) {
            write!(f, "\n{}", leaks_text(&self.leaks))?;
        }
        match self.seed {
            Some(seed) => write!(f, "\n{}", replay_text(seed)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SimFailure {}

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

    /// Whether the watchdog has ended it.
    #[cfg(feature = "properties")]
    pub(crate) fn is_given_up(&self) -> bool {
        self.shared.is_given_up.load(Ordering::Relaxed)
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
        server.see_reaps();
        if server.progress != before {
            self.shared.changed.notify_waiters();
        }
        server.recorder.timeline()
    }

    /// Writes a line of the code under test into the timeline.
    pub fn note(&self, text: impl fmt::Display) {
        self.shared
            .note(self.now(), |_| Who::Subject, text.to_string());
    }
}
