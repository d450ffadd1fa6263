//! What happens to the output of a service.

use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::rule::{Check, Rule, Verdict};
use crate::timeline::{Event, EventKind, EventSource};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "flood-no-block",
        group: Group::Output,
        invariant: "1 MiB and more never blocks a child whose output goes to a file",
        rationale: "A pipe that nobody reads is full after 64 KiB. The process that writes to it \
                    then blocks, and nothing shows why.",
        origin: "pipe(7), \"Pipe capacity\"; supervisord stdout_logfile=.",
        bug: Some("Supervisor/supervisor#1554 unread pipe blocks the child"),
        needs: &[Requirement::Output],
        check: Check::Trial(flood_no_block, "a run that writes 1 MiB and exits"),
    },
    Rule {
        id: "last-bytes-kept",
        group: Group::Output,
        invariant: "what is written on the stop signal or just before the exit reaches the file",
        rationale: "The last lines that a process writes before it dies usually say why it died. A \
                    supervisor that loses them hides the cause.",
        origin: "s6-log, svlogd: a logger reads to the end of file, whatever became of the service.",
        bug: None,
        needs: &[Requirement::Output],
        check: Check::Trial(last_bytes_kept, "a run whose last words are known"),
    },
    Rule {
        id: "held-pipe-exit",
        group: Group::Output,
        invariant: "the end of a run is noticed at once, also while a process that it started has its stdout open",
        rationale: "A supervisor that waits for the end of the output waits for every process that \
                    has it open. One of them may be a helper that never ends.",
        origin: "wait(2): the end of a process is told by the kernel, not by its pipes.",
        bug: None,
        needs: &[Requirement::Output, Requirement::ReportsEnds],
        check: Check::Trial(
            held_pipe_exit,
            "a run that exits while a process that it started has its stdout open",
        ),
    },
];

/// How many bytes the run of `flood-no-block` writes.
pub(crate) const FLOOD: u64 = 1 << 20;

/// What the run of `last-bytes-kept` writes before its end.
pub(crate) const LAST_WORDS: &str = "these are my last words\n";

/// How many bytes the first run has written.
fn written(observed: &Observed) -> u64 {
    let own = observed.own().map(|(_, run, event)| match event.what {
        EventKind::Wrote { bytes, .. } if run == 1 => bytes,
        _ => 0,
    });
    own.fold(0, u64::saturating_add)
}

fn flood_no_block(observed: &Observed) -> Verdict {
    let Some(run) = observed.runs().first().copied() else {
        return Verdict::unknown("it was never started");
    };
    let expected = format!("run 1 writes {FLOOD} bytes and exits");
    if written(observed) >= FLOOD {
        return Verdict::Pass;
    }
    let blocked = observed
        .own()
        .find(|(_, run, event)| *run == 1 && matches!(event.what, EventKind::Blocked { .. }));
    match (run.status, blocked) {
        (Some(status), _) => observed.broken(
            observed.exit_of(1),
            expected,
            format!("it ends before, with {status}"),
        ),
        (None, Some((place, _, event))) => observed.broken(
            Some(place),
            expected,
            format!("nobody reads what it writes from {} on", event.at),
        ),
        (None, None) => Verdict::unknown("the run has neither written nor ended"),
    }
}

fn last_bytes_kept(observed: &Observed) -> Verdict {
    let Some(output) = &observed.facts.output else {
        return Verdict::unknown("the file for the output could not be read");
    };
    let words = LAST_WORDS.len() as u64;
    if written(observed) < words || observed.exit_of(1).is_none() {
        return Verdict::unknown("the run has not written and ended");
    }
    if output
        .windows(LAST_WORDS.len())
        .any(|part| part == LAST_WORDS.as_bytes())
    {
        return Verdict::Pass;
    }
    observed.broken(
        observed.exit_of(1),
        format!("the file has the {words} bytes that run 1 wrote before its end"),
        format!("it has {} bytes, and not these", output.len()),
    )
}

fn held_pipe_exit(observed: &Observed) -> Verdict {
    let Some((exit, place)) = observed.first_exit() else {
        return Verdict::unknown("the run has not ended");
    };
    let mut verdict = observed.end_is_reported(exit, place);
    if let Verdict::Fail(violation) = &mut verdict
        && let Some(holder) = outlives(observed)
    {
        let text = format!(
            ". `{holder}` lives and has the run's stdout open: wait for the end of the run's own process, not for \
             the end of its output"
        );
        violation.actual.push_str(&text);
    }
    verdict
}

/// A process that run 1 started and that has not ended.
fn outlives(observed: &Observed) -> Option<&EventSource> {
    let events = observed.timeline.events();
    let is_of_run = |who: &&EventSource| {
        matches!(
            who,
            EventSource::Run {
                run: 1,
                descendant: Some(_),
                ..
            }
        )
    };
    let has_ended = |who: &EventSource| {
        let is_end =
            |event: &Event| event.who == *who && matches!(event.what, EventKind::Exit { .. });
        events.iter().any(is_end)
    };
    let all = events.iter().map(|event| &event.who);
    all.filter(is_of_run).find(|who| !has_ended(who))
}
