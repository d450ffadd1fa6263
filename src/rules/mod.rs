//! Named rules that any supervisor can be tested against. Each rule is a small pure function over a
//! timeline.
//!
//! A [`Rule`] has a stable id, a one-line statement and a source that demands it. It judges an
//! [`Observed`]: the timeline of a service's runs, what the supervisor said about them, and what it
//! was told to do. The supervisor under test is called the subject.
//! [`conformance`](crate::conformance) plays a trial for each rule: it makes happen what the rule
//! has to see. You can also have a timeline of your own judged.
//!
//! ```
//! use std::time::Duration;
//! use supervise_harness::rules::{self, Observed, Profile, Service, Setting};
//! use supervise_harness::{Script, Sim};
//!
//! let timeline = Sim::new().run(async |sim| {
//!     let worker = sim.agent("worker", Script::new().exit(1));
//!     for delay in [1, 2, 3] {
//!         tokio::process::Command::from(worker.command()).status().await?;
//!         tokio::time::sleep(Duration::from_secs(delay)).await;
//!     }
//!     Ok::<_, std::io::Error>(())
//! });
//! let mut profile = Profile::new("mine");
//! profile.policy = Setting::Configurable;
//! profile.delays = Setting::Configurable;
//! // The default service doubles its delay from 1 s.
//! let observed = Observed::new(timeline, Service::new("worker"), profile);
//! assert!(rules::rule("delay-curve").unwrap().check(&observed).is_pass());
//! ```

mod backoff;
mod concurrency;
mod course;
mod crash;
mod decision;
mod descriptors;
#[cfg(all(test, feature = "properties"))]
mod elsewhere;
mod exhaustion;
mod exit;
#[cfg(all(test, feature = "properties"))]
mod grouped;
mod limit;
mod need;
mod observed;
mod output;
mod page;
mod probe;
#[cfg(all(test, feature = "properties"))]
mod probed;
mod profile;
mod readiness;
mod reaping;
mod reset;
mod service;
mod start;
mod stop;
mod tree;
#[cfg(all(test, feature = "properties"))]
mod unseeded;
mod verdict;

use std::fmt;

use crate::timeline::TimelineClock;

#[cfg(feature = "properties")]
pub(crate) use crash::ANSWERED;
#[cfg(feature = "properties")]
pub(crate) use descriptors::are_growing;
#[cfg(feature = "properties")]
pub(crate) use exhaustion::{CLEARED, SHORT};
pub use need::Need;
pub use observed::{Call, Control, Facts, Notice, Noticed, Observed, Rest, Starter};
#[cfg(feature = "properties")]
pub(crate) use output::{FLOOD, LAST_WORDS};
pub use page::page;
#[cfg(feature = "properties")]
pub(crate) use probe::PROBE;
pub use profile::{
    CrashFate, Daemonizer, DelayOrigin, Environment, LimitCounts, NotifyAccess, OwnGroup, Profile,
    RepeatedStop, Setting, StopReturn, StopScope, Time, WhenRestarting,
};
#[cfg(feature = "properties")]
pub(crate) use reaping::{ORPHAN, PARENT, REAPED, SUPERVISOR};
pub use service::{DelayCurve, Ends, Reporter, Service, ServiceGroup};
#[cfg(feature = "properties")]
pub(crate) use verdict::write_line;
pub use verdict::{Verdict, Violation};

/// The topic of a group of rules, as in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Group {
    /// How a service comes up.
    Start,
    /// How a supervisor tells the ends of runs apart.
    ExitClassification,
    /// Which ends of a run are followed by a restart.
    RestartDecision,
    /// How long the supervisor waits before a restart.
    BackoffAndJitter,
    /// How many starts the supervisor allows.
    RateLimit,
    /// When the supervisor begins to count from zero again.
    Reset,
    /// How a service is stopped.
    Stop,
    /// What happens to the descendants of a service.
    ProcessTree,
    /// How children that have ended are reaped.
    Reaping,
    /// What a child inherits from the supervisor.
    Inheritance,
    /// When a service is up, and whether it is still healthy.
    Readiness,
    /// What happens to the output of a service.
    Output,
    /// What happens when several things happen at the same time.
    Concurrency,
    /// What happens to the children of a supervisor that dies.
    SupervisorCrash,
    /// What happens when a resource runs out.
    Exhaustion,
}

impl Group {
    /// The group's heading on the documentation page.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Group::Start => "Start",
            Group::ExitClassification => "Exit classification",
            Group::RestartDecision => "Restart decision",
            Group::BackoffAndJitter => "Backoff and jitter",
            Group::RateLimit => "Rate limit",
            Group::Reset => "Reset",
            Group::Stop => "Stop and escalation",
            Group::ProcessTree => "Process tree",
            Group::Reaping => "Reaping",
            Group::Inheritance => "File descriptors, environment, signal state",
            Group::Readiness => "Readiness and liveness",
            Group::Output => "Output",
            Group::Concurrency => "Concurrency",
            Group::SupervisorCrash => "Crash of the supervisor",
            Group::Exhaustion => "Resource exhaustion",
        }
    }
}

