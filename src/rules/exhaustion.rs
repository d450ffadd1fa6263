//! What happens when a resource runs out, or when something is missing.

use std::time::Duration;

use super::call::Control;
use super::group::Group;
use super::need::Requirement;
use super::notice::{Notice, Noticed};
use super::observed::Observed;
use super::rule::{Check, Rule, Verdict};
use crate::status::ExitStatus;
use crate::timeline::RunSpan;
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "fork-eagain",
        group: Group::Exhaustion,
        invariant: "a start without a free process is reported, tried again after a delay, and succeeds later",
        rationale: "A machine may reach its process limit for a moment. If the supervisor cannot \
                    handle that, its services stay down after the shortage is over.",
        origin: "fork(2) EAGAIN; getrlimit(2) RLIMIT_NPROC.",
        bug: Some("Unitech/pm2#2463 a spawn that fails with EAGAIN freezes the daemon"),
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::ReportsStartFailures,
            Requirement::RetriedStarts,
            Requirement::InProcess,
        ],
        check: Check::Trial(outlasts_shortage, "a start for which there is no process"),
    },
    Rule {
        id: "emfile",
        group: Group::Exhaustion,
        invariant: "a start without a free descriptor is reported, tried again after a delay, and succeeds later",
        rationale: "A supervisor may crash, or leak more descriptors, when no descriptor is free. \
                    It then turns a temporary shortage into an outage.",
        origin: "open(2) EMFILE; getrlimit(2) RLIMIT_NOFILE.",
        bug: Some(
            "Supervisor/supervisor#489 a start without a free descriptor crashes the supervisor",
        ),
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::ReportsStartFailures,
            Requirement::RetriedStarts,
            Requirement::InProcess,
        ],
        check: Check::Trial(
            outlasts_shortage,
            "a start for which there is no descriptor",
        ),
    },
    Rule {
        id: "enoent-eacces",
        group: Group::Exhaustion,
        invariant: "a program that is missing or may not be executed is reported, tried again after the delay, \
                    and started when it is there",
        rationale: "A program is missing for a moment while somebody replaces it. The supervisor \
                    must not forget the service, and must not try to start it a thousand times a \
                    second.",
        origin: "execve(2) ENOENT, EACCES; s6-supervise: a failed exec is an end like others.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::ReportsStartFailures,
            Requirement::RetriedStarts,
        ],
        check: Check::Trial(recovers, "a program that cannot be executed for a while"),
    },
    Rule {
        id: "etxtbsy",
        group: Group::Exhaustion,
        invariant: "a program that is being written is reported, tried again after the delay, and started when \
                    it is whole",
        rationale: "An upgrade in place writes to the program's file, which cannot be executed \
                    meanwhile. If the supervisor gives up at that time, the upgrade ends the \
                    service.",
        origin: "execve(2) ETXTBSY.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::ReportsStartFailures,
            Requirement::RetriedStarts,
        ],
        check: Check::Trial(recovers, "a program that is open for writing for a while"),
    },
    Rule {
        id: "exec-error-distinct",
        group: Group::Exhaustion,
        invariant: "a failed exec is distinct from a child that exits with 126 or 127",
        rationale: "If the supervisor reports a failed exec as exit code 127, people look for the \
                    fault in the program. But the program never ran.",
        origin: "POSIX sh, \"Exit Status for Commands\": 126 and 127 are the shell's, and anybody's.",
        bug: None,
        needs: &[Requirement::ReportsEnds, Requirement::ReportsStartFailures],
        check: Check::Trial(
            exec_error_distinct,
            "a program that is not there, or exits with a shell's code",
        ),
    },
    Rule {
        id: "log-open-error",
        group: Group::Exhaustion,
        invariant: "a file for the output that cannot be opened is reported, and the service starts when it can",
        rationale: "One bad path must not take the supervisor down. It must also not make a \
                    service lose its output without a report.",
        origin: "systemd.exec(5) StandardOutput=file:; supervisord stdout_logfile=.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Output,
            Requirement::ReportsStartFailures,
            Requirement::RetriedStarts,
        ],
        check: Check::Trial(
            log_open_error,
            "a file for the output that cannot be opened for a while",
        ),
    },
];

/// Name of a fact: when the fault was taken away, in nanoseconds since the sim began.
pub(crate) const CLEARED: &str = "cleared";

