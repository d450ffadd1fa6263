//! Why a sim failed, and the text that says so.

use std::any::Any;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};

use crate::timeline::Timeline;

/// How many lines of the timeline a failure shows at most: the last ones.
const SHOWN: usize = 40;

/// What the body of a sim may return: nothing, a `Result` whose error fails the run, or never.
pub trait BodyResult {
    /// Turns the value into a result with the error's text.
    ///
    /// # Errors
    ///
    /// The text of the error, if the value is an error.
    fn into_result(self) -> Result<(), String>;
}

/// Names a type that has no name of its own on stable Rust, by a function that returns it.
#[doc(hidden)]
pub trait Returns {
    type Value;
}

impl<T> Returns for fn() -> T {
    type Value = T;
}

/// A body that never returns, such as one that ends in a `loop` without `break`.
impl BodyResult for <fn() -> ! as Returns>::Value {
    fn into_result(self) -> Result<(), String> {
        self
    }
}

impl BodyResult for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Debug> BodyResult for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// Why a sim failed.
///
/// Its `Display` says, in this order:
///
/// - what went wrong;
/// - what else the sim noticed;
/// - which processes were left behind;
/// - the last 40 lines of the timeline, all of which are in [`timeline`](SimFailure::timeline);
/// - the seed, if the body asked for it.
///
/// ```
/// use supervise_harness::Sim;
///
/// let failure = Sim::new().try_run(async |_| panic!("as asked")).unwrap_err();
/// assert!(failure.is_panic());
/// assert_eq!(failure.to_string(), "the body of the sim panicked: as asked");
/// ```
#[derive(Debug)]
pub struct SimFailure {
    pub(super) kind: FailureKind,
    pub(super) leaks: Vec<String>,
    /// What else the sim noticed, one line each.
    pub(super) remarks: Vec<String>,
    pub(super) timeline: Option<Box<Timeline>>,
    /// The seed, if the body asked for it.
    pub(super) seed: Option<u64>,
}

pub(super) enum FailureKind {
    Panic(Box<Payload>),
    Error(String),
    Stuck(String),
    Leaks,
    /// The sim cannot go on, for this reason.
    Fault(String),
    Setup(String),
}

/// What a panic carries. The value is under a lock, so that threads can share a failure.
pub(super) struct Payload {
    text: String,
    value: Mutex<Box<dyn Any + Send>>,
}

impl FailureKind {
    pub(super) fn panic(value: Box<dyn Any + Send>) -> FailureKind {
        FailureKind::Panic(Box::new(Payload {
            text: explained(panic_text(&*value)),
            value: Mutex::new(value),
        }))
    }
}

impl fmt::Debug for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureKind::Panic(payload) => write!(f, "Panic({:?})", payload.text),
            FailureKind::Error(error) => write!(f, "Error({error:?})"),
            FailureKind::Stuck(text) => write!(f, "Stuck({text:?})"),
            FailureKind::Leaks => f.write_str("Leaks"),
            FailureKind::Fault(text) => write!(f, "Fault({text:?})"),
            FailureKind::Setup(error) => write!(f, "Setup({error:?})"),
        }
    }
}

impl SimFailure {
    pub(crate) fn setup(error: String) -> SimFailure {
        SimFailure {
            kind: FailureKind::Setup(error),
            leaks: Vec::new(),
            remarks: Vec::new(),
            timeline: None,
            seed: None,
        }
    }

    /// Makes the failure that has the watchdog's verdict on a sim whose thread has not come back.
    pub(super) fn abandoned(text: String, remarks: Vec<String>, timeline: Timeline) -> SimFailure {
        SimFailure {
            kind: FailureKind::Stuck(text),
            leaks: Vec::new(),
            remarks,
            timeline: Some(Box::new(timeline)),
            seed: None,
        }
    }

    /// Returns the timeline of what happened before the failure; `None` if the sim had not begun.
    #[must_use]
    pub fn timeline(&self) -> Option<&Timeline> {
        self.timeline.as_deref()
    }

    /// Returns whether the body panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.kind, FailureKind::Panic(_))
    }

    /// Returns whether the sim was stuck: nothing moved, or the same kept happening, such as an agent that does not
    /// stop talking.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(self.kind, FailureKind::Stuck(_))
    }

    /// Returns the processes that were left behind, one line each. The sim has ended them. There are none if the sim
    /// was stuck, since the code under test was cut off, or if the builder allowed leaks.
    #[must_use]
    pub fn leaks(&self) -> &[String] {
        &self.leaks
    }

    /// Panics with this failure. If the body panicked, prints all else that there is to say to standard error, and then
    /// goes on with the body's own panic.
    #[track_caller]
    pub(super) fn raise(self) -> ! {
        if !self.is_panic() {
            panic!("{self}");
        }
        let beside = self.beside();
        if !beside.is_empty() {
            crate::said::say(&beside);
        }
        match self.kind {
            FailureKind::Panic(payload) => resume_unwind(
                payload
                    .value
                    .into_inner()
                    .unwrap_or_else(PoisonError::into_inner),
            ),
            _ => unreachable!("it is a panic"),
        }
    }

    /// All that there is to say besides the cause, in lines.
    fn beside(&self) -> String {
        let mut parts = self.remarks.clone();
        if !self.leaks.is_empty() && !matches!(self.kind, FailureKind::Leaks) {
            parts.push(self.leaks_text());
        }
        let timeline = self.timeline.as_deref();
        parts.extend(timeline.and_then(end_of));
        parts.extend(self.seed.map(replay_text));
        parts.join("\n")
    }

    fn leaks_text(&self) -> String {
        let whose = match self.kind {
            // The body had no chance to end them.
            FailureKind::Panic(_) => "when the body panicked",
            _ => "by the code under test",
        };
        format!(
            "left behind {whose}, and ended:\n  {}",
            self.leaks.join("\n  ")
        )
    }
}