/// How a rule is judged.
#[derive(Clone, Copy, Debug)]
enum Check {
    /// By this function, on any timeline.
    Observed(fn(&Observed) -> Verdict),
    /// By this function, but only the rule's own trial can break the rule. The text names the
    /// situation that the rule judges. A timeline does not show whether it comes from that
    /// situation.
    Trial(fn(&Observed) -> Verdict, &'static str),
    /// By tests of the backoff strategy that the subject lends.
    Strategy,
    /// In a trial, by tests of the backoff strategy that the subject lends. On any other timeline,
    /// by this function.
    StrategyOr(fn(&Observed) -> Verdict),
    /// Not at all yet, for this reason.
    Planned(&'static str),
}

/// One invariant of process supervision.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rule {
    /// The rule's public name. It is stable.
    pub id: &'static str,
    /// The group that the rule belongs to.
    pub group: Group,
    /// What the rule demands, in one line.
    pub invariant: &'static str,
    /// What goes wrong when a supervisor breaks the rule.
    pub rationale: &'static str,
    /// Who defines or demands the rule.
    pub origin: &'static str,
    /// A bug report about a real supervisor that broke the rule.
    pub bug: Option<&'static str>,
    /// What a subject's profile must declare before the rule applies to it.
    pub needs: &'static [Need],
    check: Check,
}

impl Rule {
    /// Judges what was observed.
    ///
    /// The verdict is [`Verdict::Unsupported`] if the profile lacks something that the rule needs.
    /// It is [`Verdict::Unknown`] in these cases:
    ///
    /// - Too little was seen.
    /// - The rule is only planned.
    /// - The rule seems broken, but it is [about](Rule::about) something that this timeline is not
    ///   known to show.
    /// - The rule seems broken, but the timeline's times are the machine's and the profile declares
    ///   virtual time.
    pub fn check(&'static self, observed: &Observed) -> Verdict {
        let is_strategy = |need: &Need| *need == Need::Strategy;
        let judges_delays = matches!(self.check, Check::StrategyOr(_));
        let needs = self.needs.iter();
        // To judge the delays of a timeline, nothing has to be lent.
        let lacking = needs
            .filter(|need| !(judges_delays && is_strategy(need)))
            .find_map(|need| need.lacking(&observed.profile));
        if let Some(lacking) = lacking {
            return Verdict::Unsupported(lacking);
        }
        let verdict = match self.check {
            Check::Observed(check) | Check::Trial(check, _) | Check::StrategyOr(check) => {
                check(observed)
            }
            Check::Strategy => Verdict::unknown("it is judged by the backoff strategy itself"),
            Check::Planned(reason) => Verdict::Unknown(format!("planned: {reason}")),
        };
        let is_real = observed.timeline.clock() == TimelineClock::Real;
        let verdict = match (verdict, self.about()) {
            (Verdict::Fail(_), Some(about)) if !observed.is_trial_of(self.id) => Verdict::Unknown(
                format!("it judges {about}, and nothing says that this is that"),
            ),
            // No time on this timeline is exact, and the profile does not say how far off it may
            // be.
            (Verdict::Fail(_), _) if is_real && observed.profile.time == Time::Virtual => {
                Verdict::unknown(
                    "the timeline's times are the machine's, and the profile's `time` is virtual",
                )
            }
            (verdict, _) => verdict,
        };
        verdict.named(self, &observed.service.name)
    }

    /// What the rule judges, if only the rule's own trial in [`conformance`](crate::conformance) is
    /// known to make that happen. Then no other timeline can break the rule. `None` if any timeline
    /// can.
    #[must_use]
    pub fn about(&self) -> Option<&'static str> {
        match self.check {
            Check::Trial(_, about) => Some(about),
            _ => None,
        }
    }

    /// Why the rule does not apply to a subject with this profile; `None` if it applies.
    #[must_use]
    pub fn lacking(&self, profile: &Profile) -> Option<String> {
        self.needs.iter().find_map(|need| need.lacking(profile))
    }

    /// Why the rule cannot be judged yet; `None` if it can.
    #[must_use]
    pub fn planned(&self) -> Option<&'static str> {
        match self.check {
            Check::Planned(reason) => Some(reason),
            _ => None,
        }
    }

    /// Makes the verdict this rule's own, about the service of that name.
    #[cfg(feature = "properties")]
    pub(crate) fn say(&'static self, verdict: Verdict, service: &str) -> Verdict {
        verdict.named(self, service)
    }

    /// Whether a trial judges the rule by the backoff strategy itself.
    #[cfg(feature = "properties")]
    pub(crate) fn is_of_strategy(&self) -> bool {
        matches!(self.check, Check::Strategy | Check::StrategyOr(_))
    }
}

/// Writes the rule's id.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id)
    }
}

/// The groups, in the order of the catalog.
const CATALOG: [&[Rule]; 15] = [
    start::RULES,
    exit::RULES,
    decision::RULES,
    backoff::RULES,
    limit::RULES,
    reset::RULES,
    stop::RULES,
    tree::RULES,
    reaping::RULES,
    descriptors::RULES,
    readiness::RULES,
    output::RULES,
    concurrency::RULES,
    crash::RULES,
    exhaustion::RULES,
];

/// All rules, in the order of the catalog.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    CATALOG.into_iter().flatten()
}

/// The rule with this id; `None` if no rule has it.
#[must_use]
pub fn rule(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}

/// The rule with this id, for use in a constant. If no rule has the id, the constant does not
/// compile.
#[cfg(feature = "properties")]
pub(crate) const fn registered(id: &str) -> &'static Rule {
    let mut group = 0;
    while group < CATALOG.len() {
        let rules = CATALOG[group];
        let mut place = 0;
        while place < rules.len() {
            if is_same(rules[place].id.as_bytes(), id.as_bytes()) {
                return &rules[place];
            }
            place += 1;
        }
        group += 1;
    }
    panic!("no rule has this id")
}

/// Compares two byte strings: `==` does not work in constants yet.
#[cfg(feature = "properties")]
const fn is_same(one: &[u8], two: &[u8]) -> bool {
    let mut place = 0;
    while place < one.len() && place < two.len() && one[place] == two[place] {
        place += 1;
    }
    place == one.len() && place == two.len()
}
