//! How a service comes up.

use std::time::Duration;

use super::call::Control;
use super::group::Group;
use super::need::Requirement;
use super::notice::Notice;
use super::observed::Observed;
use super::rule::{Check, Rule, Verdict};
use super::service::Service;
use crate::backoff::Jitter;
use crate::status::ExitStatus;
use crate::supervisor::Readiness;
use crate::supervisor::RestartLimit;
use crate::timeline::{EventKind, RunSpan};
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "start-exactly-one",
        group: Group::Start,
        invariant: "a start request yields exactly one live instance",
        rationale: "Two instances of a service compete for the same port, lock or file.",
        origin: "s6-supervise, \"detailed operation\"; OTP supervisor: a child is started once.",
        bug: None,
        needs: &[],
        check: Check::Observed(start_exactly_one),
    },
    Rule {
        id: "up-criterion",
        group: Group::Start,
        invariant: "\"up\" is reported only once the declared criterion holds (exec, minimum uptime, \
                    notification)",
        rationale: "If the report comes too early, a caller that waits for the service goes on too \
                    early. If the report never comes, the caller waits for ever.",
        origin: "supervisord startsecs; systemd.service(5) Type=; s6 notification-fd.",
        bug: None,
        needs: &[Requirement::ReportsUp],
        check: Check::Observed(up_criterion),
    },
    Rule {
        id: "early-exit-is-failure",
        group: Group::Start,
        invariant: "an exit before the minimum uptime is a failed start, even with code 0",
        rationale: "If a service exits at once and reports no error, the supervisor believes that \
                    the service has done its work.",
        origin: "supervisord startsecs: an exit before it is a failed start, whatever its code.",
        bug: None,
        needs: &[Requirement::MinUptime, Requirement::TellsFailures],
        check: Check::Trial(
            early_exit_is_failure,
            "a run that exits with code 0 by itself before its minimum uptime",
        ),
    },
    Rule {
        id: "start-timeout",
        group: Group::Start,
        invariant: "a child that never gets ready is terminated at the timeout and counted as failed",
        rationale: "Without a timeout, the supervisor never retries a start that hangs. The \
                    services that depend on this start wait for ever.",
        origin: "systemd.service(5) TimeoutStartSec=; dinit-service(5) start-timeout.",
        bug: None,
        needs: &[Requirement::StartTimeout, Requirement::TellsFailures],
        check: Check::Trial(
            start_timeout,
            "a run that stays, and never says that it is ready",
        ),
    },
    Rule {
        id: "bad-limits-rejected",
        group: Group::Start,
        invariant: "zero periods, negative or NaN factors, impossible limits are refused when configured, \
                    not when used",
        rationale: "If the supervisor accepts a wrong setting, nobody notices the mistake before \
                    the first crash. That may be in the middle of the night.",
        origin: "OTP supervisor check_childspecs/1, and init/1 with invalid intensity or period.",
        bug: None,
        needs: &[Requirement::RejectsBadSettings],
        check: Check::Observed(bad_limits_rejected),
    },
    Rule {
        id: "order-and-reverse",
        group: Group::Start,
        invariant: "start order is as declared, stop order is its reverse",
        rationale: "In a wrong order, a service starts before a service that it depends on, or \
                    stops after it.",
        origin: "OTP supervisor: children start from left to right and end from right to left; supervisord \
                 priority.",
        bug: None,
        needs: &[
            Requirement::StartOrder,
            Requirement::Stop,
            Requirement::StopSignal,
        ],
        check: Check::Trial(
            order_and_reverse,
            "three services that take a while until they are up and to stop",
        ),
    },
];

/// In the trial one instance starts and stays. On any other timeline, only two instances at a time
/// break the rule.
fn start_exactly_one(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    if !observed.is_trial_of("start-exactly-one") {
        return one_at_a_time(observed, &runs);
    }
    match runs.len() {
        0 => Verdict::unknown("it was never started"),
        1 if runs[0].exit.is_none() => Verdict::Pass,
        1 => observed.broken(
            observed.exit_of(1),
            "one live instance",
            "the only one has ended by itself",
        ),
        count => observed.broken(observed.start_of(2), "one start", format!("{count} starts")),
    }
}

