//! How long the supervisor waits before a restart.

use std::time::Duration;

use super::call::Control;
use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::profile::DelayOrigin;
use super::rule::{Check, Rule, Verdict};
use crate::timeline::RunSpan;
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "min-spacing",
        group: Group::BackoffAndJitter,
        invariant: "starts of a child that dies at once are never closer than the declared spacing",
        rationale: "Without the spacing, the supervisor restarts a child that dies at once as \
                    often as the machine allows. The restarts then overload the whole machine.",
        origin: "daemontools supervise: at most one start a second; s6-supervise, \"detailed operation\".",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::Delays],
        check: Check::Observed(min_spacing),
    },
    Rule {
        id: "delay-origin",
        group: Group::BackoffAndJitter,
        invariant: "the delay counts from the exit or from the last start, as declared",
        rationale: "If the delay counts from the start, a service that ran for longer than the \
                    delay is restarted at once. If it counts from the exit, every restart waits \
                    for the delay.",
        origin: "s6-supervise: one second from the last start; systemd.service(5) RestartSec=: from the exit.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::Delays],
        check: Check::Observed(delay_origin),
    },
    Rule {
        id: "delay-curve",
        group: Group::BackoffAndJitter,
        invariant: "the k-th delay matches the declared curve",
        rationale: "If the delay grows too slowly, the restarts keep a broken machine busy. If it \
                    grows too fast, a service stays down long after somebody has fixed it.",
        origin: "systemd.service(5) RestartSteps=, RestartMaxDelaySec=; Kubernetes CrashLoopBackOff.",
        bug: Some("systemd/systemd#43813 backoff steps never reset"),
        needs: &[Requirement::Restarts, Requirement::Delays],
        check: Check::Observed(delay_curve),
    },
    Rule {
        id: "delay-capped",
        group: Group::BackoffAndJitter,
        invariant: "no delay, jitter included, exceeds the maximum",
        rationale: "Users rely on the maximum that they set. If the supervisor first applies the \
                    maximum and then adds jitter, a delay can exceed the maximum.",
        origin: "systemd.service(5) RestartMaxDelaySec=; \"maximum delay\" in the docs of retry libraries.",
        bug: None,
        needs: &[Requirement::Delays, Requirement::Strategy],
        check: Check::StrategyOr(delay_capped),
    },
    Rule {
        id: "delay-no-overflow",
        group: Group::BackoffAndJitter,
        invariant: "at attempt 10 000, and at u32::MAX, the delay is the cap: no panic, no zero, no NaN",
        rationale: "A delay that doubles with each restart overflows after 64 restarts. A service \
                    that keeps failing can reach that number in one night.",
        origin: "The arithmetic of `initial << attempt` and of `Duration * 2`.",
        bug: None,
        needs: &[Requirement::Delays, Requirement::Strategy],
        check: Check::Strategy,
    },
    Rule {
        id: "delay-monotone",
        group: Group::BackoffAndJitter,
        invariant: "without jitter, delays never shrink between resets",
        rationale: "If the delays get shorter, the restarts become more frequent. The backoff then \
                    only postpones the restart storm that it should prevent.",
        origin: "Kubernetes CrashLoopBackOff; Docker restart policies: the delay doubles until it is reset.",
        bug: None,
        needs: &[Requirement::PlainDelays, Requirement::Strategy],
        check: Check::Strategy,
    },
    Rule {
        id: "jitter-law",
        group: Group::BackoffAndJitter,
        invariant: "delays lie within the declared jitter, with its mean and its spread",
        rationale: "A jitter that uses only a part of its declared range spreads the restarts too \
                    little. Services that failed together then still restart close together.",
        origin: "Marc Brooker, \"Exponential Backoff And Jitter\", AWS Architecture Blog, 2015.",
        bug: None,
        needs: &[
            Requirement::Delays,
            Requirement::Jitter,
            Requirement::Strategy,
        ],
        check: Check::Strategy,
    },
    Rule {
        id: "jitter-at-cap",
        group: Group::BackoffAndJitter,
        invariant: "delays at the cap still vary",
        rationale: "In a long outage, every service reaches the maximum delay. If the supervisor \
                    cuts all delays to exactly that maximum, all services restart at the same \
                    time.",
        origin: "Marc Brooker, \"Exponential Backoff And Jitter\", AWS Architecture Blog, 2015.",
        bug: None,
        needs: &[
            Requirement::Delays,
            Requirement::Jitter,
            Requirement::Strategy,
        ],
        check: Check::Strategy,
    },
    Rule {
        id: "jitter-seeded",
        group: Group::BackoffAndJitter,
        invariant: "one seed gives one sequence; two seeds, or two instances without a seed, give different ones",
        rationale: "A test uses a seed to get the same delays again. But two machines must not \
                    draw the same delays, or their services restart at the same times.",
        origin: "Marc Brooker, \"Exponential Backoff And Jitter\": clients that draw alike collide again.",
        bug: None,
        needs: &[
            Requirement::Delays,
            Requirement::Jitter,
            Requirement::Strategy,
        ],
        check: Check::Strategy,
    },
    Rule {
        id: "herd-spacing",
        group: Group::BackoffAndJitter,
        invariant: "children that fail together do not restart together",
        rationale: "Services may fail together because something that all of them need is missing. \
                    If they also restart together, they all ask for it at the same moment again.",
        origin: "Nomad restart block: the delay plus up to 25 % of it at random; AWS, as for jitter-law.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::Jitter,
        ],
        check: Check::Trial(
            herd_spacing,
            "four services that crash at one instant, and draw their delays from a jitter",
        ),
    },
    Rule {
        id: "backoff-interruptible",
        group: Group::BackoffAndJitter,
        invariant: "a stop during a delay returns promptly",
        rationale: "If a stop waits for a backoff of several minutes, the shutdown takes too long. \
                    It is then killed before it is complete.",
        origin: "moby, `docker stop` of a container that restarts; OTP supervisor: terminate_child of one that restarts.",
        bug: Some(
            "moby/moby#22342 stop hangs while restarting; Supervisor/supervisor#746 update hangs on a process in BACKOFF",
        ),
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::Stop,
        ],
        check: Check::Observed(backoff_interruptible),
    },
    Rule {
        id: "clock-step-safe",
        group: Group::BackoffAndJitter,
        invariant: "a step of the wall clock neither crashes the subject nor shifts its timers",
        rationale: "A machine that boots without the correct time sets its wall clock while its \
                    services start. Timers that follow the wall clock then expire too early or too \
                    late.",
        origin: "clock_gettime(2): CLOCK_REALTIME is set, CLOCK_MONOTONIC is not.",
        bug: Some("Supervisor/supervisor#281 clock step crashes"),
        needs: &[Requirement::Restarts, Requirement::Delays],
        check: Check::Planned(
            "only the whole machine's wall clock can be stepped: time namespaces have none of their own",
        ),
    },
];

