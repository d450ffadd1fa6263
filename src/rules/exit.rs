//! How a supervisor tells the ends of runs apart.

use super::call::Control;
use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::rest::RestReason;
use super::rule::{Check, Rule, Verdict};
use crate::status::ExitStatus;
use crate::timeline::RunSpan;
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "code-exact",
        group: Group::ExitClassification,
        invariant: "exit codes 0–255 are reported unchanged",
        rationale: "The authors of a service give its exit codes a meaning. A code that the \
                    supervisor truncates or maps to another one has a different meaning.",
        origin: "waitpid(2) WEXITSTATUS: the eight bits that exit(3) was given.",
        bug: None,
        needs: &[Requirement::ReportsEnds],
        check: Check::Observed(code_exact),
    },
    Rule {
        id: "signal-preserved",
        group: Group::ExitClassification,
        invariant: "death by signal n is distinct from exit(128+n)",
        rationale: "If the supervisor reports a death by signal as an exit code, a crash looks \
                    like a deliberate exit, or like success.",
        origin: "waitpid(2): WIFEXITED and WIFSIGNALED exclude each other; s6-supervise gives its finish \
                 script 256 and the signal.",
        bug: Some("ralphlange/procServ#58 death by signal reported as exit 0"),
        needs: &[Requirement::ReportsEnds],
        check: Check::Observed(signal_preserved),
    },
    Rule {
        id: "clean-set",
        group: Group::ExitClassification,
        invariant: "only the configured codes and signals are success",
        rationale: "If a failure counts as success, nobody fixes it. If a success counts as \
                    failure, it raises false alarms.",
        origin: "systemd.service(5) SuccessExitStatus=; supervisord exitcodes.",
        bug: None,
        needs: &[Requirement::SuccessList, Requirement::ReportsRest],
        check: Check::Trial(
            clean_set,
            "one run that ends by itself, and what follows it",
        ),
    },
    Rule {
        id: "requested-death-not-failure",
        group: Group::ExitClassification,
        invariant: "dying of the stop signal that was requested is not a failure",
        rationale: "If the supervisor counts a death by the requested stop signal as a failure, \
                    every ordinary stop looks like a crash.",
        origin: "systemd.service(5): SIGHUP, SIGINT, SIGTERM and SIGPIPE are a clean end; supervisord: a \
                 stopped process is STOPPED, not EXITED.",
        bug: None,
        needs: &[Requirement::Stop, Requirement::ReportsRest],
        check: Check::Trial(
            requested_death_not_failure,
            "a run that stays until a stop ends it",
        ),
    },
];

/// The runs that have ended, each with its status in the timeline and the status that the subject
/// reported.
fn reported(observed: &Observed) -> Result<Vec<(RunSpan, ExitStatus, ExitStatus)>, Verdict> {
    let runs = observed.in_turn()?;
    let reports: Vec<(Timestamp, ExitStatus)> = observed.reported_at().collect();
    let ended: Vec<RunSpan> = runs.into_iter().filter(|run| run.exit.is_some()).collect();
    if ended.len() != reports.len() {
        return Err(Verdict::unknown(format!(
            "of {} ends {} were reported",
            ended.len(),
            reports.len()
        )));
    }
    let pairs: Vec<_> = ended.into_iter().zip(reports).collect();
    let is_early = |(run, (at, _)): &&(RunSpan, (Timestamp, ExitStatus))| {
        run.exit.is_some_and(|exit| *at + observed.early() < exit)
    };
    if let Some((run, (at, _))) = pairs.iter().find(is_early) {
        return Err(Verdict::Unknown(format!(
            "what was reported at {at} is not the end of run {}, which came later",
            run.run
        )));
    }
    let pairs = pairs.into_iter();
    Ok(pairs
        .filter_map(|(run, (_, report))| Some((run, run.status?, report)))
        .collect())
}

fn code_exact(observed: &Observed) -> Verdict {
    let reported = match reported(observed) {
        Ok(reported) => reported,
        Err(unknown) => return unknown,
    };
    let mut has_code = false;
    for (run, status, report) in reported {
        if !matches!(status, ExitStatus::Exited { .. }) {
            continue;
        }
        has_code = true;
        if report != status {
            return observed.broken(
                observed.exit_of(run.run),
                format!("the end of run {} is reported as {status}", run.run),
                format!("it is reported as {report}"),
            );
        }
    }
    if has_code {
        Verdict::Pass
    } else {
        Verdict::unknown("no run exited with a code")
    }
}

fn signal_preserved(observed: &Observed) -> Verdict {
    let reported = match reported(observed) {
        Ok(reported) => reported,
        Err(unknown) => return unknown,
    };
    let mut is_at_stake = false;
    for (run, status, report) in reported {
        // This rule judges neither the exit code nor the core dump.
        let is_preserved = status.signal() == report.signal();
        if !is_preserved {
            return observed.broken(
                observed.exit_of(run.run),
                format!("the end of run {} is reported as {status}", run.run),
                format!("it is reported as {report}"),
            );
        }
        // The rule also judges the codes that a shell would use for a death by signal.
        is_at_stake |= match status {
            ExitStatus::Exited { code } => code > 128,
            ExitStatus::Signaled { .. } => true,
        };
    }
    if is_at_stake {
        Verdict::Pass
    } else {
        Verdict::unknown("no run died by a signal, or with a code that looks so")
    }
}

fn clean_set(observed: &Observed) -> Verdict {
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let Some(status) = runs[0].status else {
        return Verdict::unknown("the first run has not ended");
    };
    let was_failure = match observed.was_failure(&runs, 0) {
        Ok(was_failure) => was_failure,
        Err(unknown) => return unknown,
    };
    let name = |failure: bool| if failure { "a failure" } else { "success" };
    let is_failure = !observed.service.is_success(status);
    if was_failure == is_failure {
        return Verdict::Pass;
    }
    observed.broken(
        observed.exit_of(runs[0].run),
        format!("{status} is {}", name(is_failure)),
        format!("it was taken for {}", name(was_failure)),
    )
}

fn requested_death_not_failure(observed: &Observed) -> Verdict {
    let Some(stop) = observed
        .call(Control::Stop)
        .filter(|stop| stop.to.is_some())
    else {
        return Verdict::unknown("no stop has returned");
    };
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let signal = observed.service.stop_signal;
    let stopped = runs.iter().find(|run| {
        let died = run.status.and_then(ExitStatus::signal) == Some(signal);
        died && run.exit.is_some_and(|exit| exit >= stop.from)
    });
    let Some(run) = stopped else {
        return Verdict::unknown("no run died of the stop signal");
    };
    let expected = format!(
        "the death of run {} by {signal} is as it was asked for",
        run.run
    );
    if let Some(error) = &stop.error {
        let actual = format!("the stop is an error: {error}");
        return observed.broken(observed.exit_of(run.run), expected, actual);
    }
    match observed.rest() {
        None => Verdict::unknown("it does not say how it rests"),
        Some(RestReason::Stopped | RestReason::Finished { success: true }) => Verdict::Pass,
        Some(rest) => observed.broken(
            observed.exit_of(run.run),
            expected,
            format!("it rests as {rest}"),
        ),
    }
}
