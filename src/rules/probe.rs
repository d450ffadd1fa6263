//! What happens when a service fails its probes.

use super::call::Control;
use super::observed::Observed;
use super::rest::RestReason;
use super::rule::Verdict;
use crate::status::ExitStatus;
use crate::supervisor::Probe;
use crate::supervisor::RestartPolicy;
use crate::timeline::RunSpan;
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// The name of the agent whose runs are the probes.
pub(crate) const PROBE: &str = "probe";

/// One run of the service, and the probes that were started during it.
struct Probed<'a> {
    observed: &'a Observed,
    probe: &'a Probe,
    run: RunSpan,
    probes: Vec<RunSpan>,
}

/// What happened in a run until it had failed its probes or was over.
struct Course {
    /// How many probes have failed in a row.
    failed: u32,
    /// When so many probes had failed in a row that the run must end; `None` if there were fewer.
    due: Option<Timestamp>,
    /// The first probe that was started after that.
    more: Option<RunSpan>,
}

/// Judges each run by itself, and then what follows it.
pub(super) fn probe_failure_policy(observed: &Observed) -> Verdict {
    judge(observed).err().unwrap_or(Verdict::Pass)
}

fn judge(observed: &Observed) -> Result<(), Verdict> {
    let Some(probe) = &observed.service.probe else {
        return Err(Verdict::unknown("it was asked for no probe"));
    };
    let told = [Control::Stop, Control::Restart, Control::End];
    if told.iter().any(|told| observed.call(*told).is_some()) {
        return Err(Verdict::unknown("its runs were ended on request, too"));
    }
    let runs = observed.in_turn()?;
    let probes = observed.timeline.runs(PROBE);
    let first = runs[0].start + probe.every + observed.late();
    if probes.is_empty() && observed.end <= first {
        return Err(Verdict::unknown("looking ended before the first probe"));
    }
    if let Some(early) = probes.iter().find(|probe| probe.start < runs[0].start) {
        return Err(started(
            observed,
            early,
            "what was never started is not probed",
        ));
    }
    for (place, run) in runs.iter().enumerate() {
        let next = runs.get(place + 1);
        let is_own = |probe: &&RunSpan| {
            run.start <= probe.start && next.is_none_or(|next| probe.start < next.start)
        };
        let probed = Probed {
            observed,
            probe,
            run: *run,
            probes: probes.iter().filter(is_own).copied().collect(),
        };
        let course = probed.course()?;
        match (course.due, probed.ended(&course)?) {
            (Some(_), Some(exit)) => followed(observed, &runs, place, exit)?,
            (Some(_), None) => return Ok(()),
            (None, _) => {}
        }
    }
    Ok(())
}

fn started(observed: &Observed, probe: &RunSpan, expected: impl Into<String>) -> Verdict {
    observed.broken(
        observed.start_in(PROBE, probe.run),
        expected,
        format!("probe {} is started at {}", probe.run, probe.start),
    )
}

