//! Which ends of a run are followed by a restart.

use super::call::{Control, ControlCall};
use super::group::Group;
use super::need::Requirement;
use super::notice::Notice;
use super::observed::Observed;
use super::profile::StopReturn;
use super::rest::RestReason;
use super::rule::{Check, Rule, Verdict};
use crate::supervisor::RestartPolicy;
use crate::timeline::RunSpan;
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "policy-matrix",
        group: Group::RestartDecision,
        invariant: "each policy × cause of end (code 0, code ≠ 0, signal, core dump, start failure, timeout) \
                    restarts exactly when its table says so",
        rationale: "A supervisor may handle one kind of end wrongly because nobody tested it. \
                    After such an end the service stays down, or the supervisor restarts it for \
                    ever.",
        origin: "systemd.service(5), the table of Restart=; OTP supervisor: permanent, transient, temporary.",
        bug: Some("FedericoPonzi/Horust#121 killed services are not restarted"),
        needs: &[],
        check: Check::Observed(policy_matrix),
    },
    Rule {
        id: "no-start-after-stop",
        group: Group::RestartDecision,
        invariant: "after a stop is acknowledged nothing starts until an explicit start",
        rationale: "An operator stops a service for an upgrade, or for good. A supervisor that \
                    breaks this rule brings it back.",
        origin: "s6-svc -d; systemd.service(5) Restart=: not after a stop by systemctl.",
        bug: Some("Unitech/pm2#1966 stop during a delayed restart relaunches"),
        needs: &[Requirement::Stop],
        check: Check::Observed(no_start_after_stop),
    },
    Rule {
        id: "status-overrides",
        group: Group::RestartDecision,
        invariant: "lists that prevent or force a restart beat the policy",
        rationale: "With its exit status, a service can say that it must not be restarted. A \
                    supervisor that ignores this restarts the service into the same trouble.",
        origin: "systemd.service(5) RestartPreventExitStatus=, RestartForceExitStatus=.",
        bug: None,
        needs: &[Requirement::OverrideLists],
        check: Check::Observed(status_overrides),
    },
    Rule {
        id: "one-start-per-exit",
        group: Group::RestartDecision,
        invariant: "each end causes at most one start",
        rationale: "If the supervisor starts two runs after one end, both runs are alive at the \
                    same time.",
        origin: "s6-supervise, \"detailed operation\"; OTP supervisor: one restart for one exit.",
        bug: None,
        needs: &[Requirement::Restarts],
        check: Check::Observed(one_start_per_exit),
    },
    Rule {
        id: "sibling-strategy",
        group: Group::RestartDecision,
        invariant: "one_for_one keeps its siblings' pids; one_for_all and rest_for_one replace exactly their \
                    set",
        rationale: "If the supervisor restarts too many siblings, healthy services lose their \
                    state. If it restarts too few, services go on with a partner that has just \
                    been replaced.",
        origin: "OTP supervisor, restart strategies.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::SiblingStrategy],
        check: Check::Trial(
            sibling_strategy,
            "a group of which one service crashes, and the others stay",
        ),
    },
    Rule {
        id: "manual-start-after-give-up",
        group: Group::RestartDecision,
        invariant: "an explicit start works after giving up",
        rationale: "An operator fixes a service and starts it again. If this start does not work, \
                    only a restart of the supervisor itself brings the service back.",
        origin: "systemctl reset-failed and start; supervisorctl start from FATAL.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Limit,
            Requirement::Start,
        ],
        check: Check::Trial(
            manual_start_after_give_up,
            "a start of what has crashed until it was given up",
        ),
    },
];

