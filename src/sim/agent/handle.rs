//! An agent, as the test has it: its command, its script and its runs.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tokio::time::Instant as TokioInstant;

#[cfg(feature = "supervisor")]
use super::following::Following;
use super::run::{Run, check};
use super::server::Server;
use super::shared::Shared;
use crate::script::Script;
#[cfg(feature = "supervisor")]
use crate::supervisor::SpawnerOptions;
#[cfg(feature = "supervisor")]
use crate::supervisor::SupervisorEvents;
use crate::timeline::EventSource;
use crate::timestamp::Timestamp;

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
    #[cfg(feature = "supervisor")]
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
            EventSource::run(
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
    #[cfg(feature = "supervisor")]
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
