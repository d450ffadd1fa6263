//! What a rule says to what it saw.

use std::fmt;

use super::Rule;

/// What a rule says to what it saw. Only [`Verdict::Pass`] is a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a verdict says nothing until it is looked at"]
#[non_exhaustive]
pub enum Verdict {
    /// The rule held wherever it was looked at.
    Pass,
    /// It did not.
    Fail(Box<Violation>),
    /// What is declared has no such feature; which.
    Unsupported(String),
    /// It could not be observed; why.
    Unknown(String),
}

impl Verdict {
    /// Whether it is [`Verdict::Pass`].
    #[must_use]
    pub fn is_pass(&self) -> bool {
        matches!(self, Verdict::Pass)
    }

    /// What broke, if something did.
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

    /// Why it is neither a pass nor a fail.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Unsupported(reason) | Verdict::Unknown(reason) => Some(reason),
            _ => None,
        }
    }

    /// There is no such feature.
    #[cfg(feature = "properties")]
    pub(crate) fn unsupported(reason: impl Into<String>) -> Verdict {
        Verdict::Unsupported(reason.into())
    }

    /// It could not be observed.
    pub(crate) fn unknown(reason: impl Into<String>) -> Verdict {
        Verdict::Unknown(reason.into())
    }

    /// Says whose verdict it is.
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
    /// What should have been.
    pub expected: String,
    /// What was.
    pub actual: String,
    /// In which of the rule's cases; of generated ones, the smallest that still shows it.
    pub case: Option<String>,
    /// Where, if no timeline shows it: at which attempt, draw or end.
    pub place: Option<String>,
    /// What happened, the line that broke the rule marked.
    pub excerpt: Vec<String>,
    /// How to see it again.
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

    /// As that rule's, and of nobody in particular.
    #[cfg(feature = "properties")]
    pub(crate) fn of(mut self, rule: &'static Rule) -> Violation {
        self.rule = Some(rule);
        self
    }

    /// The rule.
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

/// A line of a report: the verdict, right-aligned, the rule, and why it is neither a pass nor a fail.
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