fn policy_matrix(observed: &Observed) -> Verdict {
    const ID: &str = "policy-matrix";
    let policy = observed.service.policy;
    if observed.group.is_some() {
        return Verdict::unknown(SIBLINGS);
    }
    if observed.runs().is_empty() {
        return after_failed_start(observed);
    }
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let mut was_judged = false;
    let mut unknown = None;
    for (place, (run, attempt)) in runs.iter().zip(observed.attempts(&runs)).enumerate() {
        let Some(exit) = run.exit else { break };
        let next = runs.get(place + 1);
        let due = observed.latest_start(run, exit, attempt);
        if observed.is_asked(run, next.map_or(due.min(observed.end), |next| next.start)) {
            unknown.get_or_insert_with(|| format!("the end of run {} was asked for", run.run));
            continue;
        }
        let Some((restarts, cause)) = observed.wants_restart(run, exit, ID) else {
            let reason = || format!("nobody can tell how run {} ended", run.run);
            unknown.get_or_insert_with(reason);
            continue;
        };
        match next {
            Some(next) if !restarts => {
                return observed.broken(
                    observed.start_of(next.run),
                    format!("no restart after {cause} of run {} ({policy:?})", run.run),
                    format!("run {} was started at {}", next.run, next.start),
                );
            }
            Some(_) => was_judged = true,
            None if restarts && observed.may_have_given_up(place) => {
                unknown.get_or_insert_with(|| "it may have given up".to_owned());
            }
            None if observed.end <= due => {
                unknown.get_or_insert_with(|| "looking ended before the delay was over".to_owned());
            }
            // A start that was tried counts as a restart, even if it failed.
            None if restarts && observed.failed_starts(exit, observed.end) == 0 => {
                return observed.broken(
                    observed.exit_of(run.run),
                    format!("a restart after {cause} of run {} ({policy:?})", run.run),
                    format!("there was none by {}", observed.end),
                );
            }
            None => was_judged = true,
        }
    }
    match unknown {
        // The rule held wherever it could be judged. Only its own trial must have judged all ends.
        _ if was_judged && !observed.is_trial_of(ID) => Verdict::Pass,
        Some(reason) => Verdict::Unknown(reason),
        None if was_judged => Verdict::Pass,
        None => Verdict::unknown("no run has ended"),
    }
}

const SIBLINGS: &str = "in a group its siblings have a say in its restarts";

/// Judges the policy after starts that failed. No run shows them.
fn after_failed_start(observed: &Observed) -> Verdict {
    let policy = observed.service.policy;
    if let Err(unknown) = observed.left_alone() {
        return unknown;
    }
    let failed: Vec<Timestamp> = observed
        .notices
        .iter()
        .filter(|noticed| matches!(noticed.notice, Notice::StartFailed(_)))
        .map(|noticed| noticed.at)
        .collect();
    let Some(first) = failed.first() else {
        return Verdict::unknown("no start, nor the failure of one");
    };
    if !observed.looked_past(*first, 0) {
        return Verdict::unknown("looking ended before the delay was over");
    }
    match (failed.get(1), policy) {
        (Some(again), RestartPolicy::Never) => observed.broken(
            None,
            format!("no second try after a failed start ({policy:?})"),
            format!("another failed at {again}"),
        ),
        (None, RestartPolicy::OnFailure | RestartPolicy::Always)
            if observed.profile.allowed_starts(observed.service.limit) == Some(1) =>
        {
            Verdict::unknown("it may have given up")
        }
        (None, RestartPolicy::OnFailure | RestartPolicy::Always) => observed.broken(
            None,
            format!("a second try after a failed start ({policy:?})"),
            format!("there was none by {}", observed.end),
        ),
        _ => Verdict::Pass,
    }
}

