//! What happens to the descendants of a service.

use super::call::Control;
use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::profile::{Daemonizer, OwnGroup, StopScope};
use super::rule::{Check, Rule, Verdict};
use crate::status::ExitStatus;
use crate::timeline::{EventKind, EventSource};
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "own-group",
        group: Group::ProcessTree,
        invariant: "the child leads its own group or session, as declared",
        rationale: "In a shared process group, a signal to the supervisor's group, such as Ctrl-C, \
                    also reaches the children. A signal to a child's group also reaches the \
                    supervisor.",
        origin: "setpgid(2); s6-supervise: each service is in a session of its own.",
        bug: None,
        needs: &[Requirement::OwnGroup],
        check: Check::Observed(own_group),
    },
    Rule {
        id: "stop-scope",
        group: Group::ProcessTree,
        invariant: "descendants die as declared: pid, group, session, cgroup, tree",
        rationale: "If the scope is too narrow, processes that outlive the service hold its ports \
                    and files. If it is too wide, the stop kills processes that do not belong to \
                    the service.",
        origin: "systemd.kill(5) KillMode=; supervisord stopasgroup=, killasgroup=.",
        bug: None,
        needs: &[Requirement::Stop, Requirement::StopScope],
        check: Check::Trial(
            stop_scope,
            "a run with two descendants, one in its group and one in a session of its own",
        ),
    },
    Rule {
        id: "never-own-group",
        group: Group::ProcessTree,
        invariant: "a group kill never hits the subject or bystanders, even before the child has its own \
                    group",
        rationale: "Between fork and setpgid, a child is in the process group of its parent. If \
                    the supervisor signals the child's group at that time, the signal ends the \
                    supervisor itself.",
        origin: "kill(2), pid 0; setpgid(2): both parent and child call it.",
        bug: None,
        needs: &[
            Requirement::Stop,
            Requirement::ChosenStopSignal,
            Requirement::InProcess,
        ],
        check: Check::Trial(
            never_own_group,
            "a stop beside a process in the supervisor's own group",
        ),
    },
    Rule {
        id: "old-tree-gone",
        group: Group::ProcessTree,
        invariant: "the next run waits for the death of the old group",
        rationale: "Processes that the old run left behind still hold its port or lock. The new \
                    run cannot get them and fails again.",
        origin: "systemd.service(5): leftovers are killed before the next start; SendSIGKILL=.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::ClearsLeftovers],
        check: Check::Trial(
            old_tree_gone,
            "a run that leaves a descendant in its process group",
        ),
    },
    Rule {
        id: "daemonizer",
        group: Group::ProcessTree,
        invariant: "a double fork is treated as an exit, or tracked, as declared",
        rationale: "A supervisor that loses track of a daemon starts a second one beside it, again \
                    and again.",
        origin: "systemd.service(5) Type=forking; runit, daemontools: the program must not fork.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::Daemonizer],
        check: Check::Trial(
            daemonizer,
            "a run that starts a daemon, and exits with a failure",
        ),
    },
];

/// A process that a run started.
struct Descendant {
    run: u32,
    name: String,
    start: Timestamp,
    /// The place of its end in the timeline, the time and the status; `None` if it has not ended.
    end: Option<(usize, Timestamp, Option<ExitStatus>)>,
}

fn descendants(observed: &Observed) -> Vec<Descendant> {
    let mut found: Vec<Descendant> = Vec::new();
    for (place, event) in observed.timeline.events().iter().enumerate() {
        let EventSource::Run {
            agent,
            run,
            descendant: Some(name),
        } = &event.who
        else {
            continue;
        };
        if **agent != *observed.service.name {
            continue;
        }
        match event.what {
            EventKind::Start => found.push(Descendant {
                run: *run,
                name: name.to_string(),
                start: event.at,
                end: None,
            }),
            EventKind::Exit { status } => {
                let mut alive = found.iter_mut().filter(|d| d.end.is_none());
                if let Some(one) = alive.find(|d| d.run == *run && *d.name == **name) {
                    one.end = Some((place, event.at, status));
                }
            }
            _ => {}
        }
    }
    found
}

