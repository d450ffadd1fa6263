//! What is done so that a rule has something to judge.

use crate::Script;
use crate::rules::{Profile, Service};

use super::stage::{Halt, Stage};
use super::subject::Local;

/// The cases of a rule.
pub(super) struct Trial {
    /// The rule's id.
    pub(super) rule: &'static str,
    /// The cases that a subject with this profile can be put to; none is a verdict of unknown.
    pub(super) cases: fn(&Profile) -> Vec<Case>,
}

type Ask = Box<dyn Fn(&mut Service)>;
type Drive = Box<dyn for<'a> Fn(&'a Stage<'a>) -> Local<'a, Result<(), Halt>>>;

/// One case: what the service's runs do, what is asked of the subject, and what is done to it.
pub(super) struct Case {
    /// What tells it from the rule's other cases.
    pub(super) label: String,
    pub(super) script: Script,
    pub(super) ask: Ask,
    pub(super) drive: Drive,
    /// Whether no other such case of the process may be played meanwhile.
    pub(super) is_alone: bool,
    /// Whether the threads of tokio's blocking pool end soon when they have nothing to do.
    pub(super) has_brief_threads: bool,
    /// Whether the clock is the machine's, whatever the subject's profile says.
    pub(super) is_real: bool,
}

impl Case {
    /// A service with the defaults, whose runs do this.
    pub(super) fn new(
        label: impl Into<String>,
        script: Script,
        drive: impl for<'a> Fn(&'a Stage<'a>) -> Local<'a, Result<(), Halt>> + 'static,
    ) -> Case {
        Case {
            label: label.into(),
            script,
            ask: Box::new(|_| {}),
            drive: Box::new(drive),
            is_alone: false,
            has_brief_threads: false,
            is_real: false,
        }
    }

    /// Of a rule about the backoff strategy alone: nothing runs.
    pub(super) fn of_strategy(label: impl Into<String>) -> Case {
        Case::new(label, Script::new(), |_| Box::pin(async { Ok(()) }))
    }

    /// What is asked of the subject beside the defaults.
    pub(super) fn ask(mut self, ask: impl Fn(&mut Service) + 'static) -> Case {
        self.ask = Box::new(ask);
        self
    }

    /// The threads of tokio's blocking pool end soon when they have nothing to do.
    pub(super) fn brief_threads(mut self) -> Case {
        self.has_brief_threads = true;
        self
    }

    /// No other such case may be played meanwhile. It waits for that before its sim begins.
    pub(super) fn alone(mut self) -> Case {
        self.is_alone = true;
        self
    }

    /// By the machine's clock: the subject is another process, and has a clock of its own. It is judged
    /// as if its profile said so.
    pub(super) fn real_time(mut self) -> Case {
        self.is_real = true;
        self
    }
}
