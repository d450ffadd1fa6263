//! Lines that are no orders: each is answered with one error, and the stub goes on.

use std::io::Write;

use agent_stub::protocol::{MAX_LINE, MAX_ORDER};
use rstest::rstest;

use crate::support::{Start, Stub, Told};

const OVERSIZED: &str = "error \"the line is longer than 65536 bytes\"";
const OVERSIZED_ORDER: &str = "error \"the line is longer than 8388608 bytes\"";
const UNKNOWN: &str = "error \"column 1: expected do, go, open or ping\"";

#[test]
fn an_oversized_line_is_answered_once_before_its_end_comes() {
    let mut stub = Stub::idle(Told::Inherited);
    for _ in 0..3 {
        stub.control.socket.write_all(&[b'x'; MAX_LINE]).unwrap();
        stub.expect(&[OVERSIZED]);
        stub.control
            .socket
            .write_all(&[b'y'; 3 * MAX_LINE])
            .unwrap();
        stub.control.socket.write_all(b"\n").unwrap();
        assert_eq!(stub.ping(), [""; 0]);
    }
}

#[test]
fn a_report_that_would_be_oversized_is_an_error_that_names_it() {
    let mut start = Start::new(Told::Inherited);
    let unknown = format!("SUPERVISE_{}", "A".repeat(MAX_LINE));
    start.command.env(unknown, "");
    let mut stub = start.spawn();
    stub.expect(&[
        "error \"a `error` report is longer than 65536 bytes\"",
        "idle",
    ]);
    assert_eq!(stub.ping(), [""; 0]);
}

#[rstest]
fn a_line_that_is_no_order_is_answered_with_its_place_and_what_was_expected(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = Stub::idle(how);
    let cases: [(&[u8], &str); 18] = [
        (b"", "column 1: expected do, go, open or ping"),
        (b"stop", "column 1: expected do, go, open or ping"),
        (b"Ping 1", "column 1: expected do, go, open or ping"),
        (b" ping 1", "column 1: expected do, go, open or ping"),
        (b"ping", "column 5: expected the number of the ping"),
        (b"ping x", "column 6: expected the number of the ping"),
        (b"ping -1", "column 6: expected the number of the ping"),
        (b"ping  1", "column 6: expected the number of the ping"),
        (b"ping 1 ", "column 7: expected one space between fields"),
        (b"ping 1 2", "column 8: expected the end of the line"),
        (
            b"ping 18446744073709551616",
            "column 6: expected the number of the ping",
        ),
        (b"go", "column 3: expected the number of a wait"),
        (
            b"open gate",
            "column 6: expected the name of a gate in double quotes",
        ),
        (
            b"open \"gate",
            "column 11: expected a closing `\"` on the same line",
        ),
        (
            b"open \"a\\q\"",
            "column 8: expected one of the escapes \\n \\t \\r \\\\ \\\" \\xNN",
        ),
        (
            b"do exit 300",
            "in the script of `do`: line 1, column 6: expected an exit code from 0 to 255, found `300`",
        ),
        (b"ping \xff", "column 6: expected UTF-8"),
        (b"\xc3\xa9\xc3", "column 3: expected UTF-8"),
    ];
    for (line, error) in cases {
        stub.control.socket.write_all(line).unwrap();
        stub.control.socket.write_all(b"\n").unwrap();
        let quoted = agent_stub::Quoted::from(error);
        assert_eq!(
            stub.ping(),
            [format!("error {quoted}")],
            "{}",
            line.escape_ascii()
        );
    }
}

#[rstest]
#[case::just_fits(MAX_LINE - 1, UNKNOWN)]
#[case::one_too_many(MAX_LINE, OVERSIZED)]
#[case::far_too_many(MAX_LINE * 5, OVERSIZED)]
fn a_line_may_be_as_long_as_the_limit_in_any_pieces(
    #[case] length: usize,
    #[case] answer: &str,
    #[values(1000, 4096, 65537, 1 << 20)] piece: usize,
) {
    is_answered(b"x", length, piece, answer);
}

#[rstest]
#[case::just_fits(MAX_ORDER - 1, "idle")]
#[case::one_too_many(MAX_ORDER, OVERSIZED_ORDER)]
#[case::far_too_many(MAX_ORDER * 2, OVERSIZED_ORDER)]
fn an_order_to_do_something_may_be_longer(
    #[case] length: usize,
    #[case] answer: &str,
    #[values(4096, 1 << 20)] piece: usize,
) {
    is_answered(b"do #", length, piece, answer);
}

/// A line that begins so and is that long, in pieces. The next one is understood.
#[track_caller]
fn is_answered(begin: &[u8], length: usize, piece: usize, answer: &str) {
    let mut stub = Stub::idle(Told::Inherited);
    let mut line = begin.to_vec();
    line.resize(length, b'x');
    line.push(b'\n');
    line.extend_from_slice(b"do beat\n");
    for bytes in line.chunks(piece) {
        stub.control.socket.write_all(bytes).unwrap();
    }
    stub.expect(&[answer, "beat", "idle"]);
}

/// What is ordered is done, however long it takes to say.
#[test]
fn a_script_of_a_mebibyte_is_performed() {
    let mut stub = Stub::idle(Told::Inherited);
    stub.order(&format!("do {}exit 5", "beat; ".repeat(180_000)));
    for _ in 0..180_000 {
        stub.expect(&["beat"]);
    }
    stub.expect(&["exiting 5"]);
}

#[test]
fn an_order_may_come_in_single_bytes_and_many_in_one() {
    let mut stub = Stub::idle(Told::Inherited);
    for byte in b"do beat\nnonsense\nping 1\n" {
        stub.control.socket.write_all(&[*byte]).unwrap();
    }
    let error = "error \"column 1: expected do, go, open or ping\"";
    stub.expect(&["beat", "idle", error, "pong 1"]);
    stub.order(&"do beat\n".repeat(1000));
    for _ in 0..1000 {
        stub.expect(&["beat", "idle"]);
    }
}

#[test]
fn what_cannot_be_done_is_an_error_and_the_script_goes_on() {
    let mut stub = Stub::script(
        "lock /nonexistent/lock; ready file /nonexistent/ready; hygiene file /nonexistent/report; \
         first 1 /nonexistent/runs { exit 1 }; first 1 /dev/null/runs { exit 1 }; ready fd 999; beat notify; exit 4",
    );
    let no_file = "No such file or directory (os error 2)";
    for error in [
        format!("lock \"/nonexistent/lock\": {no_file}"),
        format!("ready file \"/nonexistent/ready\": {no_file}"),
        format!("hygiene file \"/nonexistent/report\": {no_file}"),
        format!("first 1 \"/nonexistent/runs\": {no_file}"),
        "first 1 \"/dev/null/runs\": Not a directory (os error 20)".to_owned(),
        "ready fd 999: Bad file descriptor (os error 9)".to_owned(),
        "beat notify: NOTIFY_SOCKET is not set".to_owned(),
    ] {
        let quoted = agent_stub::Quoted::from(error.as_str());
        stub.expect(&[&format!("error {quoted}")]);
    }
    stub.expect(&["exiting 4"]);
}
