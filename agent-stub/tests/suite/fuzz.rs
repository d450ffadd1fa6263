//! Properties of what is parsed and printed, and of a stub that is sent anything at all.

use std::io::Write;
use std::time::Duration;

use agent_stub::protocol::{Lineage, Lines, MessageError, Order, Report};
use agent_stub::script::{
    Channel, Content, Descendant, Destination, Gate, Output, Placement, Response, Script,
    Statement, Stream,
};
use agent_stub::{Finding, Quoted, Signal};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{Stub, Told};

#[test]
fn an_order_to_do_nothing_parses_from_what_it_prints() {
    let order = Order::Do(Script::default());
    assert_eq!(order.to_string().parse(), Ok(order));
}

fn bytes() -> impl Strategy<Value = Quoted> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Quoted),
        any::<String>().prop_map(|text| Quoted::from(text.as_str())),
    ]
}

/// A name or a path: not empty, without NUL.
fn name() -> impl Strategy<Value = Quoted> {
    bytes().prop_map(|mut text| {
        text.0.retain(|byte| *byte != 0);
        if text.0.is_empty() {
            Quoted::from("name")
        } else {
            text
        }
    })
}

fn signals(good: fn(&Signal) -> bool) -> impl Strategy<Value = Signal> {
    let all = (1..=64).filter_map(|n| Signal::from_number(n).ok());
    select(all.filter(good).collect::<Vec<_>>())
}

fn catchable() -> impl Strategy<Value = Signal> {
    signals(|signal| signal.is_catchable())
}

fn stream() -> impl Strategy<Value = Stream> {
    select(vec![Stream::Stdin, Stream::Stdout, Stream::Stderr])
}

fn channel() -> impl Strategy<Value = Channel> {
    prop_oneof![
        Just(Channel::Control),
        any::<u16>().prop_map(Channel::Fd),
        Just(Channel::Notify),
        name().prop_map(Channel::File),
    ]
}

fn leaf() -> impl Strategy<Value = Statement> {
    let output = select(vec![Stream::Stdout, Stream::Stderr]);
    let content = prop_oneof![
        bytes().prop_map(Content::Text),
        any::<u64>().prop_map(Content::Fill),
        (0u64..5000).prop_map(|kib| Content::Fill(kib << 10)),
    ];
    prop_oneof![
        any::<u64>().prop_map(|nanos| Statement::Run(Duration::from_nanos(nanos))),
        (0u64..100_000).prop_map(|ms| Statement::Run(Duration::from_millis(ms))),
        Just(Statement::Stay),
        any::<u8>().prop_map(Statement::Exit),
        (signals(|signal| signal.is_deadly()), any::<bool>())
            .prop_map(|(signal, core)| Statement::Die { signal, core }),
        Just(Statement::Freeze),
        (
            catchable(),
            select(vec![Response::Ignore, Response::Default, Response::Count])
        )
            .prop_map(|(signal, response)| Statement::On(signal, response)),
        catchable().prop_map(Statement::Block),
        catchable().prop_map(Statement::Unblock),
        (output, content).prop_map(|(stream, content)| Statement::Write(stream, content)),
        stream().prop_map(Statement::Close),
        channel().prop_map(Statement::Ready),
        channel().prop_map(Statement::Beat),
        name().prop_map(Statement::Lock),
        name().prop_map(|name| Statement::Gate(Gate::Control(name))),
        name().prop_map(|path| Statement::Gate(Gate::File(path))),
        prop_oneof![
            Just(Destination::Control),
            Just(Destination::Stdout),
            name().prop_map(Destination::File)
        ]
        .prop_map(Statement::Hygiene),
    ]
}

/// A script with blocks at most four deep.
fn script() -> impl Strategy<Value = Script> {
    let flat = proptest::collection::vec(leaf(), 0..5).prop_map(Script);
    flat.prop_recursive(4, 24, 4, |inner| {
        let placement = select(vec![
            Placement::SameGroup,
            Placement::OwnGroup,
            Placement::OwnSession,
            Placement::DoubleFork,
        ]);
        let output = select(vec![Output::Hold, Output::Quiet]);
        let statement = prop_oneof![
            leaf(),
            (catchable(), inner.clone())
                .prop_map(|(signal, script)| Statement::On(signal, Response::Handle(script))),
            (name(), placement, output, inner.clone()).prop_map(
                |(name, placement, output, script)| Statement::Start(Descendant {
                    name,
                    placement,
                    output,
                    script,
                })
            ),
            (any::<u32>(), inner.clone())
                .prop_map(|(times, script)| Statement::Repeat(times, script)),
            inner.clone().prop_map(Statement::Forever),
            (any::<u32>(), name(), inner).prop_map(|(runs, counter, script)| Statement::First {
                runs,
                counter,
                script,
            }),
        ];
        proptest::collection::vec(statement, 0..4).prop_map(Script)
    })
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        script().prop_map(Order::Do),
        any::<u64>().prop_map(Order::Go),
        bytes().prop_map(Order::Open),
        any::<u64>().prop_map(Order::Ping),
    ]
}

