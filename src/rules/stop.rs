//! How a service is stopped.

use super::call::{Control, ControlCall};
use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::profile::{RepeatedStop, StopReturn};
use super::rule::{Check, Rule, Verdict};
use super::stopped::{end, is_killed, reap, stopped};
use crate::status::ExitStatus;
use crate::timeline::EventKind;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "stop-signal-first",
        group: Group::Stop,
        invariant: "the configured signal arrives once, before anything stronger",
        rationale: "A process that is killed at once cannot save its data. A process that gets the \
                    stop signal twice may take the second one as an order to exit at once.",
        origin: "systemd.service(5) KillSignal=; supervisord stopsignal=; s6-supervise, \"-d\".",
        bug: None,
        needs: &[Requirement::Stop, Requirement::StopSignal],
        check: Check::Trial(
            stop_signal_first,
            "a child that traps every signal that a stop may send, and is stopped once",
        ),
    },
    Rule {
        id: "grace-not-early",
        group: Group::Stop,
        invariant: "a child that exits just inside its grace is never SIGKILLed",
        rationale: "A service may use its whole grace to shut down. If the supervisor kills it \
                    earlier, the service can lose data.",
        origin: "systemd.service(5) TimeoutStopSec=; supervisord stopwaitsecs=; OTP supervisor, shutdown.",
        bug: None,
        needs: &[
            Requirement::Stop,
            Requirement::StopSignal,
            Requirement::Grace,
        ],
        check: Check::Trial(
            grace_not_early,
            "a child that takes a little less than its grace to stop",
        ),
    },
    Rule {
        id: "grace-not-late",
        group: Group::Stop,
        invariant: "a child that ignores the signal is SIGKILLed by grace + δ",
        rationale: "If the supervisor does not kill a child that ignores the stop signal, that \
                    child holds up every shutdown.",
        origin: "systemd.service(5) TimeoutStopSec=; OTP supervisor_SUITE, sup_stop_timeout.",
        bug: None,
        needs: &[Requirement::Stop, Requirement::Grace],
        check: Check::Observed(grace_not_late),
    },
    Rule {
        id: "stop-sync",
        group: Group::Stop,
        invariant: "stop returns after the reap, or is declared asynchronous",
        rationale: "When the stop returns, the caller may take over the port, the lock or the \
                    files of the service. If the service is still alive then, it still holds them.",
        origin: "OTP supervisor:terminate_child/2; s6-svc -wd; systemctl stop and --no-block.",
        bug: None,
        needs: &[Requirement::Stop, Requirement::StopSignal],
        check: Check::Trial(
            stop_sync,
            "a child that takes half its grace to stop, and is stopped once",
        ),
    },
    Rule {
        id: "stop-wakes-frozen",
        group: Group::Stop,
        invariant: "a SIGSTOPped child stops well inside its grace",
        rationale: "A process that is stopped by SIGSTOP handles no signal until it gets SIGCONT. \
                    Without SIGCONT it always ends by SIGKILL.",
        origin: "systemd.kill(5): SIGCONT follows; s6-svc -d sends SIGTERM and then SIGCONT.",
        bug: None,
        needs: &[
            Requirement::Stop,
            Requirement::StopSignal,
            Requirement::Grace,
            Requirement::WakesFrozen,
        ],
        check: Check::Trial(
            stop_wakes_frozen,
            "a frozen child that exits when it gets the stop signal",
        ),
    },
    Rule {
        id: "stop-idempotent",
        group: Group::Stop,
        invariant: "a repeated stop is harmless, or escalates as declared",
        rationale: "Scripts and people sometimes stop a service twice. The second stop must not be \
                    an error, and must not cut the shutdown short unless that is declared.",
        origin: "s6-svc -d; dinitctl stop; systemctl stop: a unit that is stopping stays so.",
        bug: None,
        needs: &[
            Requirement::Stop,
            Requirement::StopSignal,
            Requirement::RepeatedStop,
        ],
        check: Check::Trial(
            stop_idempotent,
            "a child that takes half its grace to stop, and is stopped twice",
        ),
    },
    Rule {
        id: "stop-races-exit",
        group: Group::Stop,
        invariant: "stopping a child that has just died succeeds without an error or a crash",
        rationale: "A child may end after the supervisor has decided to signal it and before it \
                    sends the signal. A supervisor that does not expect this reports an error or \
                    crashes.",
        origin: "kill(2), ESRCH; OTP supervisor:terminate_child/2 of a child that has ended.",
        bug: Some("Supervisor/supervisor#1477 ESRCH during kill crashes"),
        needs: &[Requirement::Stop],
        check: Check::Trial(
            stop_races_exit,
            "a run that dies when it is about to be stopped",
        ),
    },
    Rule {
        id: "no-reused-pid-kill",
        group: Group::Stop,
        invariant: "a reaped or unverified pid is never signalled",
        rationale: "After the reap, the kernel may give the pid to another process. A supervisor \
                    that signals the old pid can then kill an unrelated process.",
        origin: "pidfd_open(2), pidfd_send_signal(2): what they were made for.",
        bug: Some("ponylang/ponyc#5765 signalling a reaped pid"),
        needs: &[Requirement::Stop, Requirement::InProcess],
        check: Check::Trial(
            no_reused_pid_kill,
            "runs whose numbers are known, and the signals that were sent to them",
        ),
    },
];

