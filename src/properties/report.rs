//! What the checks found.

use std::fmt;

/// A rule that a check checks: its public, stable name, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// The name.
    pub id: &'static str,
    /// The invariant, in one line.
    pub invariant: &'static str,
}

impl Rule {
    pub(super) const fn new(id: &'static str, invariant: &'static str) -> Rule {
        Rule { id, invariant }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Verdict {
    /// The rule held wherever it was looked at.
    Pass,
    /// It did not.
    Fail(Violation),
    /// There was nothing to look at, for this reason. It is never a pass.
    NotApplicable(String),
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

    pub(super) fn not_applicable(reason: impl Into<String>) -> Verdict {
        Verdict::NotApplicable(reason.into())
    }
}

/// How a rule was broken. Prints like a compiler error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
#[non_exhaustive]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub actual: String,
    /// Where: attempt and draw, or end.
    pub place: String,
    /// The smallest generated case that still shows it; none where the check generates none.
    pub case: Option<String>,
    /// What `SUPERVISE_SEED` must be to see it again.
    pub seed: u64,
}

impl Violation {
    fn text(&self) -> String {
        let Rule { id, invariant } = self.rule;
        let mut lines = vec![
            format!("rule `{id}` broken"),
            format!("  rule      {invariant}"),
            format!("  expected  {}", self.expected),
            format!("  actual    {}", self.actual),
            format!("  place     {}", self.place),
        ];
        if let Some(case) = &self.case {
            lines.push(format!("  case      {case}"));
        }
        lines.push(format!("  replay    SUPERVISE_SEED={}", self.seed));
        lines.join("\n")
    }
}

/// The verdicts of all checks of a kind. Prints as a table, followed by what broke.
#[derive(Clone, Debug)]
#[must_use = "a report says nothing until it is asserted or printed"]
pub struct Report {
    verdicts: Vec<(Rule, Verdict)>,
    seed: u64,
}

impl Report {
    pub(super) fn new(seed: u64, verdicts: Vec<(Rule, Verdict)>) -> Report {
        Report { verdicts, seed }
    }

    /// The verdicts, in the order of the checks.
    pub fn verdicts(&self) -> impl Iterator<Item = (Rule, &Verdict)> {
        self.verdicts.iter().map(|(rule, verdict)| (*rule, verdict))
    }

    /// The verdict on the rule with this id.
    #[must_use]
    pub fn verdict(&self, id: &str) -> Option<&Verdict> {
        let (_, verdict) = self.verdicts.iter().find(|(rule, _)| rule.id == id)?;
        Some(verdict)
    }

    /// What broke.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.verdicts
            .iter()
            .filter_map(|(_, verdict)| verdict.violation())
    }

    /// Whether something passed and nothing broke.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violations().next().is_none() && self.verdicts.iter().any(|(_, v)| v.is_pass())
    }

    /// Fails the test unless the report [passed](Report::passed).
    ///
    /// # Panics
    ///
    /// With the table and what broke, if a rule was broken or no check applied.
    #[track_caller]
    pub fn assert(&self) {
        if self.violations().next().is_some() {
            panic!("properties broken\n{self}");
        }
        assert!(
            self.passed(),
            "no property applied, so nothing was shown\n{self}"
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |wanted: fn(&Verdict) -> bool| {
            self.verdicts
                .iter()
                .filter(|(_, verdict)| wanted(verdict))
                .count()
        };
        let width = self
            .verdicts
            .iter()
            .map(|(rule, _)| rule.id.len())
            .max()
            .unwrap_or(0);
        for (rule, verdict) in &self.verdicts {
            match verdict {
                Verdict::Pass => writeln!(f, "{:>12}  {}", "pass", rule.id)?,
                Verdict::Fail(violation) => {
                    writeln!(
                        f,
                        "{:>12}  {:width$}  {}",
                        "FAIL", rule.id, violation.actual
                    )?;
                }
                Verdict::NotApplicable(reason) => {
                    writeln!(f, "{:>12}  {:width$}  {reason}", "n/a", rule.id)?;
                }
            }
        }
        write!(
            f,
            "{:>12}  {} pass, {} fail, {} not applicable, SUPERVISE_SEED={}",
            "total",
            count(Verdict::is_pass),
            count(|verdict| verdict.violation().is_some()),
            count(|verdict| matches!(verdict, Verdict::NotApplicable(_))),
            self.seed
        )?;
        for violation in self.violations() {
            write!(f, "\n\n{violation}")?;
        }
        Ok(())
    }
}
