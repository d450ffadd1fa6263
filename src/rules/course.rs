//! Reasons other than the policy for a start or an end: commands, limits, readiness and failed
//! starts. Without them, a rule would blame a supervisor for what somebody asked of it.

use std::time::Duration;

use super::call::{Control, ControlCall};
use super::notice::Notice;
use super::observed::Observed;
use super::profile::DelayOrigin;
use super::rest::RestReason;
use super::rule::Verdict;
use crate::supervisor::Readiness;
use crate::supervisor::RestartPolicy;
use crate::timeline::RunSpan;
use crate::timestamp::Timestamp;

/// How many restarts there may have been before a given restart, counted from 0. `least` and `most`
/// differ if it is not known whether counting began anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) least: u32,
    pub(super) most: u32,
}

/// The commands that start or end runs of a service.
const ORDERS: [Control; 5] = [
    Control::Stop,
    Control::Restart,
    Control::Start,
    Control::End,
    Control::Crash,
];

impl Observed {
    /// Whether the trial of the rule with this id made this happen.
    pub(super) fn is_trial_of(&self, id: &str) -> bool {
        self.trial == Some(id)
    }

    /// Whether somebody listened to the supervisor. A timeline alone has no notices. There, a
    /// missing notice does not mean that the supervisor was silent.
    pub(super) fn was_heard(&self) -> bool {
        let mut calls = self.calls.iter();
        calls.any(|call| call.control == Control::Begin)
    }

    /// The commands that start or end runs of the service, without the first begin.
    pub(super) fn orders(&self) -> impl Iterator<Item = &ControlCall> {
        let again = self.calls_of(Control::Begin).skip(1);
        let orders = self
            .calls
            .iter()
            .filter(|call| call.service == self.service.name && ORDERS.contains(&call.control));
        again.chain(orders)
    }

    /// Whether a command may be the reason why this run ended, or why something did or did not
    /// start after it, up to the time `until`.
    pub(super) fn is_asked(&self, run: &RunSpan, until: Timestamp) -> bool {
        self.orders().any(|call| {
            let to = call.to.unwrap_or(self.end);
            // A command that started this run, and that was over before the run ended, did nothing
            // more.
            let began = matches!(
                call.control,
                Control::Begin | Control::Start | Control::Restart
            ) && call.from <= run.start
                && to <= run.start + self.late()
                && run.exit.is_none_or(|exit| exit > to + self.late());
            !began && call.from <= until + self.early() && to + self.late() >= run.start
        })
    }

    /// Checks that only the policy starts and ends runs: no command was given, and no sibling has a
    /// say. Otherwise the verdict is unknown.
    pub(super) fn left_alone(&self) -> Result<(), Verdict> {
        if self.group.is_some() {
            return Err(Verdict::unknown(
                "its siblings have a say in its starts and ends",
            ));
        }
        let reset = self.call(Control::Reset);
        match self.orders().next().or(reset) {
            Some(call) => Err(Verdict::Unknown(format!(
                "it was told to {} at {}",
                call.control, call.from
            ))),
            None => Ok(()),
        }
    }

    /// How many starts the subject reported as failed between these times, both included.
    pub(super) fn failed_starts(&self, from: Timestamp, to: Timestamp) -> u32 {
        let failed = self.notices.iter().filter(|said| {
            matches!(said.notice, Notice::StartFailed(_)) && from <= said.at && said.at <= to
        });
        u32::try_from(failed.count()).unwrap_or(u32::MAX)
    }