fn finding() -> impl Strategy<Value = Finding> {
    let any_signal = || signals(|_| true);
    prop_oneof![
        any::<[u32; 4]>().prop_map(|[pid, ppid, pgid, sid]| Finding::Ids {
            pid,
            ppid,
            pgid,
            sid
        }),
        any::<u32>().prop_map(Finding::Umask),
        (0u32..0o1000).prop_map(Finding::Umask),
        bytes().prop_map(Finding::Cwd),
        any_signal().prop_map(Finding::Blocked),
        any_signal().prop_map(Finding::Ignored),
        any_signal().prop_map(Finding::ParentDeath),
        (any::<u32>(), bytes()).prop_map(|(n, target)| Finding::Descriptor(n, target)),
        bytes().prop_map(Finding::Env),
        (bytes(), any::<u64>()).prop_map(|(key, bytes)| Finding::EnvOversized(key, bytes)),
        (bytes(), any::<Option<u64>>(), any::<Option<u64>>())
            .prop_map(|(name, soft, hard)| Finding::Limit(name, soft, hard)),
        Just(Finding::End),
    ]
}

fn lineage() -> impl Strategy<Value = Lineage> {
    (bytes(), any::<[u32; 2]>()).prop_map(|(name, [starter, nth])| Lineage { name, starter, nth })
}

fn report() -> impl Strategy<Value = Report> {
    let any_signal = || signals(|_| true);
    prop_oneof![
        (any::<[u32; 3]>(), bytes(), proptest::option::of(lineage())).prop_map(
            |([version, pid, ppid], agent, descendant)| Report::Hello {
                version,
                pid,
                ppid,
                agent,
                descendant,
            }
        ),
        any::<[u64; 2]>().prop_map(|[id, nanos]| Report::Wait { id, nanos }),
        (any::<u64>(), any::<bool>()).prop_map(|(id, signal)| Report::Turn { id, signal }),
        bytes().prop_map(Report::Watching),
        any::<u64>().prop_map(Report::Rest),
        bytes().prop_map(Report::Gate),
        stream().prop_map(Report::Blocked),
        (stream(), any::<u64>()).prop_map(|(stream, bytes)| Report::Writing(stream, bytes)),
        (stream(), any::<u64>()).prop_map(|(stream, bytes)| Report::Wrote(stream, bytes)),
        (any_signal(), any::<u64>()).prop_map(|(signal, count)| Report::Got(signal, count)),
        select(vec![
            Report::Idle,
            Report::Ready,
            Report::Beat,
            Report::Freezing,
            Report::Thawed
        ]),
        bytes().prop_map(Report::Locked),
        (any::<u32>(), any::<Option<u32>>(), bytes())
            .prop_map(|(nth, pid, name)| Report::Started { nth, pid, name }),
        (any::<u32>(), proptest::option::of(0..=i32::MAX))
            .prop_map(|(pid, status)| Report::Reaped { pid, status }),
        any::<u8>().prop_map(Report::Exiting),
        any_signal().prop_map(Report::Dying),
        finding().prop_map(Report::Hygiene),
        any::<u64>().prop_map(Report::Pong),
        bytes().prop_map(Report::Error),
    ]
}

/// Text that looks a little like a script or a message.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = select(vec![
        "do",
        "go",
        "open",
        "ping",
        "hello",
        "hygiene",
        "wait",
        "turn",
        "signal",
        "watching",
        "rest",
        "reaped",
        "started",
        "-",
        "on",
        "SIGTERM",
        "start",
        "{",
        "}",
        ";",
        "\n",
        "\"",
        "\\",
        "\\x",
        "\\xf",
        "é",
        "#",
        "1MiB",
        "200ms",
        "0",
        "18446744073709551616",
        "file",
        "write",
        "repeat",
        "first",
        "exit",
        " ",
        "  ",
        "\t",
        "\0",
        "limit",
        "umask",
        "env",
        "fd",
        "RTMIN+",
        "SIG",
        "count",
    ]);
    let scrap = prop_oneof![9 => scrap.prop_map(str::to_owned), 1 => any::<String>()];
    proptest::collection::vec(scrap, 0..30).prop_map(|scraps| scraps.join(" "))
}

