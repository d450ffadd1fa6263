//! The stage on which a case of a rule is played: the subject, its services, and what the harness
//! does to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::subject::{AnySession, AnySubject, SubjectError};
use super::trial_error::TrialError;
use crate::rules::{
    Control, ControlCall, Facts, Notice, Noticed, Observed, PROBE, Profile, Reporter, RestReason,
    Service, ServiceGroup,
};
use crate::script::Script;
use crate::sim::SimHandle;
use crate::sim::agent::{Agent, Run};
use crate::timestamp::Timestamp;

/// How long the harness waits for a subject, in units.
const PATIENCE: u32 = 300;

/// What the subject has said and what it was told so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    notices: Vec<Noticed>,
    pub(super) calls: Vec<ControlCall>,
}

/// One case of a rule, while it is played.
pub(super) struct Stage<'a> {
    sim: SimHandle,
    pub(super) subject: &'a dyn AnySubject,
    profile: &'a Profile,
    service: RefCell<Service>,
    pub(super) group: RefCell<Option<ServiceGroup>>,
    log: Arc<Mutex<Log>>,
    /// Notified when the subject has said something.
    said: Arc<Notify>,
    facts: RefCell<Facts>,
    agents: RefCell<BTreeMap<String, Agent>>,
    /// Held until `Stage::observed` has returned: dropping a session ends its supervisor, and the
    /// service with it.
    pub(super) sessions: RefCell<Vec<Rc<dyn AnySession>>>,
    /// When `Stage::observed` was called.
    end: Cell<Option<Timestamp>>,
}

/// Makes a service as the subject will be given it. It has the default settings in the profile's
/// units, then what `ask` changes, then what the profile fixes.
pub(super) fn asked(name: &str, profile: &Profile, ask: &dyn Fn(&mut Service)) -> Service {
    let unit = profile.unit();
    let mut service = Service::new(name);
    service.delays.initial = unit;
    service.delays.max = unit * 60;
    service.grace = unit * 5;
    ask(&mut service);
    profile.fit(&mut service);
    service
}

impl<'a> Stage<'a> {
    /// The name of the service that the rule is about.
    pub(super) const SERVICE: &'static str = "worker";

