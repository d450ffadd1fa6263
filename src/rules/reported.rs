//! The ends that a subject reported.

use super::notice::Notice;
use super::observed::Observed;
use super::rule::Verdict;
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

impl Observed {
    /// The statuses that the subject reported, in order.
    pub(super) fn reported_ends(&self) -> Vec<ExitStatus> {
        self.reported_at().map(|(_, status)| status).collect()
    }

    /// The statuses that the subject reported, in order, and when it reported each.
    pub(super) fn reported_at(&self) -> impl Iterator<Item = (Timestamp, ExitStatus)> {
        self.notices.iter().filter_map(|said| match said.notice {
            Notice::Ended(status) => Some((said.at, status)),
            _ => None,
        })
    }

    /// Whether the first end that the subject reported came in time. Run 1 ended at `exit`, at
    /// `place` in the timeline.
    pub(super) fn end_is_reported(&self, exit: Timestamp, place: usize) -> Verdict {
        let due = exit + self.late();
        let expected = format!("the end of run 1 at {exit} is reported by {due}");
        let ended = self
            .notices
            .iter()
            .find(|said| matches!(said.notice, Notice::Ended(_)));
        match ended {
            Some(said) if said.at <= due => Verdict::Pass,
            Some(said) => self.broken(
                Some(place),
                expected,
                format!("it is reported at {}", said.at),
            ),
            None if self.end > due => {
                let actual = format!("it is not reported until {}", self.end);
                self.broken(Some(place), expected, actual)
            }
            None => Verdict::unknown("looking ended with the run"),
        }
    }
}