/// When the first of two runs ended. `None` if the runs overlap, which another rule judges.
fn exit_before(pair: &[RunSpan]) -> Option<Timestamp> {
    pair[0].exit.filter(|exit| *exit <= pair[1].start)
}

const OVERLAP: &str = "a run was started before the last had ended";
const ASKED: &str = "every restart was asked for";
const SIBLINGS: &str = "in a group a start waits for siblings, too";

/// In the trial the runs take no time. The rule compares the times from start to start.
fn min_spacing(observed: &Observed) -> Verdict {
    let curve = observed.service.delays;
    let runs = observed.runs();
    if runs.len() < 2 {
        return Verdict::unknown("there was no restart");
    }
    if curve.bounds(0).0.is_zero() {
        return Verdict::unknown("the declared delays may be zero");
    }
    let mut was_judged = false;
    for (attempt, pair) in observed.attempts(&runs).into_iter().zip(runs.windows(2)) {
        if exit_before(pair).is_none() {
            return Verdict::unknown(OVERLAP);
        }
        if observed.is_asked(&pair[0], pair[1].start) {
            continue;
        }
        was_judged = true;
        let (least, _) = observed.delay_of(attempt);
        let spacing = pair[1].start - pair[0].start;
        if spacing + observed.early() < least {
            return observed.broken(
                observed.start_of(pair[1].run),
                format!(
                    "runs {} and {} start {least:?} apart or more",
                    pair[0].run, pair[1].run
                ),
                format!("they start {spacing:?} apart"),
            );
        }
    }
    if was_judged {
        Verdict::Pass
    } else {
        Verdict::unknown(ASKED)
    }
}

