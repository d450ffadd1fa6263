//! What a scenario file says, checked as it is read.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use supervise_harness::backoff::{
    BackoffStrategy, ConstantBackoff, ExponentialBackoff, ExponentialBackoffBuilder,
};
use supervise_harness::supervisor::{
    Probe, Readiness, RestartLimit, RestartPolicy, RestartTracker,
};
use supervise_harness::{Agent, Script, Signal, stub};
use toml::Spanned;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// What it shows, in one line.
    pub(super) about: String,
    #[serde(default)]
    pub(super) supervisor: Settings,
    pub(super) agent: Vec<Spanned<AgentSpec>>,
    #[serde(default)]
    pub(super) step: Vec<Spanned<Step>>,
    /// When it ends, where the supervisors need not rest for that.
    pub(super) end: Option<Period>,
    /// The timeline is too long to be read: a summary of it stands for it.
    #[serde(default)]
    pub(super) summary: bool,
}

/// What every supervisor of the scenario is made of. What is left out is the supervisor's default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    policy: Option<Policy>,
    limit: Option<Limit>,
    pub(super) backoff: Option<Backoff>,
    reset_after: Option<Period>,
    readiness: Option<UpWhen>,
    pub(super) start_timeout: Option<Period>,
    pub(super) grace: Option<Time>,
    pub(super) stop_signal: Option<SignalName>,
    success_codes: Option<Vec<ExitCode>>,
    success_signals: Option<Vec<SignalName>>,
    #[serde(default)]
    prevent_codes: Vec<ExitCode>,
    #[serde(default)]
    prevent_signals: Vec<SignalName>,
    #[serde(default)]
    force_codes: Vec<ExitCode>,
    #[serde(default)]
    force_signals: Vec<SignalName>,
    /// What is started in place of the agent.
    pub(super) program: Option<String>,
}

impl Settings {
    /// All of its values were checked when they were read.
    pub(super) fn tracker(&self) -> RestartTracker {
        let codes = |list: &[ExitCode]| list.iter().map(|code| code.0).collect::<Vec<_>>();
        let signals = |list: &[SignalName]| list.iter().map(|name| name.0).collect::<Vec<_>>();
        let mut tracker = RestartTracker::builder()
            .prevent_restart_codes(codes(&self.prevent_codes))
            .prevent_restart_signals(signals(&self.prevent_signals))
            .force_restart_codes(codes(&self.force_codes))
            .force_restart_signals(signals(&self.force_signals));
        if let Some(policy) = self.policy {
            tracker = tracker.policy(match policy {
                Policy::Never => RestartPolicy::Never,
                Policy::OnFailure => RestartPolicy::OnFailure,
                Policy::Always => RestartPolicy::Always,
            });
        }
        if let Some(Limit(limit)) = self.limit {
            tracker = tracker.limit(limit);
        }
        if let Some(Period(healthy)) = self.reset_after {
            tracker = tracker.reset_after(healthy);
        }
        if let Some(list) = &self.success_codes {
            tracker = tracker.success_codes(codes(list));
        }
        if let Some(list) = &self.success_signals {
            tracker = tracker.success_signals(signals(list));
        }
        tracker.build().expect("checked values")
    }

