//! The agents of a scenario, and the probes that ask whether they are healthy.

use std::num::NonZeroU32;

use serde::Deserialize;
use supervise_harness::supervisor::Probe;
use supervise_harness::{Agent, Script};

use super::values::{Period, Statements};

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
