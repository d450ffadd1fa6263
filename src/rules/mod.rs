//! Named rules: what any supervisor can be held to, each a small pure function over a timeline.
//!
//! A [`Rule`] has a stable id, says one thing in one line, and knows who demands it. What it judges
//! is an [`Observed`]: the timeline of a service's runs, what the supervisor said about them, and
//! what it was told to do. [`conformance`](crate::conformance) brings about what each rule has to
//! see; a timeline of one's own can be judged, too.
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

/// What a group of rules is about, as the catalog has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Group {
    /// How a service comes up.
    Start,
    /// How ends are told apart.
    ExitClassification,
    /// Which ends are followed by a start.
    RestartDecision,
    /// How long it takes until that start.
    BackoffAndJitter,
    /// How many starts there are.
    RateLimit,
    /// When counting begins anew.
    Reset,
    /// How a service is ended.
    Stop,
    /// What becomes of descendants.
    ProcessTree,
    /// What becomes of the dead.
    Reaping,
    /// What a child inherits.
    Inheritance,
    /// When a service is up, and whether it still is.
    Readiness,
    /// What becomes of what it writes.
    Output,
    /// What happens at once.
    Concurrency,
    /// What becomes of the children of a supervisor that dies.
    SupervisorCrash,
    /// What happens when something runs out.
    Exhaustion,
}

impl Group {
    /// Its heading.
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
    /// By what happened, whatever that is.
    Observed(fn(&Observed) -> Verdict),
    /// By what happened to what this says: whether a timeline is of that does not show in it, so that
    /// only what the rule's own trial brought about can break it.
    Trial(fn(&Observed) -> Verdict, &'static str),
    /// By the backoff strategy itself, which the subject lends.
    Strategy,
    /// By the backoff strategy itself where the subject is put to a trial; of a timeline, by this.
    StrategyOr(fn(&Observed) -> Verdict),
    /// Not yet, for this reason.
    Planned(&'static str),
}

/// One invariant of process supervision.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rule {
    /// Its public, stable name.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// What it says, in one line.
    pub invariant: &'static str,
    /// What goes wrong where it is broken.
    pub rationale: &'static str,
    /// Who defines or demands it.
    pub origin: &'static str,
    /// A report of a real supervisor that broke it.
    pub bug: Option<&'static str>,
    /// What a subject must declare to be held to it.
    pub needs: &'static [Need],
    check: Check,
}

impl Rule {
    /// Judges what was observed. What the profile lacks is [`Verdict::Unsupported`]. Where too little
    /// was seen, or the rule is only planned, the verdict is [`Verdict::Unknown`]; so it is where the
    /// rule is [about](Rule::about) something that the timeline is not known to be of.
    pub fn check(&'static self, observed: &Observed) -> Verdict {
        let is_strategy = |need: &Need| *need == Need::Strategy;
        let judges_delays = matches!(self.check, Check::StrategyOr(_));
        let needs = self.needs.iter();
        // The delays of a timeline need no strategy.
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
            // No time on it is exact, and nobody says how far off it may be.
            (Verdict::Fail(_), _) if is_real && observed.profile.time == Time::Virtual => {
                Verdict::unknown(
                    "the timeline's times are the machine's, and the profile's `time` is virtual",
                )
            }
            (verdict, _) => verdict,
        };
        verdict.named(self, &observed.service.name)
    }

    /// What it judges, where only its own trial, in [`conformance`](crate::conformance), is known to
    /// bring that about: no other timeline can break it. `None` where any timeline can.
    #[must_use]
    pub fn about(&self) -> Option<&'static str> {
        match self.check {
            Check::Trial(_, about) => Some(about),
            _ => None,
        }
    }

    /// Why a subject with this profile cannot be held to it; `None` where it can.
    #[must_use]
    pub fn lacking(&self, profile: &Profile) -> Option<String> {
        self.needs.iter().find_map(|need| need.lacking(profile))
    }

    /// Why it cannot be judged yet; `None` where it can.
    #[must_use]
    pub fn planned(&self) -> Option<&'static str> {
        match self.check {
            Check::Planned(reason) => Some(reason),
            _ => None,
        }
    }

    /// As its own verdict on that service.
    #[cfg(feature = "properties")]
    pub(crate) fn say(&'static self, verdict: Verdict, service: &str) -> Verdict {
        verdict.named(self, service)
    }

    /// Whether it is judged by the backoff strategy itself.
    #[cfg(feature = "properties")]
    pub(crate) fn is_of_strategy(&self) -> bool {
        matches!(self.check, Check::Strategy | Check::StrategyOr(_))
    }
}

/// Its id.
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

/// The rule with this id.
#[must_use]
pub fn rule(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}

/// The rule with this id, for a constant: with an id that no rule has, it does not build.
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

/// `==` is not for constants yet.
#[cfg(feature = "properties")]
const fn is_same(one: &[u8], two: &[u8]) -> bool {
    let mut place = 0;
    while place < one.len() && place < two.len() && one[place] == two[place] {
        place += 1;
    }
    place == one.len() && place == two.len()
}
