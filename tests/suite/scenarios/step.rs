//! The steps of a scenario: what is asked of a supervisor, and when.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use super::values::Time;

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
