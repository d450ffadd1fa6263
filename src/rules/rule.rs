//! A rule, how it is judged, and the verdict that this gives. They share a file because each of them
//! names the next: a rule has a check, a check returns a verdict, and the violation in a verdict
//! names its rule.

use std::fmt;

use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::profile::{Profile, Time};
use crate::timeline::TimelineClock;

/// How a rule is judged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
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
    pub needs: &'static [Requirement],
    pub(super) check: Check,
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
        let is_strategy = |need: &Requirement| *need == Requirement::Strategy;
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
    #[cfg(feature = "conformance")]
    pub(crate) fn say(&'static self, verdict: Verdict, service: &str) -> Verdict {
        verdict.named(self, service)
    }

    /// Whether a trial judges the rule by the backoff strategy itself.
    #[cfg(feature = "conformance")]
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

/// The result of judging a rule. Only [`Verdict::Pass`] counts as a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a verdict says nothing until it is looked at"]
#[non_exhaustive]
pub enum Verdict {
    /// The rule held wherever it could be judged.
    Pass,
    /// The rule was broken.
    Fail(Box<Violation>),
    /// The subject's profile does not declare a feature that the rule needs. The text names the
    /// feature.
    Unsupported(String),
    /// The rule could not be judged. The text says why.
    Unknown(String),
}

impl Verdict {
    /// Whether the verdict is [`Verdict::Pass`].
    #[must_use]
    pub fn is_pass(&self) -> bool {
        matches!(self, Verdict::Pass)
    }

    /// How the rule was broken; `None` if it was not.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        match self {
            Verdict::Fail(violation) => Some(violation),
            _ => None,
        }
    }

    /// The verdict in one word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "fail",
            Verdict::Unsupported(_) => "unsupported",
            Verdict::Unknown(_) => "unknown",
        }
    }

    /// Why the verdict is neither a pass nor a fail; `None` if it is one of them.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Unsupported(reason) | Verdict::Unknown(reason) => Some(reason),
            _ => None,
        }
    }

    /// The verdict that the subject lacks a feature, for this reason.
    #[cfg(feature = "conformance")]
    pub(crate) fn unsupported(reason: impl Into<String>) -> Verdict {
        Verdict::Unsupported(reason.into())
    }

    /// The verdict that the rule could not be judged, for this reason.
    pub(crate) fn unknown(reason: impl Into<String>) -> Verdict {
        Verdict::Unknown(reason.into())
    }

    /// Says which rule and which service a failure is about.
    fn named(mut self, rule: &'static Rule, service: &str) -> Verdict {
        if let Verdict::Fail(violation) = &mut self {
            violation.rule = Some(rule);
            violation.service = Some(service.to_owned());
        }
        self
    }
}

/// How a rule was broken. Prints like a compiler error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Violation {
    rule: Option<&'static Rule>,
    service: Option<String>,
    /// What should have happened.
    pub expected: String,
    /// What happened instead.
    pub actual: String,
    /// The case of the rule in which it was broken. For generated cases, the smallest one that
    /// still breaks the rule.
    pub case: Option<String>,
    /// Where the rule was broken, if no timeline shows it: at which attempt, draw or end.
    pub place: Option<String>,
    /// Events of the timeline. The one that broke the rule is marked.
    pub excerpt: Vec<String>,
    /// How to see the violation again.
    pub replay: Option<String>,
}

impl PartialEq for Violation {
    fn eq(&self, other: &Violation) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Violation {}

impl Violation {
    pub(crate) fn new(expected: impl Into<String>, actual: impl Into<String>) -> Violation {
        Violation {
            rule: None,
            service: None,
            expected: expected.into(),
            actual: actual.into(),
            case: None,
            place: None,
            excerpt: Vec::new(),
            replay: None,
        }
    }

    /// Makes this a violation of that rule, by no service in particular.
    #[cfg(feature = "conformance")]
    pub(crate) fn of(mut self, rule: &'static Rule) -> Violation {
        self.rule = Some(rule);
        self
    }

    /// The rule that was broken.
    #[must_use]
    pub fn rule(&self) -> Option<&'static Rule> {
        self.rule
    }
}

impl From<Violation> for Verdict {
    fn from(violation: Violation) -> Verdict {
        Verdict::Fail(Box::new(violation))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, invariant) = self
            .rule
            .map_or(("?", ""), |rule| (rule.id, rule.invariant));
        write!(f, "rule `{id}` broken")?;
        if let Some(service) = &self.service {
            write!(f, " by `{service}`")?;
        }
        write!(f, "\n  rule      {invariant}")?;
        if let Some(case) = &self.case {
            write!(f, "\n  case      {case}")?;
        }
        write!(f, "\n  expected  {}", self.expected)?;
        write!(f, "\n  actual    {}", self.actual)?;
        if let Some(place) = &self.place {
            write!(f, "\n  place     {place}")?;
        }
        for line in &self.excerpt {
            write!(f, "\n  {line}")?;
        }
        if let Some(replay) = &self.replay {
            write!(f, "\n  replay    {replay}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}

/// Writes a line of a report: the verdict, right-aligned, the rule, and why the verdict is neither
/// a pass nor a fail.
#[cfg(feature = "conformance")]
pub(crate) fn write_line(
    f: &mut fmt::Formatter<'_>,
    rule: &Rule,
    verdict: &Verdict,
) -> fmt::Result {
    let word = verdict.word();
    match verdict.reason() {
        Some(reason) => write!(f, "{word:>12}  {rule:<26}  {reason}"),
        None => write!(f, "{word:>12}  {rule}"),
    }
}
