//! The result of judging a rule.

use std::fmt;

use super::Rule;

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
    #[cfg(feature = "properties")]
    pub(crate) fn unsupported(reason: impl Into<String>) -> Verdict {
        Verdict::Unsupported(reason.into())
    }

    /// The verdict that the rule could not be judged, for this reason.
    pub(crate) fn unknown(reason: impl Into<String>) -> Verdict {
        Verdict::Unknown(reason.into())
    }

    /// Says which rule and which service a failure is about.
    pub(super) fn named(mut self, rule: &'static Rule, service: &str) -> Verdict {
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
    #[cfg(feature = "properties")]
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
#[cfg(feature = "properties")]
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