fn no_start_after_stop(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    if runs.is_empty() {
        return Verdict::unknown("it was never started");
    }
    let mut was_acknowledged = false;
    let mut unknown = None;
    for (place, stop) in observed.calls.iter().enumerate() {
        let is_own = stop.control == Control::Stop && stop.service == observed.service.name;
        let Some(to) = stop.to.filter(|_| is_own && stop.error.is_none()) else {
            continue;
        };
        was_acknowledged = true;
        // The calls are in the order in which they were made. A call that came after the stop may
        // have been made at the same instant. A call that came before is no explicit start after
        // the stop, however long it takes.
        let later = &observed.calls[place + 1..];
        let is_asked = |run: &RunSpan| later.iter().any(|call| starts(observed, call, run));
        for run in runs.iter().filter(|run| run.start >= stop.from) {
            if is_asked(run) {
                continue;
            }
            let expected = format!("no start after the stop that returned at {to}");
            if run.start > to + observed.early() {
                let actual = format!("run {} was started at {}", run.run, run.start);
                return observed.broken(observed.start_of(run.run), expected, actual);
            }
            // A run that began while the service was being stopped, or when the stop returned, must
            // be ended, too. It must have ended by the return of the stop. If the stop does not
            // wait for the end, the run has until the end of its grace.
            let waits = observed.profile.stopping.returns != Some(StopReturn::AtOnce);
            let over = if waits {
                to
            } else {
                stop.from + observed.service.grace
            } + observed.late();
            let until = match run.exit {
                Some(exit) if exit <= over => continue,
                Some(exit) => format!("lives until {exit}"),
                None if !waits && observed.end <= over => {
                    unknown = Some("looking ended before the grace was over");
                    continue;
                }
                None => format!("is alive at {}", observed.end),
            };
            let actual = format!("run {}, started at {}, {until}", run.run, run.start);
            return observed.broken(observed.start_of(run.run), expected, actual);
        }
        if !observed.looked_past(to, runs.len()) {
            unknown = Some("looking ended too soon after the stop");
        }
    }
    match unknown {
        _ if !was_acknowledged => Verdict::unknown("no stop was acknowledged"),
        Some(reason) => Verdict::unknown(reason),
        None => Verdict::Pass,
    }
}

/// Whether the call may be the reason why that run was started.
fn starts(observed: &Observed, call: &ControlCall, run: &RunSpan) -> bool {
    let starts = matches!(
        call.control,
        Control::Begin | Control::Start | Control::Restart
    );
    let is_own = call.service == observed.service.name;
    starts && is_own && call.from <= run.start + observed.early()
}

fn status_overrides(observed: &Observed) -> Verdict {
    let service = &observed.service;
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let (Some(status), Some(exit)) = (runs[0].status, runs[0].exit) else {
        return Verdict::unknown("the first run has not ended");
    };
    if observed.group.is_some() {
        return Verdict::unknown(SIBLINGS);
    }
    let until = runs.get(1).map_or(observed.end, |next| next.start);
    if observed.is_asked(&runs[0], until) {
        return Verdict::unknown("its end, or what followed it, was asked for");
    }
    // The lists apply only to the end of a process that was up.
    match observed.wants_restart(&runs[0], exit, "status-overrides") {
        Some((restarts, _)) if restarts == service.restarts(status) => {}
        _ => return Verdict::unknown("nobody can tell what the end was taken for"),
    }
    let by_policy = match service.policy {
        RestartPolicy::Never => false,
        RestartPolicy::OnFailure => !service.is_success(status),
        RestartPolicy::Always => true,
    };
    let restarts = service.restarts(status);
    let is_prevented = service.prevent.contains(status);
    let is_both = is_prevented && service.force.contains(status);
    if restarts == by_policy && !is_both {
        return Verdict::unknown("the policy alone says the same");
    }
    let list = if is_prevented { "prevents" } else { "forces" };
    match runs.get(1) {
        Some(next) if !restarts => observed.broken(
            observed.start_of(next.run),
            format!("no restart after {status}, which a list {list}"),
            format!("run {} was started at {}", next.run, next.start),
        ),
        Some(_) => Verdict::Pass,
        None if !observed.looked_past(exit, 0) => {
            Verdict::unknown("looking ended before the delay was over")
        }
        None if restarts && observed.may_have_given_up(0) => {
            Verdict::unknown("it may have given up")
        }
        None if restarts && observed.failed_starts(exit, observed.end) == 0 => observed.broken(
            observed.exit_of(runs[0].run),
            format!("a restart after {status}, which a list {list}"),
            format!("there was none by {}", observed.end),
        ),
        None => Verdict::Pass,
    }
}