    /// For each of the runs: how many restarts there were before the one that follows it.
    pub(super) fn attempts(&self, runs: &[RunSpan]) -> Vec<Attempt> {
        let begins_anew = [Control::Reset, Control::Start, Control::Restart];
        let is_reset = |from: Timestamp, to: Timestamp| {
            let mut calls = self.calls.iter().filter(|call| {
                call.service == self.service.name && begins_anew.contains(&call.control)
            });
            calls.any(|call| call.from <= to && call.to.unwrap_or(self.end) >= from)
        };
        let mut next = Attempt { least: 0, most: 0 };
        let mut from = Timestamp::ORIGIN;
        let mut attempts = Vec::new();
        for run in runs {
            next.most = next
                .most
                .saturating_add(self.failed_starts(from, run.start));
            let exit = run.exit.unwrap_or(self.end);
            if is_reset(from, exit) {
                next.least = 0;
            }
            if let Some(healthy) = self.service.reset_after {
                let alive = exit.saturating_since(run.start);
                // It is not always known when the run came up. This is the longest that it may have
                // taken. `None` if a notification tells that the run is up.
                let until_up = match self.service.readiness {
                    Readiness::Exec => Some(Duration::ZERO),
                    Readiness::MinUptime(time) => Some(time),
                    Readiness::Notified => None,
                };
                if alive + self.late() >= healthy {
                    next.least = 0;
                }
                let surely = |until_up| alive > healthy + until_up + self.late();
                // A run that was killed because it was not up in time was never healthy, however
                // long the kill took. Nothing says whether the grace after failed probes counts as
                // healthy time.
                let was_up = self.was_up(run, exit, "") == Some(true);
                if was_up && self.service.probe.is_none() && until_up.is_some_and(surely) {
                    next.most = 0;
                }
            }
            attempts.push(next);
            from = exit;
            next.least = next.least.saturating_add(1);
            next.most = next.most.saturating_add(1);
        }
        attempts
    }

    /// The shortest and the longest that the delay before that restart may be.
    pub(super) fn delay_of(&self, attempt: Attempt) -> (Duration, Duration) {
        let one = self.service.delays.bounds(attempt.least);
        let other = self.service.delays.bounds(attempt.most);
        // Without decorrelated jitter, every delay between these two attempts lies between these
        // bounds.
        (one.0.min(other.0), one.1.max(other.1))
    }

    /// Whether the run was up when it ended; `None` if that is unknown.
    fn was_up(&self, run: &RunSpan, exit: Timestamp, id: &str) -> Option<bool> {
        match self.service.readiness {
            Readiness::Exec => Some(true),
            // In the rule's own trial, the run says to the harness whatever it says to the
            // supervisor.
            Readiness::Notified if self.is_trial_of(id) => {
                Some(self.up_at(&self.service, run).is_some())
            }
            Readiness::Notified if self.was_heard() && self.profile.reports.up => {
                let mut notices = self.notices.iter();
                Some(notices.any(|said| {
                    said.notice == Notice::Up
                        && run.start <= said.at + self.early()
                        && said.at <= exit + self.late()
                }))
            }
            Readiness::Notified => None,
            Readiness::MinUptime(time) => {
                let up = run.start + time;
                let timeout = self
                    .service
                    .start_timeout
                    .filter(|timeout| *timeout <= time);
                if exit + self.early() < up {
                    Some(false)
                } else if timeout.is_some() || exit <= up + self.late() {
                    None
                } else {
                    Some(true)
                }
            }
        }
    }

    /// Whether the policy wants a restart after that end, and what it takes the end for, in words.
    /// `None` if that is unknown. Limits are not taken into account.
    pub(super) fn wants_restart(
        &self,
        run: &RunSpan,
        exit: Timestamp,
        id: &str,
    ) -> Option<(bool, String)> {
        let failure = self.service.policy != RestartPolicy::Never;
        let was_up = self.was_up(run, exit, id);
        let silent = |period| exit + self.early() >= run.start + period;
        let may_be_unhealthy =
            self.service.probe.is_some() || self.service.watchdog.is_some_and(silent);
        let timed_out = |timeout| exit + self.early() >= run.start + timeout;
        let what = match self.service.start_timeout {
            Some(timeout) if timed_out(timeout) => "a start timeout",
            _ => "an end before it was up",
        };
        if was_up == Some(false) {
            return Some((failure, what.to_owned()));
        }
        let status = run.status?;
        let restarts = self.service.restarts(status);
        let may_be_failure = was_up.is_none() || may_be_unhealthy;
        (!may_be_failure || restarts == failure).then(|| (restarts, status.to_string()))
    }

