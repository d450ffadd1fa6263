//! What a child inherits: signal state, descriptors, environment, working directory.

use std::collections::BTreeMap;

use agent_stub::{Hygiene, Signal};

use super::call::Control;
use super::group::Group;
use super::need::Requirement;
use super::notice::Notice;
use super::observed::Observed;
use super::profile::Environment;
use super::rule::{Check, Rule, Verdict};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "mask-clear",
        group: Group::Inheritance,
        invariant: "the child starts with an empty blocked mask",
        rationale: "If a child starts with SIGTERM blocked, SIGTERM cannot stop it. The child does \
                    not know that the signal is blocked.",
        origin: "systemd.exec(5); sigprocmask(2): the mask is inherited over fork and exec.",
        bug: Some("ralphlange/procServ#48 child inherits blocked SIGTERM"),
        needs: &[Requirement::ClearMask],
        check: Check::Observed(mask_clear),
    },
    Rule {
        id: "dispositions-default",
        group: Group::Inheritance,
        invariant: "an ignored signal is not inherited",
        rationale: "A supervisor may ignore a signal for itself, mostly SIGPIPE. If its children \
                    inherit that, they ignore the signal, too.",
        origin: "systemd.exec(5) IgnoreSIGPIPE=; signal(7): ignored signals stay so over exec.",
        bug: None,
        needs: &[Requirement::DefaultDispositions],
        check: Check::Observed(dispositions_default),
    },
    Rule {
        id: "fds-declared-only",
        group: Group::Inheritance,
        invariant: "only declared file descriptors are open",
        rationale: "A child that inherits a pipe or a socket of another process keeps it open. \
                    Nobody then sees the end of the pipe, and the port of the socket stays taken.",
        origin: "systemd.exec(5); s6-supervise: a service has what its run script opens.",
        bug: None,
        needs: &[Requirement::Descriptors],
        check: Check::Observed(fds_declared_only),
    },
    Rule {
        id: "fd-stable",
        group: Group::Inheritance,
        invariant: "the subject's descriptors do not grow with the restarts",
        rationale: "If each restart leaks one descriptor, the supervisor has no descriptor left \
                    after about a thousand restarts.",
        origin: "getrlimit(2) RLIMIT_NOFILE: 1024 as a rule.",
        bug: None,
        needs: &[Requirement::Restarts, Requirement::InProcess],
        check: Check::Observed(fd_stable),
    },
    Rule {
        id: "env-contract",
        group: Group::Inheritance,
        invariant: "the environment equals the declared merge",
        rationale: "If the supervisor loses an entry, or its own value wins, the service runs with \
                    the wrong configuration.",
        origin: "systemd.exec(5) Environment=; supervisord environment=: the service's entries win.",
        bug: None,
        needs: &[Requirement::Environment],
        check: Check::Observed(env_contract),
    },
    Rule {
        id: "setup-failure-aborts",
        group: Group::Inheritance,
        invariant: "where the working directory cannot be entered the program never runs",
        rationale: "A program that runs in the wrong directory reads the wrong files, and may \
                    delete them.",
        origin: "systemd.exec(5) WorkingDirectory=; supervisord directory=.",
        bug: None,
        needs: &[Requirement::CurrentDir, Requirement::ReportsStartFailures],
        check: Check::Trial(
            setup_failure_aborts,
            "a service whose working directory is not there",
        ),
    },
];

const NO_REPORT: &str = "the first run did not say what it inherited";

fn first_report(observed: &Observed) -> Option<&Hygiene> {
    observed.facts.hygiene.get(&1)
}

fn names(signals: &[Signal]) -> String {
    let names: Vec<String> = signals.iter().map(Signal::to_string).collect();
    names.join(", ")
}

fn mask_clear(observed: &Observed) -> Verdict {
    let Some(report) = first_report(observed) else {
        return Verdict::unknown(NO_REPORT);
    };
    if report.blocked.is_empty() {
        return Verdict::Pass;
    }
    let actual = format!("run 1 starts with {} blocked", names(&report.blocked));
    observed.broken(
        observed.start_of(1),
        "run 1 starts with no signal blocked",
        actual,
    )
}

fn dispositions_default(observed: &Observed) -> Verdict {
    let Some(report) = first_report(observed) else {
        return Verdict::unknown(NO_REPORT);
    };
    // A child of glibc's posix_spawn ignores the two signals that glibc uses itself.
    let own = |signal: &Signal| matches!(signal.number(), 32 | 33);
    let ignored: Vec<Signal> = report.ignored.iter().filter(|s| !own(s)).copied().collect();
    if ignored.is_empty() {
        return Verdict::Pass;
    }
    let actual = format!("run 1 starts with {} ignored", names(&ignored));
    observed.broken(
        observed.start_of(1),
        "run 1 starts with no signal ignored",
        actual,
    )
}

