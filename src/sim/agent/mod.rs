//! The harness's side of an agent: its script, its runs, and what they did.

mod locked;
mod member;
mod server;
mod waits;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use agent_stub::protocol::Order;
use agent_stub::script::{Destination, ScriptError, Statement};
use agent_stub::{Hygiene, Quoted};
use tokio::sync::Notify;
use tokio::time::Instant as TokioInstant;

use crate::script::Script;
pub(crate) use locked::Locked;
#[cfg(feature = "properties")]
pub(crate) use locked::at_work;
pub(crate) use member::{KernelState, Member};
pub(crate) use server::{Server, parent_and_start};
pub(crate) use waits::Waits;

use crate::status::ExitStatus;
use crate::supervisor::SpawnerOptions;
use crate::supervisor::SupervisorEvents;
use crate::timeline::{What, Who};
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// The server, shared by the idle gate, the watchdog and the handles.
#[derive(Debug)]
pub(crate) struct Shared {
    server: Mutex<Server>,
    /// Notified when the server has taken something in.
    pub(crate) changed: Notify,
    /// Notified when the timer of the agents' waits has to look again, or when the runtime must not sleep.
    pub(crate) timer: Notify,
    /// Notified when the body is over and the effects of its last act have shown.
    pub(crate) settled: Notify,
    /// Whether agents wait by the harness's clock, and not by the machine's.
    pub(crate) is_virtual: bool,
    /// Whether the watchdog has ended the sim.
    pub(crate) is_given_up: AtomicBool,
    /// Whether the code under test has let go of the sim's thread for the last time.
    pub(crate) is_let_go: AtomicBool,
    /// What the body of the sim waits for.
    pub(crate) waits: Waits,
}

