//! The cases that the harness plays so that a rule has something to judge.

use crate::rules::{Profile, Service};
use crate::script::Script;

use super::stage::Stage;
use super::subject::Local;
use super::trial_error::TrialError;

/// The cases that the harness plays for one rule.
pub(super) struct Trial {
    /// The rule's id.
    pub(super) rule: &'static str,
    /// Returns the cases that a subject with this profile can be put to. If there are none, the
    /// verdict is unknown.
    pub(super) cases: fn(&Profile) -> Vec<Case>,
}

type Ask = Box<dyn Fn(&mut Service)>;
type Drive = Box<dyn for<'a> Fn(&'a Stage<'a>) -> Local<'a, Result<(), TrialError>>>;

/// One case: what the service's runs do, which settings the subject is asked for, and what the
/// harness does to the subject.
pub(super) struct Case {
    /// What tells this case from the rule's other cases.
    pub(super) label: String,
    pub(super) script: Script,
    pub(super) ask: Ask,
    pub(super) drive: Drive,
    /// Whether no other case with this flag may be played in this process at the same time.
    pub(super) is_alone: bool,
    /// Whether the threads of tokio's blocking pool end soon when they have nothing to do.
    pub(super) has_brief_threads: bool,
    /// Whether the case runs by the machine's clock, whatever the subject's profile says.
    pub(super) is_real: bool,
}

impl Case {
    /// Makes a case with a service that has the default settings and whose runs perform `script`.
    /// `drive` plays the case.
    pub(super) fn new(
        label: impl Into<String>,
        script: Script,
        drive: impl for<'a> Fn(&'a Stage<'a>) -> Local<'a, Result<(), TrialError>> + 'static,
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

    /// Makes a case of a rule about the backoff strategy alone: nothing runs.
    pub(super) fn of_strategy(label: impl Into<String>) -> Case {
        Case::new(label, Script::new(), |_| Box::pin(async { Ok(()) }))
    }

    /// Sets what the subject is asked for beside the defaults.
    pub(super) fn ask(mut self, ask: impl Fn(&mut Service) + 'static) -> Case {
        self.ask = Box::new(ask);
        self
    }

    /// Lets the threads of tokio's blocking pool end soon when they have nothing to do.
    pub(super) fn brief_threads(mut self) -> Case {
        self.has_brief_threads = true;
        self
    }

    /// Allows no other such case in this process at the same time. The case waits for its turn
    /// before its sim begins.
    pub(super) fn alone(mut self) -> Case {
        self.is_alone = true;
        self
    }

    /// Plays the case by the machine's clock, because the subject is another process and has a
    /// clock of its own. The subject is judged as if its profile declared real time.
    pub(super) fn real_time(mut self) -> Case {
        self.is_real = true;
        self
    }
}
