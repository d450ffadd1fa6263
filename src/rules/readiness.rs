//! When a service is up, and whether it is still healthy.

use super::group::Group;
use super::need::Requirement;
use super::notice::Notice;
use super::observed::Observed;
use super::probe;
use super::profile::NotifyAccess;
use super::rule::{Check, Rule, Verdict};
use crate::timeline::{EventKind, EventSource};
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ready-not-early",
        group: Group::Readiness,
        invariant: "a service is not up before it has said that it is ready",
        rationale: "If a service counts as up too early, the services that depend on it are \
                    started for nothing and fail.",
        origin: "systemd.service(5) Type=notify; s6-supervise notification-fd.",
        bug: None,
        needs: &[Requirement::Notification, Requirement::ReportsUp],
        check: Check::Trial(
            ready_not_early,
            "a run that says that it is ready after a while",
        ),
    },
    Rule {
        id: "ready-not-stale",
        group: Group::Readiness,
        invariant: "run k's notification never makes run k+1 ready",
        rationale: "A service that was ready before its crash is not ready while it starts again. \
                    A supervisor that keeps the old notification reports it as up too early.",
        origin: "s6-supervise: ready since, cleared at each death; sd_notify(3).",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Notification,
            Requirement::ReportsUp,
        ],
        check: Check::Trial(
            ready_not_stale,
            "a run that says that it is ready, crashes, and is followed by one that says it later",
        ),
    },
    Rule {
        id: "ready-sender",
        group: Group::Readiness,
        invariant: "those may notify who are declared to, and an exit after a notification is an exit",
        rationale: "If the supervisor ignores a helper process that may notify for its service, \
                    the service never counts as up. If it believes a helper that may not notify, \
                    the service may count as up too early.",
        origin: "systemd.service(5) NotifyAccess=.",
        bug: None,
        needs: &[
            Requirement::Notification,
            Requirement::NotifyAccess,
            Requirement::ReportsUp,
            Requirement::ReportsEnds,
        ],
        check: Check::Trial(
            ready_sender,
            "a run that says that it is ready and exits, or whose descendant says so",
        ),
    },
    Rule {
        id: "watchdog",
        group: Group::Readiness,
        invariant: "a service that misses a heartbeat is killed then, and not before",
        rationale: "A process that hangs still looks alive to the kernel. Only its missing \
                    heartbeat shows that it hangs.",
        origin: "systemd.service(5) WatchdogSec=.",
        bug: None,
        needs: &[Requirement::Notification, Requirement::Watchdog],
        check: Check::Trial(watchdog, "a run that stays, and falls silent"),
    },
    Rule {
        id: "probe-failure-policy",
        group: Group::Readiness,
        invariant: "so many failed probes in a row are an end that the restart policy applies to",
        rationale: "One failed probe is not a good reason to kill a service. Several failed probes \
                    in a row, for example three, are.",
        origin: "Kubernetes livenessProbe failureThreshold; Docker HEALTHCHECK --retries.",
        bug: Some(
            "kubernetes/kubernetes#53530 failures count into the next run; kubernetes/kubernetes#94080 a probe's timeout \
             is ignored; moby/moby#43737 probes that timed out live on",
        ),
        needs: &[Requirement::Restarts, Requirement::Probe],
        check: Check::Trial(
            probe::probe_failure_policy,
            "a run that stays until it is stopped, and its probes",
        ),
    },
];

fn ups(observed: &Observed) -> Vec<Timestamp> {
    let up = observed
        .notices
        .iter()
        .filter(|said| said.notice == Notice::Up);
    up.map(|said| said.at).collect()
}

/// When, and where in the timeline, the run said that it is ready; `None` if it has not.
fn said_ready(observed: &Observed, run: u32) -> Option<(usize, Timestamp)> {
    observed
        .own()
        .find(|(_, number, event)| *number == run && event.what == EventKind::Ready)
        .map(|(place, _, event)| (place, event.at))
}

fn ready_not_early(observed: &Observed) -> Verdict {
    let Some((place, ready)) = said_ready(observed, 1) else {
        return Verdict::unknown("the run has not said that it is ready");
    };
    let Some(up) = ups(observed).first().copied() else {
        return Verdict::unknown("it was never reported as up");
    };
    if up + observed.early() >= ready {
        return Verdict::Pass;
    }
    observed.broken(
        Some(place),
        format!("run 1 is reported as up from {ready} on, when it says that it is ready"),
        format!("it is reported as up at {up}"),
    )
}

