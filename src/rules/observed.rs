//! What a rule judges: the timeline of a service's runs, and what the subject said and was told.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use agent_stub::Hygiene;

use super::{Profile, Service, ServiceGroup, Verdict, Violation};
use crate::status::ExitStatus;
use crate::supervisor::EndCause;
use crate::supervisor::Readiness;
use crate::timeline::{Event, RunSpan, Timeline, What, Who};
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// A report that a subject makes about its service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The run is up.
    Up,
    /// The run has ended with this status.
    Ended(ExitStatus),
    /// A start failed, so there was no run. The text says why.
    StartFailed(String),
    /// The subject will start the service after this delay.
    BackingOff(Duration),
    /// The subject does nothing until it is told to. It came to rest in this way.
    Resting(Rest),
}

/// How a subject came to rest, that is: does nothing until it is told to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rest {
    /// Its policy wants no restart after the last end.
    Finished {
        /// Whether the last end was success.
        success: bool,
    },
    /// There were too many restarts.
    GaveUp {
        /// How the last run ended, if the subject says so.
        cause: Option<EndCause>,
        /// How many restarts there were, if the subject says so.
        restarts: Option<u32>,
    },
    /// The subject was told to stop.
    Stopped,
    /// The subject rests for another reason, given in the text.
    Failed(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Up => f.write_str("up"),
            Notice::Ended(status) => write!(f, "ended: {status}"),
            Notice::StartFailed(error) => write!(f, "start failed: {error}"),
            Notice::BackingOff(delay) => write!(f, "backing off for {delay:?}"),
            Notice::Resting(rest) => rest.fmt(f),
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rest::Finished { success: true } => f.write_str("finished"),
            Rest::Finished { success: false } => f.write_str("finished with a failure"),
            Rest::GaveUp { cause, restarts } => {
                f.write_str("gave up")?;
                if let Some(restarts) = restarts {
                    write!(f, " after {restarts} restarts")?;
                }
                cause.map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Rest::Stopped => f.write_str("stopped"),
            Rest::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

/// A report of the subject, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Noticed {
    /// When the report was made.
    pub at: Timestamp,
    /// What the report says.
    pub notice: Notice,
}

impl Noticed {
    #[cfg(feature = "properties")]
    pub(crate) fn new(at: Timestamp, notice: Notice) -> Noticed {
        Noticed { at, notice }
    }
}

/// A command that a subject can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Control {
    /// Begin to keep the service running.
    Begin,
    /// Stop the service.
    Stop,
    /// Stop the service and start it again.
    Restart,
    /// Start the service if it is down.
    Start,
    /// Forget what the subject has counted.
    Reset,
    /// Say when the subject comes to rest, and how.
    Outcome,
    /// End the subject, and the service with it: the harness dropped the subject's session.
    End,
    /// No command: the harness killed the subject's process by SIGKILL. The call returned when that
    /// process had ended.
    Crash,
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Control::Begin => "begin",
            Control::Stop => "stop",
            Control::Restart => "restart",
            Control::Start => "start",
            Control::Reset => "reset",
            Control::Outcome => "outcome",
            Control::End => "end",
            Control::Crash => "crash",
        })
    }
}

/// A command that the subject was given, and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The name of the service that the call was about.
    pub service: String,
    /// The command.
    pub control: Control,
    /// When the call was made.
    pub from: Timestamp,
    /// When the call returned. `None` if it had not returned when the harness stopped waiting.
    pub to: Option<Timestamp>,
    /// The error that the call returned; `None` if it returned none.
    pub error: Option<String>,
    /// The rest that a [`Control::Outcome`] call returned.
    pub rest: Option<Rest>,
}

impl Call {
    /// A call that has not returned.
    #[cfg(feature = "properties")]
    pub(crate) fn new(service: &str, control: Control, from: Timestamp) -> Call {
        Call {
            service: service.to_owned(),
            control,
            from,
            to: None,
            error: None,
            rest: None,
        }
    }

    /// How long the call took; `None` if it has not returned.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        Some(self.to? - self.from)
    }
}