    /// Whether a limit may be the reason why no start follows the run at this place.
    pub(super) fn may_have_given_up(&self, place: usize) -> bool {
        let failed = self.failed_starts(Timestamp::ORIGIN, self.end) as usize;
        let allowed = self.profile.allowed_starts(self.service.limit);
        allowed.is_some_and(|allowed| place + 1 + failed >= allowed)
    }

    /// The latest time at which the start after an end is due, for that restart.
    pub(super) fn latest_start(
        &self,
        run: &RunSpan,
        exit: Timestamp,
        attempt: Attempt,
    ) -> Timestamp {
        let (_, most) = self.delay_of(attempt);
        let from_start = run.start + most;
        (exit + most).max(from_start) + self.late()
    }

    /// The runs, if each of them began after the one before had ended. Otherwise, or if there are
    /// none, the verdict is unknown.
    pub(super) fn in_turn(&self) -> Result<Vec<RunSpan>, Verdict> {
        let runs = self.runs();
        if runs.is_empty() {
            return Err(Verdict::unknown("it was never started"));
        }
        for pair in runs.windows(2) {
            if pair[0].exit.is_none_or(|exit| exit > pair[1].start) {
                return Err(Verdict::unknown(format!(
                    "run {} was started before run {} had ended",
                    pair[1].run, pair[0].run
                )));
            }
        }
        Ok(runs)
    }

    /// The earliest and the latest time at which the start after this run is due, with the `n`-th
    /// delay, counted from 0.
    pub(super) fn due(&self, run: &RunSpan, exit: Timestamp, n: u32) -> (Timestamp, Timestamp) {
        let (least, most) = self.service.delays.bounds(n);
        let after = |delay| match self.profile.delay.origin {
            DelayOrigin::Exit => exit + delay,
            DelayOrigin::LastStart => exit.max(run.start + delay),
        };
        (after(least), after(most) + self.late())
    }

    /// Whether the observation went on after an end until the `n`-th delay, counted from 0, was
    /// over.
    pub(super) fn looked_past(&self, exit: Timestamp, n: usize) -> bool {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.end > exit + self.service.delays.bounds(n).1 + self.late()
    }

    /// Whether the subject took the end of the run at this place for a failure. What followed the
    /// end shows that.
    pub(super) fn was_failure(&self, runs: &[RunSpan], place: usize) -> Result<bool, Verdict> {
        let on_failure = self.service.policy == RestartPolicy::OnFailure;
        let Some(exit) = runs.get(place).and_then(|run| run.exit) else {
            return Err(Verdict::unknown("the run has not ended"));
        };
        let until = runs.get(place + 1).map_or(self.end, |next| next.start);
        if self.is_asked(&runs[place], until) {
            return Err(Verdict::unknown(
                "its end, or what followed it, was asked for",
            ));
        }
        if runs.len() > place + 1 {
            return if on_failure {
                Ok(true)
            } else {
                Err(Verdict::unknown("its policy does not tell failures"))
            };
        }
        match self.rest() {
            Some(RestReason::Finished { success }) => Ok(!success),
            Some(RestReason::GaveUp { .. }) if on_failure => Ok(true),
            Some(rest) => Err(Verdict::unknown(format!("it came to rest: {rest}"))),
            None if self.may_have_given_up(place) => Err(Verdict::unknown("it may have given up")),
            None if on_failure && self.looked_past(exit, place) => Ok(false),
            None => Err(Verdict::unknown("nothing says what the end was taken for")),
        }
    }

    /// Whether one of the runs may have been healthy. After a healthy run, counting begins anew.
    pub(super) fn may_begin_anew(&self, runs: &[RunSpan]) -> bool {
        let Some(healthy) = self.service.reset_after else {
            return false;
        };
        let mut ended = runs.iter().filter_map(|run| Some(run.exit? - run.start));
        ended.any(|lived| lived + self.late() >= healthy)
    }
}
