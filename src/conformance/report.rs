//! The verdicts on a subject, as a table.

use std::fmt;
use std::time::Duration;

use crate::rules::{Rule, Verdict, write_line};

/// The verdict of one rule on a subject.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Line {
    /// The rule that was judged.
    pub rule: &'static Rule,
    /// The rule's verdict.
    pub verdict: Verdict,
    /// How long it took to judge the rule, in real time.
    pub took: Duration,
}

impl Line {
    pub(super) fn new(rule: &'static Rule, verdict: Verdict, took: Duration) -> Line {
        Line {
            rule,
            verdict,
            took,
        }
    }
}

/// Writes the verdict, right-aligned, then the rule, then the reason if the verdict has one.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, self.rule, &self.verdict)
    }
}

/// Joins the lines of a text into one, because a table has one line for each rule.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// Returns the text as it can stand in a cell of a table in Markdown.
fn cell(text: &str) -> String {
    one_line(text).replace('|', "\\|")
}

/// The verdicts of all rules on one subject. Prints as a table, followed by the violations of the
/// broken rules.
#[derive(Clone, Debug)]
#[must_use = "a report says nothing until it is asserted or printed"]
pub struct SuiteReport {
    subject: String,
    lines: Vec<Line>,
}

impl SuiteReport {
    pub(super) fn new(subject: &str, lines: Vec<Line>) -> SuiteReport {
        SuiteReport {
            subject: one_line(subject),
            lines,
        }
    }

    /// Returns the subject's name. If its profile could not be had, returns that error instead.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the verdicts, in the order of the rules.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Returns the verdict of the rule with this id, or `None` if there is no such rule.
    #[must_use]
    pub fn verdict(&self, id: &str) -> Option<&Verdict> {
        let line = self.lines.iter().find(|line| line.rule.id == id);
        line.map(|line| &line.verdict)
    }

    /// Returns the ids of the rules whose verdict has this word: `pass`, `fail`, `unsupported`,
    /// `unknown`.
    #[must_use]
    pub fn with(&self, word: &str) -> Vec<&'static str> {
        let lines = self.lines.iter();
        lines
            .filter(|line| line.verdict.word() == word)
            .map(|line| line.rule.id)
            .collect()
    }

    /// Checks that no rule is broken or unknown, and that at least one rule passes. A rule that is
    /// only planned may be unknown.
    ///
    /// # Panics
    ///
    /// If that is not so, with the table as the message.
    #[track_caller]
    pub fn assert(&self) {
        let is_good = |line: &Line| {
            line.rule.planned().is_some()
                || matches!(line.verdict, Verdict::Pass | Verdict::Unsupported(_))
        };
        let ran = self.lines.iter().any(|line| line.verdict.is_pass());
        assert!(ran && self.lines.iter().all(is_good), "{self}");
    }

    /// Returns a line that says how many verdicts there are of each kind. Planned rules are counted
    /// apart.
    fn summary(&self) -> String {
        let planned = |line: &&Line| line.rule.planned().is_some();
        let count = |word: &str| {
            let lines = self.lines.iter().filter(|line| !planned(line));
            lines.filter(|line| line.verdict.word() == word).count()
        };
        format!(
            "{}: {} pass, {} fail, {} unsupported, {} unknown; {} planned",
            self.subject,
            count("pass"),
            count("fail"),
            count("unsupported"),
            count("unknown"),
            self.lines.iter().filter(planned).count()
        )
    }

    /// Returns the verdicts as a table in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("| rule | {} | |\n|---|---|---|\n", cell(&self.subject));
        for line in &self.lines {
            let remark = match &line.verdict {
                Verdict::Fail(violation) => cell(&violation.actual),
                _ => cell(line.verdict.reason().unwrap_or_default()),
            };
            text.push_str(&format!(
                "| `{}` | {} | {remark} |\n",
                line.rule.id,
                line.verdict.word()
            ));
        }
        text.push_str(&format!("\n{}\n", self.summary()));
        text
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        write!(f, "{:>12}  {}", "total", self.summary())?;
        for line in &self.lines {
            if let Verdict::Fail(violation) = &line.verdict {
                write!(f, "\n\n{violation}")?;
            }
        }
        Ok(())
    }
}

/// Serializes as `{"version": 1, "subject": .., "rules": [{"id": .., "verdict": .., ..}]}`, without
/// times.
#[cfg(feature = "serde")]
impl serde::Serialize for SuiteReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut report = serializer.serialize_struct("Report", 3)?;
        report.serialize_field("version", &1)?;
        report.serialize_field("subject", &self.subject)?;
        report.serialize_field("rules", &self.lines)?;
        report.end()
    }
}

/// Serializes the rule's id, the verdict's word, and its reason or violation.
#[cfg(feature = "serde")]
impl serde::Serialize for Line {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;

        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("id", self.rule.id)?;
        line.serialize_entry("verdict", self.verdict.word())?;
        if let Some(reason) = self.verdict.reason() {
            line.serialize_entry("reason", reason)?;
        }
        if let Verdict::Fail(violation) = &self.verdict {
            if let Some(case) = &violation.case {
                line.serialize_entry("case", case)?;
            }
            line.serialize_entry("expected", &violation.expected)?;
            line.serialize_entry("actual", &violation.actual)?;
            if let Some(place) = &violation.place {
                line.serialize_entry("place", place)?;
            }
            line.serialize_entry("excerpt", &violation.excerpt)?;
        }
        line.end()
    }
}