fn one_start_per_exit(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let mut asked: Vec<&ControlCall> = observed
        .calls_of(Control::Start)
        .chain(observed.calls_of(Control::Restart))
        .chain(observed.calls_of(Control::Begin).skip(1))
        .collect();
    let mut was_automatic = false;
    for (place, run) in runs.iter().enumerate().skip(1) {
        // A start that was asked for needs no end before it.
        let reason = asked.iter().position(|call| {
            let to = call.to.unwrap_or(observed.end) + observed.late();
            call.from <= run.start && run.start <= to
        });
        if let Some(reason) = reason {
            asked.remove(reason);
            continue;
        }
        was_automatic = true;
        let mut before = runs[..place].iter();
        let by = run.start + observed.early();
        let alive = before.find(|earlier| earlier.exit.is_none_or(|exit| exit > by));
        if let Some(alive) = alive {
            return observed.broken(
                observed.start_of(run.run),
                format!("no start until run {} has ended", alive.run),
                format!("run {} was started at {}", run.run, run.start),
            );
        }
    }
    if was_automatic {
        Verdict::Pass
    } else {
        Verdict::unknown("there was no restart")
    }
}

fn sibling_strategy(observed: &Observed) -> Verdict {
    let ((group, place), runs) = match (observed.in_group(), observed.in_turn()) {
        (Ok(group), Ok(runs)) => (group, runs),
        (Err(unknown), _) | (_, Err(unknown)) => return unknown,
    };
    let (Some(exit), Some(next)) = (runs[0].exit, runs.get(1)) else {
        return Verdict::unknown("it was not restarted");
    };
    if observed.end <= next.start + observed.stops_of(group) {
        return Verdict::unknown("looking ended too soon after the restart");
    }
    let others = match observed.others_at(group, exit) {
        Ok(others) => others,
        Err(unknown) => return unknown,
    };
    let strategy = group.strategy;
    for other in others {
        let name = other.name;
        let at = observed.exit_in(name, other.run.run);
        if !strategy.replaces(place, other.place) {
            if other.run.exit.is_some() || other.next.is_some() {
                return observed.broken(
                    at.or(other
                        .next
                        .and_then(|next| observed.start_in(name, next.run))),
                    format!("`{name}` goes on ({strategy:?})"),
                    other.fate(),
                );
            }
        } else if other.run.exit.is_none() || other.next.is_none() {
            let no_other = other.run.exit.map_or("", |_| ", and no other was started");
            return observed.broken(
                at.or(observed.start_of(next.run)),
                format!("`{name}` is replaced, too ({strategy:?})"),
                other.fate() + no_other,
            );
        }
    }
    Verdict::Pass
}

fn manual_start_after_give_up(observed: &Observed) -> Verdict {
    match observed.rest() {
        Some(RestReason::GaveUp { .. }) => {}
        Some(rest) => return Verdict::unknown(format!("it did not give up: {rest}")),
        None if observed.profile.reports.rest => return Verdict::unknown("it did not give up"),
        None => {}
    }
    let Some(start) = observed.call(Control::Start) else {
        return Verdict::unknown("it was not told to start");
    };
    let runs = observed.runs();
    let before: Vec<&RunSpan> = runs.iter().filter(|run| run.start < start.from).collect();
    let all_ended = before
        .iter()
        .all(|run| run.exit.is_some_and(|exit| exit <= start.from));
    let is_over = before.last().and_then(|run| run.exit).is_some_and(|exit| {
        let n = u32::try_from(before.len()).unwrap_or(u32::MAX);
        observed.profile.reports.rest || start.from > exit + observed.service.delays.bounds(n).1
    });
    if !all_ended || !is_over {
        return Verdict::unknown("it had not given up when it was told to start");
    }
    let expected = format!("a run after the start at {}", start.from);
    if let Some(error) = &start.error {
        return observed.broken(None, expected, format!("the start is an error: {error}"));
    }
    let latest = start.to.unwrap_or(start.from) + observed.late();
    let started = runs.iter().find(|run| run.start >= start.from);
    match started {
        Some(run) if run.start <= latest => Verdict::Pass,
        Some(run) => observed.broken(
            observed.start_of(run.run),
            expected,
            format!("run {} was started as late as {}", run.run, run.start),
        ),
        None if observed.end > latest => observed.broken(
            None,
            expected,
            format!("there was none by {}", observed.end),
        ),
        None => Verdict::unknown("looking ended before the start"),
    }
}
