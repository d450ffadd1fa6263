//! How many starts the supervisor allows.

use std::time::Duration;

use super::call::Control;
use super::counted::limit_counts;
use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::profile::LimitCounts;
use super::rest::RestReason;
use super::rule::{Check, Rule, Verdict};
use crate::supervisor::{EndCause, RestartLimit};
use crate::timeline::RunSpan;
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "limit-boundary",
        group: Group::RateLimit,
        invariant: "N events in T are allowed, N+1 trips; whether the first start counts is declared",
        rationale: "If the limit is off by one, the supervisor may give up on a service that would \
                    have recovered. Or it may never give up.",
        origin: "OTP supervisor: more than intensity restarts in period; systemd.unit(5) StartLimitBurst=, \
                 which counts the first start.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::Limit],
        check: Check::Observed(limit_boundary),
    },
    Rule {
        id: "limit-counts",
        group: Group::RateLimit,
        invariant: "the unit counted is as declared: automatic restarts, all starts, failed starts",
        rationale: "If the supervisor counts the wrong events, manual restarts use up the limit \
                    that was meant for crashes. Or nobody notices a service that exits cleanly \
                    again and again.",
        origin: "systemd.unit(5) StartLimitBurst=: all starts; OTP supervisor intensity: restarts; supervisord \
                 startretries: failed starts.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::Limit],
        check: Check::Trial(
            limit_counts,
            "clean ends until no more runs come, or one restart on request after the other",
        ),
    },
    Rule {
        id: "window-kind",
        group: Group::RateLimit,
        invariant: "old events expire as declared: sliding, decaying, or consecutive",
        rationale: "If old events never expire, a service that crashes once a week reaches the \
                    limit after some weeks. If they expire too early, a service that crashes \
                    without end never reaches it.",
        origin: "OTP supervisor: a sliding period; s6-supervise max-death-tally; supervisord startretries: in a \
                 row.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::Limit],
        check: Check::Observed(window_kind),
    },
    Rule {
        id: "limit-degenerate",
        group: Group::RateLimit,
        invariant: "0 and infinity behave as documented",
        rationale: "A supervisor may treat the value for \"no limit\" as an ordinary number. Or \
                    its arithmetic overflows with the largest number.",
        origin: "systemd.unit(5) StartLimitIntervalSec=0: no limit; OTP supervisor: intensity 0.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::Limit],
        check: Check::Observed(limit_degenerate),
    },
    Rule {
        id: "give-up-is-terminal",
        group: Group::RateLimit,
        invariant: "after giving up there is no automatic start",
        rationale: "If the supervisor gives up and later starts the service again, the restart \
                    loop has only become slower. Nobody is told about it.",
        origin: "OTP supervisor: it terminates itself; supervisord FATAL; systemd: failed until reset-failed.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Limit,
            Requirement::ReportsRest,
        ],
        check: Check::Observed(give_up_is_terminal),
    },
    Rule {
        id: "give-up-reports-cause",
        group: Group::RateLimit,
        invariant: "giving up carries the last cause and the count",
        rationale: "Without the cause, the person who is called at night learns only that the \
                    service reached its limit. The report does not say what is wrong.",
        origin: "OTP supervisor report reached_max_restart_intensity; systemd: Result=start-limit-hit beside \
                 ExecMainStatus.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Limit,
            Requirement::ReportsRest,
            Requirement::ReportsGiveUpCause,
        ],
        check: Check::Trial(
            give_up_reports_cause,
            "crashes, one after the other, until it gives up",
        ),
    },
    Rule {
        id: "give-up-scope",
        group: Group::RateLimit,
        invariant: "giving up fails the child, its siblings, the supervisor or its dependents, as declared",
        rationale: "If the scope is too wide, one broken service ends services that still work. If \
                    it is too narrow, other services go on without something that they need.",
        origin: "OTP supervisor: the supervisor and all its children end; systemd.unit(5) StartLimitAction=.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Limit,
            Requirement::GiveUpScope,
        ],
        check: Check::Trial(
            give_up_scope,
            "a group of which one service crashes until it is given up, and the others stay",
        ),
    },
];

/// The runs in turn, if the policy restarts after each of them and nothing else starts or ends
/// them. Otherwise the verdict is unknown.
fn all_restarted(observed: &Observed) -> Result<Vec<RunSpan>, Verdict> {
    observed.left_alone()?;
    crashes(observed)
}

/// The runs in turn, if the policy restarts after each of them and the limit counts each of them.
/// Otherwise the verdict is unknown.
fn crashes(observed: &Observed) -> Result<Vec<RunSpan>, Verdict> {
    let runs = observed.in_turn()?;
    if observed.failed_starts(Timestamp::ORIGIN, observed.end) > 0 {
        return Err(Verdict::unknown("starts that failed may count, too"));
    }
    let is_free = |run: &RunSpan| {
        run.status
            .is_some_and(|status| observed.service.is_success(status))
    };
    if observed.profile.limit.counts == LimitCounts::Failures && runs.iter().any(is_free) {
        return Err(Verdict::unknown("not all of these restarts count"));
    }
    let restarts = |run: &RunSpan| match run.exit {
        Some(exit) => matches!(observed.wants_restart(run, exit, ""), Some((true, _))),
        None => true,
    };
    if runs.iter().all(restarts) {
        Ok(runs)
    } else {
        Err(Verdict::unknown(
            "its policy does not restart all of these runs",
        ))
    }
}

