//! The integration tests of `timeline`: what is asked of it, its columns, and texts that are none.

mod written;

use std::time::Duration;

use rstest::rstest;
use supervise_harness::{
    Event, EventKind, EventSource, ExitStatus, Timeline, TimelineClock, TimelineError, Timestamp,
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::ORIGIN + ms(millis)
}

fn exited(code: i32) -> Option<ExitStatus> {
    Some(ExitStatus::Exited { code })
}

fn worker(millis: u64, run: u32, what: EventKind) -> Event {
    Event::new(at(millis), EventSource::run("worker", run), what)
}

fn start(millis: u64, run: u32) -> Event {
    worker(millis, run, EventKind::Start)
}

fn exit(millis: u64, run: u32, status: Option<ExitStatus>) -> Event {
    worker(millis, run, EventKind::Exit { status })
}

fn virtually(events: impl IntoIterator<Item = Event>) -> Timeline {
    Timeline::new(TimelineClock::Virtual, events)
}

#[test]
fn an_empty_timeline_prints_its_first_line() {
    assert_eq!(virtually([]).to_string(), "timeline v2  clock=virtual");
}

/// The lines that differ, of two texts with equally many.
fn changed(one: &Timeline, other: &Timeline) -> usize {
    let (one, other) = (one.to_string(), other.to_string());
    assert_eq!(one.lines().count(), other.lines().count());
    let pairs = one.lines().zip(other.lines());
    pairs.filter(|(a, b)| a != b).count()
}

#[test]
fn a_changed_delay_changes_its_own_line() {
    let with_delay = |delay: u64| {
        let again = 200 + delay;
        let (first, second) = (exit(200, 1, exited(1)), exit(again + 200, 2, exited(1)));
        virtually([start(0, 1), first, start(again, 2), second])
    };
    assert_eq!(changed(&with_delay(1_000), &with_delay(20_000)), 1);
    assert_eq!(changed(&with_delay(1_000), &with_delay(86_400_000)), 1);
}

#[test]
fn one_more_run_does_not_move_the_other_lines() {
    let with_last_run = |run| virtually([start(0, 1), exit(1, 1, None), start(2, run)]);
    assert_eq!(changed(&with_last_run(2), &with_last_run(10)), 1);
    assert_eq!(changed(&with_last_run(2), &with_last_run(4_000_000_000)), 1);
    let columns: Vec<_> = ["start", "exit"]
        .map(|kind| {
            let text = with_last_run(10).to_string();
            text.lines()
                .skip(1)
                .filter_map(|line| line.find(kind))
                .collect::<Vec<_>>()
        })
        .concat();
    assert_eq!(columns, [18, 18, 18], "the tenth run stands in the columns");
}

#[test]
fn virtual_events_are_sorted_by_time_and_stay_as_given_within_an_instant() {
    let note = Event::new(
        at(5),
        EventSource::Subject,
        EventKind::Note { text: "n".into() },
    );
    let other = Event::new(at(5), EventSource::run("another", 1), EventKind::Start);
    let timeline = virtually([start(9, 2), note.clone(), start(5, 1), other.clone()]);
    assert_eq!(timeline.events(), [note, start(5, 1), other, start(9, 2)]);
}

#[test]
fn real_events_stay_in_the_order_given() {
    let given = [start(9, 1), start(5, 2)];
    let timeline = Timeline::new(TimelineClock::Real, given.clone());
    assert_eq!(timeline.clock(), TimelineClock::Real);
    assert_eq!(timeline.events(), given);
}

#[test]
fn starts_and_exits_are_the_agents_own() {
    let helper = |what| Event::new(at(1), EventSource::descendant("worker", 1, "helper"), what);
    let timeline = virtually([
        start(0, 1),
        helper(EventKind::Start),
        helper(EventKind::Exit { status: exited(9) }),
        Event::new(at(1), EventSource::run("other", 1), EventKind::Start),
        exit(2, 1, exited(1)),
        start(3, 2),
        exit(4, 2, None),
    ]);
    assert_eq!(timeline.starts("worker"), 2);
    assert_eq!(timeline.exits("worker"), [exited(1), None]);
    assert_eq!(timeline.agents(), ["worker", "other"]);
    assert_eq!(timeline.starts("nobody"), 0);
}

#[test]
fn a_gap_is_from_an_exit_to_the_next_start() {
    let timeline = virtually([
        start(0, 1),
        exit(100, 1, None),
        worker(100, 1, EventKind::Reap),
        start(350, 2),
        exit(400, 2, None),
    ]);
    assert_eq!(timeline.gaps("worker"), [ms(250)]);
}

#[test]
fn exits_of_overlapping_runs_share_the_next_start() {
    let timeline = virtually([
        start(0, 1),
        start(0, 2),
        exit(10, 1, None),
        exit(20, 2, None),
        start(50, 3),
    ]);
    assert_eq!(timeline.gaps("worker"), [ms(40), ms(30)]);
}

#[test]
fn a_run_has_its_own_exit_even_where_runs_overlap() {
    let timeline = virtually([
        start(0, 1),
        start(5, 2),
        exit(10, 1, exited(1)),
        start(20, 3),
        exit(30, 2, None),
    ]);
    let runs = timeline.runs("worker");
    let told: Vec<_> = runs
        .iter()
        .map(|r| (r.run, r.start, r.exit, r.status))
        .collect();
    assert_eq!(
        told,
        [
            (1, at(0), Some(at(10)), exited(1)),
            (2, at(5), Some(at(30)), None),
            (3, at(20), None, None),
        ]
    );
    assert_eq!(timeline.overlaps("worker"), [(1, 2), (2, 3)]);
}