/// What the harness saw besides the timeline.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Facts {
    /// What each run inherited, by the number of the run.
    pub hygiene: BTreeMap<u32, Hygiene>,
    /// The process group and the session of the subject, if the subject runs in the test's own
    /// process.
    pub own_group: Option<(u32, u32)>,
    /// The content of the service's output file.
    pub output: Option<Vec<u8>>,
    /// How many descriptors each restart left open in the subject's process. Only those count that
    /// stayed open to the end.
    pub descriptors: Vec<usize>,
    /// The environment of the subject's process, if the subject runs in the test's own process.
    pub environment: Vec<(OsString, OsString)>,
    /// Processes that the subject must not touch, by name, and whether each was left as it should
    /// be.
    pub bystanders: Vec<(String, bool)>,
    /// Signals that the subject sent to the process id of a process that had been reaped, or to the
    /// process group of that id. Each comes with the number of the run that had the id, if it was a
    /// run. `None` if the harness did not look.
    pub strays: Option<Vec<(Signal, Option<u32>)>>,
    /// Which thread of the subject's process started the first run; `None` if the harness did not
    /// look.
    pub starter: Option<Starter>,
    /// Other findings of a rule's case, by the name of the fact.
    pub numbers: BTreeMap<&'static str, u64>,
}

/// Which thread started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Starter {
    /// The thread that the subject runs on. It ends with the subject.
    Own,
    /// A thread that has ended since.
    Ended,
    /// Another thread, which has not ended.
    Other,
}

/// Another service of the group, as [`Observed::others_at`] returns it.
pub(super) struct Other<'a> {
    pub(super) place: usize,
    pub(super) name: &'a str,
    pub(super) run: RunSpan,
    pub(super) next: Option<RunSpan>,
}

impl Other<'_> {
    /// What happened to the service's run, in words.
    pub(super) fn fate(&self) -> String {
        match (self.run.exit, self.next) {
            (Some(exit), _) => format!("run {} ended at {exit}", self.run.run),
            (None, Some(next)) => format!("run {} was started at {}", next.run, next.start),
            (None, None) => format!("run {} goes on", self.run.run),
        }
    }
}

/// What a rule judges: the timeline of a service's runs, what the subject said, and what it was
/// told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observed {
    /// The events of the runs.
    pub timeline: Timeline,
    /// What the subject was asked to keep running, and how.
    pub service: Service,
    /// The group of services that the subject was asked to keep running together. It includes this
    /// service. `None` if this service was asked for alone.
    pub group: Option<ServiceGroup>,
    /// What the subject declares about itself.
    pub profile: Profile,
    /// What the subject said, in order.
    pub notices: Vec<Noticed>,
    /// What the subject was told, in the order in which the calls were made.
    pub calls: Vec<Call>,
    /// What the harness saw besides the timeline.
    pub facts: Facts,
    /// When the observation ended.
    pub end: Timestamp,
    /// The rule whose trial made this happen; `None` if it was no trial.
    pub(crate) trial: Option<&'static str>,
}

impl Observed {
    /// Makes an observation of a timeline alone. The runs are those of the agent that has the
    /// service's name. The observation ends with the last event.
    #[must_use]
    pub fn new(timeline: Timeline, service: Service, profile: Profile) -> Observed {
        let end = timeline.events().last().map_or(Timestamp::ORIGIN, |e| e.at);
        Observed {
            timeline,
            service,
            group: None,
            profile,
            notices: Vec::new(),
            calls: Vec::new(),
            facts: Facts::default(),
            end,
            trial: None,
        }
    }

    /// Makes a copy that counts as made by the trial of that rule.
    #[cfg(feature = "properties")]
    pub(crate) fn of_trial(&self, id: &'static str) -> Observed {
        Observed {
            trial: Some(id),
            ..self.clone()
        }
    }

    /// The runs of the service.
    #[must_use]
    pub fn runs(&self) -> Vec<RunSpan> {
        self.timeline.runs(&self.service.name)
    }

    /// The calls of one kind about the service, in order.
    pub fn calls_of(&self, control: Control) -> impl Iterator<Item = &Call> {
        self.calls
            .iter()
            .filter(move |call| call.control == control && call.service == self.service.name)
    }

    /// The first call of one kind about the service; `None` if there is none.
    #[must_use]
    pub fn call(&self, control: Control) -> Option<&Call> {
        self.calls_of(control).next()
    }

