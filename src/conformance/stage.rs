//! Where a case of a rule is played: a subject, its services, and what is done to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::subject::{AnySession, AnySubject, Local, SubjectError};
use crate::agent::{Agent, Run, Script};
use crate::process::{open_pidfd, send_signal};
use crate::rules::{
    Call, Control, Facts, Notice, Noticed, Observed, PROBE, Profile, Reporter, Rest, Service,
    ServiceGroup,
};
use crate::sim::SimHandle;
use crate::{Signal, Timestamp};

/// How long a subject is waited for, in units.
const PATIENCE: u32 = 300;

/// Why a case was not played to its end. What was seen until then is judged all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Halt(pub(super) String);

impl Halt {
    /// The harness itself could not do its part.
    pub(super) fn of(what: &str, error: &std::io::Error) -> Halt {
        Halt(format!("{what}: {error}"))
    }
}

/// What was said and told so far.
#[derive(Debug, Default)]
struct Log {
    notices: Vec<Noticed>,
    calls: Vec<Call>,
}

/// One case of a rule, while it is played.
pub(super) struct Stage<'a> {
    sim: SimHandle,
    subject: &'a dyn AnySubject,
    profile: &'a Profile,
    service: RefCell<Service>,
    group: RefCell<Option<ServiceGroup>>,
    log: Arc<Mutex<Log>>,
    /// Told when the subject has said something.
    said: Arc<Notify>,
    facts: RefCell<Facts>,
    agents: RefCell<BTreeMap<String, Agent>>,
    /// Held until what was seen is taken: a supervisor that ends takes its service with it.
    sessions: RefCell<Vec<Rc<dyn AnySession>>>,
    /// Set once, when what was seen is taken.
    end: Cell<Option<Timestamp>>,
}

/// A service in the hands of the subject.
#[derive(Clone)]
pub(super) struct Live<'a> {
    name: String,
    session: Rc<dyn AnySession>,
    stage: &'a Stage<'a>,
}

