//! Plays a scenario: the reference supervisor, its agents, and the steps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{PipeReader, Read};
use std::rc::Rc;
use std::time::Duration;

use supervise_harness::supervisor::{Status, Supervisor, SupervisorState};
use supervise_harness::{EventKind, Following, Sim, SimHandle, Timeline, Timestamp};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::agent::AgentSpec;
use super::model::Scenario;
use super::step::{Moment, Request, StateName, Step};

/// The longest that a scenario may take, in virtual time: a crash loop never ends by itself.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long everything is watched after the supervisors rest: nothing may start any more.
const AFTERWARDS: Duration = Duration::from_secs(3600);

/// One agent's supervisor.
struct Part {
    supervisor: Option<Rc<Supervisor>>,
    /// What it says, and where what it was asked stands among that.
    following: Following,
    output: Option<Output>,
}

type Shared = Rc<RefCell<Part>>;

impl Part {
    fn start(sim: &SimHandle, scenario: &Scenario, spec: &AgentSpec) -> Part {
        let settings = &scenario.supervisor;
        let agent = sim.agent(&spec.name, spec.script());
        let mut options = agent.spawner_options();
        if let Some(program) = &settings.program {
            options = options.agent_path(program);
        }
        if let Some(grace) = settings.grace {
            options = options.grace(grace.0);
        }
        if let Some(signal) = settings.stop_signal {
            options = options.stop_signal(signal.0);
        }
        let mut output = None;
        if spec.piped {
            let (reader, writer) = std::io::pipe().unwrap();
            options = options.stdout(writer);
            output = Some(Output::read(reader));
        }
        let mut builder = Supervisor::builder(options.build().unwrap(), &spec.name)
            .tracker(settings.tracker())
            .readiness(settings.readiness());
        if let Some(backoff) = &settings.backoff {
            builder = builder.backoff(backoff.strategy());
        }
        if let Some(timeout) = settings.start_timeout {
            builder = builder.start_timeout(timeout.0);
        }
        if let Some(probe) = &spec.probe {
            let name = format!("{}-probe", spec.name);
            builder = builder.probe(probe.of(&sim.agent(&name, probe.script())));
        }
        let (supervisor, events) = builder.start().unwrap();
        Part {
            supervisor: Some(Rc::new(supervisor)),
            following: agent.follow(events),
            output,
        }
    }
}

/// The reader of an agent's standard output.
struct Output {
    task: JoinHandle<()>,
    bytes: Rc<Cell<usize>>,
    rest: PipeReader,
}

impl Output {
    fn read(reader: PipeReader) -> Output {
        let rest = reader.try_clone().unwrap();
        let bytes = Rc::new(Cell::new(0));
        let read = Rc::clone(&bytes);
        let task = tokio::task::spawn_local(async move {
            let mut reader = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
            let mut chunk = vec![0; 1 << 16];
            while let some @ 1.. = reader.read(&mut chunk).await.unwrap() {
                read.set(read.get() + some);
            }
        });
        Output { task, bytes, rest }
    }

    /// What came out of it, once the agent and its descendants have ended. It does not wait for the
    /// pipe's end: a child of another test has the pipe, too, from its fork to its exec, and no virtual
    /// clock waits for that.
    fn bytes(mut self) -> usize {
        self.task.abort();
        let mut bytes = self.bytes.get();
        let mut chunk = vec![0; 1 << 16];
        // It does not block: tokio has seen to that.
        while let Ok(some @ 1..) = self.rest.read(&mut chunk) {
            bytes += some;
        }
        bytes
    }
}

/// The timeline's text, or its summary's.
pub(super) fn play(scenario: &Scenario) -> String {
    let timeline = Sim::new().run(async |sim| {
        let specs = scenario.agent.iter();
        let parts: Vec<Shared> = specs
            .map(|spec| Rc::new(RefCell::new(Part::start(&sim, scenario, spec.get_ref()))))
            .collect();
        timeout(LONGEST, all_steps(&sim, scenario, &parts))
            .await
            .expect("a scenario that ends");
    });
    if scenario.summary {
        summary(&timeline)
    } else {
        timeline.to_string()
    }
}