fn fds_declared_only(observed: &Observed) -> Verdict {
    let (Some(report), Some(declared)) =
        (first_report(observed), &observed.profile.child.descriptors)
    else {
        return Verdict::unknown(NO_REPORT);
    };
    let more: Vec<String> = report
        .descriptors
        .iter()
        .filter(|(number, _)| **number > 2 && !declared.contains(number))
        .map(|(number, target)| format!("{number} ({target})"))
        .collect();
    if more.is_empty() {
        return Verdict::Pass;
    }
    let expected = match declared.as_slice() {
        [] => "run 1 has its standard streams open, and nothing else".to_owned(),
        declared => {
            format!("run 1 has its standard streams and {declared:?} open, and nothing else")
        }
    };
    observed.broken(
        observed.start_of(1),
        expected,
        format!("it has {}, too", more.join(", ")),
    )
}

/// The fewest restarts that the rule can be judged by. Fewer show nothing.
const LEAST: usize = 8;

/// Whether at least three quarters of the restarts left some descriptors open. Other threads of the
/// process open and close descriptors at their own times, so a few such restarts show nothing.
pub(crate) fn are_growing(kept: &[usize]) -> bool {
    growing(kept) * 4 >= kept.len() * 3
}

fn growing(kept: &[usize]) -> usize {
    kept.iter().filter(|count| **count > 0).count()
}

fn fd_stable(observed: &Observed) -> Verdict {
    let kept = &observed.facts.descriptors;
    if kept.len() < LEAST {
        return Verdict::Unknown(format!(
            "descriptors were counted over {} restarts only",
            kept.len()
        ));
    }
    if !are_growing(kept) {
        return Verdict::Pass;
    }
    observed.broken(
        None,
        format!(
            "after {} restarts no more descriptors are open than before",
            kept.len()
        ),
        format!(
            "{} more are: {} of the restarts left some",
            kept.iter().sum::<usize>(),
            growing(kept)
        ),
    )
}

/// How many entries of its own a subject may add if it clears the environment.
const OWN_ENTRIES: usize = 8;

fn env_contract(observed: &Observed) -> Verdict {
    let (Some(report), Some(kind)) = (first_report(observed), observed.profile.child.environment)
    else {
        return Verdict::unknown(NO_REPORT);
    };
    let mut has: BTreeMap<&[u8], Vec<Option<&[u8]>>> = BTreeMap::new();
    for entry in &report.environment {
        // An entry that was too long for the report consists of its key alone.
        let at = entry.0.iter().position(|byte| *byte == b'=');
        let (key, value) = match at {
            Some(at) => (&entry.0[..at], Some(&entry.0[at + 1..])),
            None => (&entry.0[..], None),
        };
        has.entry(key).or_default().push(value);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let place = observed.start_of(1);
    if let Some((key, values)) = has.iter().find(|(_, values)| values.len() > 1) {
        let actual = format!("run 1 has {} of `{}`", values.len(), text(key));
        return observed.broken(place, "one entry for each name", actual);
    }
    let bytes = |text: &std::ffi::OsStr| std::os::unix::ffi::OsStrExt::as_bytes(text).to_vec();
    let mut wanted: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    if kind == Environment::Inherited {
        let own = observed.facts.environment.iter();
        wanted.extend(own.map(|(key, value)| (bytes(key), bytes(value))));
    }
    let declared = observed.service.env.iter();
    wanted.extend(declared.map(|(key, value)| (bytes(key), bytes(value))));
    for (key, value) in &wanted {
        let expected = format!("run 1 has {}={}", text(key), text(value));
        match has.get(&key[..]).and_then(|values| values.first()) {
            Some(None) => {}
            Some(Some(actual)) if *actual == &value[..] => {}
            Some(Some(actual)) => {
                let actual = format!("it has {}={}", text(key), text(actual));
                return observed.broken(place, expected, actual);
            }
            None => return observed.broken(place, expected, format!("it has no `{}`", text(key))),
        }
    }
    let more = has.keys().filter(|key| !wanted.contains_key(**key)).count();
    if kind == Environment::Cleared && more > OWN_ENTRIES {
        return observed.broken(
            place,
            format!("run 1 has what is declared, and at most {OWN_ENTRIES} entries more"),
            format!("it has {more} more"),
        );
    }
    if observed.service.env.is_empty() {
        return Verdict::unknown("no entry was asked for");
    }
    Verdict::Pass
}

/// In the trial the service should start in a directory that does not exist.
fn setup_failure_aborts(observed: &Observed) -> Verdict {
    let Some(directory) = &observed.service.current_dir else {
        return Verdict::unknown("no working directory was asked for");
    };
    if observed.runs().is_empty() {
        let failed = |notice: &Notice| matches!(notice, Notice::StartFailed(_));
        let said = observed.notices.iter().any(|said| failed(&said.notice));
        let refused = observed
            .call(Control::Begin)
            .is_some_and(|call| call.error.is_some());
        return if said || refused {
            Verdict::Pass
        } else {
            Verdict::unknown("no start was seen to fail")
        };
    }
    observed.broken(
        observed.start_of(1),
        format!(
            "no run: the working directory `{}` is not there",
            directory.display()
        ),
        "the program runs all the same",
    )
}