    /// How the subject came to rest, as the last [`Control::Outcome`] call with a result says.
    /// `None` if there is none.
    #[must_use]
    pub fn rest(&self) -> Option<&Rest> {
        self.calls_of(Control::Outcome)
            .filter_map(|call| call.rest.as_ref())
            .last()
    }

    /// The events of the service's runs, without those of descendants: each event's place in the
    /// timeline, its run and the event.
    pub fn own(&self) -> impl Iterator<Item = (usize, u32, &Event)> {
        self.own_of(&self.service.name)
    }

    /// The events of the runs of the service of that name, without those of descendants: each
    /// event's place in the timeline, its run and the event.
    pub(super) fn own_of<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (usize, u32, &'a Event)> {
        let events = self.timeline.events().iter().enumerate();
        events.filter_map(move |(place, event)| match &event.who {
            Who::Run {
                agent,
                run,
                descendant: None,
            } if **agent == *name => Some((place, *run, event)),
            _ => None,
        })
    }

    /// The group of the service, and the service's place in the group's order. The verdict is
    /// unknown if the service is not one of a group.
    pub(super) fn in_group(&self) -> Result<(&ServiceGroup, usize), Verdict> {
        let place = |group: &ServiceGroup| {
            let mut services = group.services.iter();
            services.position(|service| service.name == self.service.name)
        };
        let group = self.group.as_ref().filter(|group| group.services.len() > 1);
        let found = group.and_then(|group| Some((group, place(group)?)));
        found.ok_or_else(|| Verdict::unknown("it was asked for one service alone"))
    }

    /// When a run of that service came up; `None` if it ended before or never came up.
    pub(super) fn up_at(&self, service: &Service, run: &RunSpan) -> Option<Timestamp> {
        let up = match service.readiness {
            Readiness::Exec => run.start,
            Readiness::MinUptime(time) => run.start + time,
            Readiness::Notified => {
                let mut own = self.own_of(&service.name);
                let is_ready = |event: &Event| event.what == What::Ready;
                let ready = own.find(|(_, number, event)| *number == run.run && is_ready(event));
                ready.map(|(.., event)| event.at)?
            }
        };
        run.exit.is_none_or(|exit| exit >= up).then_some(up)
    }