fn ready_not_stale(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let [first, second, ..] = runs.as_slice() else {
        return Verdict::unknown("there was no restart");
    };
    if first.exit.is_none_or(|exit| exit >= second.start) {
        return Verdict::unknown("the runs were not one after the other");
    }
    let Some((_, first_ready)) = said_ready(observed, first.run) else {
        return Verdict::unknown("the first run has not said that it is ready");
    };
    let Some((place, ready)) = said_ready(observed, second.run) else {
        return Verdict::unknown("the second run has not said that it is ready");
    };
    let ups = ups(observed);
    if ups
        .first()
        .is_some_and(|up| *up + observed.early() < first_ready)
    {
        // Another rule judges this.
        return Verdict::unknown("the first run was up before it had said so");
    }
    let since = |from: Timestamp| {
        let mut ups = ups.iter();
        ups.find(|up| **up + observed.early() >= from).copied()
    };
    match since(second.start) {
        None => Verdict::unknown("the second run was never reported as up"),
        Some(up) if up + observed.early() >= ready => Verdict::Pass,
        Some(up) => observed.broken(
            Some(place),
            format!("run 2 is reported as up from {ready} on, when it says that it is ready"),
            format!("it is reported as up at {up}, and only run 1 had said so"),
        ),
    }
}

/// In the trial either a descendant notifies, or the run notifies and exits.
fn ready_sender(observed: &Observed) -> Verdict {
    let late = observed.profile.tolerance().late + observed.granularity();
    let ups = ups(observed);
    let events = observed.timeline.events().iter().enumerate();
    let helper = events
        .filter(|(_, event)| {
            matches!(
                event.who,
                EventSource::Run {
                    descendant: Some(_),
                    ..
                }
            )
        })
        .find(|(_, event)| event.what == EventKind::Ready);
    if let Some((place, event)) = helper {
        let said = format!("a descendant says at {} that run 1 is ready", event.at);
        let up = ups.first();
        return match (observed.profile.readiness.notify_access, up) {
            (Some(NotifyAccess::Main), Some(up)) => observed.broken(
                Some(place),
                format!("run 1 is not up: {said}, who has no say"),
                format!("it is reported as up at {up}"),
            ),
            (Some(NotifyAccess::All), None) if observed.end > event.at + late => observed.broken(
                Some(place),
                format!("run 1 is up by {}: {said}", event.at + late),
                format!("it is not reported as up until {}", observed.end),
            ),
            (Some(NotifyAccess::All), None) => Verdict::unknown("looking ended at once"),
            (None, _) => Verdict::unknown("it is not declared who may notify"),
            _ => Verdict::Pass,
        };
    }
    let Some((exit, place)) = observed.first_exit() else {
        return Verdict::unknown("nobody has notified and nothing has ended");
    };
    if said_ready(observed, 1).is_none() {
        return Verdict::unknown("the run has not said that it is ready");
    }
    if let Some(up) = ups.iter().find(|up| **up > exit + late) {
        return observed.broken(
            Some(place),
            format!("run 1, which ended at {exit}, is not up any more"),
            format!("it is reported as up at {up}"),
        );
    }
    observed.end_is_reported(exit, place)
}

/// Compares the end of the first run with the time of its last heartbeat.
fn watchdog(observed: &Observed) -> Verdict {
    let Some(period) = observed.service.watchdog else {
        return Verdict::unknown("no heartbeat was asked for");
    };
    let Some(run) = observed.runs().first().copied() else {
        return Verdict::unknown("it was never started");
    };
    let beats = observed
        .own()
        .filter(|(_, run, event)| *run == 1 && event.what == EventKind::Beat);
    let last = beats
        .map(|(_, _, event)| event.at)
        .last()
        .unwrap_or(run.start);
    let due = last + period;
    let latest = due + observed.profile.tolerance().late + observed.granularity();
    let expected = format!("run 1, silent since {last}, is killed at {due}, {period:?} later");
    match run.exit {
        Some(exit) if exit + observed.early() < due => observed.broken(
            observed.exit_of(1),
            expected,
            format!("it ends at {exit}, {:?} early", due - exit),
        ),
        Some(exit) if exit > latest => observed.broken(
            observed.exit_of(1),
            expected,
            format!("it ends at {exit}, {:?} late", exit - due),
        ),
        Some(_) => Verdict::Pass,
        None if observed.end > latest => {
            observed.broken(None, expected, format!("it is alive at {}", observed.end))
        }
        None => Verdict::unknown("looking ended before a heartbeat was missed"),
    }
}