/// In the trial a run takes time and then is restarted once.
fn delay_origin(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let [first, second, ..] = runs.as_slice() else {
        return Verdict::unknown("there was no restart");
    };
    let Some(exit) = exit_before(&runs[..2]) else {
        return Verdict::unknown(OVERLAP);
    };
    if observed.is_asked(first, second.start) {
        return Verdict::unknown("the restart was asked for");
    }
    if observed.failed_starts(Timestamp::ORIGIN, second.start) > 0 {
        return Verdict::unknown("a start failed before the restart");
    }
    if observed.group.is_some() {
        return Verdict::unknown(SIBLINGS);
    }
    let (least, most) = observed.service.delays.bounds(0);
    let origin = observed.profile.delay.origin;
    let due = |delay: Duration| match origin {
        DelayOrigin::Exit => exit + delay,
        DelayOrigin::LastStart => exit.max(first.start + delay),
    };
    let (earliest, latest) = (due(least), due(most));
    if second.start + observed.early() >= earliest
        && (second.start <= latest || observed.is_on_time(second.start, latest))
    {
        return Verdict::Pass;
    }
    let from = match origin {
        DelayOrigin::Exit => format!("the exit at {exit}"),
        DelayOrigin::LastStart => format!("the start at {}", first.start),
    };
    observed.broken(
        observed.start_of(second.run),
        format!(
            "run {} starts between {earliest} and {latest}: the delay from {from}",
            second.run
        ),
        format!("run {} starts at {}", second.run, second.start),
    )
}

/// Compares the delay before the k-th restart with the bounds of the curve. Another rule judges
/// what the delay is counted from, so this one accepts either origin.
fn delay_curve(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    if observed.group.is_some() {
        return Verdict::unknown(SIBLINGS);
    }
    if runs.len() < 2 {
        return Verdict::unknown("there was no restart");
    }
    let late = observed.profile.tolerance().late + observed.granularity();
    let mut was_judged = false;
    for (attempt, pair) in observed.attempts(&runs).into_iter().zip(runs.windows(2)) {
        let Some(exit) = exit_before(pair) else {
            return Verdict::unknown(OVERLAP);
        };
        let start = pair[1].start;
        // If a start failed between the two runs, there was more than one delay.
        if observed.is_asked(&pair[0], start) || observed.failed_starts(exit, start) > 0 {
            continue;
        }
        was_judged = true;
        let (least, most) = observed.delay_of(attempt);
        let fits = |origin: Timestamp| {
            start + observed.early() >= origin + least && start <= origin + most + late
        };
        let (origin, other) = match observed.profile.delay.origin {
            DelayOrigin::Exit => (exit, pair[0].start),
            DelayOrigin::LastStart => (pair[0].start, exit),
        };
        if fits(origin) || fits(other) {
            continue;
        }
        let run = pair[1].run;
        if start + observed.early() < origin + least {
            let early = origin + least - start;
            return observed.broken(
                observed.start_of(run),
                format!(
                    "run {run} starts at {} ({origin} + delay {least:?})",
                    origin + least
                ),
                format!("run {run} starts at {start}, {early:?} early"),
            );
        }
        return observed.broken(
            observed.start_of(run),
            format!(
                "run {run} starts by {} ({origin} + delay {most:?})",
                origin + most + late
            ),
            format!(
                "run {run} starts at {start}, {:?} late",
                start - (origin + most)
            ),
        );
    }
    if was_judged {
        Verdict::Pass
    } else {
        Verdict::unknown(ASKED)
    }
}