impl Shared {
    pub(crate) fn new(server: Server, is_virtual: bool) -> Arc<Shared> {
        Arc::new(Shared {
            server: Mutex::new(server),
            changed: Notify::new(),
            timer: Notify::new(),
            settled: Notify::new(),
            is_virtual,
            is_given_up: AtomicBool::new(false),
            is_let_go: AtomicBool::new(false),
            waits: Waits::of_this_thread(),
        })
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        // If the harness has panicked in the middle of a change, the user is shown that panic.
        Locked::new(self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks the server. `None` if somebody still holds it after `patience`, in real time. The holder may be
    /// the thread of the code under test, and may never let go.
    pub(crate) fn lock_within(&self, patience: Duration) -> Option<Locked<'_>> {
        let start = std::time::Instant::now();
        let mut pause = Duration::from_micros(50);
        loop {
            match self.server.try_lock() {
                Ok(server) => return Some(Locked::new(server)),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return Some(Locked::new(poisoned.into_inner()));
                }
                Err(TryLockError::WouldBlock) if start.elapsed() >= patience => return None,
                // real-time: the thread that holds the server is at work.
                Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }

    /// Records a note. It first takes in the ends and reaps that the kernel knows of by now: they stand
    /// before the note.
    pub(crate) fn note(&self, now: Timestamp, who: impl Fn(&Server) -> Who, text: String) {
        let mut server = self.lock();
        server.now = now;
        let before = server.progress;
        server.see_deaths();
        if server.progress != before {
            self.changed.notify_waiters();
        }
        let who = who(&server);
        server.record(&who, What::Note { text });
    }

    /// Waits until `look` finds something, and returns that. Cancel-safe as far as `look` is. While it waits,
    /// the text about a stuck sim says what `wait` returns: the name of the function that waits, and what has
    /// not come.
    async fn until<T>(
        &self,
        wait: impl Fn() -> (&'static str, String),
        mut look: impl FnMut(&mut Server) -> Option<T>,
    ) -> T {
        let mut begun = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the look, so that nothing that comes after the look is missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            let begun = begun.get_or_insert_with(|| self.waits.begin(wait()));
            std::future::poll_fn(|context| {
                begun.is_polled();
                changed.as_mut().poll(context)
            })
            .await;
        }
    }
}

/// A child process under the harness's control. It has any number of runs of the stub, one after the other or
/// at once. They are numbered from 1 as they start.
///
/// The agent starts nothing itself: the code under test starts its [`command`](Agent::command).
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
    place: usize,
    name: Arc<str>,
    address: String,
    program: PathBuf,
    /// The origin of the sim's clock.
    origin: TokioInstant,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Panics where the script is given, if no agent can do it. Otherwise the agent would report an error later,
/// and then wait for ever.
#[track_caller]
fn check(agent: &str, script: Result<(), String>) {
    if let Err(error) = script {
        panic!("agent {agent:?} cannot do what its script says: {error}");
    }
}

impl Agent {
    #[track_caller]
    pub(crate) fn new(
        shared: &Arc<Shared>,
        name: &str,
        script: Script,
        program: PathBuf,
        origin: TokioInstant,
    ) -> Agent {
        check(name, script.check());
        let mut server = shared.lock();
        let place = server.add_agent(name, script);
        Agent {
            shared: Arc::clone(shared),
            place,
            name: Arc::clone(&server.agents[place].name),
            address: server.address().to_owned(),
            program,
            origin,
        }
    }

    /// The agent's name, as given to [`SimHandle::agent`](crate::SimHandle::agent).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path of the program to start, which is the stub.
    #[must_use]
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// The arguments to start the program with, without the program itself. An agent needs nothing else: code
    /// that clears the environment can start it, too.
    #[must_use]
    pub fn args(&self) -> Vec<OsString> {
        let clock = if self.shared.is_virtual {
            "harness"
        } else {
            "real"
        };
        // An agent ends with its connection. Its lifetime is long, since a sim may take long.
        [
            "--control",
            &self.address,
            "--id",
            &self.name,
            "--clock",
            clock,
            "--lifetime",
            "1h",
        ]
        .map(OsString::from)
        .to_vec()
    }

    /// An ordinary command that starts a run, for the code under test. A tokio command is made from it with
    /// `agent.command().into()`.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.args());
        command
    }

    /// The program and its arguments, as in [`command`](Agent::command), for a [`Spawner`](crate::supervisor::Spawner).
    pub fn spawner_options(&self) -> SpawnerOptions {
        SpawnerOptions::new()
            .agent_path(&self.program)
            .args(self.args())
    }

    /// Replaces the script for the runs that have not started yet.
    ///
    /// # Panics
    ///
    /// If no agent can do what the script says; see [`Script`].
    #[track_caller]
    pub fn set_script(&self, script: Script) {
        check(&self.name, script.check());
        self.shared.lock().agents[self.place].script = script;
    }

    /// Waits for the next run that this method has not returned yet, until that run has first come to rest.
    /// The run has then done what its script begins with, and waits, is blocked, or has ended. So a signal
    /// that the test sends to it then meets the traps of that script. In real time this returns once the run
    /// has said hello.
    ///
    /// Cancel-safe.
    pub async fn started(&self) -> Run {
        let place = self.place;
        let wait = || {
            let missing = format!(
                "no further run of `{}` has started, and come to rest",
                self.name
            );
            ("Agent::started", missing)
        };
        let member = self.shared.until(wait, |server| {
            let agent = &server.agents[place];
            let member = *agent.runs.get(agent.taken)?;
            if !server.has_started(member) {
                return None;
            }
            server.agents[place].taken += 1;
            Some(member)
        });
        let member = member.await;
        let (number, pid) = {
            let server = self.shared.lock();
            (server.members[member].run, server.members[member].pid)
        };
        Run {
            shared: Arc::clone(&self.shared),
            name: Arc::clone(&self.name),
            member,
            number,
            pid,
        }
    }

    /// Writes a line of the code under test into the timeline, beside the agent's last run that has said
    /// hello.
    ///
    /// A process says hello a moment after its spawn has returned. So that moment decides beside which run a
    /// note about a start stands. A note about an end does not depend on it. The events of our own
    /// [`Supervisor`](crate::supervisor::Supervisor) have an order of their own: see [`follow`](Agent::follow).
    pub fn note(&self, text: impl fmt::Display) {
        let now = Timestamp::ORIGIN + (TokioInstant::now() - self.origin);
        let who = |server: &Server| {
            let runs = server.agents[self.place].runs.len();
            Who::run(
                Arc::clone(&self.name),
                u32::try_from(runs).unwrap_or(u32::MAX),
            )
        };
        self.shared.note(now, who, text.to_string());
    }

    /// Writes the events of a [`Supervisor`](crate::supervisor::Supervisor) of this agent into the timeline. Each event
    /// is a note beside its run, at the instant at which the supervisor sent it: `started`, `ready`,
    /// `stopping SIGTERM`, `ended code=1`, `backing off 2s (attempt 3)`, `gave up after ...`.
    ///
    /// Every process that the supervisor starts is a run of the agent from then on, whether it says hello or
    /// not. So a run that is killed before its hello has its `start` and its `exit`, too. A start that fails
    /// also takes a run number, and has nothing but its note. So if one supervisor starts all runs, its run
    /// numbers are those of the agent.
    ///
    /// On a virtual clock, among the events of one instant, a note stands after what it is about: `started`
    /// after the start, `ready` after the run's own `ready` if there is one, `ended` after the reap.
    /// Otherwise it stands before what the run does.
    ///
    /// Call this as soon as the supervisor was started. Events that it sent before this call stand at their
    /// own time, but their runs get numbers only when the events are read.
    ///
    /// ```
    /// use std::time::Duration;
    /// use supervise_harness::supervisor::{RestartLimit, RestartTracker, Supervisor};
    /// use supervise_harness::{Script, Sim};
    ///
    /// let timeline = Sim::new().run(async |sim| {
    ///     let worker = sim.agent("worker", Script::new().run_for(Duration::from_secs(5)).exit(1));
    ///     let tracker = RestartTracker::builder().limit(RestartLimit::consecutive(1).unwrap());
    ///     let (supervisor, events) = Supervisor::builder(worker.spawner_options().build().unwrap(), "worker")
    ///         .tracker(tracker.build().unwrap())
    ///         .start()
    ///         .unwrap();
    ///     worker.follow(events);
    ///     supervisor.wait().await.unwrap();
    /// });
    /// assert_eq!(
    ///     timeline.to_string(),
    ///     r#"timeline v2  clock=virtual
    /// +0.000  worker#1  start
    /// +0.000  worker#1  note     "started"
    /// +0.000  worker#1  note     "ready"
    /// +5.000  worker#1  exit     code=1
    /// +0.000  worker#1  reap
    /// +0.000  worker#1  note     "ended code=1"
    /// +0.000  worker#1  note     "backing off 1s (attempt 0)"
    /// +1.000  worker#2  start
    /// +0.000  worker#2  note     "started"
    /// +0.000  worker#2  note     "ready"
    /// +5.000  worker#2  exit     code=1
    /// +0.000  worker#2  reap
    /// +0.000  worker#2  note     "ended code=1"
    /// +0.000  worker#2  note     "gave up after 1 restart in a row: exit code 1""#
    /// );
    /// ```
    // Most callers have no lines of their own to add.
    #[allow(clippy::must_use_candidate)]
    pub fn follow(&self, events: SupervisorEvents) -> Following {
        let place = self.shared.lock().follow(self.place, events, self.origin);
        Following {
            shared: Arc::clone(&self.shared),
            place,
            origin: self.origin,
        }
    }

    /// How many runs have said hello.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.shared.lock().agents[self.place].runs.len()
    }
}