fn limit_boundary(observed: &Observed) -> Verdict {
    let limit = observed.service.limit;
    let Some(allowed) = observed.profile.allowed_starts(limit) else {
        return Verdict::unknown("there is no limit");
    };
    let runs = match all_restarted(observed) {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let last = &runs[runs.len() - 1];
    if let RestartLimit::Window { within, .. } = limit
        && last.exit.unwrap_or(last.start) - runs[0].start > within
    {
        return Verdict::unknown("the starts were not within one period");
    }
    if observed.may_begin_anew(&runs) {
        return Verdict::unknown("a healthy run came between");
    }
    let expected = format!("{allowed} starts, the first included, and no more");
    if let Some(more) = runs.get(allowed) {
        return observed.broken(
            observed.start_of(more.run),
            expected,
            format!("run {} was started at {}", more.run, more.start),
        );
    }
    // A timeline alone does not say for how long it was observed. It can only show that there are
    // exactly as many starts as allowed.
    let is_alone = observed.calls.is_empty() && runs.len() == allowed;
    match last.exit {
        Some(exit) if is_alone || observed.looked_past(exit, runs.len()) => {}
        _ => return Verdict::unknown("looking ended before the limit was reached"),
    }
    if runs.len() < allowed {
        return observed.broken(
            observed.exit_of(last.run),
            expected,
            format!("only {}", runs.len()),
        );
    }
    Verdict::Pass
}

fn window_kind(observed: &Observed) -> Verdict {
    let service = &observed.service;
    let (most, within): (u32, Option<Duration>) = match service.limit {
        RestartLimit::Unlimited => return Verdict::unknown("there is no limit"),
        RestartLimit::Consecutive(restarts) => (restarts.get(), None),
        RestartLimit::Window { restarts, within } => (restarts.get(), Some(within)),
    };
    let most = most as usize;
    let runs = match all_restarted(observed) {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    // The restarts so far, by the end before them and by their start: the subject may count either.
    let mut restarts: Vec<(Timestamp, Timestamp)> = Vec::new();
    if observed.profile.limit.first_start_counts {
        restarts.push((runs[0].start, runs[0].start));
    }
    let mut was_judged = false;
    for (place, run) in runs.iter().enumerate() {
        let Some(exit) = run.exit else { break };
        // Nothing says whether a healthy run also empties the period of a window limit. The rule's
        // own trial asks for no healthy runs, so there a window limit is judged all the same.
        let is_judged = within.is_some() && observed.is_trial_of("window-kind");
        if !is_judged && observed.may_begin_anew(&runs[..=place]) {
            return Verdict::unknown("a healthy run came between");
        }
        let recent = |then: Timestamp| within.is_none_or(|within| exit - then <= within);
        let by_end = restarts.iter().filter(|(end, _)| recent(*end)).count();
        let by_start = restarts.iter().filter(|(_, start)| recent(*start)).count();
        // Another rule judges whether the limit is off by one.
        let too_many = by_end.min(by_start) > most;
        let few_enough = by_end.max(by_start) + 2 <= most;
        match runs.get(place + 1) {
            Some(next) if too_many => {
                return observed.broken(
                    observed.start_of(next.run),
                    format!("no restart after run {}: {by_end} of {most} count", run.run),
                    format!("run {} was started at {}", next.run, next.start),
                );
            }
            Some(next) => {
                was_judged |= few_enough && restarts.len() >= most;
                restarts.push((exit, next.start));
            }
            None if !observed.looked_past(exit, place) => {
                return Verdict::unknown("looking ended before the delay was over");
            }
            None if few_enough => {
                return observed.broken(
                    observed.exit_of(run.run),
                    format!("a restart after run {}: {by_end} of {most} count", run.run),
                    format!("there was none by {}", observed.end),
                );
            }
            None => was_judged = true,
        }
    }
    if was_judged {
        Verdict::Pass
    } else {
        Verdict::unknown("the limit was not reached")
    }
}

/// More restarts than any trial sees.
const COUNTLESS: usize = 1000;

fn limit_degenerate(observed: &Observed) -> Verdict {
    let limit = observed.service.limit;
    let allowed = observed.profile.allowed_starts(limit);
    if allowed.is_some_and(|starts| starts < COUNTLESS) {
        return Verdict::unknown("the limit is an ordinary one");
    }
    let begin = observed.call(Control::Begin);
    // A subject may refuse a limit that is too large when it is configured.
    if allowed.is_some() && begin.is_some_and(|call| call.error.is_some()) {
        return Verdict::Pass;
    }
    let runs = match all_restarted(observed) {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let last = &runs[runs.len() - 1];
    let gave_up = last
        .exit
        .is_some_and(|exit| observed.looked_past(exit, runs.len()));
    if gave_up {
        return observed.broken(
            observed.exit_of(last.run),
            format!("a restart after run {} ({limit:?})", last.run),
            format!("there was none by {}", observed.end),
        );
    }
    if runs.len() < 5 {
        return Verdict::unknown("there were too few restarts");
    }
    Verdict::Pass
}

/// The unknown verdict that the subject did not give up, with what it said instead.
fn did_not_give_up(observed: &Observed) -> Verdict {
    match observed.rest() {
        Some(rest) => Verdict::Unknown(format!("it did not give up: {rest}")),
        None => Verdict::unknown("it did not give up"),
    }
}

/// When the subject gave up; `None` if it did not say so.
fn gave_up(observed: &Observed) -> Option<Timestamp> {
    let mut outcomes = observed.calls_of(Control::Outcome);
    outcomes.find_map(|call| match call.rest {
        Some(RestReason::GaveUp { .. }) => call.to,
        _ => None,
    })
}

fn give_up_is_terminal(observed: &Observed) -> Verdict {
    let Some(at) = gave_up(observed) else {
        return did_not_give_up(observed);
    };
    let reset = observed.calls_of(Control::Reset);
    let mut asked = observed.orders().chain(reset);
    if asked.any(|call| call.to.is_none_or(|to| to >= at)) {
        return Verdict::unknown("it was told to go on");
    }
    let runs = observed.runs();
    if let Some(run) = runs.iter().find(|run| run.start > at) {
        return observed.broken(
            observed.start_of(run.run),
            format!("no start after it gave up at {at}"),
            format!("run {} was started at {}", run.run, run.start),
        );
    }
    let period = match observed.service.limit {
        RestartLimit::Window { within, .. } => within,
        _ => Duration::ZERO,
    };
    if observed.looked_past(at + period, runs.len()) {
        Verdict::Pass
    } else {
        Verdict::unknown("looking ended too soon after it gave up")
    }
}

fn give_up_reports_cause(observed: &Observed) -> Verdict {
    let Some(RestReason::GaveUp { cause, restarts }) = observed.rest() else {
        return did_not_give_up(observed);
    };
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let last = &runs[runs.len() - 1];
    let Some(status) = last.status else {
        return Verdict::unknown("nobody can tell how the last run ended");
    };
    if let RestartLimit::Window { within, .. } = observed.service.limit
        && last.exit.unwrap_or(last.start) - runs[0].start > within
    {
        return Verdict::unknown("the starts were not within one period");
    }
    let count = runs.len() - 1;
    let is_count = restarts.is_some_and(|restarts| restarts as usize == count);
    if *cause == Some(EndCause::Exited(status)) && is_count {
        return Verdict::Pass;
    }
    let said = cause.map_or_else(|| "no cause".to_owned(), |cause| cause.to_string());
    let counted = restarts.map_or_else(|| "no count".to_owned(), |count| count.to_string());
    observed.broken(
        observed.exit_of(last.run),
        format!("it gave up after {count} restarts, the last cause {status}"),
        format!("restarts: {counted}, cause: {said}"),
    )
}

fn give_up_scope(observed: &Observed) -> Verdict {
    let Some(allowed) = observed.profile.allowed_starts(observed.service.limit) else {
        return Verdict::unknown("there is no limit");
    };
    let ((group, place), runs) = match (observed.in_group(), crashes(observed)) {
        (Ok(group), Ok(runs)) => (group, runs),
        (Err(unknown), _) | (_, Err(unknown)) => return unknown,
    };
    let last = &runs[runs.len() - 1];
    let Some(exit) = last.exit.filter(|_| runs.len() == allowed) else {
        return Verdict::unknown("the limit was not reached");
    };
    let due = exit + observed.stops_of(group);
    if observed.end <= due || !observed.looked_past(exit, runs.len()) {
        return Verdict::unknown("looking ended too soon after the last end");
    }
    let others = match observed.others_at(group, exit) {
        Ok(others) => others,
        Err(unknown) => return unknown,
    };
    let scope = group.give_up;
    for other in others {
        let name = other.name;
        let at = observed.exit_in(name, other.run.run);
        if !scope.ends(place, other.place) {
            if other.run.exit.is_some() {
                let expected = format!("`{name}` goes on ({scope:?})");
                return observed.broken(at, expected, other.fate());
            }
        } else if let Some(next) = other.next {
            return observed.broken(
                observed.start_in(name, next.run),
                format!("no start of `{name}` after the other was given up ({scope:?})"),
                format!("run {} was started at {}", next.run, next.start),
            );
        } else if other.run.exit.is_none_or(|end| end > due) {
            return observed.broken(
                at.or(observed.exit_of(last.run)),
                format!("`{name}` has ended by {due} ({scope:?})"),
                other.fate(),
            );
        }
    }
    Verdict::Pass
}