#[test]
fn runs_that_touch_in_an_instant_do_not_overlap() {
    let timeline = virtually([start(0, 1), exit(5, 1, None), start(5, 2)]);
    assert_eq!(timeline.overlaps("worker"), []);
}

#[test]
fn adjacent_spans_share_no_event_and_lose_none() {
    let all = virtually([start(0, 1), exit(5, 1, None), start(9, 2)]);
    assert_eq!(all.between(at(0), at(5)).events(), [start(0, 1)]);
    assert_eq!(
        all.between(at(5), at(10)).events(),
        [exit(5, 1, None), start(9, 2)]
    );
    assert_eq!(all.between(at(9), at(5)).events(), []);
}

#[test]
fn notes_and_findings_are_told_apart_and_in_order() {
    let said = |what| Event::new(at(0), EventSource::Subject, what);
    let timeline = virtually([
        said(EventKind::Note { text: "one".into() }),
        said(EventKind::Finding {
            text: "leak".into(),
        }),
        said(EventKind::Note { text: "two".into() }),
    ]);
    assert_eq!(timeline.notes(), ["one", "two"]);
    assert_eq!(timeline.findings(), ["leak"]);
}

#[rstest]
#[case::nothing("", 1, 1, "`timeline v2  clock=virtual` or `timeline v2  clock=real`")]
#[case::another_version("timeline v3  clock=real", 1, 10, "version `v1` or `v2`")]
#[case::another_clock("timeline v1  clock=wall", 1, 20, "`virtual` or `real`")]
#[case::no_time(
    "timeline v1 clock=virtual\n\na#1 start",
    3,
    1,
    "a time since the line before, such as `+0.200`"
)]
#[case::too_exact(
    "timeline v1 clock=virtual\n+0.0123456789 a#1 start",
    2,
    4,
    "one to nine digits"
)]
#[case::past_the_end(
    "timeline v1 clock=virtual\n+18446744073709551615 a#1 start\n+1 a#1 reap",
    3,
    1,
    "a time that is not past the end of all time"
)]
#[case::a_time_in_real_mode(
    "timeline v1 clock=real\n+0.000 a#1 start",
    2,
    1,
    "whom it is about, such as `worker#1`, `worker#1/helper` or `subject`"
)]
#[case::no_run(
    "timeline v1 clock=real\nworker start",
    2,
    7,
    "`#` and the number of the run"
)]
#[case::a_quoted_subject(
    "timeline v1 clock=real\n\"subject\" start",
    2,
    10,
    "`#` and the number of the run"
)]
#[case::a_signed_run(
    "timeline v1 clock=real\nworker#+1 start",
    2,
    8,
    "the number of the run"
)]
#[case::no_descendant(
    "timeline v1 clock=real\nworker#1/ start",
    2,
    10,
    "the name of a descendant"
)]
#[case::no_kind("timeline v1 clock=real\nworker#1", 2, 9, "a space")]
#[case::unknown_kind(
    "timeline v1 clock=real\nworker#1 stop",
    2,
    10,
    "what happened, such as `start` or `exit`"
)]
#[case::no_status(
    "timeline v1 clock=real\na#1 exit",
    2,
    9,
    "`code=`, `signal=` or `status=?`"
)]
#[case::unknown_signal(
    "timeline v1 clock=real\na#1 exit signal=SIGFOO",
    2,
    17,
    "a signal, such as `SIGTERM`"
)]
#[case::no_count("timeline v1 clock=real\na#1 signal SIGTERM 2", 2, 20, "count=")]
#[case::unknown_stream(
    "timeline v1 clock=real\na#1 blocked out",
    2,
    13,
    "`stdin`, `stdout` or `stderr`"
)]
#[case::something_after(
    "timeline v1 clock=real\na#1 exit code=1 core",
    2,
    17,
    "the end of the line"
)]
#[case::an_odd_name_without_quotes(
    "timeline v1 clock=real\n\u{e9}",
    2,
    1,
    "whom it is about, such as `worker#1`, `worker#1/helper` or `subject`"
)]
#[case::no_closing_quote(
    "timeline v1 clock=real\nsubject note \"\u{e9}",
    2,
    16,
    "a closing `\"`"
)]
#[case::half_a_character(
    "timeline v1 clock=real\nsubject note \"\\xff\"",
    2,
    15,
    "`\\x` and 00 to 7f"
)]
#[case::unknown_escape(
    "timeline v1 clock=real\nsubject note \"\\q\"",
    2,
    15,
    "one of the escapes \\n \\t \\r \\\\ \\\" \\xNN"
)]
fn what_is_no_timeline_is_an_error_with_its_place(
    #[case] text: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] expected: &str,
) {
    let error: TimelineError = text.parse::<Timeline>().unwrap_err();
    assert_eq!(
        (error.line, error.column, error.expected),
        (line, column, expected)
    );
    let place = format!("line {line}, column {column}: expected {expected}, found ");
    assert!(error.to_string().starts_with(&place), "{error}");
}

#[test]
fn gaps_and_empty_lines_read_as_nothing() {
    let loose = "\n  timeline  v1 clock=virtual \r\n\n\t+0.2 worker#1 exit \t code=1\n\n";
    assert_eq!(loose.parse(), Ok(virtually([exit(200, 1, exited(1))])));
}
