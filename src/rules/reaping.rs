//! How children that have ended are reaped.

use std::time::Duration;

use super::call::{Control, ControlCall};
use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::rule::{Check, Rule, Verdict};
use crate::timeline::{Event, EventKind, EventSource, RunSpan};
use crate::timestamp::Timestamp;

/// The name of the descendant that becomes an orphan.
pub(crate) const ORPHAN: &str = "orphan";

/// Name of a fact: the process id of the supervisor.
pub(crate) const SUPERVISOR: &str = "the supervisor's process";
/// Name of a fact: the process id of the process that became the orphan's parent.
pub(crate) const PARENT: &str = "the orphan's parent";
/// Name of a fact: when the orphan was reaped, in nanoseconds since the sim began. No timeline
/// shows the reap of a descendant.
pub(crate) const REAPED: &str = "the orphan's reap";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "no-zombies",
        group: Group::Reaping,
        invariant: "no direct child stays a zombie beyond δ",
        rationale: "Each zombie keeps its process id. If there are too many zombies, no process id \
                    is left and nothing can be started any more.",
        origin: "wait(2), notes; PID 1 of a container has to reap.",
        bug: None,
        needs: &[],
        check: Check::Observed(no_zombies),
    },
    Rule {
        id: "mass-exit",
        group: Group::Reaping,
        invariant: "k simultaneous exits are all seen",
        rationale: "The kernel merges two SIGCHLD signals that arrive at once into one. A \
                    supervisor that reaps only one child for each signal misses the other exit.",
        origin: "signal(7): standard signals do not queue.",
        bug: Some("openSUSE/catatonit#4 coalesced SIGCHLD hangs init"),
        needs: &[Requirement::Restarts],
        check: Check::Trial(mass_exit, "several services that crash at one instant"),
    },
    Rule {
        id: "instant-exit",
        group: Group::Reaping,
        invariant: "an exit before the spawn is registered is still seen",
        rationale: "A child may exit before the supervisor has recorded that it exists. A \
                    supervisor that ignores the exits of unknown children then misses this exit.",
        origin: "sigprocmask(2): what a race-free SIGCHLD handler blocks while it forks.",
        bug: None,
        needs: &[Requirement::Restarts],
        check: Check::Trial(instant_exit, "runs that crash as the first thing they do"),
    },
    Rule {
        id: "adopt-orphans",
        group: Group::Reaping,
        invariant: "as PID 1 or subreaper, unknown children are reaped",
        rationale: "Orphans become children of PID 1 or of the subreaper. If that process does not \
                    reap them, no other process does, and they stay zombies.",
        origin: "prctl(2) PR_SET_CHILD_SUBREAPER; tini; s6-svscan as PID 1.",
        bug: Some(
            "miekg/dinit#9 only direct children are reaped, what is orphaned below stays a zombie",
        ),
        needs: &[Requirement::OwnProcess, Requirement::AdoptsOrphans],
        check: Check::Trial(
            adopt_orphans,
            "a run whose descendant is orphaned, and ends",
        ),
    },
    Rule {
        id: "no-foreign-reap",
        group: Group::Reaping,
        invariant: "an in-process supervisor leaves the statuses of children that others started alone",
        rationale: "If the supervisor reaps a child that other code started, that code waits for a \
                    status that is gone. It then fails or hangs.",
        origin: "wait(2): waitpid(-1); a SIGCHLD handler is a whole process's.",
        bug: None,
        needs: &[Requirement::InProcess],
        check: Check::Trial(
            no_foreign_reap,
            "a child that somebody else started in the supervisor's process",
        ),
    },
];

fn no_zombies(observed: &Observed) -> Verdict {
    let late = observed.profile.tolerance().late + observed.granularity();
    let mut seen = false;
    for run in observed.runs() {
        let Some(exit) = run.exit else { continue };
        // The supervisor was ended or killed. Either no process is left to reap the run, or another
        // process reaps the run at its own time.
        let is_over = |call: &ControlCall| {
            matches!(call.control, Control::End | Control::Crash) && call.from <= exit + late
        };
        if observed.orders().any(is_over) {
            continue;
        }
        let reap = observed
            .own()
            .find(|(_, number, event)| *number == run.run && event.what == EventKind::Reap)
            .map(|(place, _, event)| (place, event.at));
        let expected = format!(
            "run {}, which ended at {exit}, is reaped by {}",
            run.run,
            exit + late
        );
        match reap {
            Some((_, at)) if at <= exit + late => seen = true,
            Some((place, at)) => {
                return observed.broken(
                    Some(place),
                    expected,
                    format!("it was a zombie until {at}, for {:?}", at - exit),
                );
            }
            None if observed.end > exit + late => {
                return observed.broken(
                    observed.exit_of(run.run),
                    expected,
                    format!("it is a zombie at {}", observed.end),
                );
            }
            None => {}
        }
    }
    if seen {
        Verdict::Pass
    } else {
        Verdict::unknown("no run has ended")
    }
}