/// A supervisor whose events are written into the timeline, as returned by `Agent::follow`. It lets the user
/// of the supervisor write lines among them.
#[derive(Clone)]
pub struct Following {
    shared: Arc<Shared>,
    place: usize,
    /// The origin of the sim's clock.
    origin: TokioInstant,
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

impl Following {
    /// Writes a line of the supervisor's user into the timeline, such as what the supervisor was asked and
    /// what it answered. The line stands after what the supervisor has said so far, before what it says next,
    /// and beside the run that the supervisor is at.
    pub fn note(&self, text: impl fmt::Display) {
        // Before the lock is taken: formatting is the user's code, and may ask the sim.
        let text = text.to_string();
        let mut server = self.shared.lock();
        server.now = Timestamp::ORIGIN + (TokioInstant::now() - self.origin);
        server.note_beside(self.place, text);
    }
}

/// One life of an agent, from its start to its end, as the test controls it.
///
/// A run does at once what the test tells it, and interrupts its script for that. Then the script goes on.
#[derive(Clone)]
pub struct Run {
    shared: Arc<Shared>,
    name: Arc<str>,
    member: usize,
    number: u32,
    pid: u32,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Run({}#{}, process {})",
            self.name, self.number, self.pid
        )
    }
}

impl Run {
    /// The run's number among the runs of its agent, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The run's process id. Another process may have the number once this run was reaped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Has the run exit with the code, and waits until it has ended. Returns how it ended; `None` if nobody
    /// could tell.
    pub async fn exit(&self, code: u8) -> Option<ExitStatus> {
        self.order(Statement::Exit(code));
        self.ended_after("Run::exit").await
    }

    /// Has the run die by the signal, without a core dump, and waits until it has ended. If the signal does
    /// not kill, it waits until something else ends the run. Returns how the run ended; `None` if nobody
    /// could tell.
    pub async fn die_by(&self, signal: Signal) -> Option<ExitStatus> {
        self.order(Statement::Die {
            signal,
            core: false,
        });
        self.ended_after("Run::die_by").await
    }

    /// Has the run say that it is ready, on its control connection, and waits until it has said so.
    pub async fn ready(&self) {
        let member = self.member;
        let before = self.shared.lock().members[member].readies;
        self.order(Statement::Ready(agent_stub::script::Channel::Control));
        self.shared
            .until(
                || ("Run::ready", self.lacks("has not said that it is ready")),
                |server| (server.members[member].readies > before).then_some(()),
            )
            .await;
    }

    /// Has the run write the text to its standard output. Does not wait until somebody reads it.
    ///
    /// # Panics
    ///
    /// If the text takes more than 8 MiB in the form that it has in a script, in double quotes.
    #[track_caller]
    pub fn write(&self, text: &str) {
        let script = Script::new().write(text);
        check(&self.name, script.check());
        self.send(&Order::Do(script.of_run(1).clone()));
    }

