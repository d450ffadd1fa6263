//! What a rule judges.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use agent_stub::Hygiene;

use super::{Profile, Service, ServiceGroup, Verdict, Violation};
use crate::policy::EndCause;
use crate::supervisor::Readiness;
use crate::timeline::{Event, RunSpan, Timeline, What, Who};
use crate::{ExitStatus, Signal, Timestamp};

/// What a subject says about its service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The run is up.
    Up,
    /// The run has ended so.
    Ended(ExitStatus),
    /// A start failed, and there was no run; why.
    StartFailed(String),
    /// There will be a start after so long.
    BackingOff(Duration),
    /// It does nothing until it is told to.
    Resting(Rest),
}

/// How a subject came to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rest {
    /// Its policy wants no restart after the last end.
    Finished {
        /// Whether that end was success.
        success: bool,
    },
    /// There were too many restarts.
    GaveUp {
        /// How the last run ended, where that is said.
        cause: Option<EndCause>,
        /// How many restarts there were, where that is said.
        restarts: Option<u32>,
    },
    /// It was told to stop.
    Stopped,
    /// Something else; what.
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

/// A report, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Noticed {
    /// When.
    pub at: Timestamp,
    /// What was said.
    pub notice: Notice,
}

impl Noticed {
    #[cfg(feature = "properties")]
    pub(crate) fn new(at: Timestamp, notice: Notice) -> Noticed {
        Noticed { at, notice }
    }
}

/// What a subject can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Control {
    /// To begin to keep the service running.
    Begin,
    /// To stop the service.
    Stop,
    /// To stop it and start it again.
    Restart,
    /// To start it where it is down.
    Start,
    /// To forget what it has counted.
    Reset,
    /// To say when it rests, and how.
    Outcome,
    /// To end, and the service with it: its session was dropped.
    End,
    /// Nothing: its process was killed by SIGKILL. The call returned when that had ended.
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

/// Something that the subject was told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// Which service it was about.
    pub service: String,
    /// What.
    pub control: Control,
    /// When.
    pub from: Timestamp,
    /// When it returned; `None` where it had not when the harness stopped waiting.
    pub to: Option<Timestamp>,
    /// The error that it returned, if it did.
    pub error: Option<String>,
    /// What [`Control::Outcome`] returned.
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

    /// How long it took; `None` where it has not returned.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        Some(self.to? - self.from)
    }
}

/// What was seen beside the timeline.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Facts {
    /// What each run inherited.
    pub hygiene: BTreeMap<u32, Hygiene>,
    /// The process group, and the session, of the subject: those of the test's own process.
    pub own_group: Option<(u32, u32)>,
    /// What reached the file for the output.
    pub output: Option<Vec<u8>>,
    /// How many descriptors each restart left open in the subject's process to the end.
    pub descriptors: Vec<usize>,
    /// The environment of the subject's process, where that is the test's own.
    pub environment: Vec<(OsString, OsString)>,
    /// Processes that nobody may touch, and whether they were still as they should be.
    pub bystanders: Vec<(String, bool)>,
    /// Signals that the subject sent to the number of a process that had been reaped, or to that of
    /// its group, and which run that was; `None` where nobody looked.
    pub strays: Option<Vec<(Signal, Option<u32>)>>,
    /// Which thread of the subject's process started the first run; `None` where nobody looked.
    pub starter: Option<Starter>,
    /// What else a rule's case found, by name.
    pub numbers: BTreeMap<&'static str, u64>,
}

/// Which thread started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Starter {
    /// The one that the subject runs on: it ends with the subject.
    Own,
    /// One that has ended since.
    Ended,
    /// Another, which has not ended.
    Other,
}

/// Another service of the group, as [`Observed::others_at`] has it.
pub(super) struct Other<'a> {
    pub(super) place: usize,
    pub(super) name: &'a str,
    pub(super) run: RunSpan,
    pub(super) next: Option<RunSpan>,
}

impl Other<'_> {
    /// What became of its run.
    pub(super) fn fate(&self) -> String {
        match (self.run.exit, self.next) {
            (Some(exit), _) => format!("run {} ended at {exit}", self.run.run),
            (None, Some(next)) => format!("run {} was started at {}", next.run, next.start),
            (None, None) => format!("run {} goes on", self.run.run),
        }
    }
}

/// What a rule judges: the timeline of a service's runs, what the subject said, what it was told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observed {
    /// What happened.
    pub timeline: Timeline,
    /// What the subject was asked to keep running, and how.
    pub service: Service,
    /// What it was asked to keep running together with it, that included.
    pub group: Option<ServiceGroup>,
    /// What it declares about itself.
    pub profile: Profile,
    /// What it said, in order.
    pub notices: Vec<Noticed>,
    /// What it was told, in the order of the beginnings.
    pub calls: Vec<Call>,
    /// What else was seen.
    pub facts: Facts,
    /// When looking ended.
    pub end: Timestamp,
    /// The rule whose trial brought this about; `None` where it was somebody else.
    pub(crate) trial: Option<&'static str>,
}

