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
    /// The subject declares that it has no such feature; which.
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

    /// It could not be observed.
    pub(crate) fn unknown(reason: impl Into<String>) -> Verdict {
        Verdict::Unknown(reason.into())
    }

    /// Says whose verdict it is.
    pub(super) fn named(mut self, rule: &'static Rule, service: &str) -> Verdict {
        if let Verdict::Fail(violation) = &mut self {
            violation.rule = Some(rule);
            violation.service = service.to_owned();
        }
        self
    }
}

/// How a rule was broken. Prints like a compiler error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Violation {
    rule: Option<&'static Rule>,
    service: String,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub actual: String,
    /// In which of the rule's cases.
    pub case: Option<String>,
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
            service: String::new(),
            expected: expected.into(),
            actual: actual.into(),
            case: None,
            excerpt: Vec::new(),
            replay: None,
        }
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
        write!(f, "rule `{id}` broken by `{}`", self.service)?;
        write!(f, "\n  rule      {invariant}")?;
        if let Some(case) = &self.case {
            write!(f, "\n  case      {case}")?;
        }
        write!(f, "\n  expected  {}", self.expected)?;
        write!(f, "\n  actual    {}", self.actual)?;
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
