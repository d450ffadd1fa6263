//! The written forms: as they look, and that they read back.

use proptest::prelude::*;
use supervise_harness::Signal;
use supervise_harness::stub::script::Stream;

use super::*;

/// One event of each kind, and each form of an exit.
fn everything() -> Vec<Event> {
    let (stream, text) = (Stream::Stderr, "a \"b\"\n\u{e9}\u{7}".to_owned());
    let killed = |signal, core_dumped| {
        Some(ExitStatus::Signaled {
            signal,
            core_dumped,
        })
    };
    let helper = |what| {
        Event::new(
            at(1_000),
            EventSource::descendant("worker", 1, "helper"),
            what,
        )
    };
    vec![
        start(0, 1),
        worker(500, 1, EventKind::Ready),
        worker(500, 1, EventKind::Beat),
        worker(
            500,
            1,
            EventKind::Signal {
                signal: Signal::TERM,
                count: 2,
            },
        ),
        worker(500, 1, EventKind::Frozen),
        worker(700, 1, EventKind::Thawed),
        worker(
            700,
            1,
            EventKind::Gate {
                name: "go on".into(),
            },
        ),
        worker(
            700,
            1,
            EventKind::Locked {
                path: "a/b.lock".into(),
            },
        ),
        worker(700, 1, EventKind::Wrote { stream, bytes: 64 }),
        worker(700, 1, EventKind::Blocked { stream }),
        helper(EventKind::Start),
        helper(EventKind::Exit { status: None }),
        exit(1_000, 1, exited(1)),
        worker(1_000, 1, EventKind::Reap),
        exit(17_000, 10, killed(Signal::KILL, false)),
        exit(3_617_000, 11, killed(Signal::SEGV, true)),
        worker(3_617_000, 11, EventKind::Error { text: text.clone() }),
        Event::new(
            at(3_617_000) + Duration::from_nanos(1_500),
            EventSource::run("odd name", 1),
            EventKind::Finding { text: text.clone() },
        ),
        Event::new(
            at(4_000_000),
            EventSource::Subject,
            EventKind::Note { text },
        ),
    ]
}

