//! What happens to the children of a supervisor that dies.

use super::call::{Control, ControlCall};
use super::facts::StartedBy;
use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::profile::CrashFate;
use super::rule::{Check, Rule, Verdict};
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

/// Name of a fact: after the crash, the trial asked a run something, and the run answered. So the
/// run is alive, and no signal is on its way to it.
pub(crate) const ANSWERED: &str = "runs that answered after the crash";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "crash-child-fate",
        group: Group::SupervisorCrash,
        invariant: "when the supervisor is killed its children survive or die, as declared",
        rationale: "Children may survive although everybody believes that they are dead. They then \
                    hold the ports that their replacements need.",
        origin: "systemd-nspawn(1) --kill-signal=; prctl(2) PR_SET_PDEATHSIG; runit: services survive runsv.",
        bug: Some(
            "Supervisor/supervisor#199 what a killed supervisord leaves goes on unknown to the next",
        ),
        needs: &[Requirement::OwnProcess, Requirement::CrashFate],
        check: Check::Trial(
            crash_child_fate,
            "a run that stays when its supervisor is killed",
        ),
    },
    Rule {
        id: "no-duplicate-after-crash",
        group: Group::SupervisorCrash,
        invariant: "a new supervisor adopts, blocks or kills what is left, and never runs a second copy",
        rationale: "If the new supervisor starts a second copy of a service, both copies write to \
                    the same files.",
        origin: "s6-supervise: a lock in the service directory; systemd: control groups outlive it.",
        bug: Some(
            "Supervisor/supervisor#600 a restart leaves the old processes, and each program runs twice",
        ),
        needs: &[Requirement::OwnProcess, Requirement::NoDuplicates],
        check: Check::Trial(
            no_duplicate_after_crash,
            "a run that stays when its supervisor is killed, and what is begun after it",
        ),
    },
    Rule {
        id: "second-supervisor",
        group: Group::SupervisorCrash,
        invariant: "a concurrent second supervisor is refused without harm",
        rationale: "Sooner or later, somebody starts the supervisor by hand while it is already \
                    running. That mistake must not harm the running services.",
        origin: "runsv(8), s6-supervise: \"unable to lock: already supervised\".",
        bug: Some(
            "Supervisor/supervisor#878 a second supervisord is refused, and removes the first one's pid file",
        ),
        needs: &[Requirement::OwnProcess, Requirement::RefusesSecond],
        check: Check::Trial(
            second_supervisor,
            "a run that stays when a second supervisor of it is begun",
        ),
    },
    Rule {
        id: "thread-exit-safe",
        group: Group::SupervisorCrash,
        invariant: "the end of a supervisor thread never kills children",
        rationale: "PR_SET_PDEATHSIG depends on the thread that forked the child, not on the whole \
                    supervisor. When an idle worker thread ends, the children that it forked die \
                    with it.",
        origin: "prctl(2) PR_SET_PDEATHSIG: \"the thread that created this process\".",
        bug: Some(
            "nekename/OpenDeck#329 PDEATHSIG kills children when a runtime worker thread exits",
        ),
        needs: &[Requirement::InProcess],
        check: Check::Trial(
            thread_exit_safe,
            "a run that stays when the threads that may have started it end",
        ),
    },
];

fn begins(observed: &Observed) -> Vec<&ControlCall> {
    let calls = observed.calls.iter();
    calls
        .filter(|call| call.control == Control::Begin)
        .collect()
}

/// When the harness killed the supervisor, and when the supervisor's process had ended.
fn crash(observed: &Observed) -> Result<(Timestamp, Timestamp), Verdict> {
    let mut calls = observed.calls.iter();
    let crash = calls.find(|call| call.control == Control::Crash);
    let crash = crash.ok_or_else(|| Verdict::unknown("the supervisor was not killed"))?;
    let ended = crash
        .to
        .filter(|_| crash.error.is_none())
        .ok_or_else(|| Verdict::unknown("the supervisor has not ended"))?;
    Ok((crash.from, ended))
}