    pub(super) fn readiness(&self) -> Readiness {
        match self.readiness {
            None | Some(UpWhen::Exec) => Readiness::Exec,
            Some(UpWhen::Notified) => Readiness::Notified,
            Some(UpWhen::MinUptime(Period(time))) => Readiness::MinUptime(time),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    Never,
    OnFailure,
    Always,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UpWhen {
    Exec,
    Notified,
    MinUptime(Period),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "RawLimit")]
struct Limit(RestartLimit);

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawLimit {
    Consecutive(u32),
    Window(RawWindow),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    restarts: u32,
    within: Time,
}

impl TryFrom<RawLimit> for Limit {
    type Error = supervise_harness::supervisor::PolicyError;

    fn try_from(raw: RawLimit) -> Result<Limit, Self::Error> {
        match raw {
            RawLimit::Consecutive(restarts) => RestartLimit::consecutive(restarts),
            RawLimit::Window(window) => RestartLimit::window(window.restarts, window.within.0),
        }
        .map(Limit)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawBackoff")]
pub(super) enum Backoff {
    Constant(Duration),
    Exponential(ExponentialBackoffBuilder),
}

impl Backoff {
    pub(super) fn strategy(&self) -> Box<dyn BackoffStrategy + Send> {
        match self {
            Backoff::Constant(delay) => Box::new(ConstantBackoff::new(*delay)),
            Backoff::Exponential(builder) => {
                Box::new(builder.clone().build().expect("checked values"))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBackoff {
    constant: Option<Time>,
    initial: Option<Time>,
    max: Option<Time>,
    multiplier: Option<f64>,
}

impl TryFrom<RawBackoff> for Backoff {
    type Error = String;

    fn try_from(raw: RawBackoff) -> Result<Backoff, String> {
        let RawBackoff {
            constant,
            initial,
            max,
            multiplier,
        } = raw;
        if let Some(Time(delay)) = constant {
            return match (initial, max, multiplier) {
                (None, None, None) => Ok(Backoff::Constant(delay)),
                _ => Err("a constant delay has no initial, max or multiplier".to_owned()),
            };
        }
        let mut builder = ExponentialBackoff::builder();
        if let Some(Time(initial)) = initial {
            builder = builder.initial(initial);
        }
        if let Some(Time(max)) = max {
            builder = builder.max(max);
        }
        if let Some(multiplier) = multiplier {
            builder = builder.multiplier(multiplier);
        }
        match builder.clone().build() {
            Ok(_) => Ok(Backoff::Exponential(builder)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// An agent, and so a supervisor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentSpec {
    pub(super) name: String,
    runs: Runs,
    /// Its standard output is a pipe that somebody reads, and counts the bytes of.
    #[serde(default)]
    pub(super) piped: bool,
    /// It is asked whether it is healthy, by an agent that is called as it and `-probe`.
    pub(super) probe: Option<ProbeSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeSpec {
    runs: Runs,
    every: Period,
    timeout: Period,
    failures: NonZeroU32,
}

impl ProbeSpec {
    pub(super) fn script(&self) -> Script {
        self.runs.script()
    }

    /// The probe that starts this agent.
    pub(super) fn of(&self, agent: &Agent) -> Probe {
        Probe::new(agent.program())
            .args(agent.args())
            .every(self.every.0)
            .timeout(self.timeout.0)
            .failures(self.failures)
    }
}

impl AgentSpec {
    pub(super) fn script(&self) -> Script {
        self.runs.script()
    }
}

impl Runs {
    fn script(&self) -> Script {
        let Runs(runs) = self;
        let (last, first) = runs.split_last().expect("checked values");
        let script = |some: &SomeRuns| Script::from(some.script.0.clone());
        first
            .iter()
            .map(|some| Script::runs(some.count.unwrap_or(1), script(some)))
            .reduce(Script::then)
            .map_or(script(last), |first| first.then(script(last)))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<SomeRuns>")]
struct Runs(Vec<SomeRuns>);

impl TryFrom<Vec<SomeRuns>> for Runs {
    type Error = &'static str;

    fn try_from(runs: Vec<SomeRuns>) -> Result<Runs, &'static str> {
        match runs.split_last() {
            None => Err("no runs: expected what at least one does"),
            Some((last, _)) if last.count.is_some() => {
                Err("the last runs have no count: they are all the later ones")
            }
            Some((_, first)) if first.iter().any(|some| some.count == Some(0)) => {
                Err("a count of 0: expected 1 or more")
            }
            Some(_) => Ok(Runs(runs)),
        }
    }
}

/// What the next so many runs do: one, or for the last entry all that come.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SomeRuns {
    count: Option<u32>,
    script: Statements,
}

/// What is asked of a supervisor, and when. Steps come in the order of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// A time since the beginning.
    pub(super) at: Option<Time>,
    /// Or a state of the supervisor.
    pub(super) when: Option<Moment>,
    #[serde(rename = "do")]
    pub(super) request: Request,
    /// Whose supervisor, where there are several.
    pub(super) agent: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Request {
    Stop,
    Start,
    Restart,
    Reset,
    Drop,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Request::Stop => "stop",
            Request::Start => "start",
            Request::Restart => "restart",
            Request::Reset => "reset",
            Request::Drop => "drop",
        })
    }
}

/// `state up` or, of one run only, `run 2 up`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) run: Option<u64>,
    pub(super) state: StateName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateName {
    Starting,
    Up,
    BackingOff,
    Stopping,
    Resting,
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = || {
            de::Error::custom(format!(
                "`{text}`: expected `state` or `run` and its number, then starting, up, \
                 backing-off, stopping or resting"
            ))
        };
        let (run, state) = match text.split(' ').collect::<Vec<_>>()[..] {
            ["state", state] => (None, state),
            ["run", run, state] => (Some(run.parse().map_err(|_| bad())?), state),
            _ => return Err(bad()),
        };
        let state = match state {
            "starting" => StateName::Starting,
            "up" => StateName::Up,
            "backing-off" => StateName::BackingOff,
            "stopping" => StateName::Stopping,
            "resting" => StateName::Resting,
            _ => return Err(bad()),
        };
        Ok(Moment { run, state })
    }
}

/// A time in the units of the agents' scripts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let nanos = match &text[number.len()..] {
            "ns" => Some(1),
            "us" => Some(1_000),
            "ms" => Some(1_000_000),
            "s" => Some(1_000_000_000),
            "m" => Some(60_000_000_000),
            "h" => Some(3_600_000_000_000_u64),
            _ => None,
        };
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let Some(unit) = nanos.filter(|_| digits) else {
            return Err(de::Error::custom(format!(
                "`{text}`: expected a time such as 200ms (a whole number of ns, us, ms, s, m or h)"
            )));
        };
        let number = number.parse::<u64>().ok();
        match number.and_then(|number| number.checked_mul(unit)) {
            Some(nanos) => Ok(Time(Duration::from_nanos(nanos))),
            None => Err(de::Error::custom(format!(
                "`{text}`: expected at most 18446744073s"
            ))),
        }
    }
}

/// A time above zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period(pub(super) Duration);

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        match Time::deserialize(deserializer)? {
            Time(Duration::ZERO) => Err(de::Error::custom("0s: expected a time above zero")),
            Time(time) => Ok(Period(time)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct ExitCode(i32);

impl<'de> Deserialize<'de> for ExitCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ExitCode, D::Error> {
        let code = i32::deserialize(deserializer)?;
        if (0..=255).contains(&code) {
            return Ok(ExitCode(code));
        }
        let message = format!("{code}: expected an exit code from 0 to 255");
        Err(de::Error::custom(message))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SignalName(pub(super) Signal);

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SignalName, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(SignalName).map_err(de::Error::custom)
    }
}

/// A script in the stub's grammar.
#[derive(Clone, Debug)]
struct Statements(stub::script::Script);

impl<'de> Deserialize<'de> for Statements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Statements, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Statements)
            .map_err(|error| de::Error::custom(format!("the script is wrong in {error}")))
    }
}

impl Scenario {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// With the file, the line, the field where there is one, and what is wrong.
    pub(super) fn read(file: &str, text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            place(file, text, start, error.message())
        })?;
        scenario
            .check()
            .map_err(|(start, message)| place(file, text, start, &message))?;
        Ok(scenario)
    }

    /// What no single field can tell.
    fn check(&self) -> Result<(), (usize, String)> {
        if self.agent.is_empty() {
            return Err((0, "no [[agent]]: expected at least one".to_owned()));
        }
        for (n, agent) in self.agent.iter().enumerate() {
            let name = &agent.get_ref().name;
            if self.agent[..n]
                .iter()
                .any(|other| other.get_ref().name == *name)
            {
                let message = format!("agent.name: there is an agent `{name}` already");
                return Err((agent.span().start, message));
            }
        }
        for step in &self.step {
            let start = step.span().start;
            let step = step.get_ref();
            if step.at.is_some() == step.when.is_some() {
                return Err((start, "step: expected either `at` or `when`".to_owned()));
            }
            match &step.agent {
                None if self.agent.len() > 1 => {
                    let message = "step.agent: missing, and there are several agents".to_owned();
                    return Err((start, message));
                }
                Some(name) if self.place_of(name).is_none() => {
                    return Err((start, format!("step.agent: there is no agent `{name}`")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.agent
            .iter()
            .position(|agent| agent.get_ref().name == name)
    }

    /// Which agent the step is about.
    pub(super) fn whose(&self, step: &Step) -> usize {
        let name = step.agent.as_deref();
        name.and_then(|name| self.place_of(name)).unwrap_or(0)
    }
}

/// The message with its place: the file, the line, and the field whose value begins at `start`.
fn place(file: &str, text: &str, start: usize, message: &str) -> String {
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let on_line = before.rsplit('\n').next().unwrap_or_default();
    let key = on_line.rsplit_once('=').and_then(|(keys, _)| {
        let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
        keys.trim_end().rsplit(word).next()
    });
    match key {
        Some(key) => format!("{file}:{line}: {key}: {message}"),
        None => format!("{file}:{line}: {message}"),
    }
}
