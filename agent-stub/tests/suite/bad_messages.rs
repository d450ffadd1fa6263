//! Lines that are no orders: each is answered with one error, and the stub goes on.

use std::io::Write;

use agent_stub::protocol::MAX_LINE;
use rstest::rstest;

use crate::support::{Start, Stub, Told};

const OVERSIZED: &str = "error \"the line is longer than 65536 bytes\"";

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
    let mut stub = Stub::idle(Told::Inherited);
    stub.order(&format!("do gate {}", "\u{1}".repeat(60_000)));
    stub.expect(&["error \"a `gate` report is longer than 65536 bytes\""]);
    assert_eq!(stub.ping(), [""; 0]);
}