#[test]
fn a_virtual_timeline_prints_deltas_in_columns() {
    insta::assert_snapshot!(virtually(everything()), @r##"
    timeline v2  clock=virtual
    +0.000  worker#1         start
    +0.500  worker#1         ready
    +0.000  worker#1         beat
    +0.000  worker#1         signal   SIGTERM count=2
    +0.000  worker#1         frozen
    +0.200  worker#1         thawed
    +0.000  worker#1         gate     "go on"
    +0.000  worker#1         locked   "a/b.lock"
    +0.000  worker#1         wrote    stderr bytes=64
    +0.000  worker#1         blocked  stderr
    +0.300  worker#1/helper  start
    +0.000  worker#1/helper  exit     status=?
    +0.000  worker#1         exit     code=1
    +0.000  worker#1         reap
    +16.000 worker#10        exit     signal=SIGKILL
    +3600.000 worker#11        exit     signal=SIGSEGV core
    +0.000  worker#11        error    "a \"b\"\né\x07"
    +0.0000015 "odd name"#1     finding  "a \"b\"\né\x07"
    +382.9999985 subject          note     "a \"b\"\né\x07"
    "##);
}

#[test]
fn a_real_timeline_prints_no_times() {
    let slower = everything().into_iter().map(|event| {
        let late = event.at + ms(3);
        Event::new(late, event.who, event.what)
    });
    let text = Timeline::new(TimelineClock::Real, everything()).to_string();
    assert_eq!(Timeline::new(TimelineClock::Real, slower).to_string(), text);
    insta::assert_snapshot!(text, @r##"
    timeline v2  clock=real
    worker#1         start
    worker#1         ready
    worker#1         beat
    worker#1         signal   SIGTERM count=2
    worker#1         frozen
    worker#1         thawed
    worker#1         gate     "go on"
    worker#1         locked   "a/b.lock"
    worker#1         wrote    stderr bytes=64
    worker#1         blocked  stderr
    worker#1/helper  start
    worker#1/helper  exit     status=?
    worker#1         exit     code=1
    worker#1         reap
    worker#10        exit     signal=SIGKILL
    worker#11        exit     signal=SIGSEGV core
    worker#11        error    "a \"b\"\né\x07"
    "odd name"#1     finding  "a \"b\"\né\x07"
    subject          note     "a \"b\"\né\x07"
    "##);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "\\PC{0,8}", any::<String>()]
}

fn who() -> impl Strategy<Value = EventSource> {
    prop_oneof![
        4 => (text(), any::<u32>()).prop_map(|(agent, run)| EventSource::run(agent, run)),
        1 => (text(), 0_u32..12, text()).prop_map(|(a, run, d)| EventSource::descendant(a, run, d)),
        1 => Just(EventSource::run("subject", 1)),
        1 => Just(EventSource::Subject),
    ]
}

fn what() -> impl Strategy<Value = EventKind> {
    let signal = || (1..=64).prop_map(|n| Signal::from_number(n).unwrap());
    let stream = || prop::sample::select(vec![Stream::Stdin, Stream::Stdout, Stream::Stderr]);
    let status = prop_oneof![
        Just(None),
        any::<i32>().prop_map(exited),
        (signal(), any::<bool>()).prop_map(|(signal, core_dumped)| Some(ExitStatus::Signaled {
            signal,
            core_dumped
        })),
    ];
    prop_oneof![
        prop::sample::select(vec![
            EventKind::Start,
            EventKind::Ready,
            EventKind::Beat,
            EventKind::Frozen,
            EventKind::Thawed,
            EventKind::Reap
        ]),
        (signal(), any::<u64>()).prop_map(|(signal, count)| EventKind::Signal { signal, count }),
        text().prop_map(|name| EventKind::Gate { name }),
        text().prop_map(|path| EventKind::Locked { path }),
        (stream(), any::<u64>()).prop_map(|(stream, bytes)| EventKind::Wrote { stream, bytes }),
        stream().prop_map(|stream| EventKind::Blocked { stream }),
        status.prop_map(|status| EventKind::Exit { status }),
        text().prop_map(|text| EventKind::Error { text }),
        text().prop_map(|text| EventKind::Note { text }),
        text().prop_map(|text| EventKind::Finding { text }),
    ]
}

fn timeline(clock: TimelineClock) -> impl Strategy<Value = Timeline> {
    let nanos = prop_oneof![
        0_u64..4,
        (0_u64..90_000).prop_map(|s| s * 1_000_000),
        any::<u64>()
    ];
    let event = (nanos, who(), what()).prop_map(|(nanos, who, what)| {
        Event::new(Timestamp::ORIGIN + Duration::from_nanos(nanos), who, what)
    });
    prop::collection::vec(event, 0..12).prop_map(move |events| Timeline::new(clock, events))
}

proptest! {
    #[test]
    fn a_virtual_timeline_reads_back_from_what_it_prints(
        timeline in timeline(TimelineClock::Virtual)
    ) {
        prop_assert_eq!(timeline.to_string().parse(), Ok(timeline));
    }

    #[test]
    fn a_real_timeline_reads_back_without_its_times(timeline in timeline(TimelineClock::Real)) {
        let timeless = timeline.events().iter().map(|event| {
            Event::new(Timestamp::ORIGIN, event.who.clone(), event.what.clone())
        });
        let expected = Timeline::new(TimelineClock::Real, timeless);
        prop_assert_eq!(timeline.to_string().parse(), Ok(expected));
    }

    #[test]
    fn an_ordered_timeline_is_made_the_same_again(timeline in timeline(TimelineClock::Virtual)) {
        prop_assert_eq!(virtually(timeline.events().to_vec()), timeline);
    }

    #[test]
    fn any_text_reads_or_is_an_error_within_it(
        header in prop_oneof![Just(""), Just("timeline v1 clock=real\n"), Just("timeline v1 clock=virtual\n")],
        words in prop::collection::vec(
            prop_oneof![
                any::<String>(),
                prop::sample::select(vec![
                    "+0.1", "+1", "a#1", "a#1/b", "\"\\x", "é", "subject", "exit", "signal", "code=",
                    "signal=", "SIGTERM", "count=", "wrote", "note", "\"", "\\", " ", "\n", "#", "/",
                ]).prop_map(str::to_owned),
            ],
            0..12,
        ),
        gap in prop::sample::select(vec!["", " "]),
    ) {
        let text = header.to_owned() + &words.join(gap);
        if let Err(error) = text.parse::<Timeline>() {
            let line = text.lines().nth(error.line - 1).unwrap_or_default();
            prop_assert!(error.column <= line.chars().count() + 1, "{error}");
        }
    }
}

#[cfg(feature = "serde")]
mod json {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_timeline_serializes_to_flat_named_fields() {
        let json = serde_json::to_value(virtually(everything())).unwrap();
        assert_eq!(
            (&json["version"], &json["clock"]),
            (&2.into(), &"virtual".into())
        );
        let text = serde_json::to_string(&virtually(everything())).unwrap();
        let rows = text.replace("{\"at_ns\"", "\n{\"at_ns\"");
        insta::assert_snapshot!(rows, @r##"
        {"version":2,"clock":"virtual","events":[
        {"at_ns":0,"agent":"worker","run":1,"kind":"start"},
        {"at_ns":500000000,"agent":"worker","run":1,"kind":"ready"},
        {"at_ns":500000000,"agent":"worker","run":1,"kind":"beat"},
        {"at_ns":500000000,"agent":"worker","run":1,"kind":"signal","signal":"SIGTERM","count":2},
        {"at_ns":500000000,"agent":"worker","run":1,"kind":"frozen"},
        {"at_ns":700000000,"agent":"worker","run":1,"kind":"thawed"},
        {"at_ns":700000000,"agent":"worker","run":1,"kind":"gate","name":"go on"},
        {"at_ns":700000000,"agent":"worker","run":1,"kind":"locked","path":"a/b.lock"},
        {"at_ns":700000000,"agent":"worker","run":1,"kind":"wrote","stream":"stderr","bytes":64},
        {"at_ns":700000000,"agent":"worker","run":1,"kind":"blocked","stream":"stderr"},
        {"at_ns":1000000000,"agent":"worker","run":1,"descendant":"helper","kind":"start"},
        {"at_ns":1000000000,"agent":"worker","run":1,"descendant":"helper","kind":"exit","status":"unknown"},
        {"at_ns":1000000000,"agent":"worker","run":1,"kind":"exit","code":1},
        {"at_ns":1000000000,"agent":"worker","run":1,"kind":"reap"},
        {"at_ns":17000000000,"agent":"worker","run":10,"kind":"exit","signal":"SIGKILL","core":false},
        {"at_ns":3617000000000,"agent":"worker","run":11,"kind":"exit","signal":"SIGSEGV","core":true},
        {"at_ns":3617000000000,"agent":"worker","run":11,"kind":"error","text":"a \"b\"\né\u0007"},
        {"at_ns":3617000001500,"agent":"odd name","run":1,"kind":"finding","text":"a \"b\"\né\u0007"},
        {"at_ns":4000000000000,"subject":true,"kind":"note","text":"a \"b\"\né\u0007"}]}
        "##);
    }

    #[rstest]
    #[case::version(
        r#"{"version":3,"clock":"real","events":[]}"#,
        "version is 3: expected 1 or 2"
    )]
    #[case::clock(
        r#"{"version":1,"clock":"wall","events":[]}"#,
        "clock is `wall`: expected"
    )]
    #[case::unknown_field(
        r#"{"version":1,"clock":"real","events":[{"pid":1}]}"#,
        "unknown field `pid`"
    )]
    fn another_document_is_an_error_that_says_what_is_wrong(
        #[case] json: &str,
        #[case] expected: &str,
    ) {
        let error = serde_json::from_str::<Timeline>(json)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[rstest]
    #[case::no_time(r#""agent":"a","run":1,"kind":"start""#, "`at_ns` is missing")]
    #[case::nobody(r#""at_ns":0,"kind":"start""#, "`agent` is missing")]
    #[case::no_run(r#""at_ns":0,"agent":"a","kind":"start""#, "`run` is missing")]
    #[case::two(
        r#""at_ns":0,"subject":true,"run":1,"kind":"start""#,
        "`subject` does not go with"
    )]
    #[case::not_the_subject(r#""at_ns":0,"subject":false,"kind":"start""#, "`subject` is false")]
    #[case::unknown_kind(r#""at_ns":0,"subject":true,"kind":"stop""#, "`kind` is `stop`")]
    #[case::no_status(
        r#""at_ns":0,"subject":true,"kind":"exit""#,
        "none of `code`, `signal` and `status`"
    )]
    #[case::no_core(
        r#""at_ns":0,"subject":true,"kind":"exit","signal":"SIGTERM""#,
        "`core` is missing"
    )]
    #[case::status(
        r#""at_ns":0,"subject":true,"kind":"exit","status":"?""#,
        "`status` is `?`: expected `unknown`"
    )]
    #[case::signal(
        r#""at_ns":0,"subject":true,"kind":"signal","signal":"SIGFOO""#,
        "`signal`: unknown signal `SIGFOO`"
    )]
    #[case::stream(
        r#""at_ns":0,"subject":true,"kind":"blocked","stream":"out""#,
        "`stream` is `out`"
    )]
    #[case::of_another_kind(
        r#""at_ns":0,"subject":true,"kind":"start","code":1"#,
        "`code` does not belong to `start`"
    )]
    #[case::twice_ended(
        r#""at_ns":0,"subject":true,"kind":"exit","code":1,"status":"unknown""#,
        "`status` does not belong"
    )]
    fn a_wrong_event_is_an_error_with_its_index_and_field(
        #[case] event: &str,
        #[case] expected: &str,
    ) {
        let good = r#"{"at_ns":0,"subject":true,"kind":"start"}"#;
        let json = format!(r#"{{"version":1,"clock":"real","events":[{good},{{{event}}}]}}"#);
        let error = serde_json::from_str::<Timeline>(&json)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("events[1]: {expected}")),
            "{error}"
        );
    }

    #[test]
    fn events_out_of_order_are_put_in_order() {
        let row =
            |at, run| format!(r#"{{"at_ns":{at},"agent":"worker","run":{run},"kind":"start"}}"#);
        let rows = format!("{},{}", row(9_000_000, 2), row(5_000_000, 1));
        let json = format!(r#"{{"version":1,"clock":"virtual","events":[{rows}]}}"#);
        let timeline: Timeline = serde_json::from_str(&json).unwrap();
        assert_eq!(timeline.events(), [start(5, 1), start(9, 2)]);
    }

    #[test]
    fn a_time_past_64_bits_of_nanoseconds_is_an_error() {
        let late = Event::new(
            Timestamp::ORIGIN + Duration::MAX,
            EventSource::Subject,
            EventKind::Start,
        );
        let error = serde_json::to_string(&virtually([late])).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("events[0]: 18446744073709551615."),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn a_timeline_reads_back_from_its_json(
            timeline in prop_oneof![timeline(TimelineClock::Virtual), timeline(TimelineClock::Real)]
        ) {
            let json = serde_json::to_string(&timeline).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timeline>(&json).unwrap(), timeline.clone());
            let value = serde_json::to_value(&timeline).unwrap();
            prop_assert_eq!(serde_json::from_value::<Timeline>(value).unwrap(), timeline);
        }
    }
}