/// Name of a fact: when something that a start needs ran short, in nanoseconds since the sim began.
pub(crate) const SHORT: &str = "short";

fn cleared(observed: &Observed) -> Option<Timestamp> {
    instant(observed, CLEARED)
}

fn instant(observed: &Observed, fact: &str) -> Option<Timestamp> {
    let nanos = observed.facts.numbers.get(fact)?;
    Some(Timestamp::ORIGIN + Duration::from_nanos(*nanos))
}

fn failed_starts(observed: &Observed) -> Vec<&Noticed> {
    let failed = |said: &&Noticed| matches!(said.notice, Notice::StartFailed(_));
    observed.notices.iter().filter(failed).collect()
}

/// In the trial a fault lasts for two failed starts and then is gone.
fn recovers(observed: &Observed) -> Verdict {
    let curve = observed.service.delays;
    let failed = failed_starts(observed);
    let late = observed.profile.tolerance().late + observed.granularity();
    if failed.is_empty() {
        return if observed.reported_ends().is_empty() && observed.runs().is_empty() {
            observed.broken(
                None,
                "the failed start is reported",
                "nothing is said of it",
            )
        } else {
            Verdict::unknown("what failed was not reported as a start")
        };
    }
    if let Some(broken) = hurried(observed, &failed) {
        return broken;
    }
    let last = failed[failed.len() - 1].at;
    let again = u32::try_from(failed.len() - 1).unwrap_or(u32::MAX);
    let due = last + curve.bounds(again).1;
    let runs = observed.runs();
    match (cleared(observed), runs.first()) {
        (Some(cleared), Some(run)) if run.start < cleared => {
            Verdict::unknown("it ran before the fault was gone")
        }
        (None, Some(_)) => Verdict::unknown("it ran before the fault was gone"),
        (_, run) => tried_again(observed, run, last, due + late),
    }
}

/// The broken verdict if failed starts follow each other faster than the delays allow.
fn hurried(observed: &Observed, failed: &[&Noticed]) -> Option<Verdict> {
    let curve = observed.service.delays;
    for (k, pair) in (0..).zip(failed.windows(2)) {
        let (least, _) = curve.bounds(k);
        let apart = pair[1].at - pair[0].at;
        if apart + observed.early() < least {
            return Some(observed.broken(
                None,
                format!("failed starts are {least:?} apart or more"),
                format!(
                    "one at {} follows one at {}, {apart:?} later",
                    pair[1].at, pair[0].at
                ),
            ));
        }
    }
    None
}

/// Judges whether `run` is the start that was due by `due`, after the last start that failed.
fn tried_again(
    observed: &Observed,
    run: Option<&RunSpan>,
    last: Timestamp,
    due: Timestamp,
) -> Verdict {
    match run {
        Some(run) if run.start > due => observed.broken(
            observed.start_of(run.run),
            format!(
                "run {} starts by {due}: the delay after the failed start at {last}",
                run.run
            ),
            format!("it starts at {}", run.start),
        ),
        Some(_) => Verdict::Pass,
        None if observed.end > due => observed.broken(
            None,
            format!("a start is tried by {due}: the delay after the failed one at {last}"),
            format!("there is none until {}", observed.end),
        ),
        None => Verdict::unknown("looking ended before the next start was due"),
    }
}

