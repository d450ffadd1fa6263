//! One run of an agent, as the test controls it.

use std::fmt;
use std::sync::Arc;

use agent_stub::protocol::Order;
use agent_stub::script::{Destination, ScriptError, Statement};
use agent_stub::{Hygiene, Quoted};

use super::shared::Shared;
use crate::script::Script;
use crate::status::ExitStatus;
use crate::timeline::EventSource;
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// One life of an agent, from its start to its end, as the test controls it.
///
/// A run does at once what the test tells it, and interrupts its script for that. Then the script goes on.
#[derive(Clone)]
pub struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    pub(super) member: usize,
    pub(super) number: u32,
    pub(super) pid: u32,
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
    #[cfg(feature = "conformance")]
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
        let who = EventSource::run(Arc::clone(&self.name), self.number);
        format!("{who} {what}")
    }

    /// Waits until a descendant of the run with this name has said hello, and returns its process.
    ///
    /// Cancel-safe.
    #[cfg(feature = "conformance")]
    pub(crate) async fn descendant(&self, name: &str) -> Run {
        let who = EventSource::descendant(Arc::clone(&self.name), self.number, name);
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
    #[cfg(feature = "conformance")]
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

/// Panics where the script is given, if no agent can do it. Otherwise the agent would report an error later,
/// and then wait for ever.
#[track_caller]
pub(super) fn check(agent: &str, script: Result<(), String>) {
    if let Err(error) = script {
        panic!("agent {agent:?} cannot do what its script says: {error}");
    }
}
