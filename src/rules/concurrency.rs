//! What happens when several things happen at the same time.

use std::time::Duration;

use super::call::{Control, ControlCall};
use super::group::Group;
use super::instances::{alive, concurrent_restarts, one_instance};
use super::need::Requirement;
use super::notice::Notice;
use super::observed::Observed;
use super::profile::WhenRestarting;
use super::rule::{Check, Rule, Verdict};
use crate::supervisor::Readiness;
use crate::timeline::{EventKind, EventSource, RunSpan};
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "stop-during-start",
        group: Group::Concurrency,
        invariant: "a child spawned after a stop was requested is killed",
        rationale: "A stop that arrives before the child exists finds no process to stop. The \
                    service then comes up anyway and stays up.",
        origin: "OTP supervisor: a shutdown waits for start_link; s6-supervise, \"-d\" during ./run.",
        bug: None,
        needs: &[Requirement::Stop],
        check: Check::Trial(
            stop_during_start,
            "a stop right after the begin, and nothing after it",
        ),
    },
    Rule {
        id: "stop-vs-retry",
        group: Group::Concurrency,
        invariant: "a stop beats a retry in flight",
        rationale: "If the stop does not cancel the timer of the next restart, the timer starts \
                    the stopped service again.",
        origin: "systemd.service(5) Restart=: not after systemctl stop; supervisord, BACKOFF.",
        bug: Some("Unitech/pm2#1966 stop during a delayed restart relaunches"),
        needs: &[Requirement::Restarts, Requirement::Stop],
        check: Check::Trial(
            stop_vs_retry,
            "a stop in the delay after one crash, and nothing after it",
        ),
    },
    Rule {
        id: "stale-exit-ignored",
        group: Group::Concurrency,
        invariant: "run k's exit never changes run k+1's state",
        rationale: "A supervisor may take a late exit of the old run for the exit of the new run. \
                    It then counts the running service as down, and nobody stops it.",
        origin: "OTP supervisor: an exit is matched by its pid.",
        bug: Some("jdx/pitchfork#635 a late exit overwrites the new run's state"),
        needs: &[Requirement::Restart, Requirement::StopSignal],
        check: Check::Trial(
            stale_exit_ignored,
            "a restart of one that stays, and later a stop",
        ),
    },
    Rule {
        id: "no-respawn-in-grace",
        group: Group::Concurrency,
        invariant: "no start between the stop signal and the kill",
        rationale: "A service that is shutting down still holds its port and its files. A run that \
                    starts in that time gets into conflict with it.",
        origin: "systemd.service(5): a start waits for the stop; supervisord, STOPPING.",
        bug: Some("circus-tent/circus#529 respawn between TERM and KILL"),
        needs: &[
            Requirement::Stop,
            Requirement::StopSignal,
            Requirement::Grace,
        ],
        check: Check::Observed(no_respawn_in_grace),
    },
    Rule {
        id: "concurrent-restarts",
        group: Group::Concurrency,
        invariant: "N concurrent restart requests leave one instance",
        rationale: "Two deployments may restart the same service at once. A supervisor that breaks \
                    this rule then leaves two servers running, or none.",
        origin: "systemctl restart: jobs of one unit are merged; OTP supervisor: calls are serialised.",
        bug: None,
        needs: &[Requirement::Restart, Requirement::StopSignal],
        check: Check::Trial(
            concurrent_restarts,
            "three restarts at once of one that stays",
        ),
    },
    Rule {
        id: "start-while-restarting",
        group: Group::Concurrency,
        invariant: "queued or rejected, as declared",
        rationale: "A caller who asks for a start must know whether the supervisor will carry it \
                    out or reject it.",
        origin: "OTP supervisor:restart_child/2, {error, restarting}; systemd: the jobs are queued.",
        bug: None,
        needs: &[
            Requirement::Restart,
            Requirement::Start,
            Requirement::StopSignal,
            Requirement::WhenRestarting,
        ],
        check: Check::Trial(
            start_while_restarting,
            "a start during the restart of one that stays",
        ),
    },
    Rule {
        id: "control-responsive",
        group: Group::Concurrency,
        invariant: "control calls stay fast while another child flaps",
        rationale: "If one broken service blocks the supervisor, the operator cannot control the \
                    other services either.",
        origin: "s6: one supervisor for each service; OTP supervisor_SUITE, hanging_restart_loop.",
        bug: Some("Supervisor/supervisor#746 update hangs on a process in BACKOFF"),
        needs: &[Requirement::Restarts, Requirement::Stop],
        check: Check::Trial(
            control_responsive,
            "calls about one that stays and stops at once, while another service crashes",
        ),
    },
    Rule {
        id: "shutdown-during-startup",
        group: Group::Concurrency,
        invariant: "a shutdown in the middle of start-up terminates",
        rationale: "Somebody may switch off a machine while it is still booting. If the supervisor \
                    breaks this rule, the machine then hangs, or processes are left behind.",
        origin: "OTP supervisor: what was started is ended where init fails; dinit, shutdown during boot.",
        bug: Some("moby/moby#22342 stop hangs while restarting"),
        needs: &[],
        check: Check::Trial(
            shutdown_during_startup,
            "one that is told to end before it is up, and nothing after it",
        ),
    },
];

