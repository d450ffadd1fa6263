//! What the checks found.

use std::fmt;

use crate::rules::{Rule, Verdict, Violation, write_line};

/// The setting that repeats the same draws.
pub(super) fn replay(seed: u64) -> String {
    format!("SUPERVISE_SEED={seed}")
}

/// The verdicts of all checks of one kind. Prints as a table, followed by the violations.
#[derive(Clone, Debug)]
#[must_use = "a report says nothing until it is asserted or printed"]
pub struct PropertyReport {
    verdicts: Vec<(&'static Rule, Verdict)>,
    seed: u64,
}

impl PropertyReport {
    pub(super) fn new(seed: u64, verdicts: Vec<(&'static Rule, Verdict)>) -> PropertyReport {
        PropertyReport { verdicts, seed }
    }

    /// The verdicts, in the order of the checks.
    pub fn verdicts(&self) -> impl Iterator<Item = (&'static Rule, &Verdict)> {
        self.verdicts.iter().map(|(rule, verdict)| (*rule, verdict))
    }

    /// The verdict on the rule with this id.
    #[must_use]
    pub fn verdict(&self, id: &str) -> Option<&Verdict> {
        let (_, verdict) = self.verdicts.iter().find(|(rule, _)| rule.id == id)?;
        Some(verdict)
    }

    /// The ids of the rules whose verdict is this word: `pass`, `fail`, `unsupported` or `unknown`.
    #[must_use]
    pub fn with(&self, word: &str) -> Vec<&'static str> {
        let verdicts = self.verdicts.iter();
        verdicts
            .filter(|(_, verdict)| verdict.word() == word)
            .map(|(rule, _)| rule.id)
            .collect()
    }

    /// The violations of the rules that failed.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.verdicts
            .iter()
            .filter_map(|(_, verdict)| verdict.violation())
    }

    /// Whether at least one rule passed, and every other rule passed or is unsupported. A rule that
    /// failed, or that could not be judged (`unknown`), makes this false.
    #[must_use]
    pub fn passed(&self) -> bool {
        let is_good = |verdict: &Verdict| verdict.is_pass() || verdict.word() == "unsupported";
        self.verdicts.iter().all(|(_, verdict)| is_good(verdict))
            && self.verdicts.iter().any(|(_, verdict)| verdict.is_pass())
    }

    /// Fails the test unless the report [passed](PropertyReport::passed).
    ///
    /// # Panics
    ///
    /// If the report did not pass. The message has the table and the violations.
    #[track_caller]
    pub fn assert(&self) {
        let why = if !self.with("fail").is_empty() {
            "properties broken"
        } else if !self.with("unknown").is_empty() {
            "properties could not be judged"
        } else {
            "no property is supported, so nothing was shown"
        };
        assert!(self.passed(), "{why}\n{self}");
    }
}

impl fmt::Display for PropertyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (rule, verdict) in &self.verdicts {
            write_line(f, rule, verdict)?;
            writeln!(f)?;
        }
        let count = |word| self.with(word).len();
        write!(
            f,
            "{:>12}  {} pass, {} fail, {} unsupported, {} unknown; {}",
            "total",
            count("pass"),
            count("fail"),
            count("unsupported"),
            count("unknown"),
            replay(self.seed)
        )?;
        for violation in self.violations() {
            write!(f, "\n\n{violation}")?;
        }
        Ok(())
    }
}