/// In the trial several services fail at the same time, and the subject should restart all of them.
fn mass_exit(observed: &Observed) -> Verdict {
    let begun = observed
        .calls
        .iter()
        .filter(|c| c.control == Control::Begin);
    let names: Vec<&str> = begun.map(|call| call.service.as_str()).collect();
    let mut exits = Vec::new();
    for name in &names {
        let runs = observed.timeline.runs(name);
        let Some(exit) = runs.first().and_then(|run| run.exit) else {
            return Verdict::Unknown(format!("{name} has not ended"));
        };
        exits.push((*name, exit, runs.len()));
    }
    let (Some(first), Some(last)) = (
        exits.iter().map(|(_, exit, _)| *exit).min(),
        exits.iter().map(|(_, exit, _)| *exit).max(),
    ) else {
        return Verdict::unknown("there was no service");
    };
    if exits.len() < 2 || last > first + observed.profile.tolerance().late {
        return Verdict::unknown("they did not end at once");
    }
    let due = last + observed.service.delays.bounds(0).1;
    if observed.end <= due + observed.profile.tolerance().late + observed.granularity() {
        return Verdict::unknown("they were not looked at for as long as the delay");
    }
    let unseen = exits.iter().filter(|(_, _, runs)| *runs < 2);
    let unseen: Vec<&str> = unseen.map(|(name, ..)| *name).collect();
    let Some(one) = unseen.first() else {
        return Verdict::Pass;
    };
    let mut events = observed.timeline.events().iter();
    let place = events.position(|event| {
        matches!(event.what, EventKind::Exit { .. }) && event.who == EventSource::run(*one, 1)
    });
    observed.broken(
        place,
        format!(
            "all {} services that ended at {first} are started again by {due}",
            exits.len()
        ),
        format!("{} of them are not: {}", unseen.len(), unseen.join(", ")),
    )
}

/// In the trial the runs exit as the first thing they do, and another run follows each of them.
fn instant_exit(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let Some(last) = runs.last() else {
        return Verdict::unknown("it was never started");
    };
    let instant = observed.profile.tolerance().late + observed.granularity();
    let is_instant = |exit| exit <= last.start + instant;
    let all_instant = |runs: &[RunSpan]| {
        let mut runs = runs.iter();
        runs.all(|run| run.exit.is_some_and(|exit| exit <= run.start + instant))
    };
    match last.exit {
        None if runs.len() > 1 && all_instant(&runs[..runs.len() - 1]) => Verdict::Pass,
        None => Verdict::unknown("it did not exit at once, each time that it was started"),
        Some(exit) if !is_instant(exit) => Verdict::unknown("it did not exit at once"),
        Some(exit) => {
            let n = u32::try_from(runs.len() - 1).unwrap_or(u32::MAX);
            let due = exit + observed.service.delays.bounds(n).1;
            if observed.end <= due + observed.profile.tolerance().late + observed.granularity() {
                return Verdict::unknown("it was not looked at for as long as the delay");
            }
            observed.broken(
                observed.exit_of(last.run),
                format!(
                    "run {}, which ended at {exit} as soon as it had started, is followed by another by {due}",
                    last.run
                ),
                format!("none by {}", observed.end),
            )
        }
    }
}

/// In the trial another child of the subject's process ends, and so does the service.
fn no_foreign_reap(observed: &Observed) -> Verdict {
    if !observed.runs().iter().any(|run| run.exit.is_some()) {
        return Verdict::unknown("its own child has not ended");
    }
    if observed.facts.bystanders.is_empty() {
        return Verdict::unknown("nobody else had a child");
    }
    let Some((name, _)) = observed
        .facts
        .bystanders
        .iter()
        .find(|(_, is_well)| !is_well)
    else {
        return Verdict::Pass;
    };
    let mut events = observed.timeline.events().iter();
    let place =
        events.position(|event| event.what == EventKind::Reap && event.who.agent() == Some(name));
    observed.broken(
        place,
        format!(
            "the status of {name}, a child that the subject did not start, is left to whoever did"
        ),
        "it was gone when it was asked for",
    )
}

/// In the trial a descendant is orphaned and ends, and so does the service.
fn adopt_orphans(observed: &Observed) -> Verdict {
    let numbers = &observed.facts.numbers;
    if let (Some(supervisor), Some(parent)) = (numbers.get(SUPERVISOR), numbers.get(PARENT))
        && supervisor != parent
    {
        return observed.broken(
            None,
            format!("the orphan comes to the supervisor, process {supervisor}"),
            format!("it came to process {parent}"),
        );
    }
    let orphan = EventSource::descendant(observed.service.name.as_str(), 1, ORPHAN);
    let events = observed.timeline.events();
    let is_exit =
        |event: &Event| event.who == orphan && matches!(event.what, EventKind::Exit { .. });
    let Some(place) = events.iter().position(is_exit) else {
        return Verdict::unknown("no orphan has ended");
    };
    let exit = events[place].at;
    let due = exit + observed.late();
    let expected = format!("the orphan, which ended at {exit}, is reaped by {due}");
    let reaped = numbers.get(REAPED);
    match reaped.map(|nanos| Timestamp::ORIGIN + Duration::from_nanos(*nanos)) {
        Some(reaped) if reaped <= due => {}
        Some(reaped) => {
            let actual = format!("it was a zombie until {reaped}");
            return observed.broken(Some(place), expected, actual);
        }
        None if observed.end > due => {
            let actual = format!("it is a zombie at {}", observed.end);
            return observed.broken(Some(place), expected, actual);
        }
        None => return Verdict::unknown("looking ended with the orphan"),
    }
    let run = observed.runs().first().copied();
    let Some(status) = run.and_then(|run| run.status) else {
        return Verdict::unknown("nobody saw how the service ended");
    };
    if !observed.profile.reports.ends {
        return Verdict::Pass;
    }
    let actual = match observed.reported_ends().first() {
        Some(reported) if *reported == status => return Verdict::Pass,
        Some(reported) => format!("it is reported as: {reported}"),
        None => "it is not reported".to_owned(),
    };
    let expected = format!("the end of run 1, {status}, is reported as it was");
    observed.broken(observed.exit_of(1), expected, actual)
}