fn crash_child_fate(observed: &Observed) -> Verdict {
    let (from, crashed) = match crash(observed) {
        Ok(times) => times,
        Err(unknown) => return unknown,
    };
    let Some(run) = observed.runs().into_iter().rfind(|run| run.start <= from) else {
        return Verdict::unknown("it was not running when the supervisor was killed");
    };
    if run.exit.is_some_and(|exit| exit < from) {
        return Verdict::unknown("it had ended before the supervisor was killed");
    }
    let number = run.run;
    match (observed.profile.process.crash_fate, run.exit) {
        (Some(CrashFate::Dies), exit) => {
            let due = crashed + observed.late();
            let expected = format!(
                "run {number} dies with its supervisor, which had ended at {crashed}: by {due}"
            );
            match exit {
                Some(exit) if exit <= due => Verdict::Pass,
                Some(exit) => {
                    let place = observed.exit_of(number);
                    observed.broken(place, expected, format!("it ended at {exit}"))
                }
                None if observed.end > due => {
                    observed.broken(None, expected, format!("it is alive at {}", observed.end))
                }
                None => Verdict::unknown("looking ended with the crash"),
            }
        }
        (Some(CrashFate::Survives), Some(exit)) => observed.broken(
            observed.exit_of(number),
            format!("run {number} survives its supervisor, which had ended at {crashed}"),
            format!("it ended at {exit}"),
        ),
        (Some(CrashFate::Survives), None) if observed.facts.numbers.contains_key(ANSWERED) => {
            Verdict::Pass
        }
        (Some(CrashFate::Survives), None) => {
            Verdict::unknown("nobody has asked it after the crash whether it lives")
        }
        (None, _) => Verdict::unknown("nothing is declared"),
    }
}

/// The broken verdict if a run began although the one before had not ended. `None` if there is no
/// such run.
fn overlap(observed: &Observed) -> Option<Verdict> {
    let runs = observed.runs();
    let pair = runs.windows(2).find(|pair| {
        let by = pair[1].start + observed.early();
        // By the machine's clock, the order of two processes is known no more exactly than this.
        pair[0].exit.map_or(observed.end, |exit| exit) > by
    })?;
    let until = match pair[0].exit {
        Some(exit) => format!("until {exit}"),
        None => "and has not ended".to_owned(),
    };
    Some(observed.broken(
        observed.start_of(pair[1].run),
        format!("no run begins before run {} has ended", pair[0].run),
        format!(
            "run {} began at {}, and run {} ran beside it {until}",
            pair[1].run, pair[1].start, pair[0].run
        ),
    ))
}

/// In the trial a new supervisor is begun after the crash. If it is refused, another one is begun
/// when what the first supervisor left has ended.
fn no_duplicate_after_crash(observed: &Observed) -> Verdict {
    let (from, _) = match crash(observed) {
        Ok(times) => times,
        Err(unknown) => return unknown,
    };
    if let Some(broken) = overlap(observed) {
        return broken;
    }
    let begins: Vec<&ControlCall> = begins(observed)
        .into_iter()
        .filter(|call| call.from >= from)
        .collect();
    let Some(last) = begins.last() else {
        return Verdict::unknown("no new supervisor was begun");
    };
    let left = observed.runs().into_iter().rfind(|run| run.start <= from);
    let Some(left) = left else {
        return Verdict::unknown("it was not running when the supervisor was killed");
    };
    if let Some(error) = &last.error {
        let Some(exit) = left.exit.filter(|exit| *exit <= last.from) else {
            return Verdict::unknown("none was begun after what was left had ended");
        };
        return observed.broken(
            observed.exit_of(left.run),
            format!(
                "a new supervisor begins at {}: run {}, which the one that was killed had left, \
                 ended at {exit}",
                last.from, left.run
            ),
            format!("it is refused: {error}"),
        );
    }
    let is_new = |run: &crate::timeline::RunSpan| run.run > left.run;
    if observed.runs().iter().any(is_new) {
        Verdict::Pass
    } else {
        Verdict::unknown("the new supervisor has started nothing")
    }
}