/// How late something may show in the timeline.
fn late(observed: &Observed) -> Duration {
    observed.profile.tolerance().late + observed.granularity()
}

/// The stop that was asked for, if it returned without an error; otherwise the verdict is unknown.
fn stopped(observed: &Observed) -> Result<&ControlCall, Verdict> {
    let Some(call) = observed.call(Control::Stop) else {
        return Err(Verdict::unknown("it was not told to stop"));
    };
    match (&call.error, call.to) {
        (Some(error), _) => Err(Verdict::Unknown(format!("the stop is an error: {error}"))),
        (None, None) => Err(Verdict::unknown("the stop has not returned")),
        (None, Some(_)) => Ok(call),
    }
}

/// In the trial the subject is told to stop as soon as it was told to begin.
fn stop_during_start(observed: &Observed) -> Verdict {
    let call = match stopped(observed) {
        Ok(call) => call,
        Err(unknown) => return unknown,
    };
    let runs = observed.runs();
    // A subject in a process of its own may start the run before the harness calls the stop. Within
    // one unit that still counts as during the start.
    if let Some(first) = runs.first()
        && first.start + observed.profile.unit() < call.from
    {
        return Verdict::unknown("it had been up for a while when it was told to stop");
    }
    let due = call.from + observed.service.grace + late(observed);
    if observed.end <= due {
        return Verdict::unknown("it was not looked at for as long as its grace");
    }
    match alive(observed).first() {
        Some(run) => still_alive(observed, run, call, due),
        None => Verdict::Pass,
    }
}

/// The verdict on a run that is alive after it should have been stopped.
fn still_alive(observed: &Observed, run: &RunSpan, call: &ControlCall, due: Timestamp) -> Verdict {
    observed.broken(
        observed.start_of(run.run),
        format!(
            "no run is alive after {due}: it was told to stop at {}",
            call.from
        ),
        format!(
            "run {}, started at {}, is alive at {}",
            run.run, run.start, observed.end
        ),
    )
}

/// In the trial the subject is told to stop during the delay before a restart, or at the end of
/// that delay.
fn stop_vs_retry(observed: &Observed) -> Verdict {
    let Some(call) = observed.call(Control::Stop) else {
        return Verdict::unknown("it was not told to stop");
    };
    let runs = observed.runs();
    let before: Vec<&RunSpan> = runs.iter().filter(|run| run.start < call.from).collect();
    match before[..] {
        [first] if first.exit.is_some_and(|exit| exit <= call.from) => {}
        _ => return Verdict::unknown("there was no retry in flight when it was told to stop"),
    }
    let tolerance = observed.profile.tolerance().late;
    if let Some(run) = runs.iter().find(|run| run.start > call.from + tolerance) {
        return observed.broken(
            observed.start_of(run.run),
            format!("nothing starts after the stop at {}", call.from),
            format!("run {} starts at {}", run.run, run.start),
        );
    }
    let due = call.from + observed.service.grace + late(observed);
    match alive(observed).first() {
        // A run that started at the instant of the stop must be stopped, too.
        Some(run) if observed.end > due => still_alive(observed, run, call, due),
        Some(_) => Verdict::unknown("it was not looked at for as long as its grace"),
        None if call.to.is_none() || call.error.is_some() => {
            Verdict::unknown("the stop has not returned, or is an error")
        }
        None if observed.end <= call.from + observed.service.delays.bounds(0).1 => {
            Verdict::unknown("it was not looked at for as long as the delay")
        }
        None => Verdict::Pass,
    }
}