/// Judges a timeline whose runs need not stay.
fn one_at_a_time(observed: &Observed, runs: &[RunSpan]) -> Verdict {
    let beside = runs.windows(2).find(|pair| {
        let exit = pair[0].exit.unwrap_or(observed.end);
        exit > pair[1].start + observed.early()
    });
    if let Some([one, other]) = beside {
        return observed.broken(
            observed.start_of(other.run),
            "one live instance",
            format!("run {} was started beside run {}", other.run, one.run),
        );
    }
    match runs {
        [only] if only.exit.is_none() => Verdict::Pass,
        [] => Verdict::unknown("it was never started"),
        _ => Verdict::unknown("its runs end, and nothing says that they should not"),
    }
}

fn up_criterion(observed: &Observed) -> Verdict {
    let after = match observed.service.readiness {
        Readiness::Exec => Duration::ZERO,
        Readiness::MinUptime(time) => time,
        Readiness::Notified => return Verdict::unknown("ready-not-early is about notifications"),
    };
    if !observed.was_heard() {
        return Verdict::unknown("nobody has listened to what it reports");
    }
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let early = observed.early();
    let ups: Vec<Timestamp> = observed
        .notices
        .iter()
        .filter(|noticed| noticed.notice == Notice::Up)
        .map(|noticed| noticed.at)
        .collect();
    for up in &ups {
        let Some(run) = runs.iter().rev().find(|run| run.start <= *up + early) else {
            // The report may be about a process that was ended before its hello. The timeline has
            // no run of that process.
            if !observed.is_trial_of("up-criterion") {
                return Verdict::Unknown(format!("nothing is known of what was up at {up}"));
            }
            return observed.broken(
                None,
                "no report of being up before the first start",
                format!("up at {up}"),
            );
        };
        let due = run.start + after;
        if *up + early < due {
            return observed.broken(
                observed.start_of(run.run),
                format!(
                    "run {} is up at {due} (start at {} + {after:?})",
                    run.run, run.start
                ),
                format!("run {} is up at {up}, {:?} early", run.run, due - *up),
            );
        }
    }
    let mut was_up = false;
    for run in &runs {
        let due = run.start + after;
        let latest = due + observed.late();
        let over = not_ended_until(observed, run);
        // The run ended too early to be reported as up.
        if over <= latest {
            continue;
        }
        was_up = true;
        if !ups.iter().any(|up| due <= *up + early && *up <= latest) {
            let up = ups.iter().find(|up| latest < **up && **up <= over);
            return observed.broken(
                observed.start_of(run.run),
                format!(
                    "run {} is up at {due} (start at {} + {after:?})",
                    run.run, run.start
                ),
                up.map_or_else(
                    || format!("run {} was not reported up by {over}", run.run),
                    |up| format!("run {} is up at {up}, {:?} late", run.run, *up - due),
                ),
            );
        }
    }
    if was_up {
        Verdict::Pass
    } else {
        Verdict::unknown("no run met the criterion")
    }
}

/// The time until which nothing had begun to end the run, as far as the timeline shows. A run that
/// is about to be ended need not be reported as up any more.
fn not_ended_until(observed: &Observed, run: &RunSpan) -> Timestamp {
    let over = run.exit.unwrap_or(observed.end);
    let told = observed.orders().map(|call| call.from);
    let told = told.filter(|told| *told + observed.late() >= run.start);
    let signals = observed.signals_of(run.run).into_iter().map(|(.., at)| at);
    let timeout = observed.service.start_timeout.map(|time| run.start + time);
    let ends = told.chain(signals).chain(timeout);
    // The order that started the run does not end it.
    ends.filter(|end| *end > run.start)
        .fold(over, Timestamp::min)
}