/// In the trial a second supervisor is begun beside the first. Then the first is told to stop, if
/// it can be.
fn second_supervisor(observed: &Observed) -> Verdict {
    let begins = begins(observed);
    let [first, second, ..] = begins.as_slice() else {
        return Verdict::unknown("no second supervisor was begun");
    };
    let Some(run) = observed.runs().first().copied() else {
        return Verdict::unknown("the first supervisor has started nothing");
    };
    let Some(refused) = second.to else {
        return Verdict::unknown("the second supervisor's start has not returned");
    };
    if first.error.is_some() || run.exit.is_some_and(|exit| exit < second.from) {
        return Verdict::unknown("the first supervisor did not run when the second was begun");
    }
    let mut calls = observed.calls.iter();
    let stop = calls.find(|call| call.control == Control::Stop);
    let unharmed = stop.map_or(observed.end, |stop| stop.from);
    let at = second.from;
    if let Some(exit) = run.exit.filter(|exit| *exit < unharmed) {
        return observed.broken(
            observed.exit_of(1),
            format!("run 1 goes on when a second supervisor is begun at {at}"),
            format!("it ended at {exit}"),
        );
    }
    if let Some(other) = observed.runs().get(1) {
        return observed.broken(
            observed.start_of(other.run),
            format!("the second supervisor, begun at {at}, starts nothing"),
            format!("run {} was started at {}", other.run, other.start),
        );
    }
    if second.error.is_none() {
        return observed.broken(
            None,
            format!("a second supervisor of the service is refused at {at}"),
            format!("it has begun by {refused}"),
        );
    }
    let Some(stop) = stop else {
        return Verdict::Pass;
    };
    let expected = format!("the first supervisor stops the service at {}", stop.from);
    match (&stop.error, stop.to, run.exit) {
        (Some(error), ..) => observed.broken(None, expected, format!("it says: {error}")),
        (None, None, _) => Verdict::unknown("the stop has not returned"),
        (None, Some(_), Some(_)) => Verdict::Pass,
        (None, Some(to), None) if observed.end > to + observed.late() => {
            observed.broken(None, expected, format!("it runs at {}", observed.end))
        }
        (None, Some(_), None) => Verdict::unknown("looking ended with the stop"),
    }
}

/// In the trial the run only stays, and the thread that started it may end meanwhile.
fn thread_exit_safe(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let Some(run) = runs.first() else {
        return Verdict::unknown("there was no run");
    };
    let Some(starter) = observed.facts.starter else {
        return Verdict::unknown("nobody looked which thread started it");
    };
    let Some(inherited) = observed.facts.hygiene.get(&run.run) else {
        return Verdict::unknown("nobody looked what it gets when that thread ends");
    };
    let signal = inherited.parent_death;
    let Some((at, status)) = run.exit.zip(run.status) else {
        return match (signal, starter) {
            (Some(signal), StartedBy::Other) => Verdict::unknown(format!(
                "it gets {signal} when the thread that started it ends, which it has not"
            )),
            _ => Verdict::Pass,
        };
    };
    let is_sent =
        |signal| matches!(status, ExitStatus::Signaled { signal: by, .. } if by == signal);
    if starter == StartedBy::Ended || signal.is_some_and(is_sent) {
        let why = signal.map_or_else(String::new, |signal| {
            format!("; it gets {signal} at that thread's end")
        });
        return observed.broken(
            observed.exit_of(run.run),
            format!(
                "run {} goes on when the thread that started it ends",
                run.run
            ),
            format!("it ends at {at}: {status}{why}"),
        );
    }
    Verdict::unknown(format!("run {} ended at {at} by itself", run.run))
}
