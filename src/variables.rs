//! Reads the `SUPERVISE_*` environment variables.

use std::env;
use std::fmt;
use std::sync::Once;
use std::time::Duration;

/// The prefix of the harness's variables.
const PREFIX: &str = "SUPERVISE_";

/// Why the value of a variable cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariableError {
    name: &'static str,
    text: String,
    expected: &'static str,
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VariableError {
            name,
            text,
            expected,
        } = self;
        write!(f, "{name} is `{text}`: expected {expected}")
    }
}

impl std::error::Error for VariableError {}

/// Returns the value of `SUPERVISE_SEED`, or 0 if it is not set.
pub(crate) fn seed() -> Result<u64, VariableError> {
    let expected = "a number from 0 to 2^64-1";
    Ok(number("SUPERVISE_SEED", expected, |_| true)?.unwrap_or(0))
}

/// Returns the value of `SUPERVISE_WATCHDOG`, in seconds above zero, if it is set.
pub(crate) fn watchdog() -> Result<Option<Duration>, VariableError> {
    let expected = "a number of seconds above zero";
    let seconds = number("SUPERVISE_WATCHDOG", expected, |seconds| seconds > 0)?;
    Ok(seconds.map(Duration::from_secs))
}

fn number(
    name: &'static str,
    expected: &'static str,
    is_allowed: impl Fn(u64) -> bool,
) -> Result<Option<u64>, VariableError> {
    report_unknown();
    let Some(text) = env::var_os(name) else {
        return Ok(None);
    };
    let text = text.to_string_lossy().into_owned();
    match text.parse() {
        Ok(number) if is_allowed(number) => Ok(Some(number)),
        _ => Err(VariableError {
            name,
            text,
            expected,
        }),
    }
}

/// Prints, once in this process, which `SUPERVISE_*` variables the harness does not know.
fn report_unknown() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut unknown: Vec<String> = env::vars_os()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .filter(|name| name.starts_with(PREFIX))
            .filter(|name| !agent_stub::VARIABLES.contains(&&**name))
            .collect();
        unknown.sort();
        for name in unknown {
            eprintln!(
                "supervise-harness: {name} means nothing: expected one of {}",
                agent_stub::VARIABLES.join(", ")
            );
        }
    });
}