fn early_exit_is_failure(observed: &Observed) -> Verdict {
    let Readiness::MinUptime(least) = observed.service.readiness else {
        return Verdict::unknown("there is no minimum uptime");
    };
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let clean = Some(ExitStatus::Exited { code: 0 });
    let early = runs.iter().position(|run| {
        run.status == clean && run.exit.is_some_and(|exit| exit < run.start + least)
    });
    let Some(place) = early else {
        return Verdict::unknown("no run exited with code 0 before the minimum uptime");
    };
    match observed.was_failure(&runs, place) {
        Ok(true) => Verdict::Pass,
        Ok(false) => observed.broken(
            observed.exit_of(runs[place].run),
            format!(
                "the exit of run {} before its minimum uptime of {least:?} is a failed start",
                runs[place].run
            ),
            "it was taken for success",
        ),
        Err(unknown) => unknown,
    }
}

fn start_timeout(observed: &Observed) -> Verdict {
    let service = &observed.service;
    let Some(timeout) = service.start_timeout else {
        return Verdict::unknown("there is no start timeout");
    };
    match service.readiness {
        Readiness::Exec => return Verdict::unknown("it is up at exec"),
        Readiness::MinUptime(time) if time <= timeout => {
            return Verdict::unknown("it is up before the timeout");
        }
        Readiness::MinUptime(_) | Readiness::Notified => {}
    }
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let run = &runs[0];
    if (observed.own())
        .any(|(_, number, event)| number == run.run && event.what == EventKind::Ready)
    {
        return Verdict::unknown("it was ready");
    }
    let due = run.start + timeout;
    let mut latest = due + observed.late();
    if !service.stop_signal.is_deadly() {
        latest += service.grace;
    }
    let expected = format!(
        "run {} is ended at {due} (start at {} + timeout {timeout:?})",
        run.run, run.start
    );
    let signal = observed.signals_of(run.run).first().copied();
    let (place, ended) = match (signal, run.exit) {
        (Some((place, _, at)), _) => (Some(place), at),
        (None, Some(exit)) => (observed.exit_of(run.run), exit),
        (None, None) if observed.end > latest => {
            let actual = format!("it still runs at {}", observed.end);
            return observed.broken(None, expected, actual);
        }
        (None, None) => return Verdict::unknown("looking ended before the timeout"),
    };
    if ended + observed.early() < due {
        if signal.is_none() && matches!(run.status, Some(ExitStatus::Exited { .. })) {
            return Verdict::unknown("it exited before the timeout");
        }
        let actual = format!("it was ended at {ended}, {:?} early", due - ended);
        return observed.broken(place, expected, actual);
    }
    if ended > latest {
        let actual = format!("it was ended at {ended}, {:?} late", ended - due);
        return observed.broken(place, expected, actual);
    }
    match observed.was_failure(&runs, 0) {
        Ok(true) => Verdict::Pass,
        Ok(false) => observed.broken(
            observed.exit_of(run.run),
            format!("run {}, which was not ready in time, has failed", run.run),
            "it was taken for success",
        ),
        Err(unknown) => unknown,
    }
}

fn bad_limits_rejected(observed: &Observed) -> Verdict {
    let Some(nonsense) = nonsense(&observed.service) else {
        return Verdict::unknown("all settings make sense");
    };
    let others = observed
        .calls
        .iter()
        .filter(|call| call.control == Control::Begin && call.service != observed.service.name);
    if others.into_iter().any(|call| call.error.is_some()) {
        return Verdict::unknown("it refuses settings that make sense, too");
    }
    match observed.call(Control::Begin) {
        None => Verdict::unknown("it was not told to begin"),
        Some(call) if call.error.is_some() => Verdict::Pass,
        Some(call) if call.to.is_none() => Verdict::unknown("the begin has not returned"),
        Some(_) => observed.broken(
            observed.start_of(1),
            format!("{nonsense} is refused when it is configured"),
            "it was taken",
        ),
    }
}

/// A setting that makes no sense, in words; `None` if all settings make sense.
fn nonsense(service: &Service) -> Option<String> {
    let delays = &service.delays;
    if !delays.multiplier.is_finite() || delays.multiplier < 0.0 {
        return Some(format!("a delay multiplied by {}", delays.multiplier));
    }
    if let Jitter::Relative(part) = delays.jitter
        && !(0.0..=1.0).contains(&part)
    {
        return Some(format!("a jitter of {part}"));
    }
    if let RestartLimit::Window { within, .. } = service.limit
        && within.is_zero()
    {
        return Some("a limit within a period of 0s".to_owned());
    }
    let zero = Some(Duration::ZERO);
    if service.reset_after == zero {
        return Some("a healthy run of 0s".to_owned());
    }
    if service.start_timeout == zero {
        return Some("a start timeout of 0s".to_owned());
    }
    None
}