fn own_group(observed: &Observed) -> Verdict {
    let Some((run, hygiene)) = observed.facts.hygiene.first_key_value() else {
        return Verdict::unknown("it did not say in which group it is");
    };
    let (pid, group, session) = (hygiene.pid, hygiene.pgid, hygiene.sid);
    let leads = (group == pid, session == pid);
    let words = match leads {
        (_, true) => "it leads a session of its own",
        (true, false) => "it leads a group of its own",
        (false, false) => "it leads no group",
    };
    let (expected, holds) = match observed.profile.child.own_group {
        Some(OwnGroup::Group) => ("it leads a group of its own", leads.0),
        Some(OwnGroup::Session) => ("it leads a session of its own", leads.1),
        Some(OwnGroup::None) => {
            // The process group of a subject in a process of its own is not known here.
            let in_subjects = observed.facts.own_group.is_none_or(|own| own.0 == group);
            ("it is in the subject's group", !leads.0 && in_subjects)
        }
        None => return Verdict::unknown("its profile does not say in which group it is"),
    };
    if holds {
        return Verdict::Pass;
    }
    observed.broken(observed.start_of(*run), expected, words)
}

/// In the trial the run has two descendants. `near` is in the run's process group and ignores the
/// stop signal. `far` is in a session of its own.
fn stop_scope(observed: &Observed) -> Verdict {
    let Some(call) = observed.call(Control::Stop) else {
        return Verdict::unknown("it was not told to stop");
    };
    let runs = observed.runs();
    if runs.first().is_none_or(|run| run.exit.is_none()) {
        return Verdict::unknown("it has not ended");
    }
    let found = descendants(observed);
    let of = |name: &str| found.iter().find(|d| d.run == 1 && d.name == name);
    let (Some(near), Some(far)) = (of("near"), of("far")) else {
        return Verdict::unknown("its descendants have not started");
    };
    let (near_dies, far_dies) = match observed.profile.stopping.scope {
        Some(StopScope::Process) => (false, false),
        Some(StopScope::Group) => (true, false),
        Some(StopScope::Tree) => (true, true),
        None => return Verdict::unknown("its profile does not say what a stop ends"),
    };
    let late = observed.profile.tolerance().late + observed.granularity();
    let due = call.from + observed.service.grace + late;
    if observed.end <= due {
        return Verdict::unknown("it was not looked at for as long as its grace");
    }
    for (one, what, dies) in [
        (near, "in its group", near_dies),
        (far, "in a session of its own", far_dies),
    ] {
        let name = &one.name;
        match one.end {
            Some((_, at, _)) if at < call.from => {
                return Verdict::Unknown(format!("{name} ended at {at}, before the stop"));
            }
            Some((place, at, _)) if !dies => {
                return observed.broken(
                    Some(place),
                    format!("{name}, {what}, is left alone"),
                    format!("it ended at {at}"),
                );
            }
            Some((place, at, _)) if at > due => {
                return observed.broken(
                    Some(place),
                    format!("{name}, {what}, ends by {due}"),
                    format!("it ended at {at}"),
                );
            }
            None if dies => {
                return observed.broken(
                    None,
                    format!("{name}, {what}, ends by {due}"),
                    format!("it is alive at {}", observed.end),
                );
            }
            _ => {}
        }
    }
    Verdict::Pass
}