    /// The other services of the group. Each comes with its place in the group's order, its name,
    /// the run that it had when the service ended, and the run after that. The verdict is unknown
    /// if one of them was not running then.
    pub(super) fn others_at<'a>(
        &'a self,
        group: &'a ServiceGroup,
        ended: Timestamp,
    ) -> Result<Vec<Other<'a>>, Verdict> {
        let mut others = Vec::new();
        for (place, service) in group.services.iter().enumerate() {
            let name = service.name.as_str();
            if name == self.service.name {
                continue;
            }
            let runs = self.timeline.runs(name);
            let ran = |run: &RunSpan| {
                let outlived = run.exit.is_none_or(|exit| exit + self.early() >= ended);
                run.start <= ended && outlived
            };
            let Some(then) = runs.iter().position(ran) else {
                let reason = format!("`{name}` was not running when the other ended");
                return Err(Verdict::Unknown(reason));
            };
            others.push(Other {
                place,
                name,
                run: runs[then],
                next: runs.get(then + 1).copied(),
            });
        }
        Ok(others)
    }

    /// How long it may take to stop all services of the group, one after the other.
    pub(super) fn stops_of(&self, group: &ServiceGroup) -> Duration {
        let graces = group.services.iter().map(|service| service.grace);
        graces.sum::<Duration>() + self.late()
    }

    /// The place in the timeline where the run was started.
    pub(super) fn start_of(&self, run: u32) -> Option<usize> {
        self.start_in(&self.service.name, run)
    }

    /// The place in the timeline where that run of the service of that name was started.
    pub(super) fn start_in(&self, name: &str, run: u32) -> Option<usize> {
        self.own_of(name)
            .find(|(_, number, event)| *number == run && event.what == What::Start)
            .map(|(place, ..)| place)
    }

    /// The place in the timeline where the run ended.
    pub(super) fn exit_of(&self, run: u32) -> Option<usize> {
        self.exit_in(&self.service.name, run)
    }

    /// The place in the timeline where that run of the service of that name ended.
    pub(super) fn exit_in(&self, name: &str, run: u32) -> Option<usize> {
        self.own_of(name)
            .find(|(_, number, event)| *number == run && matches!(event.what, What::Exit { .. }))
            .map(|(place, ..)| place)
    }

    /// When the first run ended, and the place of that end in the timeline.
    pub(super) fn first_exit(&self) -> Option<(Timestamp, usize)> {
        let exit = self.runs().first()?.exit?;
        Some((exit, self.exit_of(1)?))
    }

    /// The signals that a run trapped: each signal's place in the timeline, the signal and the
    /// time.
    pub(super) fn signals_of(&self, run: u32) -> Vec<(usize, Signal, Timestamp)> {
        self.own()
            .filter_map(|(place, number, event)| match event.what {
                What::Signal { signal, .. } if number == run => Some((place, signal, event.at)),
                _ => None,
            })
            .collect()
    }

    /// The statuses that the subject reported, in order.
    pub(super) fn reported_ends(&self) -> Vec<ExitStatus> {
        self.reported_at().map(|(_, status)| status).collect()
    }

    /// The statuses that the subject reported, in order, and when it reported each.
    pub(super) fn reported_at(&self) -> impl Iterator<Item = (Timestamp, ExitStatus)> {
        self.notices.iter().filter_map(|said| match said.notice {
            Notice::Ended(status) => Some((said.at, status)),
            _ => None,
        })
    }

    /// Whether something came when it was due: not before, and not later than the subject may be.
    pub(super) fn is_on_time(&self, at: Timestamp, due: Timestamp) -> bool {
        // Timers in virtual time are accurate to a millisecond.
        at + self.early() >= due && at <= due + self.profile.tolerance() + self.granularity()
    }

    /// How much too early something may seem to be.
    ///
    /// By the machine's clock, the harness learns of things a moment after they happened. It learns
    /// of a start by the run's hello, and of an end or a reap by a look at the run's pidfd. What is
    /// counted from there therefore seems due later than it is. A hello takes an exec, a connection
    /// and a turn of the harness. A look takes a turn of the harness. All of this waits for the
    /// same processors as the subject's timers. The profile says by how much the machine may delay
    /// those timers, so neither a hello nor a look takes longer than that. In virtual time both
    /// take no time.
    pub(super) fn early(&self) -> Duration {
        self.profile.tolerance()
    }

    /// The accuracy of the clocks: tokio's timers round to milliseconds.
    pub(super) fn granularity(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// How late the subject may be, plus the accuracy of the clocks.
    pub(super) fn late(&self) -> Duration {
        self.profile.tolerance() + self.granularity()
    }

    /// Whether the first end that the subject reported came in time. Run 1 ended at `exit`, at
    /// `place` in the timeline.
    pub(super) fn end_is_reported(&self, exit: Timestamp, place: usize) -> Verdict {
        let due = exit + self.late();
        let expected = format!("the end of run 1 at {exit} is reported by {due}");
        let ended = self
            .notices
            .iter()
            .find(|said| matches!(said.notice, Notice::Ended(_)));
        match ended {
            Some(said) if said.at <= due => Verdict::Pass,
            Some(said) => self.broken(
                Some(place),
                expected,
                format!("it is reported at {}", said.at),
            ),
            None if self.end > due => {
                let actual = format!("it is not reported until {}", self.end);
                self.broken(Some(place), expected, actual)
            }
            None => Verdict::unknown("looking ended with the run"),
        }
    }

    /// Makes the verdict that the rule is broken. `at` is the place in the timeline where that
    /// shows, if it shows there.
    pub(super) fn broken(
        &self,
        at: Option<usize>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) -> Verdict {
        let mut violation = Violation::new(expected, actual);
        violation.excerpt = self.excerpt(at);
        violation.into()
    }

    /// The events that lead to the one at this place. Without a place, the last events.
    fn excerpt(&self, at: Option<usize>) -> Vec<String> {
        const BEFORE: usize = 3;
        let events = self.timeline.events();
        let last = at.unwrap_or(events.len().saturating_sub(1));
        let shown = events.iter().enumerate().take(last + 1);
        shown
            .skip(last.saturating_sub(BEFORE))
            .map(|(place, event)| {
                let mark = if Some(place) == at { "✗" } else { " " };
                let here = if Some(place) == at { "  <- here" } else { "" };
                let who = event.who.to_string();
                format!("{mark} {}  {who}  {}{here}", event.at, event.what)
            })
            .collect()
    }
}