/// All the lines that come of these bytes in these pieces, and no held rest beyond a line.
fn lines(pieces: &[&[u8]]) -> Vec<Result<String, MessageError>> {
    let (mut lines, mut all) = (Lines::new(), Vec::new());
    for piece in pieces {
        lines.push(piece);
        all.extend(std::iter::from_fn(|| lines.next_line()));
        assert!(lines.unfinished() < agent_stub::protocol::MAX_LINE);
    }
    all
}

/// Cuts the bytes at these places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places
        .iter()
        .map(|place| place.index(bytes.len() + 1))
        .collect();
    at.sort_unstable();
    let (mut rest, mut done, mut pieces) = (bytes, 0, Vec::new());
    for place in at {
        let (piece, after) = rest.split_at(place - done);
        pieces.push(piece);
        (rest, done) = (after, place);
    }
    pieces.push(rest);
    pieces
}

proptest! {
    #[test]
    fn a_script_parses_from_what_it_prints(script in script()) {
        let text = script.to_string();
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(text.parse(), Ok(script));
    }

    #[test]
    fn an_order_parses_from_what_it_prints(order in order()) {
        prop_assert_eq!(order.to_string().parse(), Ok(order));
    }

    #[test]
    fn a_report_parses_from_what_it_prints(report in report()) {
        let text = report.to_string();
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(text.parse(), Ok(report));
    }

    #[test]
    fn no_text_panics(text in prop_oneof![scraps(), any::<String>()]) {
        let _ = (text.parse::<Script>(), text.parse::<Order>(), text.parse::<Report>());
        let _ = (format!("do {text}").parse::<Order>(), format!("hygiene {text}").parse::<Report>());
        let _ = text.parse::<Signal>();
    }

    #[test]
    fn a_mutated_script_does_not_panic_and_what_it_means_prints_again(
        script in script(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>(), 0..3), 1..4),
    ) {
        let mut text: Vec<char> = script.to_string().chars().collect();
        for (place, c, kind) in changes {
            let at = place.index(text.len() + 1);
            match kind {
                0 => text.insert(at, c),
                1 if at < text.len() => drop(text.remove(at)),
                _ if at < text.len() => text[at] = c,
                _ => {}
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(script) = text.parse::<Script>() {
            prop_assert_eq!(script.to_string().parse(), Ok(script));
        }
    }

    #[test]
    fn an_order_that_is_understood_prints_what_is_understood_the_same(text in scraps()) {
        if let Ok(order) = text.parse::<Order>() {
            prop_assert_eq!(order.to_string().parse(), Ok(order));
        }
        if let Ok(report) = text.parse::<Report>() {
            prop_assert_eq!(report.to_string().parse(), Ok(report));
        }
    }

    #[test]
    fn bytes_give_the_same_lines_in_whatever_pieces(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'a')], 0..200),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        prop_assert_eq!(lines(&cut(&bytes, &places)), lines(&[&bytes]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn long_lines_are_the_same_in_whatever_pieces(
        lengths in proptest::collection::vec(select(vec![0, 1, 65_534, 65_535, 65_536, 65_537, 140_000]), 1..5),
        ended in any::<bool>(),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let mut bytes: Vec<u8> = Vec::new();
        for length in &lengths {
            bytes.resize(bytes.len() + length, b'x');
            bytes.push(b'\n');
        }
        let mut expected: Vec<bool> = lengths.iter().map(|length| *length < 65_536).collect();
        if !ended {
            bytes.pop();
            // A last line without an end is one only where it is too long already.
            if expected.last() == Some(&true) {
                expected.pop();
            }
        }
        let found = lines(&cut(&bytes, &places));
        prop_assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), expected);
        prop_assert_eq!(found, lines(&[&bytes]));
    }

    #[test]
    fn a_stub_that_is_sent_anything_still_answers_a_ping(
        // Without orders, which it would obey: `do` and `exit` are a long way from random bytes.
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut stub = Stub::idle(Told::Inherited);
        for piece in cut(&bytes, &places) {
            stub.control.socket.write_all(piece).unwrap();
        }
        stub.order("");
        let answers = stub.ping();
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        prop_assert_eq!(answers.len(), lines);
        prop_assert!(answers.iter().all(|answer| answer.starts_with("error ")));
    }
}