/// Checks that no restart comes later after an end than the longest delay. The rule's trial tests
/// the strategy itself, for more than a timeline shows.
fn delay_capped(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    if observed.group.is_some() {
        return Verdict::unknown(SIBLINGS);
    }
    let most = observed.service.delays.max;
    let late = observed.late();
    let mut was_judged = false;
    for pair in runs.windows(2) {
        let Some(exit) = exit_before(pair) else {
            return Verdict::unknown(OVERLAP);
        };
        let next = &pair[1];
        if observed.is_asked(&pair[0], next.start) || observed.failed_starts(exit, next.start) > 0 {
            continue;
        }
        was_judged = true;
        if next.start > exit + most + late {
            return observed.broken(
                observed.start_of(next.run),
                format!(
                    "run {} starts by {} ({exit} + the longest delay, {most:?})",
                    next.run,
                    exit + most + late
                ),
                format!("run {} starts at {}", next.run, next.start),
            );
        }
    }
    match (was_judged, runs.len()) {
        (true, _) => Verdict::Pass,
        (false, 0 | 1) => Verdict::unknown("there was no restart"),
        (false, _) => Verdict::unknown(ASKED),
    }
}

/// Compares the second starts of all agents. Their first runs ended at the same time.
fn herd_spacing(observed: &Observed) -> Verdict {
    let together = observed.profile.tolerance().late + observed.granularity();
    let mut starts = Vec::new();
    let mut exits = Vec::new();
    for agent in observed.timeline.agents() {
        let runs = observed.timeline.runs(agent);
        let [_, second, ..] = runs.as_slice() else {
            return Verdict::Unknown(format!("`{agent}` was not restarted"));
        };
        let Some(exit) = exit_before(&runs[..2]) else {
            return Verdict::unknown(OVERLAP);
        };
        exits.push(exit);
        starts.push(second.start);
    }
    let apart = |times: &[Timestamp]| match (times.iter().min(), times.iter().max()) {
        (Some(first), Some(last)) => *last - *first,
        _ => Duration::ZERO,
    };
    if starts.len() < 2 {
        return Verdict::unknown("there was only one child");
    }
    if apart(&exits) > together {
        return Verdict::unknown("they did not fail together");
    }
    // At worst, four draws from a range lie within a fiftieth of it by chance once in 30 000 times.
    // In virtual time, which is accurate to a millisecond, they do so once in 10¹³ times.
    let (least, most) = observed.service.delays.bounds(0);
    if most.saturating_sub(least) < together * 50 {
        return Verdict::unknown("the declared jitter is too narrow to be seen");
    }
    let seen = apart(&starts);
    if seen > together {
        return Verdict::Pass;
    }
    observed.broken(
        observed.start_of(2),
        format!(
            "{} children, which failed together, start at different times",
            starts.len()
        ),
        format!("all of them start within {seen:?}"),
    )
}

/// In the trial the subject is told to stop during the first delay.
fn backoff_interruptible(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let (Some(first), Some(stop)) = (runs.first(), observed.call(Control::Stop)) else {
        return Verdict::unknown("there was no run, or no stop");
    };
    if observed.group.is_some() {
        return Verdict::unknown("a stop of a group waits for its other services");
    }
    let (least, _) = observed.service.delays.bounds(0);
    let in_delay = |exit: Timestamp| exit <= stop.from && stop.from < exit + least;
    if !first.exit.is_some_and(in_delay) || runs.get(1).is_some_and(|run| run.start <= stop.from) {
        return Verdict::unknown("the stop was not made during a delay");
    }
    let promptly = observed.profile.tolerance().late + observed.granularity();
    let expected = format!(
        "the stop at {}, in a delay of {least:?}, returns within {promptly:?}",
        stop.from
    );
    match stop.took() {
        Some(took) if took <= promptly => Verdict::Pass,
        Some(took) => observed.broken(None, expected, format!("it returns after {took:?}")),
        None if observed.end <= stop.from + promptly => {
            Verdict::unknown("the stop was not waited for")
        }
        None => observed.broken(None, expected, "it has not returned"),
    }
}