/// In the trial the subject is told to restart, and later to stop.
fn stale_exit_ignored(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let [first, second, later @ ..] = &runs[..] else {
        return Verdict::unknown("it was not started twice");
    };
    let Some(old) = first.exit else {
        return Verdict::unknown("its first run has not ended");
    };
    if observed.call(Control::Restart).is_none() {
        return Verdict::unknown("it was not told to restart");
    }
    let stop = observed.call(Control::Stop);
    let until = stop.map_or(observed.end, |stop| stop.from);
    let since = old.max(second.start) + late(observed);
    if since >= until {
        return Verdict::unknown("the second run was not looked at for long enough");
    }
    let lives = format!(
        "run 2, started at {}, lives on whatever becomes of run 1, which ended at {old}",
        second.start
    );
    if let Some(third) = later.first().filter(|run| run.start <= until) {
        return observed.broken(
            observed.start_of(third.run),
            lives,
            format!("run {} starts at {}", third.run, third.start),
        );
    }
    if let Some(exit) = second.exit.filter(|exit| *exit < until) {
        return observed.broken(
            observed.exit_of(second.run),
            lives,
            format!("run 2 ended at {exit}"),
        );
    }
    let said = observed.notices.iter().find(|said| {
        let is_down = matches!(
            said.notice,
            Notice::Ended(_) | Notice::BackingOff(_) | Notice::Resting(_)
        );
        is_down && said.at > since && said.at < until
    });
    if let Some(said) = said {
        let note = said.notice.to_string();
        let mut events = observed.timeline.events().iter();
        let place = events.position(|event| {
            event.at == said.at && matches!(&event.what, EventKind::Note { text } if *text == note)
        });
        return observed.broken(place, lives, format!("it says at {}: {note}", said.at));
    }
    let rests = observed
        .calls_of(Control::Outcome)
        .find(|call| call.to.is_some_and(|to| to > since && to < until));
    if let Some(rest) = rests.and_then(|call| call.rest.as_ref()) {
        return observed.broken(None, lives, format!("it says that it rests: {rest}"));
    }
    let Some(stop) = stop else {
        return Verdict::Pass;
    };
    let due = stop.from + observed.service.grace + late(observed);
    match second.exit {
        Some(exit) if exit <= due => Verdict::Pass,
        _ if observed.end <= due => Verdict::unknown("the stop was not waited for"),
        _ => observed.broken(
            observed.exit_of(second.run),
            format!("run 2 is what the stop at {} ends, by {due}", stop.from),
            format!("it is alive after {due}"),
        ),
    }
}

/// In the trial the subject stops or restarts a run that ignores the stop signal.
fn no_respawn_in_grace(observed: &Observed) -> Verdict {
    let told = observed
        .call(Control::Restart)
        .or(observed.call(Control::Stop));
    let Some(call) = told else {
        return Verdict::unknown("it was not told to stop");
    };
    let runs = observed.runs();
    let Some(first) = runs.first() else {
        return Verdict::unknown("it was never started");
    };
    let Some(exit) = first.exit else {
        return Verdict::unknown("it has not ended");
    };
    if first.start > call.from + observed.early() {
        return Verdict::unknown("it was not running when it was told to");
    }
    if exit <= call.from + late(observed) {
        return Verdict::unknown("it ended at once, so that there was no grace to look at");
    }
    let tolerance = observed.profile.tolerance().late;
    let early = runs
        .iter()
        .find(|run| run.run > first.run && run.start >= call.from && run.start + tolerance < exit);
    match early {
        Some(run) => observed.broken(
            observed.start_of(run.run),
            format!("nothing starts before {exit}, when run {} ended", first.run),
            format!(
                "run {} starts at {}, {:?} after the {}",
                run.run,
                run.start,
                run.start - call.from,
                call.control
            ),
        ),
        None => Verdict::Pass,
    }
}