fn stop_signal_first(observed: &Observed) -> Verdict {
    let (run, call) = match stopped(observed) {
        Ok(found) => found,
        Err(unknown) => return unknown,
    };
    let wanted = observed.service.stop_signal;
    let expected = format!("{wanted} once, after {}", call.from);
    let signals = observed.signals_of(run.run);
    if let Some((place, signal, at)) = signals.iter().find(|(_, signal, _)| *signal != wanted) {
        return observed.broken(Some(*place), expected, format!("{signal} at {at}"));
    }
    match signals[..] {
        [(place, _, at)] if at < call.from => {
            observed.broken(Some(place), expected, format!("{wanted} at {at}"))
        }
        [_] => Verdict::Pass,
        [_, (place, _, at), ..] => observed.broken(
            Some(place),
            expected,
            format!("{wanted} {} times, again at {at}", signals.len()),
        ),
        [] if run.exit.is_some() => observed.broken(
            observed.exit_of(run.run),
            expected,
            format!("{}, and it had no signal before", end(&run)),
        ),
        [] => observed.broken(None, expected, format!("no signal until {}", observed.end)),
    }
}

/// In the trial the run takes a little less than its grace to end.
fn grace_not_early(observed: &Observed) -> Verdict {
    let (run, _) = match stopped(observed) {
        Ok(found) => found,
        Err(unknown) => return unknown,
    };
    let Some((_, signal, at)) = observed.signals_of(run.run).first().copied() else {
        return Verdict::unknown("it has not had the stop signal");
    };
    let grace = observed.service.grace;
    match (run.exit, run.status) {
        (Some(exit), _) if is_killed(&run) && exit + observed.early() < at + grace => observed
            .broken(
                observed.exit_of(run.run),
                format!(
                    "no SIGKILL before {} ({signal} at {at} + grace {grace:?})",
                    at + grace
                ),
                format!("{}, {:?} early", end(&run), at + grace - exit),
            ),
        (Some(exit), Some(ExitStatus::Exited { .. })) if exit < at + grace + observed.late() => {
            Verdict::Pass
        }
        _ => Verdict::Unknown(format!(
            "it did not exit by itself inside its grace: {}",
            end(&run)
        )),
    }
}

/// In the trial the run ignores the stop signal.
fn grace_not_late(observed: &Observed) -> Verdict {
    let (run, call) = match stopped(observed) {
        Ok(found) => found,
        Err(unknown) => return unknown,
    };
    if observed.group.is_some() {
        return Verdict::unknown("a stop of a group waits for its other services");
    }
    // In the rule's own trial there is something to stop, so there an error of the stop is no
    // excuse.
    if let Some(error) = call
        .error
        .as_ref()
        .filter(|_| !observed.is_trial_of("grace-not-late"))
    {
        return Verdict::Unknown(format!("the stop is an error: {error}"));
    }
    let grace = observed.service.grace;
    let due = call.from + grace;
    let expected = format!(
        "SIGKILL by {} (stop at {} + grace {grace:?})",
        due + observed.late(),
        call.from
    );
    match run.exit {
        None if observed.end > due + observed.late() => {
            observed.broken(None, expected, format!("{} at {}", end(&run), observed.end))
        }
        None => Verdict::unknown("it was not looked at for as long as its grace"),
        Some(exit) if exit > due + observed.late() => observed.broken(
            observed.exit_of(run.run),
            expected,
            format!("{}, {:?} late", end(&run), exit - due),
        ),
        // Another rule judges this.
        Some(exit) if exit < due => {
            Verdict::Unknown(format!("before its grace was over, {}", end(&run)))
        }
        // A daemon may reap the process before the harness reads its status. A process that ignores
        // the signal never ends by itself, so it was killed.
        Some(_) if is_killed(&run) || run.status.is_none() => Verdict::Pass,
        Some(_) => Verdict::Unknown(format!("it was not killed: {}", end(&run))),
    }
}