/// In the trial something that a start needs is short for two failed starts. If no start fails, the
/// start does not need it. Then the rule did not see what it is about.
fn outlasts_shortage(observed: &Observed) -> Verdict {
    let Some(short) = instant(observed, SHORT) else {
        return Verdict::unknown("nothing ran short");
    };
    let cleared = cleared(observed);
    let runs = observed.runs();
    let (before, after): (Vec<&RunSpan>, Vec<&RunSpan>) =
        runs.iter().partition(|run| run.start < short);
    if let Some(run) = after.first()
        && cleared.is_none_or(|cleared| run.start < cleared)
    {
        return Verdict::Unknown(format!(
            "run {} started in the shortage: what is short it does not take",
            run.run
        ));
    }
    if before.iter().any(|run| run.status.is_none()) {
        return Verdict::unknown("the run before the shortage has not ended");
    }
    let curve = observed.service.delays;
    let late = observed.profile.tolerance().late + observed.granularity();
    let failed = failed_starts(observed);
    let Some(last) = failed.last() else {
        let refused = observed
            .call(Control::Begin)
            .is_some_and(|call| call.error.is_some());
        return match after.first() {
            _ if observed.reported_ends().len() > before.len() => {
                Verdict::unknown("what failed was not reported as a start")
            }
            Some(_) if refused => Verdict::Pass,
            None if refused => observed.broken(
                None,
                "what was refused in the shortage is started when it is asked for again",
                format!("there is no start until {}", observed.end),
            ),
            _ if observed.end > short + curve.bounds(0).1 + late => observed.broken(
                None,
                format!("the start that fails in the shortage, from {short} on, is reported"),
                "nothing is said of it",
            ),
            _ => Verdict::unknown("looking ended before a start was due"),
        };
    };
    if let Some(broken) = hurried(observed, &failed) {
        return broken;
    }
    if let Some(cleared) = cleared
        && let Some(said) = failed.iter().find(|said| said.at > cleared + late)
    {
        return observed.broken(
            None,
            format!("starts succeed once nothing is short, from {cleared} on"),
            format!("one fails at {}", said.at),
        );
    }
    // Each run before the shortage used up a delay, too: the restart after it was the first start
    // to fail.
    let again = u32::try_from(failed.len() - 1 + before.len()).unwrap_or(u32::MAX);
    let due = last.at + curve.bounds(again).1 + late;
    let verdict = tried_again(observed, after.first().copied(), last.at, due);
    let stuck = observed
        .call(Control::Stop)
        .and_then(|call| match &call.error {
            Some(error) => Some(format!("the stop at {} failed: {error}", call.from)),
            None if call.to.is_none() => {
                Some(format!("the stop at {} has not returned", call.from))
            }
            None => None,
        });
    match stuck {
        Some(stuck) if verdict.is_pass() => {
            observed.broken(None, "what runs after the shortage can be stopped", stuck)
        }
        _ => verdict,
    }
}

/// In the trial either the program does not exist, or it exits with a code that shells use for a
/// failed exec.
fn exec_error_distinct(observed: &Observed) -> Verdict {
    let failed = failed_starts(observed);
    let ends = observed.reported_ends();
    let runs = observed.runs();
    let Some(run) = runs.first() else {
        let refused = observed
            .call(Control::Begin)
            .is_some_and(|call| call.error.is_some());
        return match ends.first() {
            Some(status) => observed.broken(
                None,
                "a failed start is reported: there is no such program",
                format!("the end of a run is reported, with {status}"),
            ),
            None if failed.is_empty() && !refused => Verdict::unknown("nothing was reported"),
            None => Verdict::Pass,
        };
    };
    let Some(status) = run.status else {
        return Verdict::unknown("the run has not ended");
    };
    if let (Some(said), ExitStatus::Exited { code }) = (failed.first(), status) {
        return observed.broken(
            observed.exit_of(run.run),
            format!(
                "the end of run {} is reported, with exit code {code}",
                run.run
            ),
            format!("a failed start is reported at {}", said.at),
        );
    }
    match ends.first() {
        Some(said) if *said == status => Verdict::Pass,
        _ => Verdict::unknown("the end was not reported as it was"),
    }
}

fn log_open_error(observed: &Observed) -> Verdict {
    let Some(cleared) = cleared(observed) else {
        return Verdict::unknown("the fault was never taken away");
    };
    let refused = observed
        .call(Control::Begin)
        .is_some_and(|call| call.error.is_some());
    let runs = observed.runs();
    if !refused && failed_starts(observed).is_empty() {
        if !observed.reported_ends().is_empty() {
            return Verdict::unknown("what failed was not reported as a start");
        }
        let expected = "that the file for the output cannot be opened is reported";
        return match runs.first() {
            Some(run) if run.start < cleared => observed.broken(
                observed.start_of(run.run),
                expected,
                "the service runs without a word, and without its output",
            ),
            _ => observed.broken(None, expected, "nothing is said of it"),
        };
    }
    if runs.is_empty() {
        return observed.broken(
            None,
            format!("the service starts once the file can be opened, from {cleared} on"),
            format!("there is no start until {}", observed.end),
        );
    }
    Verdict::Pass
}