    /// Makes a stage with the service that the rule is about, as the subject will be given it.
    pub(super) fn new(
        sim: SimHandle,
        subject: &'a dyn AnySubject,
        profile: &'a Profile,
        script: Script,
        ask: &dyn Fn(&mut Service),
    ) -> Stage<'a> {
        let stage = Stage {
            sim,
            subject,
            profile,
            service: RefCell::new(Service::new(Stage::SERVICE)),
            group: RefCell::default(),
            log: Arc::default(),
            said: Arc::default(),
            facts: RefCell::default(),
            agents: RefCell::default(),
            sessions: RefCell::default(),
            end: Cell::new(None),
        };
        let service = stage.service_of(Stage::SERVICE, script, ask);
        *stage.service.borrow_mut() = service;
        stage
    }

    /// Makes a service with an agent of its own, as the subject will be given it.
    pub(super) fn service_of(
        &self,
        name: &str,
        script: Script,
        ask: &dyn Fn(&mut Service),
    ) -> Service {
        let agent = self.sim.agent(name, script);
        // Each service draws its jitter from a seed of its own.
        let place = self.agents.borrow().len() as u64;
        let seed = self.sim.seed().wrapping_add(place);
        let mut service = asked(name, self.profile, &|service| {
            service.program = agent.program().to_owned();
            service.args = agent.args();
            service.seed = seed;
            ask(service);
        });
        let (log, said) = (Arc::clone(&self.log), Arc::clone(&self.said));
        let (sim, noted) = (self.sim.clone(), agent.clone());
        // The rule judges only what the subject says about this service.
        let is_own = name == Stage::SERVICE;
        service.set_reporter(Reporter::new(move |notice| {
            noted.note(&notice);
            let at = sim.now();
            if is_own {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.notices.push(Noticed::new(at, notice));
            }
            said.notify_waiters();
        }));
        self.agents.borrow_mut().insert(name.to_owned(), agent);
        service
    }

    /// Has an agent with this script probe the service, if the service asks for a probe. Must be
    /// called before the subject begins with the service.
    pub(super) fn probed_by(&self, script: Script) {
        let agent = self.sim.agent(PROBE, script);
        if let Some(probe) = &mut self.service.borrow_mut().probe {
            probe.program = agent.program().to_owned();
            probe.args = agent.args();
        }
        self.agents.borrow_mut().insert(PROBE.to_owned(), agent);
    }

    /// Returns the sim of the case.
    pub(super) fn sim(&self) -> &SimHandle {
        &self.sim
    }

    /// Returns what the subject declares, in this case's time.
    pub(super) fn profile(&self) -> &Profile {
        self.profile
    }

    /// Returns the service as the subject has it.
    pub(super) fn service(&self) -> Service {
        self.service.borrow().clone()
    }

    /// Returns the service's agent.
    pub(super) fn agent(&self) -> Agent {
        self.agent_of(Stage::SERVICE)
    }

    /// Returns the agent of that name. If there is none, makes one whose runs have an empty script.
    pub(super) fn agent_of(&self, name: &str) -> Agent {
        let agents = self.agents.borrow();
        agents.get(name).cloned().unwrap_or_else(|| {
            drop(agents);
            self.sim.agent(name, Script::new())
        })
    }

    /// Returns so many units as a time.
    pub(super) fn units(&self, units: f64) -> Duration {
        self.profile.unit().mul_f64(units)
    }

    /// Lets so many units pass.
    pub(super) async fn pass(&self, units: f64) {
        tokio::time::sleep(self.units(units)).await;
    }

    /// Lets `time` pass, then the profile's tolerance and one unit more. What the subject has not
    /// done by then is late.
    pub(super) async fn outlast(&self, time: Duration) {
        let most = time + self.profile.tolerance().late;
        tokio::time::sleep(most).await;
        self.pass(1.0).await;
    }

    /// Makes that folder the service's `state`.
    pub(super) fn keep_state_in(&self, folder: PathBuf) {
        self.service.borrow_mut().state = Some(folder);
    }

    /// Waits for the service's next run.
    pub(super) async fn started(&self) -> Result<Run, TrialError> {
        self.started_of(Stage::SERVICE).await
    }

    /// Waits for the next run of the agent of that name.
    pub(super) async fn started_of(&self, name: &str) -> Result<Run, TrialError> {
        let agent = self.agent_of(name);
        self.wait(agent.started()).await.ok_or_else(|| {
            TrialError(format!(
                "run {} of `{name}` has not started",
                agent.runs() + 1
            ))
        })
    }

    /// Waits for the next `runs` runs of the service, one after the other, until the last of them
    /// has ended.
    pub(super) async fn ended(&self, runs: usize) -> Result<(), TrialError> {
        for number in 1..=runs {
            let run = self.started().await?;
            if self.wait(run.ended()).await.is_none() {
                return Err(TrialError(format!("run {number} has not ended")));
            }
        }
        Ok(())
    }

    /// Waits until the subject has said `count` things of a kind since the case began.
    pub(super) async fn heard(
        &self,
        count: usize,
        is_meant: impl Fn(&Notice) -> bool,
    ) -> Result<(), TrialError> {
        let heard = async {
            loop {
                let mut said = pin!(self.said.notified());
                // Register before looking, so that no notice that comes after the look is missed.
                said.as_mut().enable();
                let is_heard = |noticed: &&Noticed| is_meant(&noticed.notice);
                if self.log().notices.iter().filter(is_heard).count() >= count {
                    return;
                }
                said.await;
            }
        };
        let halt = || {
            TrialError(format!(
                "the subject has not said what was expected {count} times"
            ))
        };
        self.wait(heard).await.ok_or_else(halt)
    }

    /// Returns a time that is longer than the delay after the service's last run may be.
    pub(super) fn a_delay(&self) -> Duration {
        let runs = u32::try_from(self.agent().runs()).unwrap_or(u32::MAX);
        let delay = self.service.borrow().delays.bounds(runs).1;
        delay + self.profile.tolerance().late * 2 + self.units(0.5)
    }

    /// Waits for the next run. Returns `None` if it has not started after the longest delay that
    /// there may be.
    pub(super) async fn next_run(&self) -> Option<Run> {
        let next = self.agent();
        tokio::time::timeout(self.a_delay(), next.started())
            .await
            .ok()
    }

    /// Waits until `most` more runs have ended. Returns earlier if no more runs come or one does
    /// not end.
    pub(super) async fn flapped(&self, most: usize) {
        for _ in 0..most {
            let Some(run) = self.next_run().await else {
                return;
            };
            if self.wait(run.ended()).await.is_none() {
                return;
            }
        }
    }

    /// Waits for the future, for at most `PATIENCE` units. Returns `None` if that was not enough.
    pub(super) async fn wait<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        let limit = self.units(f64::from(PATIENCE));
        tokio::time::timeout(limit, what).await.ok()
    }

    /// Tells the subject something. Logs when that was, when the call returned, and with what.
    /// Returns `None` if the call did not return in time.
    pub(super) async fn told<T>(
        &self,
        name: &str,
        control: Control,
        call: impl Future<Output = T>,
    ) -> Option<T>
    where
        T: Answer,
    {
        let place = {
            let mut log = self.log();
            log.calls
                .push(ControlCall::new(name, control, self.sim.now()));
            log.calls.len() - 1
        };
        if control != Control::Outcome {
            self.sim.note(format_args!("told `{name}`: {control}"));
        }
        let answer = self.wait(call).await?;
        let mut log = self.log();
        let call = &mut log.calls[place];
        call.to = Some(self.sim.now());
        answer.write_down(call);
        Some(answer)
    }

    pub(super) fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `write` record facts that the timeline does not show.
    pub(super) fn facts(&self, write: impl FnOnce(&mut Facts)) {
        write(&mut self.facts.borrow_mut());
    }

    /// Returns what was seen so far. What happens later is not judged.
    pub(super) fn observed(&self) -> Observed {
        let end = self.sim.now();
        let timeline = self.sim.timeline();
        self.end.set(Some(end));
        let mut observed = Observed::new(timeline, self.service(), self.profile.clone());
        let log = self.log();
        observed.group.clone_from(&self.group.borrow());
        observed.notices.clone_from(&log.notices);
        observed.calls.clone_from(&log.calls);
        observed.facts = self.facts.borrow().clone();
        observed.end = end;
        observed
    }
}

/// What a call to the subject returns.
pub(super) trait Answer {
    fn write_down(&self, call: &mut ControlCall);
}

impl<T> Answer for Result<T, SubjectError> {
    fn write_down(&self, call: &mut ControlCall) {
        call.error = self.as_ref().err().map(|error| error.text().to_owned());
    }
}

impl Answer for RestReason {
    fn write_down(&self, call: &mut ControlCall) {
        call.rest = Some(self.clone());
    }
}