/// A service with the defaults in the profile's unit and what is asked beside them, as the subject
/// will have it.
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

    /// With the service as the subject will have it.
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

    /// Another service, of another agent, as the subject will have it.
    pub(super) fn service_of(
        &self,
        name: &str,
        script: Script,
        ask: &dyn Fn(&mut Service),
    ) -> Service {
        let agent = self.sim.agent(name, script);
        // Each service draws its own.
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
        // What is said of another is not the service's that is judged.
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

    /// Has the service probed by an agent that does this in its runs, where it is to be probed. Only
    /// before the subject begins with it.
    pub(super) fn probed_by(&self, script: Script) {
        let agent = self.sim.agent(PROBE, script);
        if let Some(probe) = &mut self.service.borrow_mut().probe {
            probe.program = agent.program().to_owned();
            probe.args = agent.args();
        }
        self.agents.borrow_mut().insert(PROBE.to_owned(), agent);
    }

    /// The sim.
    pub(super) fn sim(&self) -> &SimHandle {
        &self.sim
    }

    /// What the subject declares.
    pub(super) fn profile(&self) -> &Profile {
        self.profile
    }

    /// The service as the subject has it.
    pub(super) fn service(&self) -> Service {
        self.service.borrow().clone()
    }

    /// The service's agent.
    pub(super) fn agent(&self) -> Agent {
        self.agent_of(Stage::SERVICE)
    }

    /// The agent of that name.
    pub(super) fn agent_of(&self, name: &str) -> Agent {
        let agents = self.agents.borrow();
        agents.get(name).cloned().unwrap_or_else(|| {
            drop(agents);
            self.sim.agent(name, Script::new())
        })
    }

    /// So many units.
    pub(super) fn units(&self, units: f64) -> Duration {
        self.profile.unit().mul_f64(units)
    }

    /// Lets so many units pass.
    pub(super) async fn pass(&self, units: f64) {
        tokio::time::sleep(self.units(units)).await;
    }

    /// Lets so much time pass, and as much more as the subject may be late: only then it is late.
    pub(super) async fn outlast(&self, time: Duration) {
        let most = time + self.profile.tolerance();
        tokio::time::sleep(most).await;
        self.pass(1.0).await;
    }

    /// Has the subject begin with the service.
    pub(super) async fn begin(&'a self) -> Result<Live<'a>, Halt> {
        let service = self.service();
        self.begin_with(service).await
    }

    /// Has the subject begin with another service.
    pub(super) async fn begin_with(&'a self, service: Service) -> Result<Live<'a>, Halt> {
        let started = self.subject.start(&service);
        self.begun(&service.name, started).await
    }

    /// Has the subject begin with a group, which the rule's service is one of. What the group is told
    /// is written down as told to that one.
    pub(super) async fn begin_group(&'a self, group: ServiceGroup) -> Result<Live<'a>, Halt> {
        *self.group.borrow_mut() = Some(group.clone());
        let started = self.subject.start_group(&group);
        self.begun(Stage::SERVICE, started).await
    }

    /// Has the subject begin with the service as a process of its own. That it is refused may be what is
    /// judged: it stands in the calls.
    pub(super) async fn begin_apart(&'a self) -> Result<Live<'a>, Halt> {
        let service = self.service();
        let started = self.subject.start_apart(&service);
        self.begun(&service.name, started).await
    }

    /// Has the service kept in that folder.
    pub(super) fn keep_state_in(&self, folder: PathBuf) {
        self.service.borrow_mut().state = Some(folder);
    }

    async fn begun(
        &'a self,
        name: &str,
        started: Local<'_, Result<Box<dyn AnySession>, SubjectError>>,
    ) -> Result<Live<'a>, Halt> {
        match self.told(name, Control::Begin, started).await {
            Some(Ok(session)) => {
                let session = Rc::from(session);
                self.sessions.borrow_mut().push(Rc::clone(&session));
                Ok(Live {
                    name: name.to_owned(),
                    session,
                    stage: self,
                })
            }
            Some(Err(error)) => Err(Halt(format!("the subject did not begin: {}", error.text()))),
            None => Err(Halt("the subject's start has not returned".to_owned())),
        }
    }

    /// Waits for the service's next run.
    pub(super) async fn started(&self) -> Result<Run, Halt> {
        self.started_of(Stage::SERVICE).await
    }

    /// Waits for the next run of the agent of that name.
    pub(super) async fn started_of(&self, name: &str) -> Result<Run, Halt> {
        let agent = self.agent_of(name);
        self.wait(agent.started()).await.ok_or_else(|| {
            Halt(format!(
                "run {} of `{name}` has not started",
                agent.runs() + 1
            ))
        })
    }

    /// Waits until the service has had so many runs, and the last of them has ended.
    pub(super) async fn ended(&self, runs: usize) -> Result<(), Halt> {
        for number in 1..=runs {
            let run = self.started().await?;
            if self.wait(run.ended()).await.is_none() {
                return Err(Halt(format!("run {number} has not ended")));
            }
        }
        Ok(())
    }

    /// Waits until the subject has said so many things of a kind.
    pub(super) async fn heard(
        &self,
        count: usize,
        is_meant: impl Fn(&Notice) -> bool,
    ) -> Result<(), Halt> {
        let heard = async {
            loop {
                let mut said = pin!(self.said.notified());
                // Registered before the look: nothing that comes after it is missed.
                said.as_mut().enable();
                let is_heard = |noticed: &&Noticed| is_meant(&noticed.notice);
                if self.log().notices.iter().filter(is_heard).count() >= count {
                    return;
                }
                said.await;
            }
        };
        let halt = || {
            Halt(format!(
                "the subject has not said what was expected {count} times"
            ))
        };
        self.wait(heard).await.ok_or_else(halt)
    }

    /// Longer than the delay after the service's last run may be.
    pub(super) fn a_delay(&self) -> Duration {
        let runs = u32::try_from(self.agent().runs()).unwrap_or(u32::MAX);
        let delay = self.service.borrow().delays.bounds(runs).1;
        delay + self.profile.tolerance() * 2 + self.units(0.5)
    }

    /// Waits for the next run until no delay can be so long.
    pub(super) async fn next_run(&self) -> Option<Run> {
        let next = self.agent();
        tokio::time::timeout(self.a_delay(), next.started())
            .await
            .ok()
    }

    /// Waits for what follows an end: the next run, else how the subject rests where it says so.
    pub(super) async fn followed(&self, live: &Live<'_>) -> Option<Run> {
        let next = self.next_run().await;
        if next.is_none() && self.profile.reports_rest {
            live.outcome().await;
        }
        next
    }

    /// Waits until so many runs have ended, or no more come.
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

    /// Waits, but not for ever.
    pub(super) async fn wait<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        let limit = self.units(f64::from(PATIENCE));
        tokio::time::timeout(limit, what).await.ok()
    }

    /// Tells the subject something, and writes down when, and what came of it.
    async fn told<T>(
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
            log.calls.push(Call::new(name, control, self.sim.now()));
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

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what was seen beside the timeline.
    pub(super) fn facts(&self, write: impl FnOnce(&mut Facts)) {
        write(&mut self.facts.borrow_mut());
    }

    /// Looking ends here; what happens later is not judged.
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

/// What a call returns.
trait Answer {
    fn write_down(&self, call: &mut Call);
}

impl<T> Answer for Result<T, SubjectError> {
    fn write_down(&self, call: &mut Call) {
        call.error = self.as_ref().err().map(|error| error.text().to_owned());
    }
}

impl Answer for Rest {
    fn write_down(&self, call: &mut Call) {
        call.rest = Some(self.clone());
    }
}

impl Live<'_> {
    async fn told(&self, control: Control, call: Local<'_, Result<(), SubjectError>>) -> bool {
        let answer = self.stage.told(&self.name, control, call).await;
        matches!(answer, Some(Ok(())))
    }

    /// Stops it. False where that failed or has not returned.
    pub(super) async fn stop(&self) -> bool {
        self.told(Control::Stop, self.session.stop()).await
    }

    /// Restarts it. False where that failed or has not returned.
    pub(super) async fn restart(&self) -> bool {
        self.told(Control::Restart, self.session.restart()).await
    }

    /// Starts it where it is down. False where that failed or has not returned.
    pub(super) async fn start(&self) -> bool {
        self.told(Control::Start, self.session.start()).await
    }

    /// Has its counts forgotten. False where that failed or has not returned.
    pub(super) async fn reset(&self) -> bool {
        self.told(Control::Reset, self.session.reset()).await
    }

    /// Waits until the subject rests; `None` where it does not.
    pub(super) async fn outcome(&self) -> Option<Rest> {
        let answer = self.session.outcome();
        self.stage.told(&self.name, Control::Outcome, answer).await
    }

    /// Kills its supervisor, which is a process of its own, and waits until that has ended.
    pub(super) async fn crash(&self) -> Result<(), Halt> {
        let process = self.process()?;
        let what = "the subject's process cannot be killed";
        let pidfd = open_pidfd(process).map_err(|error| Halt::of(what, &error))?;
        let kill = async {
            send_signal(pidfd.as_fd(), Some(Signal::KILL))?;
            // SAFETY: it borrows an OwnedFd, which is open, and outlives the AsyncFd.
            let ended =
                unsafe { AsyncFd::register_with_interest(pidfd.as_fd(), Interest::READABLE) }?;
            let _ready = ended.readable().await?;
            Ok::<(), SubjectError>(())
        };
        match self.stage.told(&self.name, Control::Crash, kill).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(Halt(format!("{what}: {}", error.text()))),
            None => Err(Halt("the subject's process does not end".to_owned())),
        }
    }

    /// Its supervisor's process.
    pub(super) fn process(&self) -> Result<u32, Halt> {
        let none = || Halt("the session does not name its supervisor's process".to_owned());
        self.session.process().ok_or_else(none)
    }

    /// Ends its supervisor: drops the session. No clone of this may be left.
    pub(super) fn end(self) {
        let sim = self.stage.sim();
        let mut call = Call::new(&self.name, Control::End, sim.now());
        sim.note(format_args!("told `{}`: {}", self.name, Control::End));
        let mut sessions = self.stage.sessions.borrow_mut();
        sessions.retain(|held| !Rc::ptr_eq(held, &self.session));
        drop(sessions);
        drop(self.session);
        call.to = Some(sim.now());
        self.stage.log().calls.push(call);
    }
}