impl Probed<'_> {
    /// Judges the probes in their order.
    fn course(&self) -> Result<Course, Verdict> {
        let (observed, run) = (self.observed, self.run.run);
        let up = observed.up_at(&observed.service, &self.run);
        let mut course = Course {
            failed: 0,
            due: None,
            more: None,
        };
        // The earliest and the latest time at which the next probe may start.
        let mut span = up.map(|up| (up + self.probe.every, up + self.probe.every));
        for probe in &self.probes {
            if let Some(exit) = self
                .run
                .exit
                .filter(|exit| probe.start > *exit + observed.late())
            {
                let expected = format!("nothing is probed after the end of run {run} at {exit}");
                return Err(started(observed, probe, expected));
            }
            if course.due.is_some() {
                course.more = Some(*probe);
                break;
            }
            let Some((from, to)) = span else {
                let expected = format!("run {run} has none before it is up and while another runs");
                return Err(started(observed, probe, expected));
            };
            if probe.start + observed.early() < from || probe.start > to + observed.late() {
                let expected = format!("the next probe of run {run} is started at {from}");
                return Err(started(observed, probe, expected));
            }
            span = self.answered(probe, &mut course)?.map(|end| {
                let from = probe.start + self.probe.every;
                // The period may count from the start or from the end of the probe before.
                (from.max(end), end + self.probe.every)
            });
        }
        if let (None, Some((_, to))) = (course.due, span) {
            let sign = self.sign().map(|(.., at)| at);
            let over = sign.or(self.run.exit).unwrap_or(observed.end);
            if over > to + observed.late() {
                return Err(observed.broken(
                    None,
                    format!("run {run} is probed again by {to}"),
                    format!("it is not, until {over}"),
                ));
            }
        }
        Ok(course)
    }

    /// Judges one probe and counts it in `course`. Returns when the probe ended; `None` if it is
    /// still running.
    fn answered(&self, probe: &RunSpan, course: &mut Course) -> Result<Option<Timestamp>, Verdict> {
        let observed = self.observed;
        let timeout = probe.start + self.probe.timeout;
        // A probe that runs when its run ends must end, too: nothing is left to probe.
        let run_ends = self.run.exit.filter(|exit| *exit < timeout);
        let latest = run_ends.unwrap_or(timeout);
        let Some(end) = probe.exit.filter(|end| *end <= latest + observed.late()) else {
            if probe.exit.is_none() && observed.end <= latest + observed.late() {
                return Ok(None);
            }
            let why = match run_ends {
                Some(_) => format!("when run {} ends", self.run.run),
                None => format!("{:?} after its start", self.probe.timeout),
            };
            let lives = match probe.exit {
                Some(exit) => format!("it ends at {exit}"),
                None => format!("it is alive at {}", observed.end),
            };
            return Err(observed.broken(
                observed.start_in(PROBE, probe.run),
                format!("probe {} is ended by {latest}, {why}", probe.run),
                lives,
            ));
        };
        if probe.status.is_none() && end < latest {
            let reason = format!("nobody can tell how probe {} ended", probe.run);
            return Err(Verdict::Unknown(reason));
        }
        let has_answered = probe.status.is_some_and(|status| status.signal().is_none());
        if probe.status == Some(ExitStatus::Exited { code: 0 }) {
            course.failed = 0;
        } else if run_ends.is_none_or(|run_ends| end < run_ends) || has_answered {
            course.failed += 1;
            course.due = (course.failed >= self.probe.failures.get()).then_some(end);
        }
        Ok(Some(end))
    }

    /// The first sign in the timeline that something ended the run: its place, the signal and the
    /// time. It is a signal that the run trapped, or the signal that killed the run.
    fn sign(&self) -> Option<(Option<usize>, Signal, Timestamp)> {
        let run = self.run.run;
        let trapped = self.observed.signals_of(run).into_iter().next();
        let trapped = trapped.map(|(place, signal, at)| (Some(place), signal, at));
        let signal = self.run.status.and_then(ExitStatus::signal);
        let killed = self.run.exit.zip(signal);
        trapped.or_else(|| killed.map(|(at, signal)| (self.observed.exit_of(run), signal, at)))
    }

    /// Judges whether the run was ended when it was due, and by the right signal. Returns when it
    /// ended; `None` if it has not.
    fn ended(&self, course: &Course) -> Result<Option<Timestamp>, Verdict> {
        let (observed, run) = (self.observed, self.run.run);
        let most = self.probe.failures;
        let Some(due) = course.due else {
            let Some((place, signal, at)) = self.sign() else {
                return Ok(self.run.exit);
            };
            let expected = format!(
                "run {run}, which failed {} of {most} probes in a row, goes on",
                course.failed
            );
            return Err(observed.broken(place, expected, format!("{signal} ends it at {at}")));
        };
        let stop = observed.service.stop_signal;
        let latest = due + observed.late();
        let expected =
            format!("run {run} is sent {stop} at {due}, when {most} probes in a row have failed");
        let is_told = observed.profile.stopping.signal.is_supported();
        match self.sign() {
            Some((place, signal, at)) if at + observed.early() < due || at > latest => {
                return Err(observed.broken(place, expected, format!("{signal} comes at {at}")));
            }
            Some((place, signal, _)) if is_told && signal != stop => {
                return Err(observed.broken(place, expected, format!("{signal} comes instead")));
            }
            Some(_) => {}
            None if self.run.exit.is_some() => {
                let actual = "it ends, and no signal has come";
                return Err(observed.broken(observed.exit_of(run), expected, actual));
            }
            None if observed.end > latest => {
                let actual = format!("nothing has come by {}", observed.end);
                return Err(observed.broken(None, expected, actual));
            }
            None => return Err(Verdict::unknown("looking ended with the last probe")),
        }
        if let Some(more) = &course.more {
            let expected = format!("run {run}, which failed its probes at {due}, has no more");
            return Err(started(observed, more, expected));
        }
        let latest = latest + observed.service.grace;
        if self.run.exit.is_none() && observed.end > latest {
            return Err(observed.broken(
                None,
                format!("run {run} has ended by {latest}, at the end of its grace"),
                format!("it is alive at {}", observed.end),
            ));
        }
        Ok(self.run.exit)
    }
}

/// Judges whether the policy was applied to an end after failed probes.
fn followed(
    observed: &Observed,
    runs: &[RunSpan],
    place: usize,
    exit: Timestamp,
) -> Result<(), Verdict> {
    let run = runs[place];
    let policy = observed.service.policy;
    let restarts = policy != RestartPolicy::Never;
    let n = u32::try_from(place).unwrap_or(u32::MAX);
    // Another rule judges what the delay is counted from.
    let from = exit.max(run.start + observed.service.delays.bounds(n).0);
    let (_, to) = observed.due(&run, exit, n);
    // After a run that counts as healthy, the delays begin anew.
    let has_delays =
        observed.profile.delay.curve.is_supported() && observed.service.reset_after.is_none();
    let failed = format!(
        "run {} failed its probes, and the policy is {policy:?}",
        run.run
    );
    match runs.get(place + 1) {
        Some(next) if !restarts => Err(observed.broken(
            observed.start_of(next.run),
            format!("nothing is started any more: {failed}"),
            format!("run {} is started at {}", next.run, next.start),
        )),
        Some(next) if has_delays && (next.start + observed.early() < from || next.start > to) => {
            Err(observed.broken(
                observed.start_of(next.run),
                format!("the next run is started from {from} to {to}, after the delay: {failed}"),
                format!("run {} is started at {}", next.run, next.start),
            ))
        }
        Some(_) => Ok(()),
        None if !observed.looked_past(exit, place) => {
            Err(Verdict::unknown("looking ended before the delay was over"))
        }
        None if matches!(observed.rest(), Some(RestReason::GaveUp { .. })) => {
            Err(Verdict::unknown("it gave up"))
        }
        None if restarts => Err(observed.broken(
            observed.exit_of(run.run),
            format!("the next run is started by {to}: {failed}"),
            format!("nothing is, until {}", observed.end),
        )),
        None => match observed.rest() {
            None | Some(RestReason::Finished { success: false }) => Ok(()),
            Some(rest) => Err(observed.broken(
                observed.exit_of(run.run),
                format!("it rests with a failure: {failed}"),
                format!("it rests: {rest}"),
            )),
        },
    }
}