    /// Has the run do what `statements` say in the stub's own grammar; see [`crate::stub::script`].
    ///
    /// # Errors
    ///
    /// [`ScriptError`] with the line and column in `statements`.
    pub fn perform(&self, statements: &str) -> Result<(), ScriptError> {
        let script = statements.parse()?;
        self.send(&Order::Do(script));
        Ok(())
    }

    /// Has the run exit with the code at once, even while the code under test holds this thread.
    #[cfg(feature = "properties")]
    pub(crate) fn exit_at_once(&self, code: u8) {
        let order = Order::Do(agent_stub::script::Script(vec![Statement::Exit(code)]));
        self.shared.lock().order_at_once(self.member, &order);
    }

    /// Lets the run pass the gate once, now or when it comes to that gate.
    pub fn open(&self, gate: &str) {
        self.send(&Order::Open(Quoted::from(gate)));
    }

    /// Waits until the run is at that gate.
    ///
    /// Cancel-safe.
    pub async fn at_gate(&self, gate: &str) {
        let member = self.member;
        let wait = || {
            let missing = format!("is not at its gate `{gate}`");
            ("Run::at_gate", self.lacks(&missing))
        };
        self.shared
            .until(wait, |server| {
                (server.members[member].gate.as_deref() == Some(gate)).then_some(())
            })
            .await;
    }

    /// The signals that the run has trapped so far. For each: the signal, for which time it came, and when.
    #[must_use]
    pub fn signals(&self) -> Vec<(Signal, u64, Timestamp)> {
        self.shared.lock().signals(self.member)
    }

    /// Has the run report what it inherited from the process that started it, and waits for the report.
    /// `None` if the run ended before it reported.
    pub async fn hygiene(&self) -> Option<Hygiene> {
        let member = self.member;
        let before = self.shared.lock().members[member].hygiene_reports.len();
        self.order(Statement::Hygiene(Destination::Control));
        let wait = || {
            (
                "Run::hygiene",
                self.lacks("has not reported what it inherited"),
            )
        };
        self.shared
            .until(wait, |server| {
                let member = &server.members[member];
                match member.hygiene_reports.get(before) {
                    Some(report) => Some(Some(report.clone())),
                    None => member.ended.map(|_| None),
                }
            })
            .await
    }

    /// Waits until the run has said that it is ready. It waits for ever if the run never says so.
    ///
    /// Cancel-safe.
    pub async fn became_ready(&self) {
        let member = self.member;
        self.shared
            .until(
                || ("Run::became_ready", self.lacks("has not become ready")),
                |server| (server.members[member].readies > 0).then_some(()),
            )
            .await;
    }

    /// Waits until the run has ended, and returns how it ended; `None` if nobody could tell. The run may not
    /// be reaped yet.
    ///
    /// Cancel-safe.
    pub async fn ended(&self) -> Option<ExitStatus> {
        self.ended_after("Run::ended").await
    }

    async fn ended_after(&self, function: &'static str) -> Option<ExitStatus> {
        let member = self.member;
        self.shared
            .until(
                || (function, self.lacks("has not ended")),
                |server| server.members[member].ended,
            )
            .await
    }

    fn lacks(&self, what: &str) -> String {
        let who = Who::run(Arc::clone(&self.name), self.number);
        format!("{who} {what}")
    }

    /// Waits until a descendant of the run with this name has said hello, and returns its process.
    ///
    /// Cancel-safe.
    #[cfg(feature = "properties")]
    pub(crate) async fn descendant(&self, name: &str) -> Run {
        let who = Who::descendant(Arc::clone(&self.name), self.number, name);
        let wait = || ("Run::descendant", format!("{who} has not started"));
        let found = self.shared.until(wait, |server| {
            let place = server.members.iter().position(|member| member.who == who);
            place.map(|place| (place, server.members[place].pid))
        });
        let (member, pid) = found.await;
        Run {
            member,
            pid,
            ..self.clone()
        }
    }

    /// Waits until the run was reaped.
    ///
    /// Cancel-safe.
    #[cfg(feature = "properties")]
    pub(crate) async fn reaped(&self) {
        let member = self.member;
        self.shared
            .until(
                || ("Run::reaped", self.lacks("was not reaped")),
                |server| server.members[member].reaped.then_some(()),
            )
            .await;
    }

    /// Whether the run has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.lock().members[self.member].is_alive()
    }

    fn order(&self, statement: Statement) {
        self.send(&Order::Do(agent_stub::script::Script(vec![statement])));
    }

    fn send(&self, order: &Order) {
        self.shared.lock().order(self.member, order.clone());
        // The runtime has to look again before it lets time pass.
        self.shared.timer.notify_one();
    }
}