/// In the trial a bystander is in the subject's process group. The stop signal does the bystander
/// no harm.
fn never_own_group(observed: &Observed) -> Verdict {
    let Some(call) = observed.call(Control::Stop) else {
        return Verdict::unknown("it was not told to stop");
    };
    if call.to.is_none() && observed.runs().iter().all(|run| run.exit.is_none()) {
        return Verdict::unknown("the stop has not done anything");
    }
    let bystanders: Vec<&str> = observed
        .facts
        .bystanders
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    if bystanders.is_empty() {
        return Verdict::unknown("nobody stood by");
    }
    let events = observed.timeline.events().iter().enumerate();
    for (place, event) in events {
        let is_hit = matches!(
            event.what,
            EventKind::Signal { .. } | EventKind::Exit { .. }
        );
        if is_hit
            && event
                .who
                .agent()
                .is_some_and(|name| bystanders.contains(&name))
        {
            return observed.broken(
                Some(place),
                "no signal reaches the subject's own group",
                format!("a process in it had this at {}: {}", event.at, event.what),
            );
        }
    }
    match observed
        .facts
        .bystanders
        .iter()
        .find(|(_, is_well)| !is_well)
    {
        Some((name, _)) => observed.broken(
            None,
            "no signal reaches the subject's own group",
            format!("{name}, in it, is not as it was"),
        ),
        None => Verdict::Pass,
    }
}

fn old_tree_gone(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let found = descendants(observed);
    let late = observed.profile.tolerance().late;
    let mut seen = false;
    for pair in runs.windows(2) {
        if pair[0].exit.is_none_or(|exit| exit > pair[1].start) {
            return Verdict::unknown("a run was started before the last had ended");
        }
        let start = pair[1].start;
        for left in found.iter().filter(|d| d.run == pair[0].run) {
            seen = true;
            let alive = match left.end {
                Some((_, at, _)) if at <= start + late => continue,
                Some((_, at, _)) => format!("it was alive until {at}"),
                None => format!("it is alive at {}", observed.end),
            };
            return observed.broken(
                observed.start_of(pair[1].run),
                format!(
                    "{}, which run {} left, ends before run {} starts at {start}",
                    left.name, pair[0].run, pair[1].run
                ),
                alive,
            );
        }
    }
    if seen {
        Verdict::Pass
    } else {
        Verdict::unknown("no run left anything behind and was followed by another")
    }
}

/// In the trial the first run starts a daemon and exits with a failure. The daemon ends later.
fn daemonizer(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let Some(first) = runs.first() else {
        return Verdict::unknown("it was never started");
    };
    let Some(exit) = first.exit else {
        return Verdict::unknown("its first process has not ended");
    };
    let found = descendants(observed);
    let Some(daemon) = found.iter().find(|d| d.run == first.run && d.start <= exit) else {
        return Verdict::unknown("it has not started a daemon");
    };
    let late = observed.profile.tolerance().late + observed.granularity();
    let second = runs
        .get(1)
        .map(|run| (observed.start_of(run.run), run.start));
    let gone = daemon.end.map(|(_, at, _)| at);
    match (observed.profile.child.daemonizer, second) {
        (Some(Daemonizer::Exit), None) => observed.broken(
            observed.exit_of(first.run),
            format!("the exit at {exit} is one, and another run follows"),
            format!("there is no other by {}", observed.end),
        ),
        (Some(Daemonizer::Exit), Some((place, start))) => match gone {
            Some(gone) if gone > exit + late && start >= gone => observed.broken(
                place,
                format!("the exit at {exit} is one, whatever becomes of the daemon"),
                format!("run 2 starts at {start}, after the daemon ended at {gone}"),
            ),
            _ => Verdict::Pass,
        },
        (Some(Daemonizer::Tracked), None) => match gone {
            Some(gone) => Verdict::Unknown(format!("no run followed the daemon's end at {gone}")),
            None => Verdict::unknown("the daemon has not ended"),
        },
        (Some(Daemonizer::Tracked), Some((place, start))) => match gone {
            Some(gone) if start >= gone => Verdict::Pass,
            _ => observed.broken(
                place,
                "the next run waits for the daemon's end",
                match gone {
                    Some(gone) => format!("run 2 starts at {start}, the daemon ended at {gone}"),
                    None => format!("run 2 starts at {start}, and the daemon is alive"),
                },
            ),
        },
        (None, _) => Verdict::unknown("its profile does not say what a daemonizer is"),
    }
}
