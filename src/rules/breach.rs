//! How a rule was broken, with the events of the timeline that show it.

use super::observed::Observed;
use super::rule::{Verdict, Violation};

impl Observed {
    /// Makes the verdict that the rule is broken. `at` is the place in the timeline where that
    /// shows, if it shows there.
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

    /// The events that lead to the one at this place. Without a place, the last events.
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