/// In the trial the run takes a while to end.
fn stop_sync(observed: &Observed) -> Verdict {
    let (run, call) = match stopped(observed) {
        Ok(found) => found,
        Err(unknown) => return unknown,
    };
    let Some(returned) = call.to else {
        return observed.broken(
            None,
            "the stop returns",
            format!("it has not returned by {}", observed.end),
        );
    };
    let Some(exit) = run.exit else {
        return Verdict::unknown("it has not ended");
    };
    if exit <= call.from + observed.late() {
        return Verdict::unknown("it ended at once, so that the two cannot be told apart");
    }
    match observed.profile.stopping.returns {
        Some(StopReturn::Reaped) => {
            let Some((place, reaped)) = reap(observed, run.run) else {
                return Verdict::unknown("it was never reaped");
            };
            // The harness looks for the reap, and may see it after the stop has returned.
            if returned + observed.early() < reaped {
                return observed.broken(
                    Some(place),
                    format!("the stop returns at {reaped}, when it was reaped"),
                    format!("it returned at {returned}, {:?} early", reaped - returned),
                );
            }
            // A subject that polls may return a little late.
            let most = reaped + observed.late() + observed.profile.unit();
            if returned > most {
                return observed.broken(
                    Some(place),
                    format!("the stop returns by {most}, soon after it was reaped"),
                    format!("it returned at {returned}, {:?} late", returned - reaped),
                );
            }
            Verdict::Pass
        }
        Some(StopReturn::AtOnce) if returned > call.from + observed.late() => observed.broken(
            None,
            format!("the stop returns at {}, when it was asked for", call.from),
            format!("it returned at {returned}"),
        ),
        Some(StopReturn::AtOnce) => Verdict::Pass,
        _ => Verdict::unknown("its profile does not say when a stop returns"),
    }
}

fn stop_wakes_frozen(observed: &Observed) -> Verdict {
    let (run, call) = match stopped(observed) {
        Ok(found) => found,
        Err(unknown) => return unknown,
    };
    let is_frozen = observed.own().any(|(_, number, event)| {
        number == run.run && event.what == EventKind::Frozen && event.at <= call.from
    });
    if !is_frozen {
        return Verdict::unknown("it was not frozen when it was told to stop");
    }
    let most = call.from + observed.service.grace / 2 + observed.late();
    let expected = format!("it ends by {most}, well inside its grace");
    match run.exit {
        Some(exit) if exit <= most && is_killed(&run) => Verdict::Unknown(format!(
            "it was killed before it could act on the signal: {}",
            end(&run)
        )),
        Some(exit) if exit <= most => Verdict::Pass,
        Some(_) => observed.broken(observed.exit_of(run.run), expected, end(&run)),
        None if observed.end > most => observed.broken(None, expected, end(&run)),
        None => Verdict::unknown("it was not looked at for long enough"),
    }
}

