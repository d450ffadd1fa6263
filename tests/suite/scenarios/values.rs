//! The values that several tables of a scenario file have: times, exit codes, signals and scripts.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use supervise_harness::{Signal, stub};

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
pub(super) struct ExitCode(pub(super) i32);

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
pub(super) struct Statements(pub(super) stub::script::Script);

impl<'de> Deserialize<'de> for Statements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Statements, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Statements)
            .map_err(|error| de::Error::custom(format!("the script is wrong in {error}")))
    }
}