/// In the trial the subject is told to start while a restart waits for the end of the old run.
fn start_while_restarting(observed: &Observed) -> Verdict {
    let (Some(restart), Some(start)) = (
        observed.call(Control::Restart),
        observed.call(Control::Start),
    ) else {
        return Verdict::unknown("it was not told to restart and to start");
    };
    let exit = observed.runs().first().and_then(|run| run.exit);
    if start.from < restart.from || exit.is_none_or(|exit| start.from >= exit) {
        return Verdict::unknown("there was no restart going on when it was told to start");
    }
    let queued = observed.profile.control.when_restarting == Some(WhenRestarting::Queued);
    let expected = format!(
        "the start at {}, during a restart, is {}",
        start.from,
        if queued { "carried out" } else { "rejected" }
    );
    match (&start.error, start.to) {
        (None, None) => observed.broken(
            None,
            expected,
            format!("it has not returned by {}", observed.end),
        ),
        (Some(error), _) if queued => {
            observed.broken(None, expected, format!("it is an error: {error}"))
        }
        (None, Some(to)) if !queued => observed.broken(
            None,
            expected,
            format!("it returned at {to} without an error"),
        ),
        _ => one_instance(observed),
    }
}

/// In the trial the subject is told to restart or stop this service while another service waits for
/// its own restart.
fn control_responsive(observed: &Observed) -> Verdict {
    let own = &observed.service.name;
    let calls = observed.calls.iter().filter(|call| {
        call.service == *own && !matches!(call.control, Control::Begin | Control::Outcome)
    });
    let flapped = observed.timeline.events().iter().any(|event| {
        let of_another = event.who.agent().is_some_and(|name| name != own);
        of_another
            && event.who != EventSource::Subject
            && matches!(event.what, EventKind::Exit { .. })
    });
    if !flapped {
        return Verdict::unknown("no other service has failed");
    }
    let most = observed.profile.unit() / 2 + late(observed);
    let mut seen = false;
    for call in calls {
        seen = true;
        if let Some(error) = &call.error {
            return Verdict::Unknown(format!("the {} is an error: {error}", call.control));
        }
        let expected = format!(
            "the {} at {} takes at most {most:?}",
            call.control, call.from
        );
        match call.took() {
            Some(took) if took <= most => {}
            Some(took) => return observed.broken(None, expected, format!("it took {took:?}")),
            None => {
                return observed.broken(
                    None,
                    expected,
                    format!("it has not returned by {}", observed.end),
                );
            }
        }
    }
    if seen {
        Verdict::Pass
    } else {
        Verdict::unknown("nothing was asked of it")
    }
}

/// In the trial the subject ends, or is told to stop, before the service is up.
fn shutdown_during_startup(observed: &Observed) -> Verdict {
    let told = observed.call(Control::End).or(observed.call(Control::Stop));
    let Some(call) = told else {
        return Verdict::unknown("it was not told to end");
    };
    let is_up = observed
        .notices
        .iter()
        .any(|said| said.notice == Notice::Up && said.at <= call.from);
    // A service that is up at exec is always up, so there this does not matter.
    if is_up && observed.service.readiness != Readiness::Exec {
        return Verdict::unknown("it was up");
    }
    let runs = observed.runs();
    if runs.first().is_none_or(|run| run.start > call.from) {
        return Verdict::unknown("it had not been started");
    }
    let due = call.from + observed.service.grace + late(observed);
    if observed.end <= due {
        return Verdict::unknown("it was not looked at for as long as its grace");
    }
    let expected = format!("the {} at {} is over by {due}", call.control, call.from);
    let is_late = |run: &&RunSpan| run.exit.is_none_or(|exit| exit > due);
    if let Some(run) = runs.iter().find(is_late) {
        return observed.broken(
            observed.start_of(run.run),
            expected,
            match run.exit {
                Some(exit) => format!("run {} was alive until {exit}", run.run),
                None => format!("run {} is alive at {}", run.run, observed.end),
            },
        );
    }
    match (call.to, &call.error) {
        (Some(to), None) if to <= due => Verdict::Pass,
        (Some(to), None) => observed.broken(None, expected, format!("it returned at {to}")),
        (_, Some(error)) => observed.broken(None, expected, format!("it is an error: {error}")),
        (None, None) => observed.broken(
            None,
            expected,
            format!("it has not returned by {}", observed.end),
        ),
    }
}