async fn all_steps(sim: &SimHandle, scenario: &Scenario, parts: &[Shared]) {
    let mut requests = Vec::new();
    for step in &scenario.step {
        let step = step.get_ref();
        let part = &parts[scenario.whose(step)];
        wait_for_step(sim, step, part).await;
        requests.extend(ask(step.request, part));
    }
    for request in requests {
        request.await.unwrap();
    }
    match scenario.end {
        Some(end) => sleep((Timestamp::ORIGIN + end.0).saturating_since(sim.now())).await,
        None => {
            for part in parts {
                let supervisor = part.borrow().supervisor.clone();
                if let Some(supervisor) = supervisor {
                    supervisor.wait().await.unwrap();
                }
            }
            sleep(AFTERWARDS).await;
        }
    }
    for part in parts {
        let mut this = part.borrow_mut();
        let Some(supervisor) = this.supervisor.take() else {
            continue;
        };
        if !matches!(supervisor.status().state, SupervisorState::Resting(_)) {
            this.following
                .note("the scenario ends: the supervisor is dropped");
        }
    }
    // What dropping them ends has ended when time passes.
    sleep(Duration::from_secs(1)).await;
    for part in parts {
        let output = part.borrow_mut().output.take();
        if let Some(output) = output {
            let text = format!("{} bytes came out of its standard output", output.bytes());
            part.borrow().following.note(text);
        }
    }
}

async fn wait_for_step(sim: &SimHandle, step: &Step, part: &Shared) {
    if let Some(at) = step.at {
        sleep((Timestamp::ORIGIN + at.0).saturating_since(sim.now())).await;
    }
    let supervisor = part.borrow().supervisor.clone();
    if let Some(moment) = step.when {
        let supervisor = supervisor.expect("a supervisor that was not dropped");
        supervisor
            .wait_for(|status| is_at(moment, status))
            .await
            .unwrap();
    }
}

fn is_at(moment: Moment, status: &Status) -> bool {
    let state = match status.state {
        SupervisorState::Starting => StateName::Starting,
        SupervisorState::Up => StateName::Up,
        SupervisorState::BackingOff => StateName::BackingOff,
        SupervisorState::Stopping => StateName::Stopping,
        SupervisorState::Resting(_) => StateName::Resting,
        _ => return false,
    };
    moment.state == state && moment.run.is_none_or(|run| run == status.runs)
}

/// Asks without waiting for the answer, which is noted when it comes.
fn ask(request: Request, part: &Shared) -> Option<JoinHandle<()>> {
    let supervisor = {
        let mut part = part.borrow_mut();
        part.following.note(format!("asked to {request}"));
        match request {
            Request::Drop => {
                part.supervisor = None;
                return None;
            }
            _ => part.supervisor.clone(),
        }
    };
    let supervisor = supervisor.expect("a supervisor that was not dropped");
    let following = part.borrow().following.clone();
    Some(tokio::task::spawn_local(async move {
        let answer = match request {
            Request::Stop => supervisor.stop().await.map(|outcome| outcome.to_string()),
            Request::Start => supervisor.start().await.map(|()| "done".to_owned()),
            Request::Restart => supervisor.restart().await.map(|()| "done".to_owned()),
            Request::Reset | Request::Drop => supervisor.reset().await.map(|()| "done".to_owned()),
        };
        let answer = answer.unwrap_or_else(|error| error.to_string());
        following.note(format!("{request} returned: {answer}"));
    }))
}

/// How many of what.
fn tally(text: &mut String, title: &str, things: impl IntoIterator<Item = String>) {
    let mut counts = BTreeMap::<String, usize>::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    writeln!(text, "{title}").unwrap();
    for (thing, count) in counts {
        writeln!(text, "  {count} x {thing}").unwrap();
    }
}

fn summary(timeline: &Timeline) -> String {
    let mut text = String::new();
    let events = timeline.events();
    for agent in timeline.agents() {
        writeln!(text, "{agent} started {} times", timeline.starts(agent)).unwrap();
        writeln!(
            text,
            "two runs at once {} times",
            timeline.overlaps(agent).len()
        )
        .unwrap();
        let own = events
            .iter()
            .filter(|event| event.who.agent() == Some(agent));
        let own = own.filter(|event| !matches!(event.what, EventKind::Note { .. }));
        tally(
            &mut text,
            "what happened:",
            own.map(|event| event.what.to_string()),
        );
        let gaps = timeline.gaps(agent);
        tally(
            &mut text,
            "delays:",
            gaps.iter().map(|gap| format!("{gap:?}")),
        );
    }
    let last = &events[events.len().saturating_sub(6)..];
    writeln!(text, "the last events:").unwrap();
    for event in last {
        writeln!(text, "  {} {} {}", event.at, event.who, event.what).unwrap();
    }
    text
}