fn order_and_reverse(observed: &Observed) -> Verdict {
    let group = match observed.in_group() {
        Ok((group, _)) => group,
        Err(unknown) => return unknown,
    };
    let mut turns = Vec::new();
    for service in &group.services {
        let Some(run) = observed.timeline.runs(&service.name).first().copied() else {
            return Verdict::Unknown(format!("`{}` was never started", service.name));
        };
        turns.push((service, run));
    }
    let mut unknown = None;
    for pair in turns.windows(2) {
        let (before, after) = ((pair[0].0, &pair[0].1), (pair[1].0, &pair[1].1));
        for judge in [starts_after, stops_before] {
            match judge(observed, before, after) {
                Ok(()) => {}
                Err(broken @ Verdict::Fail(_)) => return broken,
                Err(verdict) => unknown = unknown.or(Some(verdict)),
            }
        }
    }
    unknown.unwrap_or(Verdict::Pass)
}

/// A service of a group, and its first run.
type Turn<'a> = (&'a Service, &'a RunSpan);

/// Checks that the service `before` is up before the service `after` is started.
fn starts_after(observed: &Observed, before: Turn<'_>, after: Turn<'_>) -> Result<(), Verdict> {
    let (first, second) = (&before.0.name, &after.0.name);
    let started = after.1.start;
    let up = observed.up_at(before.0, before.1);
    match up {
        Some(up) if up == before.1.start => Err(Verdict::Unknown(format!(
            "`{first}` was up at once: nobody can tell who was the first"
        ))),
        Some(up) if started + observed.early() >= up => Ok(()),
        up => {
            let when = up.map_or_else(|| "which it never was".to_owned(), |up| format!("at {up}"));
            Err(observed.broken(
                observed.start_in(second, after.1.run),
                format!("`{second}` is started when `{first}` is up, {when}"),
                format!("it is started at {started}"),
            ))
        }
    }
}

/// Checks that the service `after` has ended before the service `before` is stopped.
fn stops_before(observed: &Observed, before: Turn<'_>, after: Turn<'_>) -> Result<(), Verdict> {
    let stop = observed.call(Control::Stop);
    let Some(stop) = stop.filter(|stop| stop.error.is_none()) else {
        return Err(Verdict::unknown("the group was not stopped"));
    };
    let (place, stopped) = stop_of(observed, before, stop.from)?;
    let (_, told) = stop_of(observed, after, stop.from)?;
    let (first, second) = (&before.0.name, &after.0.name);
    match after.1.exit {
        Some(exit) if exit == told => Err(Verdict::Unknown(format!(
            "`{second}` ended at once: nobody can tell who was the first"
        ))),
        Some(exit) if stopped + observed.early() >= exit => Ok(()),
        exit => {
            let when = exit.map_or_else(|| "which it has not".to_owned(), |at| format!("at {at}"));
            Err(observed.broken(
                Some(place),
                format!("`{first}` is stopped when `{second}` has ended, {when}"),
                format!("it is stopped at {stopped}"),
            ))
        }
    }
}

/// Where and when the stop of a run first shows: by a trapped signal or by its end. The verdict is
/// unknown if it ended before or was not stopped.
fn stop_of(
    observed: &Observed,
    (service, run): Turn<'_>,
    asked: Timestamp,
) -> Result<(usize, Timestamp), Verdict> {
    let name = &service.name;
    let shows =
        |what: &EventKind| matches!(what, EventKind::Signal { .. } | EventKind::Exit { .. });
    let mut own = observed.own_of(name);
    match own.find(|(_, number, event)| *number == run.run && shows(&event.what)) {
        Some((_, _, event)) if event.at + observed.early() < asked => Err(Verdict::Unknown(
            format!("`{name}` ended before it was stopped"),
        )),
        Some((place, _, event)) => Ok((place, event.at)),
        None => Err(Verdict::Unknown(format!("`{name}` was not stopped"))),
    }
}