/// For the tables of the conformance suite.
#[cfg(feature = "conformance")]
impl SimFailure {
    /// Says what went wrong, and nothing else.
    pub(crate) fn cause(&self) -> String {
        match &self.kind {
            FailureKind::Panic(payload) => format!("the subject panicked: {}", payload.text),
            FailureKind::Error(text) | FailureKind::Stuck(text) | FailureKind::Fault(text) => {
                text.clone()
            }
            FailureKind::Leaks => self.leaks_text(),
            FailureKind::Setup(text) => format!("the sim cannot begin: {text}"),
        }
    }
}

/// The text of a panic, by its payload.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.map(str::to_owned);
    text.unwrap_or_else(|| "with a value that is no text, as of `std::panic::panic_any`".to_owned())
}

/// Returns the panic's text. If it is a panic of tokio's about something that a sim does not allow, adds why the sim
/// does not, and what to write instead.
fn explained(text: String) -> String {
    let why = if text.contains("can call blocking only when running on the multi-threaded runtime")
    {
        "a sim's runtime has one thread, which `block_in_place` would hold up: write \
         `tokio::task::spawn_blocking(...).await`"
    } else if is_nested(&text) {
        "the body of a sim runs inside the sim's own runtime, so that it cannot wait for a second one: write \
         `.await` instead of `block_on`"
    } else if text.contains("Cannot drop a runtime in a context where blocking is not allowed") {
        "the body of a sim runs inside the sim's own runtime, so that it cannot end a second one: use the \
         sim's, with `tokio::spawn`"
    } else {
        return text;
    };
    format!("{text}\n  {why}")
}

/// Whether the text is tokio's panic about a runtime that was started inside another.
pub(super) fn is_nested(text: &str) -> bool {
    text.contains("Cannot start a runtime from within a runtime")
}

fn replay_text(seed: u64) -> String {
    format!("replay    SUPERVISE_SEED={seed}")
}

/// The last lines of a timeline, with its header; `None` if nothing happened.
fn end_of(timeline: &Timeline) -> Option<String> {
    let count = timeline.events().len();
    if count == 0 {
        return None;
    }
    let text = timeline.to_string();
    let (header, lines) = text.split_once('\n')?;
    let lines: Vec<&str> = lines.lines().collect();
    let (before, shown) = lines.split_at(lines.len().saturating_sub(SHOWN));
    let cut = match before.len() {
        0 => String::new(),
        n => format!(
            "\n... {n} lines before these: `SimFailure::timeline` of `Sim::try_run` has all"
        ),
    };
    Some(format!("{header}{cut}\n{}", shown.join("\n")))
}

/// Says what went wrong first, then all else that there is to say.
impl fmt::Display for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FailureKind::Panic(payload) => {
                write!(f, "the body of the sim panicked: {}", payload.text)?;
            }
            FailureKind::Error(error) => write!(f, "the body of the sim failed: {error}")?,
            FailureKind::Stuck(text) => write!(f, "the sim is stuck: {text}")?,
            FailureKind::Fault(text) => write!(f, "the sim cannot go on: {text}")?,
            FailureKind::Setup(error) => write!(f, "the sim cannot begin: {error}")?,
            FailureKind::Leaks => f.write_str(&self.leaks_text())?,
        }
        match self.beside() {
            beside if beside.is_empty() => Ok(()),
            beside => write!(f, "\n{beside}"),
        }
    }
}

impl std::error::Error for SimFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn panicked(value: Box<dyn Any + Send>) -> String {
        let kind = FailureKind::panic(value);
        let failure = SimFailure {
            kind,
            ..SimFailure::setup(String::new())
        };
        failure.to_string()
    }

    #[test]
    fn a_panic_says_its_text_or_that_it_has_none() {
        assert!(panicked(Box::new("one")).ends_with(": one"));
        assert!(panicked(Box::new("two".to_owned())).ends_with(": two"));
        assert!(panicked(Box::new(42)).contains("no text"));
    }

    #[test]
    fn a_failure_may_go_to_another_thread() {
        fn shared<T: std::error::Error + Send + Sync + 'static>() {}
        shared::<SimFailure>();
    }
}