impl Observed {
    /// A timeline alone, of the agent that is called as the service. Looking ended with the last
    /// event.
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

    /// As what the trial of that rule brought about.
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

    /// The calls of a kind about the service, in order.
    pub fn calls_of(&self, control: Control) -> impl Iterator<Item = &Call> {
        self.calls
            .iter()
            .filter(move |call| call.control == control && call.service == self.service.name)
    }

    /// The first call of a kind about the service.
    #[must_use]
    pub fn call(&self, control: Control) -> Option<&Call> {
        self.calls_of(control).next()
    }

    /// How the subject came to rest: what it said last.
    #[must_use]
    pub fn rest(&self) -> Option<&Rest> {
        self.calls_of(Control::Outcome)
            .filter_map(|call| call.rest.as_ref())
            .last()
    }

    /// The service's own events, and their places in the timeline.
    pub fn own(&self) -> impl Iterator<Item = (usize, u32, &Event)> {
        self.own_of(&self.service.name)
    }

    /// The same of the service of that name.
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

    /// The group of the service, and the service's place in its order.
    pub(super) fn in_group(&self) -> Result<(&ServiceGroup, usize), Verdict> {
        let place = |group: &ServiceGroup| {
            let mut services = group.services.iter();
            services.position(|service| service.name == self.service.name)
        };
        let group = self.group.as_ref().filter(|group| group.services.len() > 1);
        let found = group.and_then(|group| Some((group, place(group)?)));
        found.ok_or_else(|| Verdict::unknown("it was asked for one service alone"))
    }

    /// When a run of that service was up; `None` where it never was.
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

    /// The other services of the group: their places in its order, their names, the run that each had
    /// when the service ended, and the run after that.
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

    /// How long the services of the group may take to be stopped, one after the other.
    pub(super) fn stops_of(&self, group: &ServiceGroup) -> Duration {
        let graces = group.services.iter().map(|service| service.grace);
        graces.sum::<Duration>() + self.late()
    }

    /// When, and where in the timeline, the run was started.
    pub(super) fn start_of(&self, run: u32) -> Option<usize> {
        self.start_in(&self.service.name, run)
    }

    /// The same of the service of that name.
    pub(super) fn start_in(&self, name: &str, run: u32) -> Option<usize> {
        self.own_of(name)
            .find(|(_, number, event)| *number == run && event.what == What::Start)
            .map(|(place, ..)| place)
    }

    /// Where in the timeline the run's end is.
    pub(super) fn exit_of(&self, run: u32) -> Option<usize> {
        self.exit_in(&self.service.name, run)
    }

    /// The same of the service of that name.
    pub(super) fn exit_in(&self, name: &str, run: u32) -> Option<usize> {
        self.own_of(name)
            .find(|(_, number, event)| *number == run && matches!(event.what, What::Exit { .. }))
            .map(|(place, ..)| place)
    }

    /// When, and where in the timeline, the first run ended.
    pub(super) fn first_exit(&self) -> Option<(Timestamp, usize)> {
        let exit = self.runs().first()?.exit?;
        Some((exit, self.exit_of(1)?))
    }

    /// The trapped signals of a run, with their places.
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

    /// The same, and when each was said.
    pub(super) fn reported_at(&self) -> impl Iterator<Item = (Timestamp, ExitStatus)> {
        self.notices.iter().filter_map(|said| match said.notice {
            Notice::Ended(status) => Some((said.at, status)),
            _ => None,
        })
    }

    /// Whether a time is what it should be: not before, and not later than the subject may be.
    pub(super) fn is_on_time(&self, at: Timestamp, due: Timestamp) -> bool {
        // Virtual timers have milliseconds.
        at + self.early() >= due && at <= due + self.profile.tolerance() + self.granularity()
    }

    /// How much too early something may seem. By the machine's clock the harness learns of a start by
    /// the run's hello, and of an end or a reap by a look at its pidfd, a moment after it happened, so
    /// that what is counted from there seems due later than it is. A hello takes an exec, a connection
    /// and a turn of the harness's, and a look takes such a turn: work that waits for the same
    /// processors as the timers of the subject, of which the profile says by how much the machine may
    /// delay them. So neither takes longer than that. In virtual time both take none.
    pub(super) fn early(&self) -> Duration {
        self.profile.tolerance()
    }

    /// What clocks round to: tokio's timers have milliseconds.
    pub(super) fn granularity(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// How late the subject may be, and what clocks round to.
    pub(super) fn late(&self) -> Duration {
        self.profile.tolerance() + self.granularity()
    }

    /// Whether the first end that was reported is that of run 1, which is at this place, in time.
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

    /// The rule is broken, at this place in the timeline if it shows there.
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

    /// The events that lead to the one at this place; without a place, the last ones.
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