/// In the trial the subject is told to stop twice while the run takes a while to end, and once more
/// when the run has ended.
fn stop_idempotent(observed: &Observed) -> Verdict {
    let (run, _) = match stopped(observed) {
        Ok(found) => found,
        Err(unknown) => return unknown,
    };
    let stops: Vec<&ControlCall> = observed.calls_of(Control::Stop).collect();
    let [first, second, later @ ..] = &stops[..] else {
        return Verdict::unknown("it was not told to stop twice");
    };
    let Some((_, signal, at)) = observed.signals_of(run.run).first().copied() else {
        return Verdict::unknown("it has not had the stop signal");
    };
    if run.exit.is_some_and(|exit| exit < second.from) {
        return Verdict::unknown("it had ended before it was told to stop again");
    }
    let calls = [*first, *second].into_iter().chain(later.iter().copied());
    for (number, call) in (1..).zip(calls) {
        let expected = format!("stop {number}, at {}, returns without an error", call.from);
        if let Some(error) = &call.error {
            return observed.broken(None, expected, format!("it is an error: {error}"));
        }
        if call.to.is_none() {
            return observed.broken(
                None,
                expected,
                format!("it has not returned by {}", observed.end),
            );
        }
    }
    let place = observed.exit_of(run.run);
    match observed.profile.stopping.repeated {
        Some(RepeatedStop::Harmless) => {
            let signals = observed.signals_of(run.run);
            // A signal at another time does not come from the second stop.
            let again = signals
                .iter()
                .skip(1)
                .find(|(_, _, at)| *at >= second.from && *at <= second.from + observed.late());
            if let Some((place, again, at)) = again {
                return observed.broken(
                    Some(*place),
                    "the second stop does nothing more",
                    format!("{again} again at {at}"),
                );
            }
            if is_killed(&run) {
                return observed.broken(
                    place,
                    format!("after {signal} at {at} it has its grace, whatever else comes"),
                    format!("{}; the second stop was at {}", end(&run), second.from),
                );
            }
            match run.exit {
                Some(_) => Verdict::Pass,
                None => Verdict::unknown("it has not ended"),
            }
        }
        Some(RepeatedStop::Escalates) => {
            let due = second.from + observed.late();
            match run.exit {
                Some(exit) if exit <= due && is_killed(&run) => Verdict::Pass,
                _ => observed.broken(
                    place,
                    format!("SIGKILL by {due}, when it was told to stop again"),
                    end(&run),
                ),
            }
        }
        None => Verdict::unknown("its profile does not say what a second stop does"),
    }
}

/// In the trial the run dies when the subject is told to stop, or a moment before.
fn stop_races_exit(observed: &Observed) -> Verdict {
    let Some(run) = observed.runs().first().copied() else {
        return Verdict::unknown("it was never started");
    };
    let Some(call) = observed.call(Control::Stop) else {
        return Verdict::unknown("it was not told to stop");
    };
    let Some(exit) = run.exit else {
        return Verdict::unknown("it has not died");
    };
    if exit > call.from + observed.early() {
        return Verdict::unknown("it had not died when it was told to stop");
    }
    if exit + observed.profile.unit() / 2 + observed.late() < call.from {
        return Verdict::unknown("it had died long before it was told to stop");
    }
    let place = observed.exit_of(run.run);
    let most = call.from + observed.service.grace + observed.late();
    let expected = format!(
        "the stop at {} returns by {most} without an error",
        call.from
    );
    match (&call.error, call.to) {
        (Some(error), _) => observed.broken(
            place,
            expected,
            format!("it died at {exit}, and the stop is an error: {error}"),
        ),
        (None, None) if observed.end > most => observed.broken(
            place,
            expected,
            format!(
                "it died at {exit}, and the stop has not returned by {}",
                observed.end
            ),
        ),
        (None, None) => Verdict::unknown("the stop was not waited for"),
        (None, Some(to)) if to > most => observed.broken(
            place,
            expected,
            format!("it died at {exit}, and the stop returned at {to}"),
        ),
        (None, Some(_)) => {
            // A subject that has crashed can start nothing any more, and the start shows that.
            let mut starts = observed.calls_of(Control::Start);
            let wrong = match starts.find(|start| start.from >= call.from) {
                None => return Verdict::Pass,
                Some(start) => match (&start.error, start.to) {
                    (Some(error), _) => format!("is an error: {error}"),
                    (None, None) => format!("has not returned by {}", observed.end),
                    (None, Some(_)) => return Verdict::Pass,
                },
            };
            observed.broken(
                place,
                "after the stop it can be started again",
                format!("it died at {exit}, and the start {wrong}"),
            )
        }
    }
}

/// In the trial runs end by themselves and by a stop, and the subject is also told to stop when no
/// run is alive.
fn no_reused_pid_kill(observed: &Observed) -> Verdict {
    let Some(strays) = &observed.facts.strays else {
        return Verdict::unknown("nobody looked at the signals that it sent");
    };
    if observed.runs().iter().all(|run| run.exit.is_none()) {
        return Verdict::unknown("no run has ended");
    }
    let Some((signal, run)) = strays.first() else {
        return Verdict::Pass;
    };
    let whose = run.map_or("a process's".to_owned(), |run| format!("run {run}'s"));
    let reaped = run.and_then(|run| reap(observed, run));
    observed.broken(
        reaped.map(|(place, _)| place),
        "no signal goes to a number whose process was reaped",
        format!("{signal} to the number that was {whose}, after it was reaped"),
    )
}
